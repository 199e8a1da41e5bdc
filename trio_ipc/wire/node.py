"""Node's protocol: what ``child_process`` speaks on its IPC channel.

Each message is a frame of its own, see `NodeCodec`. Around those of the user there are *internal*
ones, which he never sees:

* ``NODE_HANDLE`` is a message with a handle. Its descriptor rides on the frame's first byte, and
  the receiver answers ``NODE_HANDLE_ACK``, or ``NODE_HANDLE_NACK`` if it got the frame without the
  descriptor; then it is sent again. Until the answer comes nothing else is written, because a Node
  that reads two of them at once mixes up their descriptors (libuv keeps a single pending one).
* ``NODE_SOCKET_GET_COUNT`` and ``NODE_SOCKET_NOTIFY_CLOSE`` ask about the sockets of one server,
  named by a key that came with each: how many are still open here, and tell when there are none.

There is no greeting, no credit and no goodbye. What is unsent is bounded by its bytes, what is
unread by not reading on, and the end of the socket is the end.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from .._errors import (
    InvalidMessage,
    MessageTooLarge,
    ProtocolError,
    UnsupportedHandle,
)
from . import HandleMessage, Limits, Outbound, Token
from .node_values import ENVELOPE, Internal, NodeCodec, Rejected, convert_pair, is_internal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Answer", "NodeHandleKinds", "NodeWire"]

READ_SIZE: Final = 65536
# Bytes of small messages that are written together.
BATCH_SIZE: Final = 65536
# The bytes unsent at which Node's own `send()` returns false (kChannelHandle's writeQueueSize in
# lib/internal/child_process.js).
HIGH_WATER: Final = 128 * 1024
# How often a handle is sent again, as in Node (MAX_HANDLE_RETRANSMISSIONS).
MOST_RETRANSMISSIONS: Final = 3
# Bytes of answers to a peer that doesn't read them, at which no more of its questions are read.
MOST_ANSWERS: Final = 65536
# While an acknowledgement is awaited one has to read on, or two that send handles to each other
# wait for ever (nodejs/node-v0.x-archive#7466). This many times the usual bytes, but not more.
STRETCH: Final = 4


class NodeHandle(Protocol):
    """A live object, recognised as something that Node takes."""

    obj: Any
    members: Mapping[str, str]


class NodeHandleKinds(Protocol):
    """What is known about handles, in a layer that may touch them."""

    def describe(self, obj: Any) -> NodeHandle | None:
        """Recognise a handle; None for what is none, `UnsupportedHandle` if it can't travel."""

    def build(self, kind: object, token: Any) -> Any:
        """Make the object of a received handle, from its ``type`` and its token."""

    def discard(self, obj: Any) -> None:
        """Close an object that `build` made and nobody will get."""

    def is_open(self, obj: Any) -> bool:
        """Whether an object that `build` made still has its descriptor."""


class Answer:
    """What became of a handle.

    Attributes:
      payload: what `NodeWire.commit` was given.
      token: its token, whose owner is whoever takes the answer.
      problem: why the peer has not got it; None if it has.
    """

    __slots__ = ("payload", "problem", "token")

    def __init__(self, payload: Outbound, token: Token, problem: str | None) -> None:
        self.payload = payload
        self.token = token
        self.problem = problem


class _OnItsWay:
    """The one handle that was committed and not answered."""

    __slots__ = ("is_out", "payload", "retransmissions", "token")

    def __init__(self, payload: Outbound, token: Token) -> None:
        self.payload = payload
        self.token = token
        self.retransmissions = 0
        self.is_out = False


class _Parcel:
    """A received message with a handle, which is closed if nobody takes it."""

    __slots__ = ("handle", "value")

    def __init__(self, value: Any, handle: Any) -> None:
        self.value = value
        self.handle = handle


