"""The native protocol, between two trio_ipc peers; `native_frames` describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from . import HANDLE_WINDOW, Limits
from .native_frames import CreditState, greeting
from .native_receiving import Receiving, close_tokens
from .native_sending import Sending

if TYPE_CHECKING:
    from .msgpack import MsgpackCodec
    from .native_frames import Hello
    from .native_receiving import Deferred


class NativeWire(Sending, Receiving):
    """One end of a native channel. Implements `Wire`.

    Args:
      codec: between values and bytes.
      limits: what this end accepts.
      greeted: both ends are made with the same limits, and nobody says HELLO.
      accepts: a further kind of frame to take from this peer, ``CALL`` or ``FAILURE``.
      handle_window: how many handles may be under way to the peer.
    """

    peer: Hello
    credit: int
    call: Deferred | None

    # The peer has credit for what it may send, and needs no other answers.
    sated = False
    must_push = False

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
        self.peer = msgspec.structs.replace(greeting(limits), max_handles=limits.max_handles)
        self._start_sending(handle_window)
        self._start_receiving(greeted, accepts)

    def take_all(self) -> None:
        """Nothing holds it back."""

    def hang_up(self) -> bool:
        """END says it; the socket stays open for credit."""
        return False

    def close(self) -> None:
        self.abandon_output()
        self.abandon_input()
        self._drop_unread()
        if self.call is not None:
            close_tokens(self.call.tokens)
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
            self._granted - self._arrived_messages,
            self._sent_messages - self._taken_messages,
            self._sent_size - self._taken_size,
            self.peer.max_message_size,
            self.peer.max_handles,
            [
                (messages - self._taken_messages, size - self._taken_size)
                for messages, size, _ in self._marks
            ],
        )

    def restore(self, state: CreditState) -> None:
        """Take up where the process that sent this end left off."""
        self.credit = state.credit
        self._granted = state.granted
        # Both ends of what can move were made with the same buffer.
        size = self.limits.max_buffer_size
        self.peer = greeting(Limits(size, state.peer_max_message_size, state.peer_max_handles))
        self._meet_limits()
        self._sent_messages = state.in_flight
        self._sent_size = state.in_flight_size
        self._marks.extend((messages, size, 0) for messages, size in state.marks)
        self._update_congestion()
