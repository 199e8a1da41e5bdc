"""V8's serialization -> values.

`v8serialize` reads the format; what its values become in Python is decided here. Its own reader
makes JavaScript's objects into types that mimic them, which is right for a faithful copy and not
for a program that wants a `dict`; the frames of child_process are not quite what ``v8.serialize``
writes; and what it takes on trust has to be checked here, since the peer may be hostile.
"""

from __future__ import annotations

import math
import operator
import struct
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

from v8serialize.constants import JS_STRING_TAGS, ArrayBufferViewTag, SerializationTag
from v8serialize.decode import ReadableTagStream

from .. import javascript as js

if TYPE_CHECKING:
    from collections.abc import Callable

Tag = SerializationTag

# By their number on the wire: the order of `arrayBufferViewTypes` in Node's lib/v8.js. A Buffer is
# number 10.
VIEWS: Final = (
    js.Int8Array,
    js.Uint8Array,
    js.Uint8ClampedArray,
    js.Int16Array,
    js.Uint16Array,
    js.Int32Array,
    js.Uint32Array,
    js.Float32Array,
    js.Float64Array,
    js.DataView,
    bytes,
    js.BigInt64Array,
    js.BigUint64Array,
    js.Float16Array,
)

# The same as V8 itself numbers them; Node never writes these, other peers may.
_V8_VIEWS: Final[dict[int, Any]] = {tag: getattr(js, tag.name[1:]) for tag in ArrayBufferViewTag}

# In the order of their bits: V8's src/regexp/regexp-flags.h.
FLAGS: Final = "gimyusldv"

ERROR_NAMES: Final = {
    ord("E"): "EvalError",
    ord("R"): "RangeError",
    ord("F"): "ReferenceError",
    ord("S"): "SyntaxError",
    ord("T"): "TypeError",
    ord("U"): "URIError",
}

# Number.MAX_SAFE_INTEGER, and the length of the longest array.
SAFE: Final = 2**53 - 1
MOST_ITEMS: Final = 2**32 - 1
EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)

_LATEST: Final = 15
_HOLE: Final = object()


class Unwelcome(Exception):
    """A message that is well-formed, and still can't be received."""


class _Stream(ReadableTagStream):
    """Faster where most of the time goes, and bounded."""

    __slots__ = ()

    def read_tag(self, tag: Any = None, *, consume: bool = True) -> Any:
        if tag is None and consume and self.pos < len(self.data):
            found = _TAGS[self.data[self.pos]]
            if found is not None:
                self.pos += 1
                return found
        return super().read_tag(tag, consume=consume)

    def read_varint(self, max_bits: int | None = None) -> int:
        if self.pos < len(self.data):
            byte = self.data[self.pos]
            if byte < 128:
                self.pos += 1
                return byte
        # Nothing that V8 writes takes more; without a limit a long one takes quadratic time.
        return super().read_varint(max_bits or 35)


_TAGS: Final[list[Tag | None]] = [None] * 256
for _each in Tag:
    if _each is not Tag.kPadding:
        _TAGS[_each] = _each


class _Objects(list[Any]):
    """What can be referred back to. The stream's own log is made for both directions."""

    def __init__(self) -> None:
        self.referred: set[int] = set()

    def record_reference(self, obj: Any) -> int:
        self.append(obj)
        return len(self) - 1

    def get_object(self, number: int) -> Any:
        self.referred.add(number)
        return self[number]

    def replace(self, number: int, obj: Any) -> None:
        # Whoever has seen the first object would have another one than everybody else.
        if number in self.referred:
            raise Unwelcome("an array with holes or names contains itself")
        self[number] = obj


class Reader:
    """Reads one message. A `DecodeContext` to the stream.

    Args:
      data: after the two bytes of the header.
      version: of the format.
      spare: bytes that may be copied beyond those of the message.
    """

    __slots__ = ("_spare", "holes", "stream")

    def __init__(self, data: Any, version: int, spare: int) -> None:
        # What a newer version writes of what we know reads like the older.
        self.stream: Any = _Stream(data, 2, _Objects(), min(version, _LATEST))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.holes: int = 0
        self._spare = spare

    def read(self) -> Any:
        value = self.decode_object()
        if self.holes:
            self.stream.throw("a hole outside of an array")
        if not self.stream.eof:
            self.stream.throw("there is more after its end")
        return value

    def decode_object(self, *, tag: Tag | None = None) -> Any:
        return _READERS[self.stream.read_tag() if tag is None else tag](self)

    def string(self) -> str:
        value = self.decode_object(tag=self.stream.read_tag(JS_STRING_TAGS))
        assert isinstance(value, str)
        return value

    def copy(self, size: int) -> None:
        """A short message can have many views of one large buffer."""
        self._spare -= size
        if self._spare < 0:
            raise Unwelcome("it has too many views of one ArrayBuffer")


