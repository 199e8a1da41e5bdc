"""What is sent."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["SMALL", "SMALL_BYTES", "payload"]

# A small message, as programs send them: the call of something.
SMALL: dict[str, Any] = {
    "id": 12345,
    "method": "resize",
    "params": {"name": "picture.png", "width": 640, "ratio": 1.5},
    "urgent": False,
}

# The same, for those who only carry bytes.
SMALL_BYTES = msgspec.msgpack.encode(SMALL)


def payload(size: int) -> bytes:
    """So many bytes, in memory of their own: that of ``bytes(size)`` is all one page of zeros."""
    return b"x" * size
