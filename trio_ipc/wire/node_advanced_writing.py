"""Values -> V8's serialization.

`v8serialize` writes the format; what is written for which Python value is decided here, by the type
of the value: a `dict` is an object and no Map, a `bytes` a Buffer. Each object takes a number, in
the order in which they begin, by which later ones refer to it.
"""

# Values of any type: what isinstance() says is a dict is of unknown keys and items.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import array
import datetime
import enum
import struct
from collections.abc import Mapping, Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final

import msgspec
from v8serialize.constants import SerializationTag as Tag
from v8serialize.encode import WritableTagStream
from v8serialize.jstypes import JSErrorData

from .. import javascript as js
from . import advice
from .node_advanced_reading import EPOCH, ERROR_NAMES, FLAGS, MOST_ITEMS, SAFE, VIEWS
from .node_values import handle_inside, is_internal, reserved

if TYPE_CHECKING:
    from collections.abc import Callable

# The length of the frame, and the version that every Node since 18 reads.
_HEAD: Final = b"\0\0\0\0\xff\x0f"

_MOST_BYTES: Final = 2**32 - 1
_MILLISECOND: Final = datetime.timedelta(milliseconds=1)

# What is larger is copied once only, into the frame.
_LARGE: Final = 1 << 16

_BUFFER: Final = VIEWS.index(bytes)
_CODES: Final[dict[Any, int]] = {view: code for code, view in enumerate(VIEWS)}
_ERROR_TAGS: Final = {name: tag for tag, name in ERROR_NAMES.items()}

# By C type, as `array` and `memoryview` name it.
_SIGNED: Final = {1: js.Int8Array, 2: js.Int16Array, 4: js.Int32Array, 8: js.BigInt64Array}
_UNSIGNED: Final = {1: js.Uint8Array, 2: js.Uint16Array, 4: js.Uint32Array, 8: js.BigUint64Array}
_FLOATS: Final = {2: js.Float16Array, 4: js.Float32Array, 8: js.Float64Array}
_FORMATS: Final = {
    code: _CODES[kinds[struct.calcsize(code)]]
    for codes, kinds in (("bhilqn", _SIGNED), ("BHILQN", _UNSIGNED), ("efd", _FLOATS))
    for code in codes
}


class Writer:
    """Writes one message. An `EncodeContext` to the stream.

    Args:
      is_handle: tells what Node can take beside a message only.
      message: the value in it that may not look like one of Node's own messages.
    """

    __slots__ = ("_is_handle", "_large", "_shift", "message", "stream")

    def __init__(self, is_handle: Callable[[Any], bool], message: Any = None) -> None:
        self.stream: WritableTagStream = WritableTagStream(bytearray(_HEAD))
        self._is_handle = is_handle
        self.message: Any = message
        self._large: list[tuple[int, memoryview]] = []
        self._shift = 0

    def frame(self) -> bytes:
        data = self.stream.data
        struct.pack_into(">I", data, 0, len(data) + self._shift - 4)
        if not self._large:
            return bytes(data)
        parts: list[Any] = []
        start = 0
        for end, large in self._large:
            parts += [data[start:end], large]
            start = end
        return b"".join([*parts, data[start:]])

    def encode_object(self, value: Any) -> None:
        write = _WRITERS.get(type(value))
        if write is None:
            self._other(value)
        else:
            write(self, value)

    # What an EncodeContext has besides, for ways to encode that are not used here.
    def deduplicate(self, value: Any) -> Any:  # pragma: no cover
        return value

    def referred(self, value: Any) -> bool:
        """Refer to a value that has been written before."""
        if value not in self.stream.objects:
            return False
        self.stream.write_object_reference(obj=value)
        return True

    def blob(self, view: memoryview) -> None:
        if view.nbytes < _LARGE:
            self.stream.data += view
        else:
            self._large.append((len(self.stream.data), view))
            self._shift += view.nbytes

    def two_byte_string(self, text: str) -> None:
        encoded = text.encode("utf-16-le", "surrogatepass")
        stream = self.stream
        start = len(stream.data)
        stream.write_tag(Tag.kTwoByteString)
        stream.write_varint(len(encoded))
        if (len(stream.data) + self._shift) & 1:  # V8 has the characters aligned
            stream.data.insert(start, Tag.kPadding)
        self.blob(memoryview(encoded))

    def view(self, value: Any, code: int, data: memoryview) -> None:
        self.stream.objects.record_reference(value)
        self.stream.write_tag(Tag.kHostObject)
        self.stream.write_varint(0)
        self.stream.write_varint(code)
        self.stream.write_varint(data.nbytes)
        self.blob(data.cast("B") if data.c_contiguous else memoryview(data.tobytes()))

    def object(self, value: Any, items: Mapping[Any, Any]) -> None:
        if set(map(type, items)) - {str}:
            # Two properties of one name, 1 and "1", end the Node process that reads them.
            items = {_name(key): item for key, item in items.items()}
        if value is self.message:
            _check_command(items)
        self.stream.write_js_object(items.items(), ctx=self, identity=value)

    def _other(self, value: Any) -> None:
        """What is not of a type in the table itself."""
        if not _is_record(value):
            for kind, write in _KINDS:
                if isinstance(value, kind):
                    return write(self, value)
        self._check_handle(value)
        plain = _to_builtins(value, self._check_part)
        if value is self.message:
            self.message = plain
        self.encode_object(plain)

    def _check_handle(self, value: Any) -> None:
        if self._is_handle(value):
            raise handle_inside()

    def _check_part(self, value: Any) -> None:
        if type(value) not in _WRITERS and not isinstance(value, _BASES):
            self._check_handle(value)
            raise advice.no_value(value)


