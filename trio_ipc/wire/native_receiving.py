"""The receiving side of the native protocol: bytes and tokens in, messages out."""

from __future__ import annotations

from collections import deque
from io import BytesIO
from typing import TYPE_CHECKING, Any

import msgspec

from .._errors import InvalidMessage, ProtocolError
from . import HANDLE_WINDOW, HandleMessage, Limits, Token
from .native_credit import Granting
from .native_frames import (
    ARRAY,
    ARRAY_OF_ONE,
    ARRAY_OF_TWO,
    ARRAY_SIZE,
    ARRAY_TAG,
    BATCH_SIZE,
    BYTES,
    CALL,
    CALL_SIZE,
    END,
    ENDED,
    FAILURE,
    FAILURE_SIZE,
    GREETING,
    HEADER,
    HEADER_SIZE,
    HELLO,
    HELLO_SIZE,
    MESSAGES,
    PAIR,
    READ_SIZE,
    STOP,
    TALKING,
    VERSION,
    WITH,
    Hello,
    credit_of,
    handles_sent,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .msgpack import MsgpackCodec


class Deferred:
    """A received message that becomes a value, or an error, when it is taken."""

    __slots__ = ("error", "kind", "raw", "tokens")

    def __init__(
        self, kind: int, raw: bytes, tokens: list[Token], error: Exception | None = None
    ) -> None:
        self.kind: int = kind
        self.raw: bytes = raw
        self.tokens: list[Token] = tokens
        self.error: Exception | None = error


class Receiving(Granting):
    """Half of `NativeWire`."""

    codec: MsgpackCodec
    peer: Hello
    credit: int
    grants_pending: int
    stopped: bool
    peer_stopped: bool

    def _start_receiving(self, greeted: bool, accepts: tuple[int, ...]) -> None:
        self.greeted: bool = greeted
        self._accepts = accepts
        self.peer_ended: bool = False
        self.failure_text: str | None = None
        self.call: Deferred | None = None
        # What the peer may send, as far as it knows: see `adopt`.
        self._most_handles_in = self.limits.max_handles_taken
        self._start_granting()
        self._allow_lengths()
        self._scratch = bytearray(READ_SIZE)
        self._view = memoryview(self._scratch)
        self._whole = [self._view]
        self._filled = 0
        # The frame whose payload is incomplete: kind, length, tokens.
        self._frame: tuple[int, int, list[Token]] | None = None
        self._large: BytesIO | None = None
        self._large_view: memoryview | None = None
        self._tokens: deque[Token] = deque()
        self.buffers: list[memoryview] = self._whole
        self._set_buffers()

    if TYPE_CHECKING:  # what the other half has

        def _receive_grant(self, grant: int) -> None: ...
        def _update_congestion(self) -> None: ...
        def _meet_limits(self) -> None: ...

    def _allow_lengths(self) -> None:
        self._maximum = self._lengths(TALKING + self._accepts if self.greeted else GREETING)

    def adopt(self, limits: Limits) -> None:
        """Accept something else than the peer takes for granted: after its HELLO, before ours."""
        self.limits = limits
        self._most_size = max(limits.max_message_size, self.peer.max_message_size)
        self._most_handles_in = max(limits.max_handles_taken, handles_sent(self.peer))
        self._meet_limits()
        self._allow_lengths()
        self._apply_window(already=credit_of(self.peer.max_buffer_size))

    def _lengths(self, allowed: tuple[int, ...]) -> dict[int, int]:
        message = self._most_size
        longest = {
            HELLO: HELLO_SIZE,
            MESSAGES: max(message, BATCH_SIZE) + ARRAY_SIZE,
            WITH: max(message, BATCH_SIZE) + ARRAY_SIZE,
            PAIR: message,
            BYTES: message,
            CALL: message + CALL_SIZE,
            FAILURE: FAILURE_SIZE,
        }
        return {kind: longest.get(kind, 0) for kind in allowed}

    def _set_buffers(self) -> None:
        if self._large_view is not None:
            self.buffers = [self._large_view[self._filled :]]
        elif not self.greeted or CALL in self._accepts:
            # Not a byte beyond HELLO and CALL is read before they are understood: what follows
            # depends on the limits and on the types that they bring.
            end = HEADER_SIZE if self._frame is None else self._frame[1]
            self.buffers = [self._view[self._filled : end]]
        elif self._filled:
            self.buffers = [self._view[self._filled :]]
        else:
            self.buffers = self._whole

    def received(self, count: int, tokens: Sequence[Token] = ()) -> None:
        if tokens:
            self._tokens.extend(tokens)
        if self._large is None:
            self._filled = self._parse(self._filled + count)
        else:
            self._filled += count
            self._continue_large()
        if self._filled or self._large is not None or self.buffers is not self._whole:
            self._set_buffers()
        # A token rides on the first byte of its frame, so it can be ahead of its header only
        # while that header is incomplete.
        if self._tokens and (not self._filled or self._frame is not None):
            raise ProtocolError("the peer sent handles that no frame announced")

    def _parse(self, end: int) -> int:
        """Take what is complete of the scratch buffer up to ``end``; how much of it remains."""
        position = 0
        view = self._view
        while end - position >= HEADER_SIZE or self._frame is not None:
            if self._frame is None:
                kind, handles, grant, length = HEADER.unpack_from(view, position)
                if handles or length > self._maximum.get(kind, -1):
                    self._check_header(kind, handles, length)
                position += HEADER_SIZE
                if grant:
                    self._receive_grant(grant)
                tokens = [self._tokens.popleft() for _ in range(handles)] if handles else []
            else:
                kind, length, tokens = self._frame
            if end - position < length:
                self._frame = kind, length, tokens
                if length > READ_SIZE:
                    return self._start_large(length, view[position:end])
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
        return rest

    def _check_header(self, kind: int, handles: int, length: int) -> None:
        most = self._maximum.get(kind)
        if most is None:
            raise ProtocolError(f"unexpected frame of kind {chr(kind)!r} from the peer")
        if length > most:
            raise ProtocolError(f"the peer announced a frame of {length} bytes; {most} are allowed")
        if kind not in (MESSAGES, WITH, PAIR, CALL) or handles > self._most_handles_in:
            raise ProtocolError(f"the peer announced {handles} handles where they are not allowed")
        if handles > len(self._tokens):
            raise ProtocolError(
                f"the peer announced {handles} handles and {len(self._tokens)} arrived"
            )

    def _start_large(self, length: int, beginning: memoryview) -> int:
        # `bytes(n)` is zeroed lazily by the kernel, so that memory grows with what arrives; and
        # BytesIO gives it back as the very bytes object, so that nothing is copied again.
        self._large = BytesIO(bytes(length))
        self._large_view = self._large.getbuffer()
        self._large_view[: len(beginning)] = beginning
        return len(beginning)

    def _continue_large(self) -> None:
        assert self._frame is not None
        assert self._large is not None
        assert self._large_view is not None
        kind, length, tokens = self._frame
        if self._filled < length:
            return
        # The last views must go, or getvalue() makes a copy.
        self.buffers = self._whole
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
        tag, count = ARRAY.unpack_from(payload) if size >= ARRAY_SIZE else (0, 0)
        if tag != ARRAY_TAG:
            raise ProtocolError("the peer sent a batch that is no array")
        self._arrive(count, size)
        if self.stopped:
            return
        if size <= self.limits.max_message_size + ARRAY_SIZE:
            try:
                self.unread.extend(self.codec.decode_batch(payload))
                return
            except ProtocolError:
                raise
            except Exception:
                pass  # one of them is bad: find out which
        self._receive_one_by_one(payload)

    def _receive_one_by_one(self, payload: bytes | memoryview) -> None:
        for part in self._split(payload):
            raw = self._checked(part)
            if len(raw) > self.limits.max_message_size:
                self._keep(MESSAGES, raw, [])
                continue
            try:
                self.unread.append(self._decode(raw, []))
            except InvalidMessage as exc:
                self.unread.append(Deferred(MESSAGES, b"", [], exc))

    def _receive_frame(self, kind: int, payload: bytes | memoryview, tokens: list[Token]) -> None:
        if kind in (MESSAGES, WITH, PAIR, BYTES):
            try:
                if kind == WITH:
                    self._receive_parcels(payload, tokens)
                else:
                    self._receive_message(kind, bytes(payload), tokens)
            except ProtocolError:
                close_tokens(tokens)
                raise
        elif kind == END:
            self.peer_ended = True
            self._maximum = self._lengths(ENDED + self._accepts)
        elif kind == STOP:
            self.peer_stopped = True
        elif kind == HELLO:
            self._receive_hello(payload)
        elif kind == FAILURE:
            self.failure_text = _harmless(bytes(payload).decode("utf-8", "replace"))
        elif kind == CALL:
            self.call = Deferred(CALL, bytes(payload), tokens, None)
            self._accepts = ()
            self._maximum.pop(CALL)

    def _receive_message(self, kind: int, raw: bytes, tokens: list[Token]) -> None:
        self._arrive(1, len(raw), len(tokens))
        if kind == MESSAGES:
            if raw[:ARRAY_SIZE] != ARRAY_OF_ONE:
                raise ProtocolError("the peer sent handles in a batch")
            raw = self._checked(raw[ARRAY_SIZE:])
        elif kind == PAIR and raw[:1] != ARRAY_OF_TWO:
            raise ProtocolError("the peer sent a pair that is none")
        if self.stopped:
            close_tokens(tokens)
        else:
            self._keep(kind, raw, tokens)

    def _receive_parcels(self, payload: bytes | memoryview, tokens: list[Token]) -> None:
        parts = self._split(payload)
        counts = [part[0] if len(part) == 1 else -1 for part in map(bytes, parts[::2])]
        if len(parts) % 2 or min(counts, default=0) < 1 or sum(counts) != len(tokens):
            raise ProtocolError("the peer sent handles that its messages do not contain")
        self._arrive(len(counts), len(payload), len(tokens))
        if self.stopped:
            close_tokens(tokens)
            return
        start = 0
        # All are checked before the first one is there to be taken with its tokens.
        for count, raw in zip(counts, list(map(self._checked, parts[1::2])), strict=True):
            self._keep(MESSAGES, raw, tokens[start : start + count])
            start += count

    def _split(self, batch: bytes | memoryview) -> Sequence[bytes | msgspec.Raw]:
        try:
            try:
                return self.codec.split_batch(batch)
            except RecursionError:  # who sends one message too deep has not broken the protocol
                # One that is larger than a batch is alone, and to look through it takes seconds.
                if len(batch) > 2 * BATCH_SIZE:
                    if batch[:ARRAY_SIZE] != ARRAY_OF_ONE:
                        raise
                    return [bytes(batch[ARRAY_SIZE:])]
                from .splitting import split_array

                return split_array(batch)
        except Exception as exc:
            raise ProtocolError(f"the peer sent a malformed batch: {exc}") from exc

    def _checked(self, part: bytes | msgspec.Raw) -> bytes:
        raw = bytes(part)
        if len(raw) > self._most_size:
            raise ProtocolError(
                f"the peer sent a message of {len(raw)} bytes; {self._most_size} are allowed"
            )
        return raw

    def _keep(self, kind: int, raw: bytes, tokens: list[Token]) -> None:
        limits = self.limits
        if len(raw) <= limits.max_message_size and len(tokens) <= limits.max_handles_taken:
            self.unread.append(Deferred(kind, raw, tokens))
            return
        # The peer sent it before it heard of our limits.
        close_tokens(tokens)
        error = InvalidMessage(
            f"{len(raw)} bytes and {len(tokens)} handles; {limits.max_message_size} and"
            f" {limits.max_handles_taken} are the limits here"
        )
        self.unread.append(Deferred(kind, b"", [], error))

    def _receive_hello(self, payload: bytes | memoryview) -> None:
        try:
            hello = msgspec.msgpack.decode(payload, type=Hello)
        except Exception as exc:
            raise ProtocolError(f"the peer's greeting makes no sense: {exc}") from exc
        if hello.version != VERSION:
            raise ProtocolError(
                f"the peer speaks version {hello.version} of the protocol, this is {VERSION}"
            )
        self.credit += credit_of(hello.max_buffer_size) - credit_of(self.peer.max_buffer_size)
        self.peer = hello
        self._meet_limits()
        self.greeted = True
        self._maximum = self._lengths(TALKING + self._accepts)
        self._update_congestion()

    def take(self) -> Any:
        item = self.unread.popleft()
        self._taken_here += 1
        self.grants_pending += self._refill
        if item.__class__ is Deferred:
            # Credit for handles goes back in lots: for each of them the peer would send one.
            self._handles_unread -= len(item.tokens)
            if self._handles_owed - self._handles_unread >= HANDLE_WINDOW // 4:
                self.grant_at = 1
            return self._open(item)
        return item

    def take_call(self) -> tuple[Any, list[Any]]:
        """The call and the arguments that a function child was started for."""
        assert self.call is not None
        deferred, self.call = self.call, None
        try:
            function, arguments = self._decode(deferred.raw, deferred.tokens, call=True)
        except InvalidMessage as exc:
            raise ProtocolError(f"the parent's call makes no sense: {exc}") from exc
        return function, arguments

    def _open(self, item: Deferred) -> Any:
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
        return value if self.codec.message_type is not Any else HandleMessage(*value)

    def _decode(self, raw: bytes, tokens: list[Token], *, call: bool = False) -> Any:
        try:
            return self.codec.decode(raw, tokens, call=call)
        except ProtocolError:
            raise
        except (msgspec.ValidationError, RecursionError) as exc:
            raise InvalidMessage(str(exc)) from exc
        except UnicodeDecodeError as exc:
            raise ProtocolError(f"the peer sent a malformed message: {exc}") from exc
        except Exception as exc:
            if isinstance(exc, msgspec.DecodeError):
                self._split(ARRAY_OF_ONE + raw)  # which raises if this is what was malformed
            # The user's own type raised it, in its __post_init__.
            raise InvalidMessage(f"{type(exc).__name__}: {exc}") from exc

    def skip_unread(self) -> None:
        count = len(self.unread)
        self._drop_unread()
        self._handles_unread = 0
        self._taken_here += count
        self.grants_pending += count * self._refill

    def received_eof(self) -> None:
        if self._frame is not None:
            kind, length, _ = self._frame
            raise ProtocolError(
                f"the peer ended in the middle of a frame: {self._filled} of {length} bytes of"
                f" a frame of kind {chr(kind)!r}"
            )
        if self._filled:
            raise ProtocolError(
                f"the peer ended in the middle of a frame's header: {self._filled} of"
                f" {HEADER_SIZE} bytes"
            )

    def abandon_input(self) -> None:
        if self._frame is not None:
            close_tokens(self._frame[2])
        close_tokens(self._tokens)
        self._tokens.clear()
        self.buffers = self._whole  # Python 3.13 complains about views that survive their BytesIO
        if self._large_view is not None:
            self._large_view.release()
        self._frame = self._large = self._large_view = None
        self._filled = 0

    def _drop_unread(self) -> None:
        for item in self.unread:
            if item.__class__ is Deferred:
                close_tokens(item.tokens)
        self.unread.clear()


def _harmless(text: str) -> str:
    # It is going to be printed, and what a terminal takes for commands is not the child's to give.
    return "".join(
        each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text
    )


def close_tokens(tokens: Any) -> None:
    for token in tokens:
        token.close()
