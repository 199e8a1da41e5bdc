"""What is sent."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

__all__ = ["ANSWER", "REQUEST", "SMALL", "SMALL_BYTES", "payload"]

# A small message, as programs send them: the call of something.
SMALL: dict[str, Any] = {
    "id": 12345,
    "method": "resize",
    "params": {"name": "picture.png", "width": 640, "ratio": 1.5},
    "urgent": False,
}

# The same, for those who only carry bytes.
SMALL_BYTES = json.dumps(SMALL, separators=(",", ":")).encode()

# What a TCP client says, and what it is told.
REQUEST = b"GET /picture.png".ljust(64, b".")
ANSWER = b"handled by a worker".ljust(64, b".")


@lru_cache(maxsize=1)
def payload(size: int) -> bytes:
    """So many bytes, in memory of their own: that of ``bytes(size)`` is all one page of zeros."""
    return b"x" * size
