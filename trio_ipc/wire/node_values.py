"""What both serializations of Node's protocol agree on."""

# The methods of protocols have docstrings and no bodies.
# pyright: reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from .._errors import InvalidMessage, MessageTooLarge, UnsupportedHandle, UnsupportedMessage
from .message_type import check_handle_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Bytes that an internal message may have around the user's own: a key holds the path of a socket.
ENVELOPE: Final = 1024

_RESERVED: Final = "NODE_"


def is_internal(message: Any) -> bool:
    """Whether Node takes a message for one of its own and hides it from the program.

    The bare prefix is an ordinary message (``isInternal`` in Node's lib/internal/child_process.js).
    """
    if message.__class__ is not dict:
        return False
    cmd = message.get("cmd")
    return isinstance(cmd, str) and len(cmd) > len(_RESERVED) and cmd.startswith(_RESERVED)


class Internal:
    """A received message between the two runtimes, which no user gets to see."""

    __slots__ = ("members",)

    def __init__(self, members: dict[str, Any]) -> None:
        self.members: dict[str, Any] = members


class Rejected:
    """A received message that can't be what it should be: whoever takes it gets the error."""

    __slots__ = ("error",)

    def __init__(self, error: InvalidMessage) -> None:
        self.error: InvalidMessage = error


def convert(
    value: Any, message_type: Any, dec_hook: Callable[[type, Any], Any] = check_handle_type
) -> Any:
    """A value as ``message_type`` says; msgspec's errors, and those of the user's own type."""
    return msgspec.convert(value, message_type, str_keys=True, dec_hook=dec_hook)


def invalid(exc: Exception) -> InvalidMessage:
    """What whoever receives it is to get, because of ``exc``."""
    error = InvalidMessage(str(exc) or type(exc).__name__)
    error.__cause__ = exc
    return error


def too_large(size: int, most: int) -> MessageTooLarge:
    return MessageTooLarge(
        f"the message has {size} bytes, and max_message_size is {most}: raise it, or send the"
        " message in parts"
    )


def reserved() -> UnsupportedMessage:
    return UnsupportedMessage(
        "a `cmd` that begins with 'NODE_' is reserved for Node, which hides such a message from the"
        " program: call it otherwise"
    )


def handle_inside() -> UnsupportedHandle:
    return UnsupportedHandle(
        "Node takes a handle beside a message, not inside of it: send(message, handle)"
    )


class NodeHandle(Protocol):
    """A live object, recognised as something that Node takes."""

    obj: Any
    members: Mapping[str, str]


class NodeHandleKinds(Protocol):
    """What is known about handles, in a layer that may touch them."""

    def describe(self, obj: Any) -> NodeHandle | None:
        """Recognise a handle; None for what is none, `UnsupportedHandle` if it can't travel."""

    def build(self, kind: object, token: Any, /) -> Any:
        """Make the object of a received handle, from its ``type`` and its token."""

    def discard(self, obj: Any) -> None:
        """Close an object that `build` made and nobody will get."""

    def is_open(self, obj: Any) -> bool:
        """Whether an object that `build` made still has its descriptor."""


class NodeCodec(Protocol):
    """Messages <-> frames, of either serialization."""

    message_type: Any

    def encode(self, message: Any) -> bytes:
        """One whole frame.

        Raises:
          UnsupportedMessage: it can't be serialized, or Node would hide it from the program.
          UnsupportedHandle: it contains a handle; Node takes one beside it.
          MessageTooLarge: it is over ``max_message_size``.
        """

    def encode_handle(self, members: Mapping[str, str], message: Any) -> bytes:
        """The frame of a message with a handle: ``cmd``, ``members``, and ``msg``. Raises as
        `encode` does."""

    def encode_internal(self, members: Mapping[str, Any]) -> bytes:
        """The frame of an internal message."""

    def convert(self, message: Any, handle: Any) -> Any:
        """A message that arrived beside a handle, as ``message_type`` says.

        Raises:
          InvalidMessage: it is not of that type.
        """

    def feed(self, data: memoryview) -> tuple[list[Any], bool]:
        """Take bytes in; the messages that they complete, each a value of ``message_type``, an
        `Internal` or a `Rejected`. And whether all of them are values.

        Raises:
          ProtocolError: they make no sense, or too large a message.
        """

    def incomplete(self) -> str | None:
        """What is cut off if the input ends now, with byte counts; None between two frames."""
