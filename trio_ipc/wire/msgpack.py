"""Values <-> MessagePack, with handles anywhere inside.

A handle becomes an extension value: its index among the descriptors of the frame, the code of its
kind, and what else its kind needs. The descriptors themselves travel beside the bytes.
"""

# The methods of protocols have docstrings and no bodies.
# pyright: reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import msgspec

from .._errors import MessageTooLarge, ProtocolError, UnsupportedHandle
from .message_type import check_handle_type, undecodable

if TYPE_CHECKING:
    from collections.abc import Callable

# MessagePack reserves the negative extension types for itself and uses -1 only; an application's
# own `msgspec.msgpack.Ext` values (0 to 127) are left alone.
HANDLE_CODE = -42

# A frame counts its descriptors in one byte, and the kernel takes 253 of them (SCM_MAX_FD).
MOST_HANDLES = 253


class HandleDescription(Protocol):
    """A live object, recognised as something that can travel."""

    obj: Any
    code: int
    extra: bytes


class HandleKinds(Protocol):
    """What is known about handles, in a layer that may touch them."""

    @property
    def describe(self) -> Callable[[Any], HandleDescription | None]:
        """Recognise a handle; None for what is none, `UnsupportedHandle` if it can't travel."""

    @property
    def build(self) -> Callable[[int, bytes, Any], Any]:
        """Make the object of a received handle, from its code, its extra bytes, and its token."""

    @property
    def discard(self) -> Callable[[Any], None]:
        """Close an object that `build` made and nobody will get."""


class MsgpackCodec:
    """One end's encoder and decoder.

    Args:
      message_type: what received messages are decoded to; `typing.Any` leaves them as they are.
      kinds: what can travel.
    """

    def __init__(self, message_type: Any, kinds: HandleKinds) -> None:
        self.message_type = message_type
        self._kinds = kinds
        # The table of the message that is being encoded, never kept from one to the next:
        # ipc-channel's encoder keeps it, and a failed message's handles go out with a later one.
        self.outgoing: list[HandleDescription] = []
        self._incoming: _Incoming | None = None
        # The bytes of a message; `pop_handles` has what it contains. If it raises, call `refuse`.
        self.encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder(
            enc_hook=self._encode_other
        ).encode
        hooks: dict[str, Any] = {"ext_hook": self._decode_ext, "dec_hook": check_handle_type}
        try:
            self._decode = msgspec.msgpack.Decoder(message_type, **hooks).decode
            decode_batch = msgspec.msgpack.Decoder(_list_of(message_type), **hooks).decode
        except TypeError as exc:
            raise undecodable(exc) from exc
        # A memoryview or a `msgspec.Raw` in a message refers to the bytes that it was decoded from,
        # which are overwritten by the next read.
        self.decode_batch: Callable[[Any], list[Any]] = (
            decode_batch if message_type is Any else lambda batch: decode_batch(bytes(batch))
        )
        self.split_batch: Callable[[Any], list[msgspec.Raw]] = msgspec.msgpack.Decoder(
            list[msgspec.Raw]
        ).decode
        self._decode_call = msgspec.msgpack.Decoder(
            tuple[Any, list[Any]], ext_hook=self._decode_ext
        ).decode

    def refuse(
        self, message: Any, exc: BaseException, what: str | None = None, handle: Any = None
    ) -> NoReturn:
        """``encode(message)`` has raised ``exc``: say so as the API promises, about ``what``, or
        about the ``handle`` beside it, if that is none."""
        self.outgoing = []
        if isinstance(exc, (UnsupportedHandle, MessageTooLarge)) or not isinstance(exc, Exception):
            raise exc
        from . import advice  # which who makes no mistake need not import

        if handle is not None and self._kinds.describe(handle) is None:
            raise advice.no_handle(handle) from exc
        raise advice.unsupported(message, exc, what) from exc

    def pop_handles(self) -> list[HandleDescription]:
        """The handles of the message encoded last."""
        handles = self.outgoing
        if handles:
            self.outgoing = []
        return handles

    def _encode_other(self, obj: Any) -> msgspec.msgpack.Ext:
        table = self.outgoing
        index = 0
        while index < len(table) and table[index].obj is not obj:
            index += 1
        if index == len(table):
            handle = self._kinds.describe(obj)
            if handle is None:
                from . import advice

                raise advice.no_value(obj)
            if index == MOST_HANDLES:
                raise MessageTooLarge(f"more than {MOST_HANDLES} handles in one message")
            table.append(handle)
        known = table[index]
        return msgspec.msgpack.Ext(HANDLE_CODE, bytes((index, known.code)) + known.extra)

    def decode(self, raw: Any, tokens: list[Any], *, call: bool = False) -> Any:
        """One message, or a function child's call, and the objects of its handles.

        Whatever happens, no token is left without an owner: it is in the value that is returned,
        or closed.

        Raises:
          msgspec.ValidationError: it is not of ``message_type``.
          ProtocolError: it is no message, or its handles are not what it says.
        """
        incoming = self._incoming = _Incoming(tokens, self._kinds) if tokens else None
        try:
            value = self._decode_call(raw) if call else self._decode(raw)
            if incoming is not None:
                incoming.check_all_claimed()
        except BaseException:
            if incoming is not None:
                incoming.discard()
            raise
        finally:
            self._incoming = None
        return value

    def convert(self, value: bytes) -> Any:
        """Check a message that travelled as bare bytes against ``message_type``."""
        if self.message_type is Any or self.message_type is bytes:
            return value
        return self._decode(msgspec.msgpack.encode(value))  # as if it were a smaller one

    def _decode_ext(self, code: int, data: memoryview) -> Any:
        if code != HANDLE_CODE:
            return msgspec.msgpack.Ext(code, bytes(data))
        if self._incoming is None:
            raise ProtocolError("the peer announced a handle and sent none")
        return self._incoming.claim(bytes(data))


class _Incoming:
    """The handles of the message that is being decoded: each becomes one object, once."""

    def __init__(self, tokens: list[Any], kinds: HandleKinds) -> None:
        self._tokens = tokens
        self._objects: dict[int, Any] = {}
        self._kinds = kinds

    def claim(self, data: bytes) -> Any:
        if len(data) < 2 or data[0] >= len(self._tokens):
            raise ProtocolError("the peer announced a handle and sent none")
        index = data[0]
        if index not in self._objects:
            self._objects[index] = self._kinds.build(data[1], data[2:], self._tokens[index])
        return self._objects[index]

    def check_all_claimed(self) -> None:
        if len(self._objects) != len(self._tokens):
            raise ProtocolError("the peer sent handles that its message does not contain")

    def discard(self) -> None:
        for obj in self._objects.values():
            self._kinds.discard(obj)
        for token in self._tokens:
            token.close()


def _list_of(item: Any) -> Any:
    # `list[Any]` decodes item by item through the generic path of msgspec; a bare decoder gives
    # the same list faster.
    return Any if item is Any else list[item]
