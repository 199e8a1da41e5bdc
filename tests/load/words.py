"""What is said: messages that tell which they are, and whether they are whole.

Children import this file: nothing stands at its top that they don't need. ``worker.js`` says the
same in JavaScript.
"""

from __future__ import annotations

import os
import zlib
from typing import Any

from ..handle_workers import descriptor_of

# Every place of it looks different; there is enough for the largest.
_TEXT = "".join(chr(33 + (7 * each * each + each // 90) % 90) for each in range(4096)) * 300
_STARTS = 4096

# Of a message in so many, the size goes up to this: few are large.
_SIZES = ((100_000, 1_000_000), (1_000, 65_536), (20, 4_000), (1, 120))


def text_of(number: int) -> str:
    """The content of the message of this number."""
    most = next(most for every, most in _SIZES if number % every == every - 1)
    size = number * 7919 % most
    start = number * 31 % _STARTS
    return _TEXT[start : start + size]


def message_of(number: int) -> list[Any]:
    text = text_of(number)
    return [number, zlib.crc32(text.encode()), text]


class Sum:
    """Of the messages of one direction, in their order."""

    def __init__(self) -> None:
        self.count = 0
        self.crc = 0

    def add(self, message: list[Any]) -> None:
        """The next one.

        Raises:
          AssertionError: it is another one, or not whole.
        """
        number, check, text = message[:3]
        assert number == self.count, f"{number} came instead of {self.count}"
        data = text.encode()
        assert zlib.crc32(data) == check, f"{number} is not what was sent"
        self.count += 1
        self.crc = zlib.crc32(data, self.crc)

    def told(self) -> list[int]:
        return [self.count, self.crc]


def inode_of(handle: Any) -> int:
    """Which file it is, whatever it is wrapped in."""
    return os.fstat(descriptor_of(handle)).st_ino


def filler(number: int, size: int) -> str:
    """A large content, quickly made: the number, again and again."""
    return f"{number:<8}" * (size // 8) + "." * (size % 8)
