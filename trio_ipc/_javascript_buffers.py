"""Bytes as JavaScript has them: buffers, and the typed arrays that are views of them."""

from __future__ import annotations

import array
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class ArrayBuffer(bytearray):
    """An ``ArrayBuffer``. A `bytes`, a `bytearray` or a `memoryview` is sent as a ``Buffer``.

    Attributes:
      max_byte_length (int | None): of a resizable one; may be set.
    """

    max_byte_length: int | None = None

    def __repr__(self) -> str:
        return f"ArrayBuffer({bytes(self)!r})"


class DataView(bytearray):
    """A ``DataView``: its part of the buffer. Read it with `struct.unpack_from`."""

    def __repr__(self) -> str:
        return f"DataView({bytes(self)!r})"


if TYPE_CHECKING:
    from typing_extensions import Self

    _Items = array.array[Any]
else:
    _Items = array.array  # which can't be subscripted before Python 3.12


class TypedArray(_Items):
    """What the typed arrays have in common: they are an `array.array`.

    They have items and a length, take and give `bytes` (``tobytes``, `memoryview`), and NumPy takes
    them as they are. A plain `array.array` is sent as the typed array of its kind.

    Args:
      items: numbers, or a buffer of their bytes.
    """

    _typecode = ""

    def __new__(cls, items: Iterable[float] | bytes = ()) -> Self:
        if not cls._typecode:
            raise TypeError("TypedArray is what they have in common: use one such as Uint8Array")
        if isinstance(items, int):
            raise TypeError(
                f"{cls.__name__} is made of its items, or of their bytes, not of a length:"
                f" {cls.__name__}([0] * {items})"
            )
        made = super().__new__(cls, cls._typecode)
        if isinstance(items, (bytes, bytearray, memoryview)):
            made.frombytes(items)
        else:
            made.extend(array.array(cls._typecode, items))
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tolist()})"

    # The inherited ones make an `array.array`.

    def __copy__(self) -> Self:
        return type(self)(self.tobytes())

    def __deepcopy__(self, memo: Any) -> Self:
        return type(self)(self.tobytes())

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self.tobytes(),)


def _typecode(kinds: str, size: int) -> str:
    """The C type of this size, which differs from platform to platform."""
    return next(code for code in kinds if array.array(code).itemsize == size)


class Int8Array(TypedArray):
    """Its items are `int`, signed, of 8 bits."""

    _typecode = "b"


class Uint8Array(TypedArray):
    """Its items are `int` of 8 bits."""

    _typecode = "B"


class Uint8ClampedArray(TypedArray):
    """Its items are `int` of 8 bits. Python clamps nothing: what is out of range raises
    `OverflowError`, as in the others.
    """

    _typecode = "B"


class Int16Array(TypedArray):
    """Its items are `int`, signed, of 16 bits."""

    _typecode = "h"


class Uint16Array(TypedArray):
    """Its items are `int` of 16 bits."""

    _typecode = "H"


class Int32Array(TypedArray):
    """Its items are `int`, signed, of 32 bits."""

    _typecode = _typecode("il", 4)


class Uint32Array(TypedArray):
    """Its items are `int` of 32 bits."""

    _typecode = _typecode("IL", 4)


class BigInt64Array(TypedArray):
    """Its items are plain `int`, signed, of 64 bits."""

    _typecode = _typecode("lq", 8)


class BigUint64Array(TypedArray):
    """Its items are plain `int` of 64 bits."""

    _typecode = _typecode("LQ", 8)


class Float16Array(TypedArray):
    """Half floats, which Python's arrays can't hold: in memory these are C floats.

    Node 24 has it, Node 20 hasn't, and one that hasn't ends when it receives one.
    """

    _typecode = "f"


class Float32Array(TypedArray):
    """Its items are `float`, kept in 32 bits."""

    _typecode = "f"


class Float64Array(TypedArray):
    """Its items are `float`."""

    _typecode = "d"
