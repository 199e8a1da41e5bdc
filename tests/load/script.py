"""The same as a script, which finds its parent by itself; the arguments are a role and numbers."""

import importlib
import sys
from pathlib import Path

import trio

import trio_ipc

sys.path.insert(0, str(Path(__file__).parents[2]))


async def main() -> None:
    role = getattr(importlib.import_module("tests.load.workers"), sys.argv[1])
    async with trio_ipc.open_parent() as parent:
        await role(parent, *map(int, sys.argv[2:]))


if __name__ == "__main__":
    trio.run(main)
