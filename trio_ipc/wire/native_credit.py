"""The credit that one end of the native protocol gives: how much the peer may send."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from .._errors import ProtocolError
from .native_frames import (
    BATCH_SIZE,
    MARK_SIZE,
    MOST_GRANT,
    byte_window,
    credit_of,
    greeting,
)

if TYPE_CHECKING:
    from . import Limits


class Granting:
    """What has arrived, what of it was taken, and what goes back for it. A part of `Receiving`.

    `Receiving.take` itself counts what is taken, since it is called for every message.
    """

    limits: Limits

    def _start_granting(self) -> None:
        self.unread: deque[Any] = deque()
        self.grants_pending: int = 0
        # What the peer may send, as far as it knows: see `Receiving.adopt`.
        self._most_size = self.limits.max_message_size
        # What has arrived, what of it was taken, and marks between: (messages, size).
        self._arrived_messages = self._arrived_size = 0
        self._marks_in: deque[tuple[int, int]] = deque()
        self._unmarked_in = 0
        self._taken_here = 0
        self._size_at_grant = 0
        # Handles that have arrived: those that were not taken, and those that the peer has no
        # credit back for.
        self._handles_unread = self._handles_owed = 0
        self._apply_window()

    def _apply_window(self, already: int = 0) -> None:
        """Grant what the limits say; the peer had taken ``already`` for granted."""
        window = greeting(self.limits).max_buffer_size
        self._refill = 1 if window else 0
        self.rendezvous: bool = not window
        self._granted = credit_of(window)
        # Until it hears of it, the peer has the credit that it took for granted.
        self._overdraft = max(0, already - self._granted)
        self._usual_grant = max(1, min(window // 2, 512)) if window >= 0 else 512
        self.grant_at: int = self._usual_grant
        # A frame that leaves anyway takes credit along, but not for less than this.
        self.grant_along: int = max(1, self._usual_grant // 8)
        self.starving: bool = self._granted <= self._usual_grant

    def _arrive(self, messages: int, size: int, handles: int = 0) -> None:
        """Account for what arrived; a peer that outruns its credit is cut off."""
        self._arrived_messages += messages
        self._arrived_size += size
        if handles:
            self._handles_unread += handles
            self._handles_owed += handles
        credit_left = self._granted - self._arrived_messages
        # The peer has credit for less handles than messages.
        self.starving = credit_left <= self._usual_grant or self._handles_owed > 0
        if credit_left < 0 and -credit_left > self._overdraft:
            raise ProtocolError("the peer sent more messages than it had credit for")
        self._unmarked_in += size
        if self._unmarked_in >= MARK_SIZE:
            self._unmarked_in = 0
            self._marks_in.append((self._arrived_messages, self._arrived_size))
            self._check_bytes_waiting()

    def _check_bytes_waiting(self) -> None:
        waiting = self._arrived_size - self._size_at_grant
        window = byte_window(self._most_size)
        self._choose_grant()
        # The peer counts in steps of batches, and may begin one more message.
        if waiting > window + self._most_size + 4 * BATCH_SIZE and self._refill:
            raise ProtocolError("the peer sent more bytes than it had credit for")

    def _pop_grant(self) -> int:
        """The credit that the next frame takes along."""
        grant = self.grants_pending
        if grant <= 0:
            return 0
        if grant > MOST_GRANT:
            grant = MOST_GRANT
        self.grants_pending -= grant
        self._granted += grant
        self._handles_owed = self._handles_unread
        self.starving = (
            self._granted - self._arrived_messages <= self._usual_grant or self._handles_owed > 0
        )
        marks = self._marks_in
        while marks and marks[0][0] <= self._taken_here:
            self._size_at_grant = marks.popleft()[1]
        self.grant_at = self._usual_grant
        self._choose_grant()
        return grant

    def needs_grant(self) -> bool:
        """Not all that is due should leave now.

        Grants that the peer does not read would fill the socket, until this end could not even say
        goodbye. A part of what the peer has left makes some hundred frames out of any number of
        messages, and lets it have each one when it has few.
        """
        left = self._granted - self._arrived_messages
        return self._handles_owed > 0 or self.grants_pending > left // 16

    def _choose_grant(self) -> None:
        # A peer that is short of bytes has too little credit for any more messages, from which
        # this end would learn of it.
        if (
            self._arrived_size - self._size_at_grant
            > byte_window(self.limits.max_message_size) // 2
        ):
            self.grant_at = max(1, min(self.grant_at, len(self.unread) // 4))

    def want(self, receivers: int) -> None:
        if not self._refill:
            outstanding = self._granted - self._arrived_messages + self.grants_pending
            if outstanding < receivers:
                self.grants_pending += receivers - outstanding
