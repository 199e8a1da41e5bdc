"""Node's ``serialization: 'json'``: each message is a line of JSON.

Values are written as ``JSON.stringify`` writes them and read as ``JSON.parse`` reads them. Strict
JSON alone may leave here: a bare NaN, an empty line, or a line that isn't whole kills a Node peer,
who parses outside of any try block.
"""

# Values of any type: what isinstance() says is a dict is of unknown keys and items.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from .._errors import ProtocolError, UnsupportedHandle, UnsupportedMessage
from . import HandleMessage
from .message_type import check_handle_type, undecodable
from .node_values import (
    ENVELOPE,
    Internal,
    Rejected,
    convert,
    handle_inside,
    invalid,
    is_internal,
    reserved,
    too_large,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NEWLINE: Final = ord("\n")
_BACKSLASH: Final = ord("\\")

# Bun sends lines of its own between processes of its cluster, and marks them so.
_BUN_INTERNAL: Final = b"\x02"

# What comes most often of all that is not the user's, as everyone writes it.
_ACK_LINE: Final = b'{"cmd":"NODE_HANDLE_ACK"}\n'
_ACK: Final = Internal({"cmd": "NODE_HANDLE_ACK"})


class JsonCodec:
    """One end's encoder and decoder. Implements `NodeCodec`.

    Args:
      message_type: what received messages are decoded to; `typing.Any` leaves them as they are.
      max_message_size: bytes of a line.
      is_handle: tells what Node can take beside a message only.
    """

    def __init__(
        self, message_type: Any, max_message_size: int, is_handle: Callable[[Any], bool]
    ) -> None:
        self.message_type = message_type
        self._max_size = max_message_size
        self._is_handle = is_handle
        self._pending = bytearray()
        self._encode = msgspec.json.Encoder(enc_hook=self._refuse_object).encode
        self._decode_any = msgspec.json.Decoder().decode
        try:
            self._decode = msgspec.json.Decoder(message_type, dec_hook=check_handle_type).decode
        except TypeError as exc:
            raise undecodable(exc) from exc

    # Out --------------------------------------------------------------------------------------

    def encode(self, message: Any) -> bytes:
        try:
            text = self._encode(message)
            # Most messages need no second look. (`b"x" in text` would first take b"x" for a number,
            # and raise and catch a TypeError; that takes longer than to look for it.)
            if (
                len(text) <= self._max_size
                and text.find(b"NODE_") < 0
                and _NEWLINE not in text
                and (_BACKSLASH not in text or text.find(b"\\u") < 0)
            ):
                return text + b"\n"
        except Exception:
            pass  # there may be another way to encode it, or else a better error
        return self._encode_text(message) + b"\n"

    def encode_handle(self, members: Mapping[str, str], message: Any) -> bytes:
        # The order in which Node writes them, and `msg` as it would be alone.
        head = self._encode({"cmd": "NODE_HANDLE", **members})
        return b'%b,"msg":%b}\n' % (head[:-1], self._encode_text(message))

    def encode_internal(self, members: Mapping[str, Any]) -> bytes:
        return self._stringify(members) + b"\n"

    def _encode_text(self, message: Any) -> bytes:
        try:
            text = self._stringify(message)
            # A msgspec.Raw may hide it in an escape.
            if (b"NODE_" in text or b"\\u" in text) and is_internal(self._parse(text)[0]):
                raise reserved()
            if b"\n" in text:
                raise UnsupportedMessage("a msgspec.Raw must be a single line")
        except (UnsupportedMessage, UnsupportedHandle):
            raise
        except Exception as exc:
            from . import advice

            raise advice.unsupported(message, exc) from exc
        if len(text) > self._max_size:
            raise too_large(len(text), self._max_size)
        return text

    def _refuse_object(self, obj: Any) -> NoReturn:
        if self._is_handle(obj):
            raise handle_inside()
        from . import advice

        if obj is None or isinstance(obj, (bool, tuple)):  # which it knows, as values
            raise advice.no_key(obj)
        is_javascript = type(obj).__module__ == "trio_ipc.javascript"
        manner = " as JSON; serialization='advanced' knows them" if is_javascript else ""
        raise advice.no_value(obj, manner)

    def _stringify(self, message: Any) -> bytes:
        try:
            return self._encode(message)
        except UnicodeEncodeError:
            pass
        # msgspec encodes nothing that is not UTF-8; `JSON.stringify` escapes lone surrogates.
        plain = msgspec.to_builtins(message, str_keys=True, enc_hook=self._refuse_object)
        return json.dumps(_nulls_for_nans(plain), allow_nan=False, separators=(",", ":")).encode()

    # In ---------------------------------------------------------------------------------------

    def feed(self, data: memoryview) -> tuple[list[Any], bool]:
        chunk = bytes(data)
        if chunk == _ACK_LINE and not self._pending:
            return [_ACK], False
        lines = chunk
        if self._pending or chunk[-1] != _NEWLINE:
            lines = self._complete(chunk)
            if not lines:
                return [], True
        is_single = lines.find(b"\n") == len(lines) - 1
        # Most messages need no second look: what is internal says so, or hides it in an escape.
        if (
            len(lines) <= self._max_size
            and lines.find(b"NODE_") < 0
            and (_BACKSLASH not in lines or lines.find(b"\\u") < 0)
        ):
            try:
                if is_single:
                    return [self._decode(lines)], True
                return list(map(self._decode, lines[:-1].split(b"\n"))), True
            except Exception:
                pass  # one of them is bad: find out which
        if is_single:
            return self._read(lines[:-1]), False
        return [each for line in lines[:-1].split(b"\n") for each in self._read(line)], False

    def _complete(self, chunk: bytes) -> bytes:
        """The lines that a chunk completes; what is left of it is kept for the next one."""
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._keep(chunk)
            return b""
        lines = bytes(self._pending) + chunk[:end]
        self._pending.clear()
        if end < len(chunk):
            self._keep(chunk[end:])
        return lines

    def _keep(self, part: bytes) -> None:
        self._pending += part
        if len(self._pending) > self._max_size + ENVELOPE:
            self._refuse_size(len(self._pending))

    def _refuse_size(self, size: int) -> NoReturn:
        raise ProtocolError(
            f"the peer sent a line of {size} bytes or more; max_message_size is {self._max_size}"
        )

    def _read(self, line: bytes) -> list[Any]:
        if line[:1] == _BUN_INTERNAL:
            return []
        try:
            value, typed = self._parse(line)
            if is_internal(value):
                if len(line) > self._max_size + ENVELOPE:
                    self._refuse_size(len(line))
                return [Internal(value)]
            if len(line) > self._max_size:
                self._refuse_size(len(line))
            if self.message_type is Any:
                return [value]
            if typed:
                return [self._decode(line)]
            return [convert(value, self.message_type)]
        except ProtocolError:
            raise
        except Exception as exc:  # the user's own type may raise anything in its __post_init__
            return [Rejected(invalid(exc))]

    def _parse(self, line: bytes) -> tuple[Any, bool]:
        """The value of a line, and whether msgspec can decode it.

        Raises:
          ProtocolError: it is no JSON.
          msgspec.ValidationError, RecursionError: it is, with a number or a depth beyond reason.
        """
        try:
            return self._decode_any(line), True
        except msgspec.ValidationError:
            raise
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            problem: Exception = exc
        if b"\\u" in line:
            # msgspec refuses lone surrogates, which `JSON.stringify` writes.
            try:
                return json.loads(line.decode(), parse_constant=_refuse_constant), False
            except ValueError as exc:
                problem = exc
        raise ProtocolError(f"the peer sent a line that is not JSON: {problem}") from problem

    def convert(self, message: Any, handle: Any) -> Any:
        if self.message_type is Any:
            return HandleMessage(message, handle)
        try:
            return convert([message, handle], self.message_type)
        except Exception as exc:
            raise invalid(exc) from exc

    def incomplete(self) -> str | None:
        if not self._pending:
            return None
        return f"{len(self._pending)} bytes of a line without its end"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _nulls_for_nans(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _nulls_for_nans(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(_nulls_for_nans, value))
    return value