class NodeWire:
    """One end of a channel in Node's protocol. Implements `Wire`.

    Args:
      codec: between values and frames.
      kinds: what can travel.
      limits: what this end accepts.
    """

    # There is no credit in this protocol, and nobody fails with last words in it.
    grants_pending = 0
    grant_at = 1
    starving = False
    rendezvous = False
    failure_text: str | None = None

    def __init__(self, codec: NodeCodec, kinds: NodeHandleKinds, limits: Limits) -> None:
        self.codec = codec
        self.limits = limits
        self._kinds = kinds
        self.ended = False
        self.peer_ended = False
        self.peer_stopped = False
        self.must_push = False
        self.answers: deque[Answer] = deque()
        # Sending: what is being written, with the token of its first byte; answers, which overtake
        # all but that; sealed frames; and the open batch, which is sealed when it is written.
        self.unsent = 0
        self._writing: tuple[bytes | memoryview, Token | None] | None = None
        self._replies = bytearray()
        self._queue: deque[tuple[bytes, _OnItsWay | None]] = deque()
        self._batch = bytearray()
        self._on_its_way: _OnItsWay | None = None
        self._hung_up = False
        # Receiving.
        self.unread: deque[Any] = deque()
        self.sated = False
        self._insatiable = False
        self._stopped = False
        self._view = memoryview(bytearray(READ_SIZE))
        self.buffers: list[memoryview] = [self._view]
        self._tokens: deque[Token] = deque()
        # What has arrived and what was taken; and how many bytes each read brought.
        self._arrived = self._taken = self._bytes_unread = 0
        self._reads: deque[tuple[int, int]] = deque()
        # The received sockets of each server, and the servers that wait for theirs to be closed.
        self._held: dict[str, weakref.WeakSet[Any]] = {}
        self.closing: set[str] = set()

    # Encoding, without effect ---------------------------------------------------------------

    def encode(self, message: Any, handle: Any = None) -> bytes | Outbound:
        """Check and serialize, without any effect. Raises as `NodeCodec.encode` does."""
        if handle is None:
            if message.__class__ is not HandleMessage or message.handle is None:
                return self.codec.encode(message)
            message, handle = message
        known = self._kinds.describe(handle)
        if known is None:
            raise UnsupportedHandle(f"{type(handle).__name__!r} objects are no handles")
        if self.limits.max_handles < 1:
            raise MessageTooLarge("the message has a handle, and max_handles is 0")
        return Outbound(0, self.codec.encode_handle(known.members, message), [known])

    def check_again(self, payload: bytes | Outbound) -> None:
        """Nothing that could change: this peer has not told us any limits."""

    # Committing -----------------------------------------------------------------------------

    def can_send(self, handles: int = 0) -> bool:
        """Whether one more message, with that many handles, may be committed now."""
        if self.unsent + len(self._batch) >= HIGH_WATER:
            return False
        return not handles or self._on_its_way is None

    def commit_single(self, payload: bytes | Outbound) -> bytes | None:
        """Commit a message and return the frame to write, if nothing stands before it."""
        if payload.__class__ is not bytes or self.has_output():
            return None
        return payload

    def unwritten(self, frame: bytes, count: int) -> None:
        """Only ``count`` bytes of what `commit_single` gave are out."""
        self._writing = memoryview(frame)[count:], None
        self.unsent += len(frame) - count

    def commit_small(self, payload: bytes | Outbound) -> bool:
        """Commit, if it is a small message and there is room for it; False, and nothing has
        happened, if not."""
        if payload.__class__ is not bytes:
            return False
        size = len(self._batch) + len(payload)
        if size > BATCH_SIZE or self.unsent + size > HIGH_WATER:
            return False
        self._batch += payload
        return True

    def commit(self, payload: bytes | Outbound, tokens: list[Token] | None = None) -> None:
        """Queue one encoded message; `can_send` was true. It will arrive, whole and in order."""
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
        """No more messages will come; `hang_up` says when the peer is to be told."""
        self.ended = True

    def hang_up(self) -> bool:
        """True, once, when our direction of the socket is to be shut down."""
        due = self.ended and not self._hung_up and not self.has_output()
        self._hung_up = self._hung_up or due
        return due

    def stop(self) -> None:
        """Drop what is unread and what will come. The peer has no way to learn of it."""
        self._stopped = True
        self.skip_unread()

    # Writing --------------------------------------------------------------------------------

    def has_output(self) -> bool:
        """Whether anything is committed and not written, or a handle not answered."""
        return bool(
            self._writing or self._batch or self._queue or self._replies or self._on_its_way
        )

    def bytes_unsent(self) -> int:
        """How much that is."""
        return self.unsent + len(self._batch) + len(self._replies)

    def credit_left(self) -> float:
        """Bytes count here, and not messages: it is either none or any number."""
        return math.inf if self.can_send() else 0

    def next_write(self, *, full_only: bool = False) -> tuple[list[Any], list[Token]] | None:
        """What to write with one call, and the tokens to pass with its first byte.

        Call `written` with the outcome. With ``full_only``, an open batch is left open for more.
        """
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
        """``count`` bytes of the last `next_write` are out, and with the first of them its token,
        which is kept until the peer has it."""
        if not count:
            return
        assert self._writing is not None
        data, _ = self._writing
        self.unsent -= count
        self._writing = (memoryview(data)[count:], None) if count < len(data) else None

    def abandon_output(self) -> None:
        """Drop what was not written, and the token that was not acknowledged."""
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
        if self._is_out():
            self._answer(None)

    def _receive_nack(self) -> None:
        handle = self._on_its_way
        if handle is None or not self._is_out():
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
        self._answer("not acknowledged in time")

    def _answer(self, problem: str | None) -> None:
        handle = self._on_its_way
        assert handle is not None
        self._on_its_way = None
        self.answers.append(Answer(handle.payload, handle.token, problem))
        self.must_push = True
        self._weigh()

    # Receiving --------------------------------------------------------------------------------

    def received(self, count: int, tokens: Sequence[Token] = ()) -> None:
        """``count`` bytes were read into `buffers`, and ``tokens`` came with them.

        Raises:
          ProtocolError: and then the channel is dead: call `close`.
        """
        overdue = len(self._tokens)
        if tokens:
            self._tokens.extend(tokens)
        values, plain = self.codec.feed(self._view[:count])
        before = len(self.unread)
        if plain and not self._tokens:
            if not self._stopped:
                self.unread.extend(values)
        else:
            for value in values:
                self._receive(value)
                # It belongs to a frame that began in the read that brought it.
                if overdue and len(self._tokens) == overdue + len(tokens):
                    self._refuse_surplus()
                overdue = 0
        if self._tokens and (len(self._tokens) > 1 or self.codec.incomplete() is None):
            self._refuse_surplus()
        self._arrived += len(self.unread) - before
        self._bytes_unread += count
        self._reads.append((self._arrived, count))
        self._account_for_taken()

    def _refuse_surplus(self) -> None:
        raise ProtocolError("the peer sent a handle that no message announced")

    def _receive(self, value: Any) -> None:
        if value.__class__ is Internal:
            members = value.members
            command = members["cmd"]
            if command == "NODE_HANDLE":
                self._receive_handle(members)
            elif command == "NODE_HANDLE_ACK":
                self._receive_ack()
            elif command == "NODE_HANDLE_NACK":
                self._receive_nack()
            elif command in ("NODE_SOCKET_GET_COUNT", "NODE_SOCKET_NOTIFY_CLOSE"):
                self._receive_question(command, members.get("key"))
        elif not self._stopped:
            self.unread.append(value)

    def _receive_handle(self, members: dict[str, Any]) -> None:
        if self.limits.max_handles < 1:
            raise ProtocolError("the peer sent a handle, and max_handles is 0")
        if not self._tokens:
            self._reply({"cmd": "NODE_HANDLE_NACK"})
            return
        message: Any = members.get("msg")
        if is_internal(message) and message["cmd"] == "NODE_HANDLE":
            # Node wraps what it sends again a second time. It is acknowledged once: the second
            # one would kill the Node that asked for it.
            members, message = message, message.get("msg")
        token = self._tokens.popleft()
        try:
            handle = self._kinds.build(members.get("type"), token)
        except BaseException:
            token.close()
            raise
        self._reply({"cmd": "NODE_HANDLE_ACK"})
        if self._stopped or is_internal(message):
            self._kinds.discard(handle)
            return
        self._hold(members.get("key"), handle)
        try:
            value = convert_pair(message, handle, self.codec.message_type)
        except InvalidMessage as exc:
            self._kinds.discard(handle)
            self.unread.append(Rejected(exc))
        else:
            self.unread.append(_Parcel(value, handle))

    def _reply(self, members: dict[str, Any]) -> None:
        self._replies += self.codec.encode_internal(members)
        self.must_push = True

    def received_eof(self) -> None:
        """The peer is gone, which is how this protocol says goodbye.

        Raises:
          ProtocolError: in the middle of a message.
        """
        cut = self.codec.incomplete()
        if cut is not None:
            raise ProtocolError(f"the peer ended in the middle of a message: {cut}")
        self.peer_ended = True

    def abandon_input(self) -> None:
        """Close the tokens of whatever is not a complete message."""
        while self._tokens:
            self._tokens.popleft().close()

    # Taking -----------------------------------------------------------------------------------

    def take(self) -> Any:
        """The next unread message; `unread` is not empty.

        Raises:
          InvalidMessage: it is not of ``message_type``; it is gone, its handle is closed.
        """
        item = self.unread.popleft()
        self._taken += 1
        if self._reads[0][0] <= self._taken or self.sated:
            self._account_for_taken()
        if item.__class__ is _Parcel:
            return item.value
        if item.__class__ is Rejected:
            raise item.error
        return item

    def skip_unread(self) -> None:
        """Take what is unread, for nobody."""
        self._taken += len(self.unread)
        for item in self.unread:
            if item.__class__ is _Parcel:
                self._kinds.discard(item.handle)
        self.unread.clear()
        self._account_for_taken()

    def _account_for_taken(self) -> None:
        reads = self._reads
        while reads and reads[0][0] <= self._taken:
            self._bytes_unread -= reads.popleft()[1]
        self._weigh()

    def take_all(self) -> None:
        """The peer is dead, so what is left of it is finite, and may be read at once."""
        self._insatiable = True
        self._weigh()

    def _weigh(self) -> None:
        """See whether enough is unread: then nothing more is read until half of it is taken."""
        messages = max(1, self.limits.max_buffer_size)
        size = max(1024 * 1024, self.limits.max_message_size)
        if self._on_its_way is not None:
            messages, size = math.inf, STRETCH * size
        elif self.sated:
            messages, size = messages / 2, size // 2
        self.sated = not self._insatiable and (
            len(self.unread) >= messages
            or self._bytes_unread >= size
            or len(self._replies) >= MOST_ANSWERS
        )

    def want(self, receivers: int) -> None:
        """There is no credit to give."""

    def needs_grant(self) -> bool:
        return False

    def flush_grants(self) -> None:
        """There is no credit to give."""

    def close(self) -> None:
        """Close every token and every handle that is in here."""
        self.abandon_output()
        self.abandon_input()
        self.skip_unread()
        while self.answers:
            self.answers.popleft().token.close()

    # Accounting for sockets -------------------------------------------------------------------

    def _hold(self, key: object, handle: Any) -> None:
        if not isinstance(key, str):
            return
        if key not in self._held:
            self._held = {known: held for known, held in self._held.items() if held}
            self._held[key] = weakref.WeakSet()
        self._held[key].add(handle)

    def _count(self, key: str) -> int:
        return sum(map(self._kinds.is_open, self._held.get(key, ())))

    def _receive_question(self, command: str, key: object) -> None:
        if not isinstance(key, str) or len(key) > ENVELOPE:
            raise ProtocolError("the peer asked for the sockets of a server without a name")
        if command == "NODE_SOCKET_GET_COUNT":
            self._reply({"cmd": "NODE_SOCKET_COUNT", "key": key, "count": self._count(key)})
        else:
            self.closing.add(key)
            self.settle_accounts()

    def settle_accounts(self) -> None:
        """Answer those who wait until all sockets of their servers are closed here."""
        for key in [key for key in self.closing if not self._count(key)]:
            self.closing.discard(key)
            self._held.pop(key, None)
            self._reply({"cmd": "NODE_SOCKET_ALL_CLOSED", "key": key})
