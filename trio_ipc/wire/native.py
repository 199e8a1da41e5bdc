"""The native protocol, between two trio_ipc peers.

Frames
======

A frame is a header of eight bytes, big-endian, and its payload::

    kind: u8 | handles: u8 | grant: u16 | length: u32

``handles`` descriptors ride on the header's first byte. ``grant`` gives the peer that many credits
and may stand in any frame, so that an answer carries the credit of what it answers.

====  =========  ==================================================================
kind  name       payload
====  =========  ==================================================================
H     HELLO      MessagePack array, see `Hello`; the first frame of each side, once
M     MESSAGES   MessagePack array of messages, always in its 32-bit form (``dd``)
P     PAIR       ``[message, handle]``: what ``send(message, handle)`` becomes
B     BYTES      one message that is a bytes object, bare
G     GRANT      none: only the header's grant counts
E     END        none: no more messages will come from here
S     STOP       none: no more messages will be taken here
C     CALL       ``[call, arguments]``: what a function child is to run, once, first
F     FAILURE    UTF-8 text: the traceback that ended the peer
====  =========  ==================================================================

Many small messages travel in one MESSAGES frame: one header, one system call and one call of the
decoder for all of them. A frame with handles holds exactly one message.

Credit
======

A message may be sent for each credit. Credits are what the receiver's ``max_buffer_size`` was at
the beginning, and then whatever it grants: one for each message that its user took. With
``max_buffer_size=0`` it grants one for each task that waits.

Three more things hold a sender back, each computed here from the same credits, with nothing on the
wire: the bytes of messages not yet taken (`Hello.max_message_size` of the receiver, or 1 MiB if
that is less), handles not yet taken (`HANDLE_WINDOW`), and bytes not yet written
(`HIGH_WATER`). Because nothing is ever sent that the peer has no room for, the peer never has to
stop reading, and grants and ends never stand in line behind messages that nobody takes.
"""

from __future__ import annotations

import math
from collections import deque
from io import BytesIO
from struct import Struct
from typing import Any, NamedTuple

import msgspec

from .._errors import InvalidMessage, MessageTooLarge, ProtocolError, UnsupportedHandle
from . import HandleMessage, Limits, Outbound, Token
from .msgpack import MsgpackCodec

__all__ = ["VERSION", "CreditState", "Hello", "NativeWire"]

VERSION = 1

_HEADER = Struct("!BBHI")
_ARRAY = Struct("!BI")
_HEADER_SIZE = _HEADER.size
_PREFIX = bytes(_HEADER.size + _ARRAY.size)
_ONE = _ARRAY.pack(0xDD, 1)

HELLO, MESSAGES, PAIR, BYTES, GRANT, END, STOP, CALL, FAILURE = b"HMPBGESCF"

# The payload of a batch, whatever max_message_size is; also the size of one read, because a
# larger buffer does not make small messages faster.
BATCH_SIZE = 64 * 1024
# From here on a bytes message goes out bare, uncopied; below, the copy is cheaper than a frame.
BARE_BYTES = 16 * 1024
# Senders wait while more than this is unwritten; the kernel holds about 208 KiB besides.
HIGH_WATER = 256 * 1024
# The kernel counts a user's handles in flight against the sender's RLIMIT_NOFILE, often 1024, and
# those that wait in the receiver fill its table.
HANDLE_WINDOW = 256
# `math.inf` messages: as many as a 64-bit counter never reaches.
_UNLIMITED = 1 << 62
_FAILURE_SIZE = 64 * 1024
_CALL_SIZE = 1024 * 1024

# What may arrive in which state of the peer. The state is left by HELLO and by END. A function
# child accepts a CALL besides, and its parent a FAILURE.
_GREETING = (HELLO,)
_TALKING = (MESSAGES, PAIR, BYTES, GRANT, END, STOP)
_ENDED = (GRANT, STOP)


class Hello(msgspec.Struct, array_like=True, frozen=True):
    """The first frame: what this end accepts, and which socket it is.

    The socket's device and inode let the peer refuse to send it back to us as a handle.
    """

    version: int
    max_buffer_size: int  # negative: no limit
    max_message_size: int
    max_handles: int
    device: int = 0
    inode: int = 0


