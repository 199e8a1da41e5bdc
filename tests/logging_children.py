"""What runs in the processes of the tests of the log."""

from __future__ import annotations

import sys
from typing import Any

import trio

import trio_ipc

# Seconds for a child to finish by itself, on however busy a machine.
PATIENCE = 60

Parent = trio_ipc.Channel[Any, Any]


async def receive_all(parent: Parent, secret: str = "") -> None:
    async for _ in parent:
        pass


async def answer(parent: Parent) -> None:
    await parent.send(await parent.receive())


async def have_children(parent: Parent, script: str) -> None:
    """A function and a script, one after the other."""
    for target in (answer, script):
        async with trio_ipc.open_child(target, grace_period=PATIENCE) as child:
            await child.send("a secret")
            await child.receive()


async def main() -> None:
    async with trio_ipc.open_child(have_children, sys.argv[1], grace_period=PATIENCE):
        pass


if __name__ == "__main__":
    trio.run(main)
