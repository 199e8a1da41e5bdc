"""Where MessagePack values end, by their headers alone: in one loop, however deep they are nested.

What the decoder has no stack for is one message's trouble, and not that of the others which came
in the same frame. Nobody but who gets such a message imports this.
"""

from __future__ import annotations

from typing import Final

from .native_frames import ARRAY, ARRAY_SIZE, ARRAY_TAG

# By a value's first byte: the size of the length behind it, or 0, and how many bytes follow beside
# those that it counts; and how many values it contains, for each that the length counts if there is
# one. A length of no values counts bytes. 0xC1 begins nothing.
_HEADS: Final[dict[int, tuple[int, int, int]]] = {
    **dict.fromkeys((*range(0x80), 0xC0, 0xC2, 0xC3, *range(0xE0, 0x100)), (0, 0, 0)),
    **{0x80 + count: (0, 0, 2 * count) for count in range(16)},  # map
    **{0x90 + count: (0, 0, count) for count in range(16)},  # array
    **{0xA0 + count: (0, count, 0) for count in range(32)},  # str
    **{0xC4 + power: (1 << power, 0, 0) for power in range(3)},  # bin
    **{0xC7 + power: (1 << power, 1, 0) for power in range(3)},  # ext
    **{0xCA + power: (0, 4 << power, 0) for power in range(2)},  # float
    **{0xCC + power: (0, 1 << power, 0) for power in range(4)},  # uint
    **{0xD0 + power: (0, 1 << power, 0) for power in range(4)},  # int
    **{0xD4 + power: (0, 1 + (1 << power), 0) for power in range(5)},  # fixext
    **{0xD9 + power: (1 << power, 0, 0) for power in range(3)},  # str
    **{0xDC + power: (2 << power, 0, 1) for power in range(2)},  # array
    **{0xDE + power: (2 << power, 0, 2) for power in range(2)},  # map
}


def split_array(batch: bytes | memoryview) -> list[bytes]:
    """The values of an array in its 32-bit form, undecoded.

    Raises:
      ValueError: it is none, or not only one.
    """
    data = bytes(batch)
    tag, count = ARRAY.unpack_from(data)
    parts: list[bytes] = []
    end = ARRAY_SIZE
    try:
        for _ in range(count):
            start, end = end, _end_of_value(data, end)
            parts.append(data[start:end])
    except LookupError as exc:
        raise ValueError(f"a value is cut off, or none, before byte {len(data)}") from exc
    if tag != ARRAY_TAG or end != len(data):
        raise ValueError(f"an array ends at byte {end} of {len(data)}")
    return parts


def _end_of_value(data: bytes, position: int) -> int:
    missing = 1
    while missing:
        length_size, size, values = _HEADS[data[position]]
        position += 1
        if length_size:
            end = position + length_size
            length = int.from_bytes(data[position:end], "big")
            position = end
            if values:
                values *= length
            else:
                size += length
        position += size
        missing += values - 1
    return position
