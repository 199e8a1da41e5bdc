"""The wire protocols, without any I/O.

A protocol takes bytes and descriptor tokens in and gives messages out; it takes messages in and
gives bytes and tokens out. There is no Trio here, no socket and no clock, so that each byte can be
tested, and no descriptor either: a *token* is anything with a ``close()``, made by whoever does
the I/O. A token that is handed in here belongs to the protocol until it is handed out again.

`Wire` is what the layers above may rely on. Whoever opens a channel chooses its protocol;
after that only the connection's ``duties`` tell which one runs: Node's has some, the native one
none.
"""

# The methods of protocols have docstrings and no bodies.
# pyright: reportReturnType=false

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

    def encode(self, message: Any, handle: Any = None) -> bytes | Outbound:
        """Check and serialize a message, without any effect.

        Returns:
          what to commit: bytes, or an `Outbound` if it needs tokens or a frame of its own.

        Raises:
          UnsupportedMessage: it can't be serialized.
          UnsupportedHandle: a handle can't travel, or not where it is.
          MessageTooLarge: one end's limits don't allow it.
        """

    def check_again(self, payload: bytes | Outbound) -> None:
        """The peer may have named its limits since this was encoded.

        Raises:
          MessageTooLarge: it takes less than was thought.
        """

    def can_send(self, handles: int = 0) -> bool:
        """Whether one more message, with that many handles, may be committed now."""

    def commit_single(self, payload: bytes | Outbound) -> bytes | None:
        """Commit a small message and return the frame to write, if there is room for it and
        nothing stands before it.

        `commit` and `next_write` in short, for the message that is answered before the next one
        is sent. None, and nothing has happened, if it is not that simple; what is not written
        goes to `unwritten`.
        """

    def unwritten(self, frame: bytes, count: int) -> None:
        """Only ``count`` bytes of what `commit_single` gave are out; `next_write` has the rest."""

    def commit_small(self, payload: bytes | Outbound) -> bool:
        """Commit, if it is a small message and there is room for it; False, and nothing has
        happened, if not."""

    def commit(self, payload: bytes | Outbound, tokens: Sequence[Token] | None = None) -> None:
        """Queue one encoded message; `can_send` was true. It will arrive, whole and in order.

        Args:
          tokens: one for each of its handles, in their order; they belong to the protocol now.
        """

    def end(self) -> None:
        """No more messages will come from here. The peer is told behind those that were
        committed."""

    def hang_up(self) -> bool:
        """Whether our direction of the socket is to be shut down, to tell the peer of `end`. It is
        True once at most."""

    def stop(self) -> None:
        """No more messages will be taken here: those that are unread, and those that will come,
        are dropped, and their handles closed."""

    def has_output(self) -> bool:
        """Whether anything is committed and not written yet."""

    def next_write(self, *, full_only: bool = False) -> tuple[list[Any], Sequence[Any]] | None:
        """Buffers to write with one call, and the tokens to pass with their first byte; None if
        there is nothing to write.

        Call `written` with the outcome; if it failed, ask again. The tokens are only lent. With
        ``full_only``, an open batch is left open for more.
        """

    def written(self, count: int) -> None:
        """``count`` bytes of the last `next_write` are out, and with the first of them its
        tokens."""

    def received(self, count: int, tokens: Sequence[Token] = ()) -> None:
        """``count`` bytes were read into `buffers`, and ``tokens`` came with them. Those belong to
        the protocol now, even if this raises.

        Raises:
          ProtocolError: and then the channel is dead: call `close`.
        """

    def received_eof(self) -> None:
        """The peer is gone.

        Raises:
          ProtocolError: in the middle of a message, or of a frame.
        """

    def take(self) -> Any:
        """The next unread message, whose handles are the caller's; `unread` is not empty.

        Raises:
          InvalidMessage: it is not of ``message_type``; it is gone, its handles are closed.
          ProtocolError: its handles are not what it says: call `close`.
        """

    def take_all(self) -> None:
        """The peer is dead, so what is left of it is finite, and `sated` is never True again."""

    def want(self, receivers: int) -> None:
        """So many tasks wait for a message: with no buffer, that is what grants credit."""

    def skip_unread(self) -> None:
        """Take what is unread, for nobody: the handles are closed, the peer gets its credit
        back."""

    def needs_grant(self) -> bool:
        """Whether the credit that is due should leave now, if nobody does it later."""

    def flush_grants(self) -> None:
        """Queue what credit is due, if no other frame has taken it along."""

    def bytes_unsent(self) -> int:
        """How many bytes are committed and not written yet."""

    def credit_left(self) -> float:
        """How many messages the peer would take now; ``math.inf`` for any number."""

    def abandon_input(self) -> None:
        """Close the tokens of whatever is not a complete message."""

    def abandon_output(self) -> None:
        """Drop what was not written, and close its tokens."""

    def close(self) -> None:
        """Close every token that is in here, and every handle that was made of one."""