def _constant(value: Any) -> Callable[[Reader], Any]:
    return lambda reader: value


def _hole(reader: Reader) -> Any:
    reader.holes += 1
    return _HOLE


def _int32(reader: Reader) -> int:
    number: int = reader.stream.read_varint(32)
    if number >> 32:
        raise ValueError("a number has more than 32 bits")
    return -(number >> 1) - 1 if number & 1 else number >> 1


def _uint32(reader: Reader) -> Any:
    return reader.stream.read_uint32()


def _number(reader: Reader) -> int | float:
    number: float = reader.stream.read_double()
    if number.is_integer() and -SAFE <= number <= SAFE:
        return int(number) if number or math.copysign(1, number) > 0 else number
    return number


def _bigint(reader: Reader) -> js.BigInt:
    return js.BigInt(reader.stream.read_bigint())


def _one_byte_string(reader: Reader) -> str:
    stream = reader.stream
    return str(stream.read_bytes(stream.read_varint()), "latin-1")


def _two_byte_string(reader: Reader) -> str:
    stream = reader.stream
    return str(stream.read_bytes(stream.read_varint()), "utf-16-le", "surrogatepass")


def _utf8_string(reader: Reader) -> Any:
    return reader.stream.read_string_utf8()


def _reference(reader: Reader) -> Any:
    _, value = reader.stream.read_object_reference()
    return _view(reader, value) if type(value) is js.ArrayBuffer else value


def _name(key: Any) -> str:
    # A property has a string for its name; V8 writes the numeric ones as numbers.
    if type(key) is str:
        return key
    if type(key) is not int:
        raise ValueError("a property is named by a fraction")
    return str(key)


def _object(reader: Reader) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in reader.stream.read_js_object(reader, identity=made):
        made[key if type(key) is str else _name(key)] = value
    return made


def _dense_array(reader: Reader) -> Any:
    objects = reader.stream.objects
    number = len(objects)
    items: list[Any] = []
    names: dict[str, Any] = {}
    holes = reader.holes
    for key, value in reader.stream.read_js_array_dense(reader, identity=items):
        if type(key) is str or names:
            names[_name(key)] = value
        else:
            items.append(value)
    if reader.holes == holes and not names:
        return items
    present: dict[Any, Any] = {index: item for index, item in enumerate(items) if item is not _HOLE}
    reader.holes -= len(items) - len(present)
    made = js.Array(present | names, length=len(items))
    objects.replace(number, made)
    return made


def _sparse_array(reader: Reader) -> Any:
    objects = reader.stream.objects
    number = len(objects)
    items: list[Any] = []
    present: dict[Any, Any] = {}
    length, entries = reader.stream.read_js_array_sparse(reader, identity=items)
    if length > MOST_ITEMS:
        raise ValueError("an array is too long")
    for key, value in entries:
        if type(key) is not str and not (type(key) is int and 0 <= key < length):
            raise ValueError("an array has an index beyond its length")
        present[key] = value
    # V8 takes this form also for arrays that once had holes, ``new Array(3).fill(0)``.
    if len(present) == length and all(map(operator.eq, present, range(length))):
        items.extend(present.values())
        return items
    made = js.Array(present, length=length)
    objects.replace(number, made)
    return made


def _map(reader: Reader) -> js.Map[Any, Any]:
    made: js.Map[Any, Any] = js.Map()
    for key, value in reader.stream.read_jsmap(reader, identity=made):
        made._receive(key, value)
    return made


def _set(reader: Reader) -> js.Set[Any]:
    made: js.Set[Any] = js.Set()
    for value in reader.stream.read_jsset(reader, identity=made):
        made._receive(value)
    return made


def _date(reader: Reader) -> datetime | js.Date:
    milliseconds: float = reader.stream.read_double()
    value: datetime | js.Date
    try:
        value = EPOCH + timedelta(milliseconds=int(milliseconds))
    except (OverflowError, ValueError):
        value = js.Date(milliseconds)
    reader.stream.objects.append(value)
    return value


def _boxed(reader: Reader, value: Any) -> js.Boxed:
    made = js.Boxed(value)
    reader.stream.objects.append(made)
    return made


def _regexp(reader: Reader) -> js.RegExp:
    source = reader.string()
    bits = reader.stream.read_varint()
    if bits >> len(FLAGS):
        raise ValueError("a regular expression has unknown flags")
    made = js.RegExp(source, "".join(flag for bit, flag in enumerate(FLAGS) if bits >> bit & 1))
    reader.stream.objects.append(made)
    return made


