"""One Unix socket, the protocol that is spoken on it, and the tasks that wait for it."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import sys
import warnings
import weakref
from array import array
from typing import TYPE_CHECKING, Any, Final

import trio

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

from . import _handles
from ._errors import ProtocolError
from ._waiting import Waiter, Waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from ._background import Background
    from ._node import Duties
    from .wire import Outbound, Wire

__all__ = ["Connection", "handle_window"]

# Without MSG_NOSIGNAL, a write to a dead peer kills a process that has SIGPIPE at its default, as
# each child of subprocess has. MSG_CMSG_CLOEXEC is Linux's: elsewhere the flag is set afterwards.
_SEND_FLAGS: Final = int(socket.MSG_DONTWAIT) | int(getattr(socket, "MSG_NOSIGNAL", 0))
_RECEIVE_FLAGS: Final = int(socket.MSG_DONTWAIT) | int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))
_SETS_CLOEXEC: Final = hasattr(socket, "MSG_CMSG_CLOEXEC")
_TRUNCATED: Final = int(socket.MSG_CTRUNC)

# As much of it as the system allows (net.core.wmem_max): with less, two processes take turns with
# every piece of a large message.
SEND_BUFFER: Final = 1024 * 1024
# After so many awaited sends in one direction it is a stream, and so many of them share a write.
STREAM: Final = 16
GATHER: Final = 8
# Seconds between attempts when the kernel has no room for descriptors or buffers, which is not
# a thing one can wait for: the socket stays writable all the time (ETOOMANYREFS).
BACKOFF: Final = (0.001, 0.064)
_OUT_OF_ROOM: Final = (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM)

_live: weakref.WeakSet[Connection] = weakref.WeakSet()


class Connection(Waiting):
    """One end of a channel.

    Args:
      sock: our end, owned from now on.
      wire: what is spoken on it.
      peer: how errors call the other side.
      ends: (device, inode) of the channel's own sockets, which may not travel through it.
      max_handles: how many may arrive with one message.
      scoped: a scope will say what became of the peer, and close this.

    Attributes:
      clear: nothing stands in the way of a message, except perhaps its want of credit.
      corked: what is committed is written at the end of this step of the event loop.
      blocked: the kernel takes no more for now.
      cut_off: we ended it, because the peer broke the rules.
      gone: set when nothing more will come from the peer.
      background: the background tasks, while they run.
      movable: this end may travel to another process.
      twin: the other end, while both are in this process.
      duties: what Node's protocol asks for besides.
    """

    def __init__(
        self,
        sock: socket.socket,
        wire: Wire,
        *,
        peer: str,
        ends: frozenset[tuple[int, int]] = frozenset(),
        max_handles: int = 16,
        scoped: bool = False,
    ) -> None:
        super().__init__()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._sock = sock
        self._recvmsg_into = sock.recvmsg_into
        self._send = sock.send
        self.wire = wire
        self.reads = 0
        self.peer = peer
        self.scoped = scoped
        self.movable = False
        self.twin: weakref.ref[Connection] | None = None
        self.accept_handles(max_handles, ends)
        self.background: Background | None = None
        self.duties: Duties | None = None
        # Set when the socket is to be read again, while it is left alone.
        self._hungry: trio.Event | None = None
        self.clear = False
        self.corked = False
        # Awaited sends since a message came the other way.
        self._streak = 0
        self._out_of_room = False
        self._pause = BACKOFF[0]
        self._sinking = False
        self.closed = False
        self.cut_off = False
        self.gone = trio.Event()
        # Why it ended: an OSError, or what the peer did wrong. In a scope, the verdict on a peer
        # that went away without a goodbye waits until it is known how it ended.
        self._cause: BaseException | None = None
        self._blame: str | None = None
        self._settled = not scoped
        self._errors: weakref.WeakSet[BaseException] = weakref.WeakSet()
        _live.add(self)

    def accept_handles(self, max_handles: int, ends: frozenset[tuple[int, int]]) -> None:
        """How many may arrive with one message, and which sockets may never be sent."""
        self.ends = ends
        # One read never spans two sets of descriptors, and what does not fit is closed by the
        # kernel. CMSG_SPACE would have room for one more than asked: CVE-2014-3635.
        self._control_size = socket.CMSG_LEN(4 * max(1, max_handles))

    def __del__(self) -> None:
        if not getattr(self, "closed", True):
            # First of all close it: the warning may be an exception.
            self._sock.close()
            self.wire.close()
            warnings.warn(
                f"unclosed channel to {self.peer}", ResourceWarning, stacklevel=2, source=self
            )

    # What state it is in ------------------------------------------------------------------

    def receive_error(self) -> BaseException | None:
        """Why no message will ever come again; None while one may. Unread ones come first."""
        if self.closed and self._blame is None:
            return trio.ClosedResourceError()
        if self._blame is not None:
            return self._note(ProtocolError(self._blame))
        if self.wire.peer_ended:
            return self._note(trio.EndOfChannel())
        if self.is_gone and self._settled:
            return self._broken(f"{self.peer} went away without closing its channel")
        return None

    def send_error(self) -> BaseException | None:
        """Why nothing can be sent any more; None while it can."""
        if self.closed and self._blame is None:
            return trio.ClosedResourceError()
        if self._blame is not None:
            return self._note(ProtocolError(self._blame))
        if self.wire.ended:
            return trio.ClosedResourceError()
        if self.wire.peer_stopped:
            return self._broken(f"{self.peer} receives no more messages")
        if self.is_gone and self._settled:
            return self._broken(f"{self.peer} is gone")
        return None

    def _broken(self, text: str) -> BaseException:
        error = trio.BrokenResourceError(text)
        error.__cause__ = self._cause
        return self._note(error)

    def _note(self, error: BaseException) -> BaseException:
        self._errors.add(error)
        return error

    def is_lost(self) -> bool:
        """Whether the peer has closed its end, as far as is known, and not because of us."""
        return not self.cut_off and (self.is_gone or self._cause is not None)

    def has_raised(self, error: BaseException) -> bool:
        """Whether this error is the peer's doing. So a scope tells a symptom of the child's
        failure from an exception of the user's own."""
        if isinstance(error, BaseExceptionGroup):
            return all(map(self.has_raised, error.exceptions))
        return any(each is error for each in self._errors)  # not each can be hashed

    # Reading ------------------------------------------------------------------------------

    def read(self) -> bool:
        """Take one read's worth off the socket and hand it on. False if there was nothing.

        Not for a task that is not the leader while there is one.
        """
        wire = self.wire
        if self.is_gone or wire.sated:
            return False
        try:
            count, control, flags, _ = self._recvmsg_into(
                wire.buffers, self._control_size, _RECEIVE_FLAGS
            )
        except BlockingIOError:
            return self.twin is not None and self._read_after_twin()
        except OSError as exc:
            self._lose(exc)
            return True
        self.reads += 1
        try:
            if control or flags & _TRUNCATED:
                wire.received(count, _own(control, flags, self.duties is not None))
            elif count:
                wire.received(count)
            else:
                self._lose(None)
        except ProtocolError as exc:
            self.fail(exc)
        if not self.is_gone:
            self._dispatch()
        return True

    def _read_after_twin(self) -> bool:
        # The kernel takes a few hundred small messages at a time, and in a pair that nobody waits
        # in, only we know that the other end would have more to write.
        twin = None if self.twin is None else self.twin()
        if twin is None or twin.is_gone or not twin.wire.has_output():
            return False
        before = twin.wire.bytes_unsent()
        twin.flush()
        twin.admit()
        return twin.wire.bytes_unsent() < before and self.read()

    def _nobody_writes(self) -> None:
        twin = None if self.twin is None else self.twin()
        if twin is not None and twin._leader_parked:
            twin._interrupt_park()  # it looks again, and has us write: see `_read_after_twin`

    def _dispatch(self) -> None:
        wire = self.wire
        if wire.must_push:
            self._follow_up()
        if wire.unread:
            self._end_streak()
        if self.receivers:
            while wire.unread and self.receivers:
                waiter, _ = self.receivers.popitem(last=False)
                try:
                    waiter.value = self.take()
                except Exception as exc:
                    waiter.error = exc
                self._complete(waiter)
            if wire.peer_ended and self.receivers:
                self._complete_all(self.receivers, self.receive_error)
        elif self._sinking:
            self._sink_unread()
        elif wire.starving:
            self._give_credit()
        if self.senders:
            self.admit()
        if wire.peer_stopped:
            self._update_clear()

    def _follow_up(self) -> None:
        self.wire.must_push = False
        if self.duties is not None:
            self.duties.follow_up()
        self.push()

    def sink(self) -> None:
        """Nobody here will receive any more, but the peer may go on sending until it is done."""
        self._sinking = True
        self._sink_unread()

    def _sink_unread(self) -> None:
        wire = self.wire
        if not self.is_gone:
            wire.want(1)
        wire.skip_unread()
        self._resume_reading()
        self._give_credit()

    async def read_until(self, ready: Callable[[], bool]) -> None:
        """Read until something has arrived: for a greeting, before anybody else uses this end.

        Raises:
          trio.BrokenResourceError: the peer went away first; `ProtocolError` as usual.
        """
        await trio.lowlevel.checkpoint()
        while not ready():
            if self.is_gone:
                raise self.receive_error() or self._broken(f"{self.peer} is gone")
            if not self.read():
                await self.wait_readable()

    def take(self) -> Any:
        """The next unread message; there is one. See `Wire.take`."""
        wire = self.wire
        try:
            return wire.take()
        except ProtocolError as exc:
            self.fail(exc)
            raise
        finally:
            # An answer that is written soon takes the credit along, and a peer that has plenty
            # left can wait for that.
            if wire.starving or wire.grants_pending >= wire.grant_at or self.background is None:
                self._give_credit()
            if self._hungry is not None:
                self._resume_reading()

    def _give_credit(self) -> None:
        due = self.wire.grants_pending
        if due >= self.wire.grant_at:
            self.grant()
        elif self.background is not None:
            if due > 0:
                self.background.work_soon()
        elif due > 0 and self.wire.needs_grant():
            self.grant()

    def grant(self) -> None:
        """Give the peer all the credit that is due, now."""
        if self.wire.grants_pending > 0 and not self.is_gone:
            self.wire.flush_grants()
            self.push()

    def has_input(self) -> bool:
        """Whether something can be read, the end included."""
        return not self.is_gone and bool(select.select([self._sock], [], [], 0)[0])

    def look(self) -> bool:
        """Take in what has arrived, unless tasks wait for it already. False if nothing did."""
        return self._leader is None and not self.receivers and self.read()

    def take_all(self) -> None:
        """The peer is dead: read what it has left, however much is unread."""
        self.wire.take_all()
        self._resume_reading()

    def _resume_reading(self) -> None:
        if self._hungry is not None and not self.wire.sated:
            self._hungry.set()
            self._hungry = None

    async def _wait_until_hungry(self) -> None:
        if self._hungry is None:
            self._hungry = trio.Event()
        await self._hungry.wait()

    def _lose(self, cause: BaseException | None) -> None:
        """The socket has ended: what was complete stays, and nothing more will come."""
        self.is_gone = True
        self._update_clear()
        self._cause = cause
        self.blocked = False
        try:
            if not self.wire.peer_ended:
                self.wire.received_eof()
        except ProtocolError as exc:
            self._blame = str(exc)
        self.wire.abandon_input()
        self._abandon_output()
        self.gone.set()
        self._dispatch()
        self._settle_waiters()
        self._wake_writer()

    def fail(self, error: ProtocolError) -> None:
        """The peer broke the rules: the channel is dead, whatever waits in it is closed."""
        self.cut_off = True
        if self._blame is None:
            self._blame = str(error)
        self.shut()

    def lose(self) -> None:
        """The peer is known to be gone, though something still holds its end open."""
        if not self.is_gone:
            self._lose(None)

    def settle(self, text: str | None = None, cause: BaseException | None = None) -> None:
        """The scope knows what became of the peer: let those go who wait for a dead one."""
        if text is not None:
            self.peer = text
        if cause is not None:
            self._cause = cause
        self._settled = True
        if self.is_gone:
            self._settle_waiters()

    def _settle_waiters(self) -> None:
        if self.receive_error() is not None:
            self._complete_all(self.receivers, self.receive_error)
        if self.send_error() is not None:
            self._dismiss_senders()

    def _dismiss_senders(self) -> None:
        self._complete_all(self.senders, self.send_error)
        self._complete_all(self.unanswered, self.send_error)
        self._complete_all(self.drainers, self.send_error)

    def _abandon_output(self) -> None:
        self.wire.abandon_output()
        if self.duties is not None:
            self.duties.forget()

    # Writing ------------------------------------------------------------------------------

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
        if self._leader is None and (self.background is None or not self._admissible(payload)):
            self.read()  # credit, or the end, may have arrived
        error = self.send_error()
        if error is not None:
            raise error
        if not self._admissible(payload):
            return False
        self._commit(payload, keep_open)
        if not self.corked:
            self.push()
        elif self.wire.unsent and not self.blocked:
            self.flush(full_only=True)
        return True

    def send_soon(self, payload: bytes | Outbound, keep_open: bool | None) -> bool:
        """Like `send_now`, but in a stream that goes only one way, one write serves several.

        What is gathered leaves with the next few messages, before any task waits here, and at
        the latest when the background writer's credit timer runs out.
        """
        self._streak += 1
        if self._streak > STREAM and self.clear and self.wire.commit_small(payload):
            if self._streak % GATHER == 0 or self.background is None:
                self.push()
            else:
                self.background.work_soon()
            return True
        sent = self.send_now(payload, keep_open)
        if sent and self.corked:
            self.push()
        return sent

    def _end_streak(self) -> None:
        if self._streak > STREAM:
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
        return self.wire.can_send(0 if payload.__class__ is bytes else len(payload.handles))  # type: ignore[union-attr]

    def _commit(self, payload: bytes | Outbound, keep_open: bool | None) -> None:
        if payload.__class__ is bytes:
            self.wire.commit(payload)
        else:
            handles = payload.handles  # type: ignore[union-attr]
            tokens = _handles.duplicate(handles, keep_open, self.ends)
            if self.duties is None:
                _handles.let_go(handles, tokens, keep_open)
            else:
                self.duties.begin(payload, tokens, keep_open)  # type: ignore[arg-type]
            self.wire.commit(payload, tokens)  # type: ignore[arg-type]
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
        while (chunk := wire.next_write(full_only=full_only)) is not None:
            buffers, tokens = chunk
            try:
                if tokens:
                    fds = array("i", [token.fd for token in tokens])  # type: ignore[attr-defined]
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
            self.blocked = True
            self._wake_writer()
            return False
        # The peer's last words may still be in the socket: what ends here is only our writing.
        self._abandon_output()
        self.wire.peer_stopped = True
        self._update_clear()
        self._cause = exc
        self.blocked = False
        self._dismiss_senders()
        return True

    def admit(self, running: Waiter | None = None) -> None:
        """Commit for the tasks that wait to send, first come, first served."""
        error = self.send_error()
        if error is not None:
            self._complete_all(self.senders, self.send_error)
            return
        admitted = False
        while self.senders:
            waiter = next(iter(self.senders))
            payload = waiter.payload
            if not self.wire.can_send(0 if payload.__class__ is bytes else len(payload.handles)):
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

    # Looking at it ------------------------------------------------------------------------

    def is_led(self) -> bool:
        """Whether a task that waits does the reading."""
        return self._leader is not None

    def busy(self) -> bool:
        """Whether any task is in a call of this channel."""
        return bool(self.receivers or self.senders or self.drainers)

    def describe(self) -> str:
        """Who is at the other end, for people."""
        peer = self.peer.rstrip(",")
        return f"{peer}, gone" if self.is_gone else peer

    # Waiting ------------------------------------------------------------------------------

    def wait_receive(self, owner: object) -> Coroutine[Any, Any, Any]:
        """Wait for a message. A checkpoint."""
        self._end_streak()
        return self.wait(Waiter(owner), self.receivers)

    def want(self) -> None:
        """One more task begins to wait for a message."""
        self.wire.want(len(self.receivers) + 1)
        self.grant()

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
        """Wait until the kernel has taken all that is committed. A checkpoint."""
        self.push()
        if self.wire.has_output():
            await self.wait(Waiter(owner), self.drainers)
        else:
            await trio.lowlevel.checkpoint()

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

    def _interrupt_park(self) -> None:
        if self._hungry is not None:
            self._hungry.set()
            self._hungry = None
        trio.lowlevel.notify_closing(self._sock)

    async def wait_readable(self) -> None:
        """Wait until there is something to read, or somebody wants us to look around."""
        if self.wire.sated:
            await self._wait_until_hungry()
            return
        try:
            await trio.lowlevel.wait_readable(self._sock)
        except trio.ClosedResourceError:
            pass

    async def wait_for_room(self) -> None:
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
            if group.subgroup(KeyboardInterrupt) is None:
                raise
            raise KeyboardInterrupt from group
        self.flush()

    # The end ------------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._sock.fileno()

    def shut(self) -> None:
        """Close the socket and all that is in it. Nobody waits without an answer."""
        if self.closed:
            return
        self.closed = True
        self.is_gone = True
        self._update_clear()
        self.gone.set()
        _live.discard(self)
        self.wire.close()
        if self.duties is not None:
            self.duties.forget()
        if self._sock.fileno() >= 0:
            try:
                trio.lowlevel.notify_closing(self._sock)
            except RuntimeError:
                pass  # outside of trio.run nobody can be waiting
            self._sock.close()
        if self._hungry is not None:
            self._hungry.set()
            self._hungry = None
        self._wake_writer()
        self._complete_all(self.receivers, self.receive_error)
        self._dismiss_senders()