def _is_record(value: Any) -> bool:
    kind = type(value)
    if isinstance(value, BaseException):
        return False
    return (
        isinstance(value, (enum.Enum, msgspec.Struct))
        or hasattr(kind, "__dataclass_fields__")
        or hasattr(kind, "__attrs_attrs__")
    )


def _to_builtins(value: Any, check: Callable[[Any], None]) -> Any:
    """What msgspec makes of a Struct, a UUID and so on, with what it doesn't know left in it."""
    unknown: dict[int, tuple[bytes, Any]] = {}

    def stand_in(part: Any) -> bytes:
        check(part)
        token = b"%d" % id(part)
        unknown[id(token)] = (token, part)
        return token

    plain = msgspec.to_builtins(
        value,
        str_keys=True,
        builtin_types=(bytes, bytearray, memoryview, datetime.datetime),
        enc_hook=stand_in,
    )
    return _put_back(plain, unknown) if unknown else plain


def _put_back(plain: Any, unknown: dict[int, tuple[bytes, Any]]) -> Any:
    if type(plain) is dict:
        return {key: _put_back(item, unknown) for key, item in plain.items()}
    if type(plain) in (list, tuple):
        return [_put_back(item, unknown) for item in plain]
    return unknown[id(plain)][1] if id(plain) in unknown else plain


def _name(key: Any) -> str:
    """The name of the property, as in JSON."""
    if not isinstance(key, (enum.Enum, bool)):
        if isinstance(key, str):
            return str(key)
        if isinstance(key, int):
            return int.__repr__(key)
    try:
        [name] = msgspec.to_builtins({key: None}, str_keys=True)
    except TypeError:
        raise advice.no_key(key, ", or a javascript.Map") from None
    return str(name)


def _check_command(items: Mapping[Any, Any]) -> None:
    if is_internal({"cmd": _text(items.get("cmd"))}):
        raise reserved()


