"""The wire protocols, without any I/O.

A protocol takes bytes and descriptor tokens in and gives messages out; it takes messages in and
gives bytes and tokens out. There is no Trio here, no socket and no clock, so that each byte can be
tested, and no descriptor either: a *token* is anything with a ``close()``, made by whoever does
the I/O. A token that is handed in here belongs to the protocol until it is handed out again.

`Wire` is what the layers above may rely on; nothing above knows which protocol runs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, final

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Sequence

# The kernel counts a user's handles in flight against the sender's RLIMIT_NOFILE, often 1024, and
# those that wait in the receiver fill its table.
HANDLE_WINDOW: Final = 256


class HandleMessage(NamedTuple):
    """What a peer receives when the sender wrote ``send(message, handle)``. It unpacks."""

    message: Any
    handle: Any


# As a message_type it is looked into, and names would be looked up in the package that it seems to
# come from.
HandleMessage.__annotations__ = {"message": Any, "handle": Any}


class Token(Protocol):
    """One received or outgoing descriptor, owned."""

    def close(self) -> None:
        """Nobody will get it."""

    def sent(self) -> None:
        """It is on its way, and our copy is not needed any more."""


class Limits:
    """What one end of a channel accepts.

    Args:
      max_buffer_size: messages that may wait unreceived; ``math.inf`` for no limit on their
          number (their bytes stay limited).
      max_message_size: bytes of one serialized message.
      max_handles: handles in one message.
      takes_handles: whether they may come from the peer, too.
    """

    __slots__ = ("max_buffer_size", "max_handles", "max_message_size", "takes_handles")

    def __init__(
        self,
        max_buffer_size: float = 1000,
        max_message_size: int = 16 * 1024 * 1024,
        max_handles: int = 16,
        *,
        takes_handles: bool = True,
    ) -> None:
        self.max_buffer_size: float = max_buffer_size
        self.max_message_size: int = max_message_size
        self.max_handles: int = max_handles
        self.takes_handles: bool = takes_handles

    @property
    def max_handles_taken(self) -> int:
        """Handles in one message from the peer."""
        return self.max_handles if self.takes_handles else 0

    def replaced(
        self,
        max_buffer_size: float | None = None,
        max_message_size: int | None = None,
        max_handles: int | None = None,
    ) -> Limits:
        """These, except for what is given."""
        return Limits(
            self.max_buffer_size if max_buffer_size is None else max_buffer_size,
            self.max_message_size if max_message_size is None else max_message_size,
            self.max_handles if max_handles is None else max_handles,
            takes_handles=self.takes_handles,
        )

    def check(self) -> None:
        """The same complaints as `trio.open_memory_channel` makes, and some more.

        Raises:
          TypeError, ValueError: a limit that makes no sense.
        """
        size = self.max_buffer_size
        if size != math.inf:
            if not _is_integer(size):
                raise TypeError(f"max_buffer_size must be an integer or math.inf, not {size!r}")
            if size < 0:
                raise ValueError("max_buffer_size must be >= 0")
            if size >= 1 << 32:
                raise ValueError(
                    f"max_buffer_size must be less than 2**32, or math.inf, not {size}"
                )
        for name, most in (("max_message_size", (1 << 32) - 1024), ("max_handles", 253)):
            value = getattr(self, name)
            if not _is_integer(value):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if not 0 <= value <= most:
                raise ValueError(f"{name} must be between 0 and {most}, not {value}")


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@final
class Outbound:
    """A message that is encoded but needs more than its bytes: its own kind of frame, handles.

    Attributes:
      delivery: what is known of it where the peer acknowledges handles.
    """

    __slots__ = ("data", "delivery", "handles", "kind")

    def __init__(self, kind: int, data: bytes, handles: list[Any]) -> None:
        self.kind: int = kind
        self.data: bytes = data
        self.handles: list[Any] = handles
        self.delivery: Any = None


class Wire(Protocol):
    """What a connection needs of a protocol.

    Sending: `encode` has no side effect, `can_send` tells whether one more message may be
    committed, `commit` is the point of no return, `next_write` and `written` move the bytes.

    Receiving: fill `buffers`, then say `received`; complete messages appear in `unread` and leave
    it through `take`, which is also what gives the peer its credit back.
    """

    limits: Limits

    unread: deque[Any]
    """Messages that arrived and wait for `take`."""

    grants_pending: int
    """Credit to give back to the peer; it leaves with the next write."""

    grant_at: int
    """So much of it is not to wait for a write."""

    starving: bool
    """The peer may soon be out of credit."""

    rendezvous: bool
    """There is no buffer: credit is given for each task that waits, see `want`."""

    buffers: list[memoryview]
    """Where the next bytes are to be read to."""

    unsent: int
    """Bytes in complete frames that are not written yet."""

    greeted: bool
    """The peer has said that it speaks this protocol, if that is said in it."""

    ended: bool
    """We said that."""

    peer_ended: bool
    """The peer said that it will send no more messages."""

    peer_stopped: bool
    """The peer said that it will receive no more messages."""

    sated: bool
    """Enough is unread: nothing more is to be read for now. It may change with each call."""

    must_push: bool
    """What arrived brought something to write. Whoever writes it says False here."""

    failure_text: str | None
    """The traceback that a failed function child sent as its last words."""

    def encode(self, message: Any, handle: Any = None) -> bytes | Outbound: ...
    def check_again(self, payload: bytes | Outbound) -> None: ...
    def can_send(self, handles: int = 0) -> bool: ...
    def commit_single(self, payload: bytes | Outbound) -> bytes | None: ...
    def unwritten(self, frame: bytes, count: int) -> None: ...
    def commit_small(self, payload: bytes | Outbound) -> bool: ...
    def commit(self, payload: bytes | Outbound, tokens: Sequence[Token] | None = None) -> None: ...
    def end(self) -> None: ...
    def hang_up(self) -> bool: ...
    def stop(self) -> None: ...
    def has_output(self) -> bool: ...
    def next_write(self, *, full_only: bool = False) -> tuple[list[Any], Sequence[Any]] | None: ...
    def written(self, count: int) -> None: ...
    def received(self, count: int, tokens: Sequence[Token] = ()) -> None: ...
    def received_eof(self) -> None: ...
    def take(self) -> Any: ...
    def take_all(self) -> None: ...
    def want(self, receivers: int) -> None: ...
    def skip_unread(self) -> None: ...
    def needs_grant(self) -> bool: ...
    def flush_grants(self) -> None: ...
    def bytes_unsent(self) -> int: ...
    def credit_left(self) -> float: ...
    def abandon_input(self) -> None: ...
    def abandon_output(self) -> None: ...
    def close(self) -> None: ...
