"""How messages leave: committing, gathering, writing, and waiting for room."""

from __future__ import annotations

import errno
import socket
import sys
from array import array
from typing import TYPE_CHECKING, Final

import trio

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

from . import _handles
from ._background import GATHERING_DELAY
from ._state import State
from ._waiting import Waiter
from .wire import Outbound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .wire import Wire

# Without MSG_NOSIGNAL, a write to a dead peer kills a process that has SIGPIPE at its default, as
# each child of subprocess has.
_SEND_FLAGS: Final = int(socket.MSG_DONTWAIT) | int(getattr(socket, "MSG_NOSIGNAL", 0))

# As much of it as the system allows (net.core.wmem_max): with less, two processes take turns with
# every piece of a large message.
SEND_BUFFER: Final = 1024 * 1024
# After so many awaited sends in one direction it is a stream, and so many of them share a write.
LONG_STREAK: Final = 16
SENDS_PER_WRITE: Final = 8
# Seconds between attempts when the kernel has no room for descriptors or buffers, which is not
# a thing one can wait for: the socket stays writable all the time (ETOOMANYREFS).
BACKOFF: Final = (0.001, 0.064)
_OUT_OF_ROOM: Final = (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM)


class Writing(State):
    """The middle of `Connection`, whose arguments and attributes are explained there."""

    ends: frozenset[tuple[int, int]]

    def __init__(self, sock: socket.socket, wire: Wire, peer: str, scoped: bool) -> None:
        super().__init__(sock, wire, peer, scoped)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._send = sock.send
        self.clear = False
        self.corked = False
        # Awaited sends since a message came the other way.
        self._streak = 0
        self._out_of_room = False
        # A write has failed.
        self._is_mute = False
        self._pause = BACKOFF[0]

    def send_now(self, payload: bytes | Outbound, keep_open: bool | None) -> bool:
        """Commit and write one message if there is room for it. False, and nothing has happened,
        if there is not.

        Raises:
          trio.BrokenResourceError, UnsupportedHandle, OSError: and nothing has happened, either.
        """
        if self.clear:
            frame = self.wire.commit_single(payload)
            if frame is not None:
                self._write_frame(frame)
                return True
        admissible = self._admissible(payload)
        if self._leader is None and (self.background is None or not admissible):
            self.read()  # credit, or the end, may have arrived
            admissible = self._admissible(payload)
        error = self.send_error()
        if error is not None:
            raise error
        if not admissible:
            return False
        self._commit(payload, keep_open)
        if not self.corked:
            self.push()
        elif self.wire.unsent and not self.blocked:
            self.flush(full_only=True)
        return True

    def send_soon(self, payload: bytes | Outbound, keep_open: bool | None) -> bool:
        """Like `send_now`, but in a stream that goes only one way, one write serves several.

        What is gathered leaves with the next few messages, before any task waits here, and else
        after `GATHERING_DELAY` seconds; with handles, when no task can send more.
        """
        self._streak += 1
        if self._streak > LONG_STREAK and self.clear:
            assert self.background is not None  # or nothing would be clear
            gathered = self.wire.commit_small(payload)
            if gathered:
                self.background.work_within(GATHERING_DELAY)
            elif self._may_gather(payload):
                gathered = True
                self._commit(payload, keep_open)
                self.background.gather()
            if gathered:
                if self._streak % SENDS_PER_WRITE == 0:
                    self.push()
                return True
        sent = self.send_now(payload, keep_open)
        if sent and self.corked:
            self.push()
        return sent

    def _may_gather(self, payload: bytes | Outbound) -> bool:
        # Large messages would only wait. Towards Node, one handle may be under way at a time.
        if isinstance(payload, bytes) or not payload.handles or self.duties is not None:
            return False
        return self._admissible(payload)

    def _end_streak(self) -> None:
        if self._streak > LONG_STREAK:
            self.push()
        self._streak = 0

    def _write_frame(self, frame: bytes) -> None:
        try:
            count = self._send(frame, _SEND_FLAGS)
        except OSError as exc:
            self.wire.unwritten(frame, 0)
            self._write_failed(exc)
            return
        if count < len(frame):
            self.wire.unwritten(frame, count)
            self.flush()

    def _admissible(self, payload: bytes | Outbound) -> bool:
        if self.senders or self.is_gone:
            return False
        return self.wire.can_send(_handles_in(payload))

    def _commit(self, payload: bytes | Outbound, keep_open: bool | None) -> None:
        if type(payload) is not Outbound:
            self.wire.commit(payload)
        else:
            handles = payload.handles
            if self.duties is None:
                tokens = _handles.take(handles, keep_open, self.ends)
            else:
                tokens = _handles.duplicate(handles, keep_open, self.ends)
                self.duties.begin(payload, tokens, keep_open)
            self.wire.commit(payload, tokens)
            self._resume_reading()

    def commit_first(self, payload: Outbound) -> None:
        """Commit what needs no credit: the call of a function child."""
        self._commit(payload, None)
        self.push()

    def cork(self) -> None:
        """What is committed from now on is written only at the end of this step of the event
        loop, together; without a background writer there is nobody who could."""
        if not self.corked and self.clear:
            self.corked = True
            self._wake_writer()

    def uncork(self) -> None:
        self.corked = False
        self._update_clear()

    def _update_clear(self) -> None:
        self.clear = (
            self.background is not None
            and not self.is_gone
            and not self.senders
            and not self.wire.peer_stopped
            and not self.wire.ended
        )
        if not self.clear:
            self.corked = False

    def _wake_writer(self) -> None:
        if self.background is not None:
            self.background.wake_writer()

    def end(self) -> None:
        """Nothing will be sent from here any more."""
        if not self.wire.ended:
            self.tell("no more is sent from here")
        self.wire.end()
        self._update_clear()
        self._complete_all(self.senders, self.send_error)
        self.push()

    def push(self) -> None:
        """Write what there is, unless the writer waits for room already."""
        if not self.blocked or self.background is None:
            self.flush()

    def flush(self, *, full_only: bool = False) -> bool:
        """Write until all is out or the kernel takes no more. True if nothing is left.

        With ``full_only``, what is still gathering is left.
        """
        wire = self.wire
        if self.is_gone or self.closed:
            return True
        if self._is_mute:
            self._abandon_output()
            return True
        while (chunk := wire.next_write(full_only=full_only)) is not None:
            buffers, tokens = chunk
            try:
                if tokens:
                    fds = array("i", [token.fd for token in tokens])
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
                    count = self._sock.sendmsg(buffers, rights, _SEND_FLAGS)
                elif len(buffers) == 1:
                    count = self._send(buffers[0], _SEND_FLAGS)
                else:
                    count = self._sock.sendmsg(buffers, (), _SEND_FLAGS)
            except OSError as exc:
                return self._write_failed(exc)
            wire.written(count)
        self.blocked = self._out_of_room = False
        self._pause = BACKOFF[0]
        if self._hungry is not None:
            self._resume_reading()
        if wire.ended and wire.hang_up():
            self._hang_up()
        if self.drainers and not wire.has_output():
            self._complete_all(self.drainers, lambda: None)
        return True

    def _hang_up(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            self._write_failed(exc)

    def _write_failed(self, exc: OSError) -> bool:
        if isinstance(exc, BlockingIOError) or exc.errno in _OUT_OF_ROOM:
            self._out_of_room = exc.errno in _OUT_OF_ROOM
            if not self.blocked:
                self.blocked = True
                if self.background is None:
                    self._wake_leader()  # who waits for the peer alone, and has to write, too
            self._wake_writer()
            return False
        # The peer's last words may still be in the socket: what ends here is only our writing. It
        # ends for good: a goodbye after what was lost would be taken for the end of all that was
        # sent, or for a part of the frame that was cut.
        self._abandon_output()
        self._is_mute = True
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the peer has gone, and needs not be told
        self.wire.peer_stopped = True
        self._update_clear()
        self._cause = exc
        self.blocked = False
        self._dismiss_senders()
        return True

    def admit(self, running: Waiter | None = None) -> None:
        """Commit for the tasks that wait to send, first come, first served."""
        if not self.senders:
            return
        if self.send_error() is not None:
            self._complete_all(self.senders, self.send_error)
            return
        admitted = False
        while self.senders and not self.is_gone:
            waiter = next(iter(self.senders))
            payload = waiter.payload
            if not self.wire.can_send(_handles_in(payload)):
                break
            if waiter is self._leader and waiter is not running:
                self._wake_leader()
                break
            del self.senders[waiter]
            try:
                self.wire.check_again(payload)
                self._commit(payload, waiter.keep_open)
            except Exception as exc:
                waiter.error = exc
            admitted = True
            self._complete(waiter)
        if admitted:
            self.push()

    def _abandon_output(self) -> None:
        self.wire.abandon_output()
        if self.duties is not None:
            self.duties.forget()

    # Waiting ------------------------------------------------------------------------------

    async def wait_send(
        self, owner: object, payload: bytes | Outbound, keep_open: bool | None
    ) -> None:
        """Wait until a message is committed. A checkpoint."""
        waiter = Waiter(owner)
        waiter.payload = payload
        waiter.keep_open = keep_open
        self.clear = self.corked = False
        self.push()  # what the peer takes of it brings credit
        try:
            await self.wait(waiter, self.senders)
        except BaseException:
            self.admit()  # who stood behind us may have room now
            raise
        finally:
            self._update_clear()

    async def wait_drained(self, owner: object) -> None:
        """Wait until the kernel has taken all that is committed. A checkpoint.

        Raises:
          trio.BrokenResourceError: it never will.
        """
        self.push()
        if self.wire.has_output() or self.is_gone:  # with what may have been lost
            await self.wait(Waiter(owner), self.drainers)
            return
        await trio.lowlevel.checkpoint()
        error = self.send_error() if self._is_mute else None
        if error is not None:  # just now, in this push
            raise error

    async def wait_answer(self, waiter: Waiter) -> None:
        """Wait until `complete_answer`. A checkpoint.

        Raises:
          trio.BrokenResourceError: the peer is gone.
        """
        await self.wait(waiter, self.unanswered)

    def complete_answer(self, waiter: Waiter) -> None:
        self.unanswered.pop(waiter, None)
        self._complete(waiter)

    def _park(self) -> Awaitable[None]:
        if self.wire.sated:
            return self._wait_until_hungry()
        if self.blocked and self.background is None:
            return self._wait_for_both()
        return trio.lowlevel.wait_readable(self._sock)  # noqa: ASYNC105

    async def wait_for_room(self) -> None:  # noqa: ASYNC910 (its wait was ended)
        """Wait until the kernel may take more."""
        if self._out_of_room:
            await trio.sleep(self._pause)
            self._pause = min(2 * self._pause, BACKOFF[1])
            return
        try:
            await trio.lowlevel.wait_writable(self._sock)
        except trio.ClosedResourceError:
            pass

    async def _wait_for_both(self) -> None:
        # Both sides may be writing, each waiting for the other to read.
        async def wait(ready: Callable[[], Awaitable[None]]) -> None:
            await ready()
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, self.wait_for_room)
                nursery.start_soon(wait, self.wait_readable)
        except BaseExceptionGroup as group:
            if group.subgroup(KeyboardInterrupt) is not None:
                raise KeyboardInterrupt from group
            await trio.lowlevel.checkpoint_if_cancelled()  # two Cancelled are one outside
            raise  # pragma: no cover (a wait for a socket raises nothing else)
        self.flush()


def _handles_in(payload: bytes | Outbound) -> int:
    return len(payload.handles) if type(payload) is Outbound else 0
