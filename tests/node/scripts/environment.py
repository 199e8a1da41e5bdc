from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import trio
from common import descriptors, run

import trio_ipc


def found_variables() -> list[str]:
    return [name for name in os.environ if re.match("NODE_CHANNEL_|NODE_UNIQUE_ID|TRIO_IPC_", name)]


async def variables() -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.send(found_variables())


async def echo() -> None:
    async with trio_ipc.open_parent() as parent:
        async for message in parent:
            await parent.send(message)


async def fork_stdio() -> None:
    async with trio_ipc.open_parent() as parent:
        os.write(1, b"to stdout")
        os.write(2, b"to stderr")
        os.write(4, b"to another")
        await parent.send(sys.stdin.read())


async def fork_and_spawn(node: str, program: str) -> None:
    async with trio_ipc.open_parent() as parent:
        # Not even with all that can be inherited.
        grandchild = await trio.run_process(
            [node, program, "without_a_channel"],
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            close_fds=False,
        )
        await parent.send(json.loads(grandchild.stdout))


async def in_the_middle(node: str, program: str) -> None:
    async with trio_ipc.open_parent() as parent:
        command = [node, program, "echo"]
        async with trio_ipc.open_child(command, protocol="node") as child:
            async for message in parent:
                await child.send(message)
                await parent.send(await child.receive())


async def twice() -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.send(sorted(descriptors()))
    try:
        async with trio_ipc.open_parent():
            raise AssertionError("the channel was opened a second time")
    except trio_ipc.NoParent:
        pass


if __name__ == "__main__":
    run(variables, echo, fork_stdio, fork_and_spawn, in_the_middle, twice)
