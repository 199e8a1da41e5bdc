"""A script of ours for parents that play Node's part. The argument says what it does."""

from __future__ import annotations

import sys

import trio

import trio_ipc


async def echo() -> None:
    async with trio_ipc.open_parent() as parent:
        async for message in parent:
            if isinstance(message, trio_ipc.HandleMessage):
                await parent.send(*message, keep_open=False)
            else:
                await parent.send(message)
            print("this must not reach the parent", flush=True)
            await parent.send("printed")


if __name__ == "__main__":
    trio.run(globals()[sys.argv[1]])
