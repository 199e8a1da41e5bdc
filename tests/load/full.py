"""Both sides send messages of the largest size at once."""

from __future__ import annotations

import trio

from .talking import open_kind
from .words import filler

# The default of ``max_message_size``.
LARGEST = 16 * 1024 * 1024


def size_for(kind: str) -> int:
    """How many characters the largest message has: what is around it counts, too."""
    return LARGEST - {"function": 0, "script": 0, "json": 3, "advanced": 16}[kind]


async def send_large_both_ways(kind: str, count: int, *, before: bool) -> None:
    """So many at once from each side. With ``before``, the first one of each side is sent with a
    plain `send` before that side receives anything; a Node child always does it so.

    Raises:
      AssertionError: something else arrived.
    """
    size = size_for(kind)
    is_native = kind in ("function", "script")
    args = (size, count, int(before)) if is_native else (size, count)

    def content(number: int) -> str | bytes:
        text = filler(number, size)
        return text.encode() if is_native else text

    async def send(first: int) -> None:
        for number in range(first, count):
            await child.send(content(number))

    async with open_kind(kind, "send_large", *args) as child:
        if before:
            await child.send(content(0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, int(before))
            for number in range(count):
                assert await child.receive() == content(number), f"{number} is another one"
        assert await child.receive() == "all of them"