def _own(control: list[tuple[int, int, bytes]], flags: int, sent_again: bool) -> list[Any]:
    """Give each received descriptor an owner.

    With ``sent_again``, the peer can be asked to send it once more if there was no room for it.

    Raises:
      ProtocolError: some were lost, or something else came along; all are closed.
    """
    tokens: list[Any] = []
    sound = not flags & _TRUNCATED or (sent_again and not control)
    for level, kind, data in control:
        if level != socket.SOL_SOCKET or kind != socket.SCM_RIGHTS:
            sound = False
            continue
        fds = array("i")
        fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        tokens += [_handles.Descriptor(fd) for fd in fds]
    if not _SETS_CLOEXEC:
        for token in tokens:
            os.set_inheritable(token.fd, False)
    if not sound:
        for token in tokens:
            token.close()
        raise ProtocolError(
            "handles from the peer were lost on the way in: is the descriptor table full?"
        )
    return tokens


def handle_window() -> int:
    """How many handles may be under way in one channel."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 256 if soft == resource.RLIM_INFINITY else max(1, min(256, soft // 4))


def _close_after_fork() -> None:
    # A forked process that holds our end would keep the peer from seeing it close. Only the
    # descriptors: what is in them is the parent's affair.
    for connection in list(_live):
        connection.closed = True
        connection._sock.close()


os.register_at_fork(after_in_child=_close_after_fork)
