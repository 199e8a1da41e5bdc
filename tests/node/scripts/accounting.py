from __future__ import annotations

from common import run
from holding import hold_for, wait_until_unread

import trio_ipc


async def hold() -> None:
    async with trio_ipc.open_parent() as parent:
        await hold_for(parent)


async def hold_late() -> None:
    async with trio_ipc.open_parent() as parent:
        await wait_until_unread(parent, 6)
        await hold_for(parent)


if __name__ == "__main__":
    run(hold, hold_late)
