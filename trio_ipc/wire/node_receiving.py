"""The receiving side of Node's protocol: bytes and tokens in, messages out."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from .._errors import InvalidMessage, ProtocolError
from .node_accounts import Accounts
from .node_values import ENVELOPE, Internal, Rejected, is_internal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from . import Limits, Token
    from .node_values import NodeCodec, NodeHandleKinds

READ_SIZE: Final = 65536
# Bytes that may wait unread, if a single message may not be larger.
LEAST_BYTES: Final = 1024 * 1024
# Bytes of answers to a peer that doesn't read them, at which no more of its questions are read.
MOST_ANSWERS: Final = 65536
# While an acknowledgement is awaited one has to read on, or two that send handles to each other
# wait for ever (nodejs/node-v0.x-archive#7466). This many times the usual bytes, but not more.
STRETCH: Final = 4


class _Parcel:
    """A received message with a handle, which is closed if nobody takes it."""

    __slots__ = ("handle", "value")

    def __init__(self, value: Any, handle: Any) -> None:
        self.value = value
        self.handle = handle


class Receiving:
    """Half of `NodeWire`."""

    codec: NodeCodec
    limits: Limits
    kinds: NodeHandleKinds
    must_push: bool
    _replies: bytearray
    _on_its_way: Any

    def _start_receiving(self, handle_window: int) -> None:
        self._handle_window = handle_window
        self.peer_ended: bool = False
        self.unread: deque[Any] = deque()
        self.sated: bool = False
        self._insatiable = False
        self._stopped = False
        self._view = memoryview(bytearray(READ_SIZE))
        self.buffers: list[memoryview] = [self._view]
        self._tokens: deque[Token] = deque()
        self._is_bereft = False
        # What has arrived and what was taken; and how many bytes that was, read by read. Those of
        # a message that is not complete don't count yet: nobody could take them.
        self._arrived = self._taken = self._bytes_unread = self._bytes_begun = 0
        self._reads: deque[tuple[int, int]] = deque()
        self._most_messages = max(1, self.limits.max_buffer_size)
        self._most_bytes = max(LEAST_BYTES, self.limits.max_message_size)
        self._handles_unread = 0
        self.accounts: Accounts = Accounts(self.kinds.is_open)

    if TYPE_CHECKING:  # what the other half has

        def _receive_ack(self) -> None: ...
        def _receive_nack(self) -> None: ...
        def _reply(self, members: Mapping[str, Any]) -> None: ...

    def received(self, count: int, tokens: Sequence[Token] = ()) -> None:
        overdue = len(self._tokens)
        if tokens:
            # They ride on the first byte of their frames. Of one that had begun before, the kernel
            # has lost its own, and it must not get another one's.
            self._is_bereft = not overdue and self.codec.incomplete() is not None
            self._tokens.extend(tokens)
        values, plain = self.codec.feed(self._view[:count])
        before = len(self.unread)
        if plain and not self._tokens and not self._stopped:
            self.unread.extend(values)
        else:
            self._sort_out(values, overdue, len(self._tokens))
        self._bytes_begun += count
        arrived = len(self.unread) - before
        if arrived:
            self._arrived += arrived
            self._bytes_unread += self._bytes_begun
            self._reads.append((self._arrived, self._bytes_begun))
        if values or self.codec.incomplete() is None:
            self._bytes_begun = 0
        if (
            len(self.unread) >= self._most_messages
            or self._bytes_unread >= self._most_bytes
            or self._replies
        ):
            self._weigh()

    def _sort_out(self, values: list[Any], overdue: int, tokens: int) -> None:
        for value in values:
            self._receive(value)
            self._is_bereft = False
            # It belongs to a frame that began in the read that brought it.
            if overdue and len(self._tokens) == tokens:
                self._refuse_surplus()
            overdue = 0
        if self._tokens and (len(self._tokens) > 1 or self.codec.incomplete() is None):
            self._refuse_surplus()

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
        if self.limits.max_handles_taken < 1:
            raise ProtocolError("the peer sent a handle, and none is accepted from it")
        if not self._tokens or self._is_bereft:
            self._reply({"cmd": "NODE_HANDLE_NACK"})
            return
        message: Any = members.get("msg")
        if is_internal(message) and message["cmd"] == "NODE_HANDLE":
            # Node wraps what it sends again a second time. It is acknowledged once: the second
            # one would kill the Node that asked for it.
            members, message = message, message.get("msg")
        token = self._tokens.popleft()
        try:
            handle = self.kinds.build(members.get("type"), token)
        except BaseException:
            token.close()
            raise
        self._reply({"cmd": "NODE_HANDLE_ACK"})
        if self._stopped or is_internal(message):
            self.kinds.discard(handle)
            return
        # Its user may keep the socket and drop the stream.
        self.accounts.hold(members.get("key"), getattr(handle, "socket", handle))
        try:
            value = self.codec.convert(message, handle)
        except InvalidMessage as exc:
            self.kinds.discard(handle)
            self.unread.append(Rejected(exc))
        else:
            self.unread.append(_Parcel(value, handle))
            self._handles_unread += 1
            if self._handles_unread >= self._handle_window:
                self._weigh()

    def _receive_question(self, command: str, key: object) -> None:
        if not isinstance(key, str) or len(key) > ENVELOPE:
            raise ProtocolError("the peer asked for the sockets of a server without a name")
        if command == "NODE_SOCKET_GET_COUNT":
            count = self.accounts.count(key)
            self._reply({"cmd": "NODE_SOCKET_COUNT", "key": key, "count": count})
        else:
            self.accounts.closing.add(key)
            self.settle_accounts()
            self.must_push = True  # or nobody would look when the last of them is closed

    def settle_accounts(self) -> None:
        """Answer those who wait until all sockets of their servers are closed here."""
        for key in self.accounts.settle():
            self._reply({"cmd": "NODE_SOCKET_ALL_CLOSED", "key": key})

    def received_eof(self) -> None:
        """This is how the protocol says goodbye."""
        cut = self.codec.incomplete()
        if cut is not None:
            raise ProtocolError(f"the peer ended in the middle of a message: {cut}")
        self.peer_ended = True

    def abandon_input(self) -> None:
        while self._tokens:
            self._tokens.popleft().close()

    # Taking -----------------------------------------------------------------------------------

    def take(self) -> Any:
        item = self.unread.popleft()
        self._taken += 1
        if self._reads[0][0] <= self._taken:
            self._bytes_unread -= self._reads.popleft()[1]
        is_parcel = item.__class__ is _Parcel
        if is_parcel:
            self._handles_unread -= 1
        if self.sated:
            self._weigh()
        if is_parcel:
            return item.value
        if item.__class__ is Rejected:
            raise item.error
        return item

    def skip_unread(self) -> None:
        self._taken += len(self.unread)
        for item in self.unread:
            if item.__class__ is _Parcel:
                self.kinds.discard(item.handle)
        self.unread.clear()
        self._reads.clear()
        self._bytes_unread = self._handles_unread = 0
        self._weigh()

    def take_all(self) -> None:
        self._insatiable = True
        self._weigh()

    def _weigh(self) -> None:
        """See whether enough is unread: then nothing more is read until half of it is taken."""
        messages, size = self._most_messages, self._most_bytes
        handles = self._handle_window
        if self._on_its_way is not None:
            messages, size, handles = math.inf, STRETCH * size, 2 * handles
        elif self.sated:
            messages, size, handles = messages / 2, size // 2, max(1, handles // 2)
        self.sated = not self._insatiable and (
            len(self.unread) >= messages
            or self._bytes_unread >= size
            or self._handles_unread >= handles
            or len(self._replies) >= MOST_ANSWERS
        )

    def stop(self) -> None:
        """The peer has no way to learn of it."""
        self._stopped = True
        self.skip_unread()
