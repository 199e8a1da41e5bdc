from __future__ import annotations

from common import run

import trio_ipc


async def echo() -> None:
    async with trio_ipc.open_parent() as parent:
        async for message in parent:
            await parent.send(message)


if __name__ == "__main__":
    run(echo)