class CreditState(msgspec.Struct, array_like=True, frozen=True):
    """What moves along when one end of a quiet channel moves to another process."""

    credit: int
    granted: int
    in_flight: int
    in_flight_size: int
    peer_max_message_size: int
    peer_max_handles: int


class _Mark(NamedTuple):
    """How many messages, bytes and handles had passed when a frame was complete."""

    messages: int
    size: int
    handles: int


class _Deferred:
    """A received message that becomes a value, or an error, when it is taken."""

    __slots__ = ("error", "kind", "raw", "tokens")

    def __init__(self, kind: int, raw: bytes, tokens: list[Token], error: Exception | None) -> None:
        self.kind = kind
        self.raw = raw
        self.tokens = tokens
        self.error = error


class NativeWire:
    """One end of a native channel. Implements `Wire`.

    Args:
      codec: between values and bytes.
      limits: what this end accepts.
      greeted: both ends are made with the same limits, and nobody says HELLO.
      accepts: a further kind of frame to take from this peer, `CALL` or `FAILURE`.
      handle_window: how many handles may be under way to the peer.
    """

    def __init__(
        self,
        codec: MsgpackCodec,
        limits: Limits,
        *,
        greeted: bool = False,
        accepts: tuple[int, ...] = (),
        handle_window: int = HANDLE_WINDOW,
    ) -> None:
        self.codec = codec
        self.limits = limits
        # Until it says otherwise, the peer is taken to accept what we accept.
        self.peer = Hello(VERSION, _window(limits), limits.max_message_size, limits.max_handles)
        self._largest = limits.max_message_size
        self._handle_window = handle_window
        self._accepts = accepts
        self.greeted = greeted
        self._start_sending()
        self._start_receiving()

    # Sending ------------------------------------------------------------------------------

    def _start_sending(self) -> None:
        self.credit = _credit(_window(self.limits))
        self.unsent = 0
        self.congested = False
        self.ended = False
        self.stopped = False
        self.peer_stopped = False
        self._batch = bytearray(_PREFIX)
        self._batch_count = 0
        self._queue: deque[tuple[Any, list[Token]]] = deque()
        self._sent = _Mark(0, 0, 0)
        self._taken_by_peer = 0
        self._marks: deque[_Mark] = deque()
        self._released = _Mark(0, 0, 0)

    def hello(self, device: int = 0, inode: int = 0) -> None:
        """Queue our HELLO: the first thing to do on a channel that was not agreed on before."""
        limits = self.limits
        ours = Hello(
            VERSION, _window(limits), limits.max_message_size, limits.max_handles, device, inode
        )
        self._push(HELLO, msgspec.msgpack.encode(ours))

    def encode(self, message: Any, handle: Any = None) -> bytes | Outbound:
        """Check and serialize, without any effect.

        Raises:
          UnsupportedMessage, UnsupportedHandle, MessageTooLarge: as their names say.
        """
        if handle is not None:
            return self._encode_pair(message, handle)
        if message.__class__ is bytes and len(message) >= BARE_BYTES:
            self._check_size(len(message), 0)
            return Outbound(BYTES, message, [])
        data = self.codec.encode(message)
        if len(data) > self._largest or self.codec.outgoing:
            handles = self.codec.pop_handles()
            self._check_size(len(data), len(handles))
            if message.__class__ is HandleMessage:  # one that is passed on
                return Outbound(PAIR, data, handles)
            return Outbound(MESSAGES, _ONE + data, handles)
        return data

    def _encode_pair(self, message: Any, handle: Any) -> Outbound:
        data = self.codec.encode([message, handle])
        handles = self.codec.pop_handles()
        if not any(known.obj is handle for known in handles):
            raise UnsupportedHandle(f"{type(handle).__name__!r} objects are no handles")
        self._check_size(len(data), len(handles))
        return Outbound(PAIR, data, handles)

    def encode_call(self, call: Any, arguments: list[Any]) -> Outbound:
        """What a function child is to run: like `encode`, but for the first frame only."""
        data = self.codec.encode([call, arguments])
        handles = self.codec.pop_handles()
        self._check_size(len(data), len(handles))
        return Outbound(CALL, data, handles)

    def _check_size(self, size: int, handles: int) -> None:
        if size > self._largest:
            raise MessageTooLarge(
                f"a message of {size} bytes; max_message_size is {self._largest}"
            )
        most = min(self.peer.max_handles, self.limits.max_handles)
        if handles > most:
            raise MessageTooLarge(f"a message with {handles} handles; max_handles is {most}")

    def can_send(self, handles: int = 0) -> bool:
        """Whether one more message, with that many handles, may be committed now."""
        if self.credit <= 0 or self.congested:
            return False
        in_flight = self._sent.handles - self._released.handles
        return not handles or not in_flight or in_flight + handles <= self._handle_window

    def commit(self, payload: bytes | Outbound, tokens: list[Token] | None = None) -> None:
        """Queue one encoded message; `can_send` was true. It will arrive, whole and in order."""
        if payload.__class__ is bytes:
            if len(self._batch) + len(payload) > BATCH_SIZE:
                self._seal()
                if len(payload) > BATCH_SIZE:
                    self._commit_alone(MESSAGES, [_ONE, payload], [])
                    return
            self._batch += payload
            self._batch_count += 1
        elif payload.kind == CALL:  # type: ignore[union-attr]
            self._push(CALL, payload.data, tokens or [])  # type: ignore[union-attr]
            return
        else:
            self._seal()
            self._commit_alone(payload.kind, [payload.data], tokens or [])  # type: ignore[union-attr]
            return
        self.credit -= 1

    def _commit_alone(self, kind: int, parts: list[bytes], tokens: list[Token]) -> None:
        self.credit -= 1
        size = sum(map(len, parts))
        self._push(kind, parts[0] if len(parts) == 1 else b"".join(parts), tokens, messages=1)
        self._mark(1, size, len(tokens))

    def _mark(self, messages: int, size: int, handles: int) -> None:
        sent = self._sent
        self._sent = _Mark(sent.messages + messages, sent.size + size, sent.handles + handles)
        self._marks.append(self._sent)
        self._update_congestion()

    def _update_congestion(self) -> None:
        self.congested = (
            self.unsent > HIGH_WATER
            or self._sent.size - self._released.size >= _byte_window(self.peer.max_message_size)
        )

    def _seal(self) -> None:
        """Close the open batch, with the grant that is due, and queue it."""
        count = self._batch_count
        if not count:
            return
        batch = self._batch
        length = len(batch) - _HEADER_SIZE
        _HEADER.pack_into(batch, 0, MESSAGES, 0, self._pop_grant(), length)
        _ARRAY.pack_into(batch, _HEADER_SIZE, 0xDD, count)
        self._queue.append((batch, []))
        self.unsent += len(batch)
        self._batch = bytearray(_PREFIX)
        self._batch_count = 0
        self._mark(count, length, 0)

    def _push(
        self, kind: int, data: bytes = b"", tokens: list[Token] | None = None, messages: int = 0
    ) -> None:
        self._seal()
        header = _HEADER.pack(kind, len(tokens) if tokens else 0, self._pop_grant(), len(data))
        if len(data) < BARE_BYTES:
            self._queue.append((header + data, tokens or []))
        else:
            self._queue.append((header, tokens or []))
            self._queue.append((data, []))
        self.unsent += len(header) + len(data)

    def _pop_grant(self) -> int:
        grant = self.grants_pending
        if grant <= 0:
            return 0
        if grant > 0xFFFF:
            grant = 0xFFFF
        self.grants_pending -= grant
        self._granted += grant
        self._take_mark()
        return grant

    def end(self) -> None:
        """Say that no more messages will come."""
        if not self.ended:
            self.ended = True
            self._push(END)

    def stop(self) -> None:
        """Say that no more messages will be taken, and drop those that wait."""
        if not self.stopped:
            self.stopped = True
            self._push(STOP)
            self._drop_unread()

    def fail(self, text: str) -> None:
        """Queue the last words of a failed function child: the end of a long text is kept."""
        data = text.encode("utf-8", "replace")[-_FAILURE_SIZE:]
        self._push(FAILURE, data)

    def flush_grants(self) -> None:
        """Queue what credit is due, if no other frame has taken it along."""
        self._seal()
        while self.grants_pending > 0:
            self._push(GRANT)

    def has_output(self) -> bool:
        return bool(self._queue or self._batch_count)

    def bytes_unsent(self) -> int:
        """What is committed and not written yet."""
        return self.unsent + (len(self._batch) if self._batch_count else 0)

    def credit_left(self) -> float:
        """How many messages the peer would take now."""
        return math.inf if self.credit > _UNLIMITED // 2 else max(0, self.credit)

    def next_write(self) -> tuple[list[Any], list[Token]] | None:
        """Buffers to write with one call, and the tokens to pass with their first byte.

        Nothing ever stands in front of a frame with tokens. Call `written` with the outcome.
        """
        self._seal()
        queue = self._queue
        if not queue:
            return None
        first, tokens = queue[0]
        buffers = [first]
        for index in range(1, min(len(queue), 16)):
            if queue[index][1]:
                break
            buffers.append(queue[index][0])
        return buffers, tokens

    def written(self, count: int) -> None:
        """``count`` bytes of the last `next_write` are out, and with the first of them its
        tokens, which are closed here."""
        queue = self._queue
        self.unsent -= count
        while count:
            data, tokens = queue.popleft()
            for token in tokens:
                token.close()
            if count < len(data):
                queue.appendleft((memoryview(data)[count:], []))
                break
            count -= len(data)
        if self.congested:
            self._update_congestion()

    # Receiving ----------------------------------------------------------------------------

    def _start_receiving(self) -> None:
        self.unread: deque[Any] = deque()
        self.grants_pending = 0
        self.peer_ended = False
        self.failure_text: str | None = None
        self.call: _Deferred | None = None
        self._granted = 0
        self._arrived = _Mark(0, 0, 0)
        self._arrivals: deque[_Mark] = deque()
        self._consumed = 0
        self._size_at_grant = 0
        self._apply_limits()
        self._scratch = bytearray(_HEADER_SIZE + BATCH_SIZE + _HEADER_SIZE)
        self._view = memoryview(self._scratch)
        self._whole = [self._view]
        self._filled = 0
        self._frame: tuple[int, int, list[Token]] | None = None
        self._large: BytesIO | None = None
        self._large_view: memoryview | None = None
        self._tokens: deque[Token] = deque()

    def _apply_limits(self) -> None:
        window = _window(self.limits)
        self._refill = 1 if window else 0
        self._granted = max(self._granted, _credit(window))
        self._usual_grant = max(1, min(window // 2, 512)) if window >= 0 else 512
        self.grant_at = self._usual_grant
        self._maximum = self._lengths(_TALKING + self._accepts if self.greeted else _GREETING)

    def adopt(self, limits: Limits) -> None:
        """Accept something else than the peer takes for granted: after its HELLO, before ours."""
        self._granted = _credit(self.peer.max_buffer_size)
        self.limits = limits
        self._largest = min(limits.max_message_size, self.peer.max_message_size)
        self._apply_limits()

    def _lengths(self, allowed: tuple[int, ...]) -> dict[int, int]:
        message = self.limits.max_message_size
        longest = {
            HELLO: 256,
            MESSAGES: max(message, BATCH_SIZE) + _ARRAY.size,
            PAIR: message,
            BYTES: message,
            CALL: message,
            FAILURE: _FAILURE_SIZE,
        }
        return {kind: longest.get(kind, 0) for kind in allowed}

    def buffers(self) -> list[memoryview]:
        """Where the next bytes are to be read to."""
        if self._large_view is not None:
            return [self._large_view[self._filled :]]
        if not self.greeted or CALL in self._accepts:
            return [self._view[self._filled : self._frame_end()]]
        if self._filled:
            return [self._view[self._filled :]]
        return self._whole

    def _frame_end(self) -> int:
        # Not a byte beyond HELLO and CALL is read before they are understood: what follows
        # depends on the limits and on the types that they bring.
        return self._frame[1] if self._frame is not None else _HEADER_SIZE

    def received(self, count: int, tokens: list[Token]) -> None:
        """``count`` bytes were read into `buffers`, and ``tokens`` came with them.

        Raises:
          ProtocolError: and then the channel is dead: call `close`.
        """
        if tokens:
            self._tokens.extend(tokens)
        if self._large is not None:
            self._filled += count
            self._continue_large()
        else:
            self._parse(self._filled + count)
        # A token rides on the first byte of its frame, so it can be ahead of its header only
        # while that header is incomplete.
        if self._tokens and (not self._filled or self._frame is not None):
            raise ProtocolError("the peer sent handles that no frame announced")

    def _parse(self, end: int) -> None:
        position = 0
        view = self._view
        while True:
            if self._frame is None:
                if end - position < _HEADER_SIZE:
                    break
                kind, handles, grant, length = _HEADER.unpack_from(view, position)
                if handles or length > self._maximum.get(kind, -1):
                    self._check_header(kind, handles, length)
                position += _HEADER_SIZE
                if grant:
                    self._receive_grant(grant)
                tokens = [self._tokens.popleft() for _ in range(handles)] if handles else []
            else:
                kind, length, tokens = self._frame
            if end - position < length:
                self._frame = kind, length, tokens
                if length > BATCH_SIZE:
                    self._start_large(length, view[position:end])
                    return
                break
            self._frame = None
            payload = view[position : position + length]
            position += length
            if kind == MESSAGES and not tokens:
                self._receive_batch(payload)
            else:
                self._receive_frame(kind, payload, tokens)
        rest = end - position
        if rest and position:
            self._scratch[:rest] = self._scratch[position:end]
        self._filled = rest

    def _check_header(self, kind: int, handles: int, length: int) -> None:
        most = self._maximum.get(kind)
        if most is None:
            raise ProtocolError(f"unexpected frame of kind {chr(kind)!r} from the peer")
        if length > most:
            raise ProtocolError(f"the peer announced a frame of {length} bytes; {most} are allowed")
        if kind not in (MESSAGES, PAIR, CALL) or handles > self.limits.max_handles:
            raise ProtocolError(f"the peer announced {handles} handles where they are not allowed")
        if handles > len(self._tokens):
            raise ProtocolError(
                f"the peer announced {handles} handles and {len(self._tokens)} arrived"
            )

    def _start_large(self, length: int, beginning: memoryview) -> None:
        # `bytes(n)` is zeroed lazily by the kernel, so that memory grows with what arrives; and
        # BytesIO gives it back as the very bytes object, so that nothing is copied again.
        self._large = BytesIO(bytes(length))
        self._large_view = self._large.getbuffer()
        self._filled = len(beginning)
        self._large_view[: self._filled] = beginning

    def _continue_large(self) -> None:
        assert self._frame is not None
        assert self._large is not None
        assert self._large_view is not None
        kind, length, tokens = self._frame
        if self._filled < length:
            return
        self._large_view.release()
        payload = self._large.getvalue()
        self._large = self._large_view = self._frame = None
        self._filled = 0
        if kind == MESSAGES and not tokens:
            self._receive_batch(payload)
        else:
            self._receive_frame(kind, payload, tokens)

    def _receive_batch(self, payload: bytes | memoryview) -> None:
        size = len(payload)
        if size < _ARRAY.size or payload[0] != 0xDD:
            raise ProtocolError("the peer sent a batch that is no array")
        count = _ARRAY.unpack_from(payload)[1]
        self._arrive(count, size, 0)
        if self.stopped:
            return
        if size <= self.limits.max_message_size + _ARRAY.size:
            try:
                self.unread.extend(self.codec.decode_batch(payload))
                return
            except ProtocolError:
                raise
            except Exception:
                pass  # one of them is bad: find out which
        self._receive_one_by_one(payload)

    def _receive_one_by_one(self, payload: bytes | memoryview) -> None:
        try:
            parts = self.codec.split_batch(payload)
        except Exception as exc:
            raise ProtocolError(f"the peer sent a malformed batch: {exc}") from exc
        for part in parts:
            raw = bytes(part)
            if len(raw) > self.limits.max_message_size:
                raise ProtocolError(
                    f"the peer sent a message of {len(raw)} bytes;"
                    f" {self.limits.max_message_size} are allowed"
                )
            try:
                self.unread.append(self._decode(raw, []))
            except InvalidMessage as exc:
                self.unread.append(_Deferred(MESSAGES, b"", [], exc))

    def _receive_frame(self, kind: int, payload: bytes | memoryview, tokens: list[Token]) -> None:
        if kind in (MESSAGES, PAIR, BYTES):
            try:
                self._receive_message(kind, bytes(payload), tokens)
            except ProtocolError:
                _close(tokens)
                raise
        elif kind == END:
            self.peer_ended = True
            self._maximum = self._lengths(_ENDED + self._accepts)
        elif kind == STOP:
            self.peer_stopped = True
        elif kind == HELLO:
            self._receive_hello(payload)
        elif kind == FAILURE:
            self.failure_text = bytes(payload).decode("utf-8", "replace")
        elif kind == CALL:
            self.call = _Deferred(CALL, bytes(payload), tokens, None)
            self._accepts = ()
            self._maximum.pop(CALL)

    def _receive_message(self, kind: int, raw: bytes, tokens: list[Token]) -> None:
        self._arrive(1, len(raw), len(tokens))
        if kind == MESSAGES:
            if raw[: _ARRAY.size] != _ONE:
                raise ProtocolError("the peer sent handles in a batch")
            raw = raw[_ARRAY.size :]
        if self.stopped:
            _close(tokens)
        else:
            self.unread.append(_Deferred(kind, raw, tokens, None))

    def _receive_hello(self, payload: bytes | memoryview) -> None:
        try:
            hello = msgspec.msgpack.decode(payload, type=Hello)
        except Exception as exc:
            raise ProtocolError(f"the peer's greeting makes no sense: {exc}") from exc
        if hello.version != VERSION:
            raise ProtocolError(
                f"the peer speaks version {hello.version} of the protocol, this is {VERSION}"
            )
        self.credit += _credit(hello.max_buffer_size) - _credit(self.peer.max_buffer_size)
        self.peer = hello
        self._largest = min(self.limits.max_message_size, hello.max_message_size)
        self.greeted = True
        self._maximum = self._lengths(_TALKING + self._accepts)
        self._update_congestion()

    def _receive_grant(self, grant: int) -> None:
        self.credit += grant
        self._taken_by_peer += grant
        marks = self._marks
        taken = self._taken_by_peer
        if marks and marks[0].messages <= taken:
            while marks and marks[0].messages <= taken:
                self._released = marks.popleft()
            self._update_congestion()

    def _arrive(self, messages: int, size: int, handles: int) -> None:
        """Account for what arrived; a peer that outruns its credit is cut off."""
        was = self._arrived
        now = self._arrived = _Mark(was.messages + messages, was.size + size, was.handles + handles)
        if now.messages > self._granted:
            raise ProtocolError("the peer sent more messages than it had credit for")
        self._arrivals.append(now)
        waiting = now.size - self._size_at_grant
        window = _byte_window(self.limits.max_message_size)
        if waiting > window // 2:
            self.grant_at = 1
        if waiting > window + self.limits.max_message_size + 4 * BATCH_SIZE and self._refill:
            raise ProtocolError("the peer sent more bytes than it had credit for")

    def take(self) -> Any:
        """The next unread message; `unread` is not empty.

        Raises:
          InvalidMessage: it is not of ``message_type``; it is gone, its handles are closed.
          ProtocolError: its handles are not what it says: call `close`.
        """
        item = self.unread.popleft()
        self._consumed += 1
        self.grants_pending += self._refill
        if item.__class__ is _Deferred:
            return self._open(item)
        return item

    def _take_mark(self) -> None:
        """A grant is leaving: note which arrivals it covers."""
        arrivals = self._arrivals
        while arrivals and arrivals[0].messages <= self._consumed:
            self._size_at_grant = arrivals.popleft().size
        self.grant_at = self._usual_grant

    def take_call(self) -> tuple[Any, list[Any]]:
        """The call and the arguments that a function child was started for."""
        assert self.call is not None
        deferred, self.call = self.call, None
        value = self._decode(deferred.raw, deferred.tokens, typed=False)
        if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], list):
            raise ProtocolError("the parent's call makes no sense")
        return value[0], value[1]

    def _open(self, item: _Deferred) -> Any:
        if item.error is not None:
            raise item.error
        if item.kind == BYTES:
            try:
                return self.codec.convert(item.raw)
            except msgspec.ValidationError as exc:
                raise InvalidMessage(str(exc)) from exc
        if item.kind != PAIR:
            return self._decode(item.raw, item.tokens)
        value = self._decode(item.raw, item.tokens)
        if self.codec.message_type is not Any:
            return value
        if not isinstance(value, list) or len(value) != 2:
            raise ProtocolError("the peer sent a pair that is none")
        return HandleMessage(*value)

    def _decode(self, raw: bytes, tokens: list[Token], *, typed: bool = True) -> Any:
        try:
            return self.codec.decode(raw, tokens, typed=typed)
        except (ProtocolError, OSError):
            raise
        except (msgspec.ValidationError, RecursionError) as exc:
            raise InvalidMessage(str(exc)) from exc
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise ProtocolError(f"the peer sent a malformed message: {exc}") from exc
        except Exception as exc:  # raised by the user's own type, in its __post_init__
            raise InvalidMessage(f"{type(exc).__name__}: {exc}") from exc

    def skip_unread(self) -> None:
        """Take what is unread, for nobody: the peer gets its credit back."""
        count = len(self.unread)
        self._drop_unread()
        self._consumed += count
        self.grants_pending += count * self._refill

    def want(self, receivers: int) -> None:
        """So many tasks wait for a message: with no buffer, that is what grants credit."""
        if not self._refill:
            outstanding = self._granted - self._arrived.messages + self.grants_pending
            if outstanding < receivers:
                self.grants_pending += receivers - outstanding

    def received_eof(self) -> None:
        """The peer is gone.

        Raises:
          ProtocolError: in the middle of a frame.
        """
        if self._frame is not None:
            kind, length, _ = self._frame
            raise ProtocolError(
                f"the peer ended in the middle of a frame: {self._filled} of {length} bytes of"
                f" a frame of kind {chr(kind)!r}"
            )
        if self._filled:
            raise ProtocolError(
                f"the peer ended in the middle of a frame's header: {self._filled} of"
                f" {_HEADER_SIZE} bytes"
            )

    # The end ------------------------------------------------------------------------------

    def _drop_unread(self) -> None:
        for item in self.unread:
            if item.__class__ is _Deferred:
                _close(item.tokens)
        self.unread.clear()

    def abandon_input(self) -> None:
        """Close the tokens of whatever is not a complete message."""
        if self._frame is not None:
            _close(self._frame[2])
        _close(self._tokens)
        self._tokens.clear()
        if self._large_view is not None:
            self._large_view.release()
        self._frame = self._large = self._large_view = None
        self._filled = 0

    def abandon_output(self) -> None:
        """Drop what was not written, tokens included."""
        for _, tokens in self._queue:
            _close(tokens)
        self._queue.clear()
        self._batch = bytearray(_PREFIX)
        self._batch_count = self.unsent = 0

    def close(self) -> None:
        """Close every token that is in here."""
        self.abandon_output()
        self.abandon_input()
        self._drop_unread()
        if self.call is not None:
            _close(self.call.tokens)
            self.call = None

    # Moving one end to another process ----------------------------------------------------

    def quiet(self) -> bool:
        """Whether nothing of this end lives in this process except `credit_state`."""
        return not (
            self.has_output()
            or self.unread
            or self._filled
            or self._frame is not None
            or self.grants_pending
            or self.ended
            or self.stopped
            or self.peer_ended
            or self.peer_stopped
        )

    def credit_state(self) -> CreditState:
        return CreditState(
            self.credit,
            self._granted - self._arrived.messages,
            self._sent.messages - self._taken_by_peer,
            self._sent.size - self._released.size,
            self.peer.max_message_size,
            self.peer.max_handles,
        )

    def restore(self, state: CreditState) -> None:
        self.credit = state.credit
        self._granted = state.granted
        self._sent = _Mark(state.in_flight, state.in_flight_size, 0)
        self._marks.append(self._sent)
        self._update_congestion()
        self.peer = Hello(
            VERSION, _window(self.limits), state.peer_max_message_size, state.peer_max_handles
        )


def _window(limits: Limits) -> int:
    return -1 if limits.max_buffer_size == math.inf else int(limits.max_buffer_size)


def _credit(window: int) -> int:
    return _UNLIMITED if window < 0 else window


def _byte_window(max_message_size: int) -> int:
    return max(max_message_size, 1024 * 1024)


def _close(tokens: Any) -> None:
    for token in tokens:
        token.close()