def _text(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value


def _constant(tag: Any) -> Callable[[Writer, Any], None]:
    return lambda writer, value: writer.stream.write_constant(tag)


def _bool(writer: Writer, value: bool) -> None:
    writer.stream.write_constant(Tag.kTrue if value else Tag.kFalse)


def _int(writer: Writer, value: int) -> None:
    if -(1 << 31) <= value < 1 << 31:
        writer.stream.write_int32(value)
    elif -SAFE <= value <= SAFE:
        writer.stream.write_double(value)
    else:
        writer.stream.write_bigint(value)


def _bigint(writer: Writer, value: int) -> None:
    writer.stream.write_bigint(value)


def _float(writer: Writer, value: float) -> None:
    writer.stream.write_double(value)


def _str(writer: Writer, value: str) -> None:
    try:
        writer.stream.write_string_onebyte(value)
    except ValueError:
        writer.two_byte_string(value)


def _dict(writer: Writer, value: Mapping[Any, Any]) -> None:
    if not writer.referred(value):
        writer.object(value, value)


def _list(writer: Writer, value: list[Any]) -> None:
    if not writer.referred(value):
        writer.stream.write_js_array_dense(value, ctx=writer, identity=value)


def _tuple(writer: Writer, value: tuple[Any, ...]) -> None:
    # Equal constants are one object, which no Python program can notice and JavaScript could.
    writer.stream.write_js_array_dense(value, ctx=writer, identity=value)


def _array(writer: Writer, value: js.Array[Any]) -> None:
    if writer.referred(value):
        return
    length = value.length
    items = {_index(key): item for key, item in value.items()}
    for key in items:
        if key == "length":
            raise ValueError("an array's length is its own: it can't be among its names")
        if isinstance(key, int) and not 0 <= key < length:
            raise ValueError(f"an array of length {length} can't have the index {key}")
    if value is writer.message:
        _check_command(items)
    writer.stream.write_js_array_sparse(items.items(), ctx=writer, length=length, identity=value)


def _index(key: Any) -> int | str:
    name = _name(key)
    if name.isdecimal() and name.isascii() and int(name) < MOST_ITEMS and str(int(name)) == name:
        return int(name)
    return name


def _map(writer: Writer, value: js.Map[Any, Any]) -> None:
    if not writer.referred(value):
        writer.stream.write_jsmap(value.items(), ctx=writer, identity=value)


def _set(writer: Writer, value: AbstractSet[Any]) -> None:
    if not writer.referred(value):
        writer.stream.write_jsset(value, ctx=writer, identity=value)


def _bytes(writer: Writer, value: bytes) -> None:
    # So short they are the same object wherever they come from.
    if len(value) < 2 or not writer.referred(value):
        writer.view(value, _BUFFER, memoryview(value))


def _bytearray(writer: Writer, value: bytearray) -> None:
    if not writer.referred(value):
        writer.view(value, _BUFFER, memoryview(value))


def _memoryview(writer: Writer, value: memoryview) -> None:
    if not writer.referred(value):
        code = value.format.lstrip("@=<")
        writer.view(value, _BUFFER if code in ("B", "c") else _code_of(code), value)


def _typed_array(writer: Writer, value: Any) -> None:
    if writer.referred(value):
        return
    view = memoryview(value)
    if type(value) is js.Float16Array:
        view = memoryview(struct.pack(f"={len(value)}e", *value))
    code = _CODES.get(type(value))
    writer.view(value, _code_of(value.typecode) if code is None else code, view)


def _code_of(format: str) -> int:
    if format not in _FORMATS:
        raise TypeError(f"there is no typed array for items of the format {format!r}")
    return _FORMATS[format]


def _data_view(writer: Writer, value: js.DataView) -> None:
    if not writer.referred(value):
        writer.view(value, _CODES[js.DataView], memoryview(value))


def _array_buffer(writer: Writer, value: js.ArrayBuffer) -> None:
    if writer.referred(value):
        return
    stream = writer.stream
    stream.objects.record_reference(value)
    most = value.max_byte_length
    stream.write_tag(Tag.kArrayBuffer if most is None else Tag.kResizableArrayBuffer)
    stream.write_varint(len(value))
    if most is not None:
        if most > _MOST_BYTES:
            raise ValueError(f"an ArrayBuffer can't have {most} bytes")
        if most < len(value):
            raise ValueError(f"an ArrayBuffer of {len(value)} bytes can't have {most} at most")
        stream.write_varint(most)
    writer.blob(memoryview(value))


def _datetime(writer: Writer, value: datetime.datetime) -> None:
    _write_date(
        writer, value, float((value.astimezone(datetime.timezone.utc) - EPOCH) // _MILLISECOND)
    )


def _date(writer: Writer, value: js.Date) -> None:
    _write_date(writer, value, value.milliseconds)


def _write_date(writer: Writer, value: Any, milliseconds: float) -> None:
    if not writer.referred(value):
        writer.stream.objects.record_reference(value)
        writer.stream.write_tag(Tag.kDate)
        writer.stream.write_double(milliseconds, tag=None)


def _regexp(writer: Writer, value: js.RegExp) -> None:
    if not writer.referred(value):
        writer.stream.objects.record_reference(value)
        writer.stream.write_tag(Tag.kRegExp)
        _str(writer, value.source)
        writer.stream.write_varint(sum(1 << FLAGS.index(flag) for flag in value.flags))


def _boxed(writer: Writer, value: js.Boxed) -> None:
    if writer.referred(value):
        return
    stream = writer.stream
    stream.objects.record_reference(value)
    inner = value.value
    if isinstance(inner, bool):
        stream.write_tag(Tag.kTrueObject if inner else Tag.kFalseObject)
    elif isinstance(inner, js.BigInt):
        stream.write_tag(Tag.kBigIntObject)
        stream.write_bigint(inner, tag=None)
    elif isinstance(inner, (int, float)):
        stream.write_tag(Tag.kNumberObject)
        stream.write_double(inner, tag=None)
    elif isinstance(inner, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        stream.write_tag(Tag.kStringObject)
        _str(writer, inner)
    else:
        raise TypeError(f"a {type(inner).__name__!r} can't be boxed")


def _error(writer: Writer, value: js.Error) -> None:
    if writer.referred(value):
        return
    # Node 20 can't read an error that is its own cause, directly or not.
    with writer.stream.objects.record_acyclic_reference(
        value, error_detail="an error can't be in its own cause"
    ):
        _write_error(writer, value, value.name, value.has_cause)


def _exception(writer: Writer, value: BaseException) -> None:
    if not writer.referred(value):
        _traceback(writer, JSErrorData.from_exception(value), value)


def _traceback(writer: Writer, data: JSErrorData, identity: Any = None) -> None:
    writer.stream.objects.record_reference(identity or data)
    _write_error(writer, data, data.name, data.cause is not None)


def _write_error(writer: Writer, error: Any, name: str, has_cause: bool) -> None:
    stream = writer.stream
    stream.write_tag(Tag.kError)
    if name in _ERROR_TAGS:
        stream.write_varint(_ERROR_TAGS[name])
    if error.message is not None:
        stream.data += b"m"
        _str(writer, error.message)
    if error.stack is not None:
        stream.data += b"s"
        _str(writer, error.stack)
    if has_cause:
        stream.data += b"c"
        writer.encode_object(error.cause)
    stream.data += b"."


_WRITERS: Final[dict[type, Callable[[Writer, Any], None]]] = {
    type(None): _constant(Tag.kNull),
    js.Undefined: _constant(Tag.kUndefined),
    bool: _bool,
    int: _int,
    js.BigInt: _bigint,
    float: _float,
    str: _str,
    dict: _dict,
    list: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _set,
    bytes: _bytes,
    bytearray: _bytearray,
    memoryview: _memoryview,
    array.array: _typed_array,
    datetime.datetime: _datetime,
    js.Map: _map,
    js.Set: _set,
    js.Array: _array,
    js.Date: _date,
    js.RegExp: _regexp,
    js.Error: _error,
    js.Boxed: _boxed,
    js.ArrayBuffer: _array_buffer,
    js.DataView: _data_view,
    JSErrorData: _traceback,
    **{kind: _typed_array for kind in VIEWS if issubclass(kind, js.TypedArray)},
}

# For subclasses of these.
_KINDS: Final[tuple[tuple[Any, Callable[[Writer, Any], None]], ...]] = (
    (js.Error, _error),
    (BaseException, _exception),
    (str, _str),
    (js.BigInt, _bigint),
    # In a range, `int` itself is found at once, and a subclass by looking at each member.
    (int, lambda writer, value: _int(writer, int(value))),
    (float, _float),
    (list, _list),
    (tuple, _tuple),
    (js.Map, _map),
    (js.Array, _array),
    (Mapping, _dict),
    (AbstractSet, _set),
    (bytes, _bytes),
    (js.ArrayBuffer, _array_buffer),
    (js.DataView, _data_view),
    (bytearray, _bytearray),
    (array.array, _typed_array),
    (datetime.datetime, _datetime),
)
_BASES: Final = tuple(kind for kind, _ in _KINDS)
