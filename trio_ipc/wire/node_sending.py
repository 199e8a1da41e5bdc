"""The sending side of Node's protocol: messages in, bytes and tokens out."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from .._errors import MessageTooLarge
from . import HandleMessage, Limits, Outbound, Token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .node_values import NodeCodec, NodeHandleKinds

# Bytes of small messages that are written together.
BATCH_SIZE: Final = 65536
# The bytes unsent at which Node's own `send()` returns false (kChannelHandle's writeQueueSize in
# lib/internal/child_process.js).
HIGH_WATER: Final = 128 * 1024
# How often a handle is sent again, as in Node (MAX_HANDLE_RETRANSMISSIONS).
MOST_RETRANSMISSIONS: Final = 3


class Answer:
    """What became of a handle.

    Attributes:
      payload: what `NodeWire.commit` was given.
      token: its token, whose owner is whoever takes the answer.
      problem: why the peer has not got it; None if it has.
    """

    __slots__ = ("payload", "problem", "token")

    def __init__(self, payload: Outbound, token: Token, problem: str | None) -> None:
        self.payload: Outbound = payload
        self.token: Token = token
        self.problem: str | None = problem


class _OnItsWay:
    """The one handle that was committed and not answered."""

    __slots__ = ("is_out", "payload", "preceded_by_late", "retransmissions", "token")

    def __init__(self, payload: Outbound, token: Token) -> None:
        self.payload = payload
        self.token = token
        self.retransmissions = 0
        self.is_out = False
        self.preceded_by_late = False


class Sending:
    """Half of `NodeWire`.

    Small messages gather in an open batch, which is sealed when it is written. Answers overtake
    everything but a frame whose first byte is out.
    """

    codec: NodeCodec
    limits: Limits
    kinds: NodeHandleKinds
    sated: bool
    unread: deque[Any]

    def _start_sending(self) -> None:
        self.ended: bool = False
        self.peer_stopped = False
        self.must_push: bool = False
        self.answers: deque[Answer] = deque()
        self.unsent: int = 0
        # What is being written, with the token of its first byte.
        self._writing: tuple[bytes | memoryview, Token | None] | None = None
        self._replies = bytearray()
        self._queue: deque[tuple[bytes, _OnItsWay | None]] = deque()
        self._batch = bytearray()
        self._on_its_way: _OnItsWay | None = None
        # Answers that nobody waits for any more.
        self._owed = 0
        self._hung_up = False

    if TYPE_CHECKING:  # what the other half has

        def _weigh(self) -> None: ...

    # Encoding, without effect ---------------------------------------------------------------

    def encode(self, message: Any, handle: Any = None) -> bytes | Outbound:
        if handle is None:
            if message.__class__ is HandleMessage:
                message, handle = message
            if handle is None:
                return self.codec.encode(message)
        known = self.kinds.describe(handle)
        if known is None:
            from . import advice

            raise advice.no_handle(handle)
        if self.limits.max_handles < 1:
            raise MessageTooLarge("the message has a handle, and max_handles is 0")
        return Outbound(0, self.codec.encode_handle(known.members, message), [known])

    def check_again(self, payload: bytes | Outbound) -> None:
        """Nothing that could change: this peer has not told us any limits."""

    # Committing -----------------------------------------------------------------------------

    def can_send(self, handles: int = 0) -> bool:
        if self.unsent + len(self._batch) >= HIGH_WATER:
            return False
        return not handles or self._on_its_way is None

    def commit_single(self, payload: bytes | Outbound) -> bytes | None:
        if type(payload) is Outbound or self.has_output():
            return None
        return payload

    def unwritten(self, frame: bytes, count: int) -> None:
        self._writing = memoryview(frame)[count:], None
        self.unsent += len(frame) - count

    def commit_small(self, payload: bytes | Outbound) -> bool:
        if type(payload) is Outbound:
            return False
        size = len(self._batch) + len(payload)
        if size > BATCH_SIZE or self.unsent + size > HIGH_WATER:
            return False
        self._batch += payload
        return True

    def commit(self, payload: bytes | Outbound, tokens: Sequence[Token] | None = None) -> None:
        if self.commit_small(payload):
            return
        self._seal()
        if self.commit_small(payload):
            return
        if isinstance(payload, Outbound):
            assert tokens is not None
            self._on_its_way = _OnItsWay(payload, tokens[0])
            self._queue.append((payload.data, self._on_its_way))
            self.unsent += len(payload.data)
            if self.sated:
                self._weigh()  # its answer must be read
        else:
            self._queue.append((payload, None))
            self.unsent += len(payload)

    def _seal(self) -> None:
        """Close the open batch and queue it."""
        if self._batch:
            self._queue.append((bytes(self._batch), None))
            self.unsent += len(self._batch)
            self._batch.clear()

    def end(self) -> None:
        """`hang_up` says when the peer is to be told."""
        self.ended = True

    def hang_up(self) -> bool:
        due = self.ended and not self._hung_up and not self.has_output()
        self._hung_up = self._hung_up or due
        return due

    # Writing --------------------------------------------------------------------------------

    def has_output(self) -> bool:
        """A handle counts until it is answered."""
        return bool(
            self._writing or self._batch or self._queue or self._replies or self._on_its_way
        )

    def bytes_unsent(self) -> int:
        return self.unsent + len(self._batch) + len(self._replies)

    def credit_left(self) -> float:
        """Bytes count here, and not messages: it is either none or any number."""
        return math.inf if self.can_send() else 0

    def next_write(self, *, full_only: bool = False) -> tuple[list[Any], list[Token]] | None:
        if self._writing is None and not self._choose(full_only):
            return None
        assert self._writing is not None
        data, token = self._writing
        return [data], [] if token is None else [token]

    def _choose(self, full_only: bool) -> bool:
        if self._replies:
            self._writing = bytes(self._replies), None
            self.unsent += len(self._replies)
            self._replies.clear()
            self._weigh()
            return True
        if self._on_its_way is not None and self._on_its_way.is_out:
            return False
        if not full_only:
            self._seal()
        if not self._queue:
            return False
        frame, handle = self._queue.popleft()
        self._writing = frame, None if handle is None else handle.token
        if handle is not None:
            handle.is_out = True
        return True

    def written(self, count: int) -> None:
        """A token that is out is kept until the peer has it."""
        if not count:
            return
        assert self._writing is not None
        data, _ = self._writing
        self.unsent -= count
        self._writing = (memoryview(data)[count:], None) if count < len(data) else None

    def abandon_output(self) -> None:
        """The token that was not acknowledged goes, too."""
        if self._on_its_way is not None:
            self._on_its_way.token.close()
            self._on_its_way = None
        self._writing = None
        self._queue.clear()
        self._batch.clear()
        self._replies.clear()
        self.unsent = 0

    # Handles that are on their way ------------------------------------------------------------

    def _receive_ack(self) -> None:
        if self._is_out() and not self._is_late():
            self._answer(None)

    def _receive_nack(self) -> None:
        handle = self._on_its_way
        if handle is None or not self._is_out() or self._is_late():
            return
        handle.retransmissions += 1
        if handle.retransmissions > MOST_RETRANSMISSIONS:
            self._answer(f"refused {handle.retransmissions} times")
            return
        handle.is_out = False
        self._queue.appendleft((handle.payload.data, handle))
        self.unsent += len(handle.payload.data)
        self.must_push = True

    def _is_out(self) -> bool:
        # An answer that nobody waits for is not worth the channel: Node itself sends one too many
        # after a retransmission, and dies of the one that it gets.
        handle = self._on_its_way
        return handle is not None and handle.is_out and not self._is_being_written(handle)

    def _is_late(self) -> bool:
        # Answers come in order. A peer that was stopped for a while, in a debugger for example, has
        # still to give those that nobody waits for any more.
        if not self._owed:
            return False
        assert self._on_its_way is not None
        self._owed -= 1
        self._on_its_way.preceded_by_late = True
        return True

    def _is_being_written(self, handle: _OnItsWay) -> bool:
        if self._writing is None:
            return False
        data, _ = self._writing
        return (data.obj if isinstance(data, memoryview) else data) is handle.payload.data

    def give_up(self) -> None:
        """The peer has had time enough to answer."""
        handle = self._on_its_way
        assert handle is not None
        if not handle.is_out:
            self._queue = deque(item for item in self._queue if item[1] is not handle)
            self.unsent -= len(handle.payload.data)
        elif self._writing is not None and self._writing[1] is handle.token:
            self._writing = None
            self.unsent -= len(handle.payload.data)
        elif handle.preceded_by_late:
            # What seemed late was its own answer, and the one before will never be answered.
            self._answer(None)
            return
        else:
            self._owed += 1
        self._answer("not acknowledged in time")

    def _answer(self, problem: str | None) -> None:
        handle = self._on_its_way
        assert handle is not None
        self._on_its_way = None
        self.answers.append(Answer(handle.payload, handle.token, problem))
        self.must_push = True
        if self.unread:
            self._weigh()

    def _reply(self, members: Mapping[str, Any]) -> None:
        self._replies += self.codec.encode_internal(members)
        self.must_push = True