def _error(reader: Reader) -> js.Error:
    made = js.Error()
    reader.stream.objects.append(made)
    # The order of the fields has changed between Node's versions.
    while (field := reader.stream.read_varint()) != ord("."):
        if field in ERROR_NAMES:
            made.name = ERROR_NAMES[field]
        elif field == ord("m"):
            made.message = reader.string()
            made.args = (made.message,)
        elif field == ord("s"):
            made.stack = reader.string()
        elif field == ord("c"):
            made.cause = reader.decode_object()
            made.has_cause = True
        else:
            raise ValueError("an error has an unknown field")
    return made


def _array_buffer(reader: Reader, *, resizable: bool = False) -> Any:
    stream = reader.stream
    size = stream.read_uint32()
    most = stream.read_uint32() if resizable else None
    made = js.ArrayBuffer(stream.read_bytes(size))
    if most is not None:
        if most < size:
            raise ValueError("an ArrayBuffer is longer than it can be")
        made.max_byte_length = most
    stream.objects.append(made)
    return _view(reader, made)


def _view(reader: Reader, buffer: js.ArrayBuffer) -> Any:
    """V8 writes a view behind its buffer, or behind a reference to it."""
    stream = reader.stream
    if stream.eof or stream.data[stream.pos] != Tag.kArrayBufferView:
        return buffer
    stream.pos += 1
    kind = _V8_VIEWS[stream.read_varint()]
    offset, size = stream.read_uint32(), stream.read_uint32()
    follows = stream.version >= 14 and stream.read_varint() & 1
    end = len(buffer) if follows else offset + size
    if not offset <= end <= len(buffer):
        raise ValueError("a view is beyond its ArrayBuffer")
    reader.copy(end - offset)
    made = _make_view(kind, memoryview(buffer)[offset:end])
    stream.objects.append(made)
    return made


def _make_view(kind: Any, data: Any) -> Any:
    if kind is js.Float16Array:
        return kind(item for [item] in struct.iter_unpack("=e", data))
    return kind(data)


def _host_object(reader: Reader) -> Any:
    # child_process puts a number in front of what v8.serialize writes: 0 for a view, 1 for a
    # native object, of which its properties are sent.
    stream = reader.stream
    number = len(stream.objects)
    stream.objects.append(None)
    kind = stream.read_uint32()
    if kind == 1:
        value = reader.decode_object()
    elif kind == 0:
        number_of_view = stream.read_uint32()
        value = _make_view(VIEWS[number_of_view], stream.read_bytes(stream.read_uint32()))
    else:
        raise ValueError("a host object of an unknown kind")
    stream.objects.replace(number, value)
    return value


def _wasm_module(reader: Reader) -> Any:
    raise Unwelcome("it contains a WebAssembly.Module, which can't leave its process")


# What isn't here is never written by a Node process, such as shared and transferred buffers.
_READERS: Final[dict[Tag, Callable[[Reader], Any]]] = {
    Tag.kTheHole: _hole,
    Tag.kUndefined: _constant(js.undefined),
    Tag.kNull: _constant(None),
    Tag.kTrue: _constant(True),
    Tag.kFalse: _constant(False),
    Tag.kInt32: _int32,
    Tag.kUint32: _uint32,
    Tag.kDouble: _number,
    Tag.kBigInt: _bigint,
    Tag.kUtf8String: _utf8_string,
    Tag.kOneByteString: _one_byte_string,
    Tag.kTwoByteString: _two_byte_string,
    Tag.kObjectReference: _reference,
    Tag.kBeginJSObject: _object,
    Tag.kBeginDenseJSArray: _dense_array,
    Tag.kBeginSparseJSArray: _sparse_array,
    Tag.kDate: _date,
    Tag.kTrueObject: lambda reader: _boxed(reader, True),
    Tag.kFalseObject: lambda reader: _boxed(reader, False),
    Tag.kNumberObject: lambda reader: _boxed(reader, _number(reader)),
    Tag.kBigIntObject: lambda reader: _boxed(reader, _bigint(reader)),
    Tag.kStringObject: lambda reader: _boxed(reader, reader.string()),
    Tag.kRegExp: _regexp,
    Tag.kBeginJSMap: _map,
    Tag.kBeginJSSet: _set,
    Tag.kArrayBuffer: _array_buffer,
    Tag.kResizableArrayBuffer: lambda reader: _array_buffer(reader, resizable=True),
    Tag.kHostObject: _host_object,
    Tag.kError: _error,
    Tag.kWasmModuleTransfer: _wasm_module,
}
