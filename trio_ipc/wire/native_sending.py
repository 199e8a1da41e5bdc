"""The sending side of the native protocol: messages in, bytes and tokens out."""

from __future__ import annotations

import math
from collections import deque
from struct import Struct
from typing import TYPE_CHECKING, Any

import msgspec

from .._errors import MessageTooLarge
from . import HandleMessage, Limits, Outbound, Token
from .native_frames import (
    ARRAY,
    ARRAY_OF_ONE,
    ARRAY_SIZE,
    ARRAY_TAG,
    BARE_BYTES,
    BATCH_SIZE,
    BYTES,
    CALL,
    END,
    FAILURE,
    FAILURE_SIZE,
    GRANT,
    HEADER,
    HEADER_SIZE,
    HELLO,
    HIGH_WATER,
    MARK_SIZE,
    MESSAGES,
    PAIR,
    STOP,
    UNLIMITED,
    WITH,
    Hello,
    byte_window,
    credit_of,
    greeting,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .msgpack import MsgpackCodec

# A batch begins with room for its header and for the head of its array.
_PREFIX_SIZE = HEADER_SIZE + ARRAY_SIZE
_PREFIX = bytes(_PREFIX_SIZE)
# A number of handles in one byte of MessagePack.
MOST_PARCELS = 127
_BATCH_HEAD = Struct("!BBHIBI")


class Sending:
    """Half of `NativeWire`.

    Small messages gather in an open batch. It is closed, *sealed*, when it is full, when a frame
    of another kind must follow it, or when it is written.
    """

    codec: MsgpackCodec
    limits: Limits
    peer: Hello
    grants_pending: int
    grant_along: int

    def _start_sending(self, handle_window: int) -> None:
        self.credit: int = credit_of(self.peer.max_buffer_size)
        self.unsent: int = 0
        self.congested: bool = False
        self.ended: bool = False
        self.stopped: bool = False
        self.peer_stopped = False
        self._largest = 0
        self._handle_window = handle_window
        self._batch = bytearray(_PREFIX)
        self._batch_count = 0
        # Messages with handles gather, too; at most one of the two is open.
        self._parcels: list[bytes] = []
        self._parcels_size = 0
        self._parcels_tokens: list[Token] = []
        self._queue: deque[tuple[Any, Sequence[Token]]] = deque()
        # What was sent, what of it the peer's user has taken, and marks between: (messages, size,
        # handles) at which a message ended.
        self._sent_messages = self._sent_size = self._sent_handles = 0
        self._marks: deque[tuple[int, int, int]] = deque()
        self._unmarked = 0
        self._taken_messages = self._taken_size = self._taken_handles = 0
        self._meet_limits()

    def _meet_limits(self) -> None:
        self._most_handles = min(self.limits.max_handles, self.peer.max_handles)
        self._largest = min(self.limits.max_message_size, self.peer.max_message_size)

    if TYPE_CHECKING:  # what the other half has

        def _pop_grant(self) -> int: ...
        def _drop_unread(self) -> None: ...

    # Encoding, without effect ---------------------------------------------------------------

    def encode(self, message: Any, handle: Any = None) -> bytes | Outbound:
        if handle is not None:
            return self._encode_pair(message, handle)
        if message.__class__ is bytes and len(message) >= BARE_BYTES:
            self._check_size(len(message), 0)
            return Outbound(BYTES, message, [])
        try:
            data: bytes = self.codec.encode(message)
        except BaseException as exc:
            self.codec.refuse(message, exc)
        if self.codec.outgoing or len(data) > self._largest:
            handles = self._check(data)
            if message.__class__ is HandleMessage:  # one that is passed on
                return Outbound(PAIR, data, handles)
            return Outbound(MESSAGES, ARRAY_OF_ONE + data, handles)
        return data

    def _encode_pair(self, message: Any, handle: Any) -> Outbound:
        try:
            data = self.codec.encode([message, handle])
        except BaseException as exc:
            self.codec.refuse(message, exc, handle=handle)
        handles = self._check(data)
        if not any(known.obj is handle for known in handles):
            from . import advice

            raise advice.no_handle(handle)
        return Outbound(PAIR, data, handles)

    def encode_call(self, call: Any, arguments: list[Any]) -> Outbound:
        """What a function child is to run: like `encode`, but for the first frame only."""
        try:
            overhead = len(self.codec.encode(call))
            data = self.codec.encode([call, arguments])
        except BaseException as exc:
            self.codec.refuse(arguments, exc, "the arguments of the child's function")
        handles = self.codec.pop_handles()
        # A long command line of our own is no argument of the child's.
        self._check_size(len(data) - overhead, len(handles))
        return Outbound(CALL, data, handles)

    def _check(self, data: bytes) -> list[Any]:
        handles = self.codec.pop_handles()
        self._check_size(len(data), len(handles))
        return handles

    def _check_size(self, size: int, handles: int) -> None:
        if size > self._largest:
            raise MessageTooLarge(
                f"a message of {size} bytes; max_message_size is {self._largest}, the"
                " lesser of both ends' limits: raise it, or send the message in parts"
            )
        if handles > self._most_handles:
            raise MessageTooLarge(
                f"a message with {handles} handles; max_handles is {self._most_handles}, the"
                " lesser of both ends' limits: raise it, or send them in several messages"
            )

    def check_again(self, payload: bytes | Outbound) -> None:
        if isinstance(payload, Outbound):
            head = ARRAY_SIZE if payload.kind == MESSAGES else 0
            self._check_size(len(payload.data) - head, len(payload.handles))
        else:
            self._check_size(len(payload), 0)

    # Committing -----------------------------------------------------------------------------

    def can_send(self, handles: int = 0) -> bool:
        if self.credit <= 0 or self.congested:
            return False
        in_flight = self._sent_handles - self._taken_handles
        return (
            not handles
            or not self.peer.max_buffer_size
            or not in_flight
            or in_flight + handles <= self._handle_window
        )

    def commit_single(self, payload: bytes | Outbound) -> bytes | None:
        if (
            type(payload) is Outbound
            or self.credit <= 0
            or self.congested
            or self._batch_count
            or self._parcels
            or self._queue
            or len(payload) > BATCH_SIZE
        ):
            return None
        self.credit -= 1
        size = ARRAY_SIZE + len(payload)
        self._sent_messages += 1
        self._sent_size += size
        self._unmarked += size
        if self._unmarked >= MARK_SIZE:
            self._mark()
        grant = self._pop_grant() if self.grants_pending >= self.grant_along else 0
        return _BATCH_HEAD.pack(MESSAGES, 0, grant, size, ARRAY_TAG, 1) + payload

    def unwritten(self, frame: bytes, count: int) -> None:
        self._queue.append((memoryview(frame)[count:], []))
        self.unsent += len(frame) - count

    def commit_small(self, payload: bytes | Outbound) -> bool:
        batch = self._batch
        if (
            self.credit <= 0
            or self.congested
            or type(payload) is Outbound
            or len(batch) + len(payload) > BATCH_SIZE
            or self._parcels
        ):
            return False
        batch += payload
        self._batch_count += 1
        self.credit -= 1
        return True

    def commit(self, payload: bytes | Outbound, tokens: Sequence[Token] | None = None) -> None:
        """The call of a function child needs no credit."""
        if self.commit_small(payload):
            return
        if isinstance(payload, Outbound):
            if payload.kind == CALL:
                self._push(CALL, payload.data, tokens)
            elif tokens and payload.kind == MESSAGES and _is_parcel(payload.data, tokens):
                self._commit_parcel(payload.data, tokens)
            else:
                self._commit_alone(payload.kind, payload.data, tokens)
            return
        self._seal()
        if not self.commit_small(payload):
            self._commit_alone(MESSAGES, ARRAY_OF_ONE + payload, None)

    def _commit_alone(self, kind: int, data: bytes, tokens: Sequence[Token] | None) -> None:
        self.credit -= 1
        self._push(kind, data, tokens)
        self._account(1, len(data), len(tokens) if tokens else 0)

    def _commit_parcel(self, data: bytes, tokens: Sequence[Token]) -> None:
        if (
            self._batch_count
            or self._parcels_size + len(data) > BATCH_SIZE
            or len(self._parcels_tokens) + len(tokens) > min(self._most_handles, MOST_PARCELS)
        ):
            self._seal()
        self.credit -= 1
        self._parcels += (bytes((len(tokens),)), data[ARRAY_SIZE:])
        self._parcels_size += 1 + len(data)
        self._parcels_tokens += tokens
        self._sent_handles += len(tokens)

    def _seal_parcels(self) -> None:
        parts, tokens = self._parcels, self._parcels_tokens
        self._account(len(parts) // 2, self._parcels_size, 0)
        self._mark()
        self._parcels, self._parcels_size, self._parcels_tokens = [], 0, []
        if len(parts) == 2:
            self._push(MESSAGES, ARRAY_OF_ONE + parts[1], tokens)
        else:
            head = ARRAY.pack(ARRAY_TAG, len(parts))
            self._push(WITH, b"".join((head, *parts)), tokens)

    def _account(self, messages: int, size: int, handles: int) -> None:
        self._sent_messages += messages
        self._sent_size += size
        self._sent_handles += handles
        self._unmarked += size
        if handles or self._unmarked >= MARK_SIZE:
            self._mark()

    def _mark(self) -> None:
        self._unmarked = 0
        self._marks.append((self._sent_messages, self._sent_size, self._sent_handles))
        self._update_congestion()

    def _receive_grant(self, grant: int) -> None:
        self.credit += grant
        self._taken_messages += grant
        marks = self._marks
        if marks and marks[0][0] <= self._taken_messages:
            while marks and marks[0][0] <= self._taken_messages:
                _, self._taken_size, self._taken_handles = marks.popleft()
            self._update_congestion()

    def _update_congestion(self) -> None:
        # Without a buffer, credit is given for tasks that wait, and nothing is ever untaken.
        self.congested = self.unsent > HIGH_WATER or (
            self.peer.max_buffer_size != 0
            and self._sent_size - self._taken_size >= byte_window(self.peer.max_message_size)
        )

    def _seal(self) -> None:
        """Close the open batch and queue it."""
        if self._parcels:
            self._seal_parcels()
        count = self._batch_count
        if not count:
            return
        batch = self._batch
        length = len(batch) - HEADER_SIZE
        _BATCH_HEAD.pack_into(batch, 0, MESSAGES, 0, self._pop_grant(), length, ARRAY_TAG, count)
        self._queue.append((batch, []))
        self.unsent += len(batch)
        self._account(count, length, 0)
        self._batch = bytearray(_PREFIX)
        self._batch_count = 0

    def _push(self, kind: int, data: bytes = b"", tokens: Sequence[Token] | None = None) -> None:
        self._seal()
        header = HEADER.pack(kind, len(tokens) if tokens else 0, self._pop_grant(), len(data))
        if len(data) < BARE_BYTES:
            self._queue.append((header + data, tokens or []))
        else:
            self._queue.append((header, tokens or []))
            self._queue.append((data, []))
        self.unsent += len(header) + len(data)

    def hello(self, device: int = 0, inode: int = 0) -> None:
        """Queue our HELLO: the first thing to do on a channel that was not agreed on before."""
        self._push(HELLO, msgspec.msgpack.encode(greeting(self.limits, device, inode)))

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self._push(END)

    def stop(self) -> None:
        """The peer is told, and sends no more."""
        if not self.stopped:
            self.stopped = True
            self._push(STOP)
            self._drop_unread()

    def fail(self, text: str) -> None:
        """Queue the last words of a failed function child: the end of a long text is kept."""
        self._push(FAILURE, text.encode("utf-8", "replace")[-FAILURE_SIZE:])

    def flush_grants(self) -> None:
        self._seal()
        while self.grants_pending > 0:
            self._push(GRANT)

    # Writing --------------------------------------------------------------------------------

    def has_output(self) -> bool:
        return bool(self._queue or self._batch_count or self._parcels)

    def bytes_unsent(self) -> int:
        return self.unsent + self._parcels_size + (len(self._batch) if self._batch_count else 0)

    def credit_left(self) -> float:
        return math.inf if self.credit > UNLIMITED // 2 else max(0, self.credit)

    def next_write(self, *, full_only: bool = False) -> tuple[list[Any], Sequence[Token]] | None:
        if not full_only:
            self._seal()
        queue = self._queue
        if not queue:
            return None
        first, tokens = queue[0]
        buffers = [first]
        for index in range(1, min(len(queue), 16)):
            if queue[index][1]:
                break  # they ride on its first byte, and nothing may stand in front of that
            buffers.append(queue[index][0])
        return buffers, tokens

    def written(self, count: int) -> None:
        """The work of tokens that are out is done."""
        queue = self._queue
        self.unsent -= count
        while count:
            data, tokens = queue.popleft()
            for token in tokens:
                token.sent()
            if count < len(data):
                queue.appendleft((memoryview(data)[count:], []))
                break
            count -= len(data)
        if self.congested:
            self._update_congestion()

    def abandon_output(self) -> None:
        self._seal()
        for _, tokens in self._queue:
            for token in tokens:
                token.close()
        self._queue.clear()
        self._batch = bytearray(_PREFIX)
        self._batch_count = self.unsent = 0


def _is_parcel(data: bytes, tokens: Sequence[Token]) -> bool:
    return len(data) < BARE_BYTES and len(tokens) <= MOST_PARCELS
