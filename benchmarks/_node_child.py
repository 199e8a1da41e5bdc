"""``python -m benchmarks._node_child WORK``: a child of ours for a parent of Node."""

from __future__ import annotations

import sys

import trio

import trio_ipc

from ._node_works import CHILD_WORKS


async def main() -> None:
    async with trio_ipc.open_parent() as parent:
        await CHILD_WORKS[sys.argv[1]](parent)


if __name__ == "__main__":
    trio.run(main)
