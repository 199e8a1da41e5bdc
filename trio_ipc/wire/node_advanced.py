"""Node's ``serialization: 'advanced'``: each message is a length and V8's own serialization.

The length is four bytes, most significant first, and counts what follows: ``FF``, the version of
the format, and the value. Versions 13 to 16 are read; 15 is written, which Node 18 and later, and
Deno, read. A malformed frame kills a Node peer, who decodes outside of any try block.
"""

# Values of any type: what isinstance() says is a dict is of unknown keys and items.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import struct
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

try:
    from v8serialize import V8SerializeError
except ImportError as _exc:
    raise ImportError(
        "serialization='advanced' needs the package v8serialize: pip install trio-ipc[advanced]"
    ) from _exc

from .. import javascript as js
from .._errors import InvalidMessage, ProtocolError, UnsupportedHandle, UnsupportedMessage
from . import HandleMessage, advice
from .message_type import check_handle_type, undecodable
from .node_advanced_reading import Reader, Unwelcome
from .node_advanced_writing import Writer
from .node_values import (
    ENVELOPE,
    Internal,
    Rejected,
    convert,
    invalid,
    is_internal,
    too_large,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SPECIAL: Final[set[type]] = {Internal, Rejected}
_LENGTH: Final = struct.Struct(">I")
_FIRST: Final = 0xFF
_VERSIONS: Final = range(13, 17)

# Bun begins with the kind of its message, 1, and a version as a little-endian number: read as one
# of V8's lengths, that is 16 MiB and some more.
_BUN_FIRST: Final = 1
_BUN_GREETINGS: Final = range(0x01010000, 0x01100000, 0x10000)

_CONTAINERS: Final = (dict, list, js.Map, js.Set, js.Array)
_LONG: Final = (str, bytes, bytearray, js.TypedArray)

# Levels of a value that contains itself that a conversion goes through before it gives up.
_LEVELS: Final = 1000

# A message that is larger is read where it is; a byte of `bytes` is quicker to get at.
_COPIED: Final = 1 << 15


class AdvancedCodec:
    """One end's encoder and decoder. Implements `NodeCodec`.

    Args:
      message_type: what received messages are converted to; `typing.Any` leaves them as they are.
      max_message_size: bytes of a message, without its length.
      is_handle: tells what Node can take beside a message only.
    """

    def __init__(
        self, message_type: Any, max_message_size: int, is_handle: Callable[[Any], bool]
    ) -> None:
        self.message_type = message_type
        self._max_size = max_message_size
        self._is_handle = is_handle
        self._pending = bytearray()
        try:
            msgspec.convert(None, message_type, dec_hook=check_handle_type)
        except msgspec.ValidationError:
            pass  # it is a type, and None is not of it
        except TypeError as exc:
            raise undecodable(exc) from exc

    # Out --------------------------------------------------------------------------------------

    def encode(self, message: Any) -> bytes:
        return self._encode(message, message, self._max_size)

    def encode_handle(self, members: Mapping[str, str], message: Any) -> bytes:
        frame = {"cmd": "NODE_HANDLE", **members, "msg": message}
        return self._encode(frame, message, self._max_size + ENVELOPE)

    def encode_internal(self, members: Mapping[str, Any]) -> bytes:
        return self._encode(dict(members), None, self._max_size + ENVELOPE)

    def _encode(self, value: Any, message: Any, most: int) -> bytes:
        writer = Writer(self._is_handle, message)
        try:
            writer.encode_object(value)
        except (UnsupportedMessage, UnsupportedHandle):
            raise
        except Exception as exc:
            raise advice.unsupported(message, _reason(exc)) from exc
        frame = writer.frame()
        size = len(frame) - _LENGTH.size
        if size > most:
            raise too_large(size, self._max_size)
        return frame

    # In ---------------------------------------------------------------------------------------

    def feed(self, data: memoryview) -> tuple[list[Any], bool]:
        values: list[Any] = []
        if not self._pending:
            self._pending += data[self._take(data, values) :]
        else:
            self._pending += data
            with memoryview(self._pending) as pending:
                taken = self._take(pending, values)
            if taken == len(self._pending):
                self._pending = bytearray()
            elif taken:
                self._pending = self._pending[taken:]
        return values, _SPECIAL.isdisjoint(map(type, values))

    def _take(self, data: memoryview, values: list[Any]) -> int:
        """Read the frames that are complete; how many bytes they have."""
        start = 0
        while len(data) - start >= _LENGTH.size:
            size = self._check_head(data[start : start + 6])
            end = start + _LENGTH.size + size
            if end > len(data):
                break
            payload: Any = data[start + _LENGTH.size : end]
            values.append(self._read(bytes(payload) if size <= _COPIED else payload))
            start = end
        return start

    def _check_head(self, head: memoryview) -> int:
        """A frame's length. Whatever can be wrong with it is found before there is more of it."""
        size: int = _LENGTH.unpack_from(head)[0]
        first = head[4] if len(head) > 4 else None
        too_large = size > self._max_size + ENVELOPE
        if first == _BUN_FIRST or (
            size in _BUN_GREETINGS and (too_large or first not in (None, _FIRST))
        ):
            raise ProtocolError(
                "the peer writes Bun's own format, not V8's; with it use serialization='json'"
            )
        if size < 2:
            raise ProtocolError(f"the peer sent a message of {size} bytes, which can't be one")
        if too_large:
            self._refuse_size(size)
        if len(head) == 6 and (head[4] != _FIRST or head[5] not in _VERSIONS):
            raise ProtocolError(
                f"the peer sent a message that begins with {bytes(head[4:]).hex(' ')};"
                " V8's serialization, versions 13 to 16, is understood"
            )
        return size

    def _refuse_size(self, size: int) -> NoReturn:
        raise ProtocolError(
            f"the peer announced a message of {size} bytes; max_message_size is {self._max_size}"
        )

    def _read(self, payload: Any) -> Any:
        try:
            reader = Reader(payload, payload[1], self._max_size)
            value = reader.read()
        except RecursionError:
            return Rejected(InvalidMessage("the message is nested too deeply"))
        except Unwelcome as exc:
            return Rejected(InvalidMessage(f"the message can't be received: {exc}"))
        except Exception as exc:
            # A malformed message can make anything go wrong. What it was would be shown, too,
            # if this were its cause, and it may be long.
            raise ProtocolError(f"the peer sent a malformed message: {_reason(exc)}") from None
        if is_internal(value):
            return Internal(value)
        if len(payload) > self._max_size:
            self._refuse_size(len(payload))
        if self.message_type is Any:
            return value
        try:
            if reader.stream.objects.referred:
                _check_spread(value, len(payload), self._max_size)
            return self._convert(value)
        except InvalidMessage as exc:
            return Rejected(exc)

    def convert(self, message: Any, handle: Any) -> Any:
        if self.message_type is Any:
            return HandleMessage(message, handle)
        _check_spread(message, 0, self._max_size)
        return self._convert([message, handle])

    def _convert(self, value: Any) -> Any:
        try:
            try:
                return convert(value, self.message_type)
            except msgspec.ValidationError:
                return self._convert_plain(value)
        except Exception as exc:
            raise invalid(exc) from exc

    def _convert_plain(self, value: Any) -> Any:
        """Once more, with what msgspec does not know in the place of what it does."""
        originals: dict[int, tuple[Any, Any]] = {}

        def dec_hook(expected: type, obj: Any) -> Any:
            return check_handle_type(expected, originals.get(id(obj), (obj,))[-1])

        return convert(_plain(value, originals), self.message_type, dec_hook)

    def incomplete(self) -> str | None:
        have = len(self._pending)
        if not have:
            return None
        if have < _LENGTH.size:
            return f"{have} of {_LENGTH.size} bytes of a message's length"
        [size] = _LENGTH.unpack_from(self._pending)
        return f"{have - _LENGTH.size} of {size} bytes of a message"


def _reason(exc: Exception) -> str:
    # The text of v8serialize's own errors contains all that was to be read.
    text = exc.args[0] if isinstance(exc, V8SerializeError) else exc
    return str(text) or type(exc).__name__


def _plain(value: Any, originals: dict[int, tuple[Any, Any]]) -> Any:
    """A value in the types that msgspec converts from, as near to JSON's as can be."""
    made: Any
    if isinstance(value, (dict, js.Map)):
        items = [
            (key, _plain(item, originals))
            for key, item in value.items()
            if item is not js.undefined
        ]
        if isinstance(value, dict):
            return dict(items)
        made = js.Map(items)
    elif isinstance(value, (list, js.Set)):
        made = [_plain(item, originals) for item in value]
        if isinstance(value, list):
            return made
    elif isinstance(value, (js.Uint8Array, js.Uint8ClampedArray, js.ArrayBuffer, js.DataView)):
        made = bytearray(value)
    elif isinstance(value, js.TypedArray):
        made = value.tolist()
    elif value is js.undefined:
        return None
    elif isinstance(value, js.Boxed):
        return value.value
    else:
        return value
    originals[id(made)] = (made, value)
    return made


def _check_spread(value: Any, size: int, most: int) -> None:
    """Converting copies what is shared as often as it is referred to, and what contains itself
    until it is too deep. A hundred bytes could take for ever, so what is to be converted may
    spread to ``most`` bytes more than the ``size`` that it came in.

    Raises:
      InvalidMessage: it would be larger.
    """
    # By identity; 0 while it is being found out.
    sizes: dict[int, int] = {}
    limit = size + most

    def weigh(each: Any) -> int:
        """The bytes that V8 needs at least where nothing refers to anything."""
        nonlocal limit
        if isinstance(each, js.Boxed):
            each = each.value
        if not isinstance(each, _CONTAINERS):
            return 1 + len(each) if isinstance(each, _LONG) else 1
        if id(each) in sizes:
            if not sizes[id(each)]:
                limit = size + most // _LEVELS
            return sizes[id(each)]
        sizes[id(each)] = 0
        parts = each if isinstance(each, (list, js.Set)) else chain(each.keys(), each.values())
        total = 3 + sum(map(weigh, parts))
        if total > limit:
            raise InvalidMessage("the message is too large with all that it shares written out")
        sizes[id(each)] = total
        return total

    try:
        weigh(value)
    except RecursionError as exc:
        raise invalid(exc) from exc
