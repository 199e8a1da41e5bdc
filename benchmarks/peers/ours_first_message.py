"""What a child does whose start is timed: with no imports of its own."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import trio_ipc

__all__ = ["first_message"]


async def first_message(parent: trio_ipc.Channel[int, object]) -> None:
    await parent.send(1)
