"""What both serializations of Node's protocol agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .._errors import InvalidMessage

__all__ = ["ENVELOPE", "Internal", "Rejected", "is_internal"]

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
        self.members = members


class Rejected:
    """A received message that can't be what it should be: whoever takes it gets the error."""

    __slots__ = ("error",)

    def __init__(self, error: InvalidMessage) -> None:
        self.error = error
