"""The script child of the demo: any program can be one, `open_parent` is all it takes."""

from __future__ import annotations

import os
import sys

import trio

import trio_ipc


async def main(name: str) -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.send({"text": f"{name} is here", "pid": os.getpid()})
        async for text in parent:
            await parent.send({"text": text.upper(), "pid": os.getpid()})


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
