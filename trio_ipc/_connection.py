"""One Unix socket, and everybody who waits for it.

Theory of operation
===================

There is no pump task between the user and the socket. *Whoever waits does the I/O*: of all tasks
that wait in a call of the channel, one is the **leader**. It alone reads the socket, hands each
message to the task that has waited longest, and when it leaves, promotes another. The others are
**followers**, parked in `trio.lowlevel.wait_task_rescheduled`. Three rules follow, and each of them
keeps a message from being lost when a task is cancelled:

* Only the leader reads while there is one, so nobody else can give it a message while it is away
  in a checkpoint.
* A follower gets its message and is rescheduled in one step; after that it can't be cancelled.
* A leader that waits to send commits its message itself, in its own step.

Before it parks, a leader tries again after each of a few checkpoints: arming epoll and being woken
by it costs more than four of those. Where that does not pay (both processes on one CPU, a peer that
takes its time) it notices, and stops trying for a while.

Inside `open_child` and `open_parent` two background tasks stand in when nobody waits: a writer for
what the kernel did not take at once, and a reader that takes the lead after `QUIET` without one, to
see the peer's end. Neither is on the way of a message between two processes that keep talking.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
import weakref
from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import trio

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

from . import _handles
from ._errors import InvalidMessage, ProtocolError
from .wire import Outbound

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .wire import Wire

__all__ = ["Connection", "Waiter"]

# Without MSG_NOSIGNAL, a write to a dead peer kills a process that has SIGPIPE at its default, as
# each child of subprocess has. MSG_CMSG_CLOEXEC is Linux's: elsewhere the flag is set afterwards.
_SEND_FLAGS: Final = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)
_RECEIVE_FLAGS: Final = socket.MSG_DONTWAIT | getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_SETS_CLOEXEC: Final = hasattr(socket, "MSG_CMSG_CLOEXEC")

# How often a leader looks again before it parks, and for how many waits it does not look at all
# after that has been in vain many times in a row.
SPINS = 5
MOST_SKIPS = 127
# Seconds without a reader after which the background reader takes the lead.
QUIET = 0.01
# Seconds that credit may wait for a frame that takes it along.
GRANT_DELAY = 0.001
# How much `send_nowait` gathers before it writes.
CORKED_SIZE = 32 * 1024
# Seconds between attempts when the kernel has no room for descriptors or buffers, which is not
# a thing one can wait for: the socket stays writable all the time (ETOOMANYREFS).
BACKOFF = (0.001, 0.064)
_OUT_OF_ROOM: Final = (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM)

_live: weakref.WeakSet[Connection] = weakref.WeakSet()


class Waiter:
    """A task that waits in a call of the channel, and what it waits for."""

    __slots__ = ("done", "error", "keep_open", "owner", "parked", "payload", "task", "value")

    def __init__(self, owner: object, payload: Any = None, keep_open: bool | None = None) -> None:
        self.owner = owner
        self.payload = payload
        self.keep_open = keep_open
        self.task = trio.lowlevel.current_task()
        self.parked = False
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None


class Connection:
    """One end of a channel: a socket, the protocol on it, and the tasks that wait for it.

    Args:
      sock: our end, owned from now on.
      wire: what is spoken on it.
      peer: how errors call the other side.
      ends: (device, inode) of the channel's own sockets, which may not travel through it.
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
        sock.setblocking(False)
        self._sock = sock
        self.wire = wire
        self.peer = peer
        self.scoped = scoped
        self.movable = False
        self.accept_handles(max_handles, ends)
        self._receivers: OrderedDict[Waiter, None] = OrderedDict()
        self._senders: OrderedDict[Waiter, None] = OrderedDict()
        self._drainers: OrderedDict[Waiter, None] = OrderedDict()
        self._leader: Waiter | None = None
        self._leader_runs = False
        self._leader_parked = False
        self._backoff = 0
        self._skips = 0
        self._reads = 0
        # The state of the socket.
        self.closed = False
        self.gone = trio.Event()
        self._is_gone = False
        self._cause: BaseException | None = None
        self._blame: str | None = None
        self._verdict = not scoped
        self._sinking = False
        self._blocked = False
        self._pause = BACKOFF[0]
        self._out_of_room = False
        # The background tasks, in a scope.
        self._writer: trio.lowlevel.Task | None = None
        self._writer_parked = False
        self._corked = False
        self._grants_scheduled = False
        self._reader_parked = False
        self._reader_in_line: trio.lowlevel.Task | None = None
        self.errors: weakref.WeakSet[BaseException] = weakref.WeakSet()
        _live.add(self)

    def accept_handles(self, max_handles: int, ends: frozenset[tuple[int, int]]) -> None:
        """How many may arrive with one message, and which sockets may never be sent."""
        self.ends = ends
        # One read never spans two sets of descriptors, and what does not fit is closed by the
        # kernel. CMSG_SPACE would have room for one more than asked: CVE-2014-3635.
        self._control_size = socket.CMSG_LEN(4 * max(1, max_handles))

    def __del__(self) -> None:
        if not getattr(self, "closed", True):
            import warnings

            warnings.warn(f"unclosed channel to {self.peer}", ResourceWarning, source=self)
            self._sock.close()
            self.wire.close()

    # What state it is in ------------------------------------------------------------------

    def receive_error(self) -> BaseException | None:
        """Why no message will ever come again; None while one may. Unread ones come first."""
        if self.closed and self._blame is None:
            return trio.ClosedResourceError()
        if self._blame is not None:
            return self._note(ProtocolError(self._blame))
        if self.wire.peer_ended:
            return trio.EndOfChannel()
        if self._is_gone and self._verdict:
            return self._broken(f"{self.peer} went away without closing its channel")
        return None

    def send_error(self) -> BaseException | None:
        """Why nothing can be sent any more; None while it can."""
        if self.closed and self._blame is None:
            return trio.ClosedResourceError()
        if self._blame is not None:
            return self._note(ProtocolError(self._blame))
        if self.wire.peer_stopped:
            return self._broken(f"{self.peer} receives no more messages")
        if self._is_gone and self._verdict:
            return self._broken(f"{self.peer} is gone")
        return None

    def _broken(self, text: str) -> BaseException:
        error = trio.BrokenResourceError(text)
        error.__cause__ = self._cause
        return self._note(error)

    def _note(self, error: BaseException) -> BaseException:
        # The scope tells a symptom of the child's failure from an exception of the user's own.
        self.errors.add(error)
        return error

    # Reading ------------------------------------------------------------------------------

    def read(self) -> bool:
        """Take one read's worth off the socket and hand it on. False if there was nothing.

        Not for a task that is not the leader while there is one.
        """
        if self._is_gone or self.closed:
            return False
        wire = self.wire
        try:
            count, control, flags, _ = self._sock.recvmsg_into(
                wire.buffers(), self._control_size, _RECEIVE_FLAGS
            )
        except BlockingIOError:
            return False
        except OSError as exc:
            self._lose(exc)
            return True
        self._reads += 1
        try:
            tokens = _own(control) if control else []
            if flags & socket.MSG_CTRUNC or (control and not tokens):
                for token in tokens:
                    token.close()
                raise ProtocolError("handles from the peer were lost: no room for descriptors?")
            if count:
                wire.received(count, tokens)
            else:
                self._lose(None)
                return True
        except ProtocolError as exc:
            self.fail(exc)
            return True
        self._dispatch()
        return True

    def _dispatch(self) -> None:
        wire = self.wire
        if self._sinking:
            self._sink_unread()
        if self._receivers:
            while self._receivers and wire.unread:
                self._give(self._receivers.popitem(last=False)[0])
            if self._receivers and wire.peer_ended:
                self._complete_all(self._receivers, self.receive_error)
        if self._senders:
            self._admit()

    def sink(self) -> None:
        """Nobody here will receive any more, but the peer may go on sending until it is done."""
        self._sinking = True
        self._sink_unread()

    def _sink_unread(self) -> None:
        wire = self.wire
        if not self._is_gone:
            wire.want(1)
        wire.skip_unread()
        if wire.grants_pending > 0:
            self._schedule_grants()

    async def read_until(self, ready: Callable[[], bool]) -> None:
        """Read until something has arrived: for a greeting, before anybody else uses this end.

        Raises:
          trio.BrokenResourceError: the peer went away first; `ProtocolError` as usual.
        """
        await trio.lowlevel.checkpoint()
        while not ready():
            if self._is_gone:
                raise self.receive_error() or self._broken(f"{self.peer} is gone")
            if not self.read():
                await trio.lowlevel.wait_readable(self._sock)

    def _give(self, waiter: Waiter) -> None:
        try:
            waiter.value = self.take()
        except Exception as exc:
            waiter.error = exc
        self._complete(waiter)

    def take(self) -> Any:
        """The next unread message; there is one. See `Wire.take`."""
        wire = self.wire
        try:
            return wire.take()
        except ProtocolError as exc:
            self.fail(exc)
            raise
        finally:
            if wire.grants_pending > 0 and not self._grants_scheduled:
                self._schedule_grants()
            elif wire.grants_pending >= wire.grant_at:
                self.grant()

    def _schedule_grants(self) -> None:
        # An answer that is written soon takes the credit along; failing that, the writer sends it.
        if self.wire.grants_pending >= self.wire.grant_at or self._writer is None:
            self.grant()
        else:
            self._grants_scheduled = True
            self._wake_writer()

    def grant(self) -> None:
        """Give the peer all the credit that is due, now."""
        if not self._is_gone and not self.closed:
            self.wire.flush_grants()
            self.push()

    def look(self) -> bool:
        """Take in what has arrived, unless tasks wait for it already. False if nothing did."""
        return self._leader is None and not self._receivers and self.read()

    def want(self) -> None:
        """A task begins to wait for a message."""
        self.wire.want(len(self._receivers))
        if self.wire.grants_pending > 0:
            self.grant()

    def _lose(self, cause: BaseException | None) -> None:
        """The socket has ended: what was complete stays, and nothing more will come."""
        self._is_gone = True
        self._cause = cause
        self._blocked = False
        try:
            if not self.wire.peer_ended:
                self.wire.received_eof()
        except ProtocolError as exc:
            self._blame = str(exc)
        self.wire.abandon_input()
        self.wire.abandon_output()
        self.gone.set()
        self._dispatch()
        self._settle_waiters()
        self._wake_writer()

    def fail(self, error: ProtocolError) -> None:
        """The peer broke the rules: the channel is dead, whatever waits in it is closed."""
        if self._blame is None:
            self._blame = str(error)
        self._is_gone = True
        self.gone.set()
        self.shut()

    def lose(self) -> None:
        """The peer is known to be gone, though something still holds its end open."""
        if not self._is_gone:
            self._lose(None)

    def settle(self, text: str | None = None) -> None:
        """The scope knows what became of the peer: let those go who wait for a dead one."""
        if text is not None:
            self.peer = text
        self._verdict = True
        if self._is_gone:
            self._settle_waiters()

    def _settle_waiters(self) -> None:
        if self.receive_error() is not None:
            self._complete_all(self._receivers, self.receive_error)
        if self.send_error() is not None:
            self._complete_all(self._senders, self.send_error)
            self._complete_all(self._drainers, self.send_error)

    # Writing ------------------------------------------------------------------------------

    def try_send(self, payload: bytes | Outbound, keep_open: bool | None) -> bool:
        """Commit one message if there is room for it; nothing has happened if there is not.

        Raises:
          trio.BrokenResourceError, UnsupportedHandle, OSError: and nothing has happened, either.
        """
        if self._writer is None or not self._admissible(payload):
            if self._leader is None:
                self.read()
        error = self.send_error()
        if error is not None:
            raise error
        if not self._admissible(payload):
            return False
        self._commit(payload, keep_open)
        return True

    def _admissible(self, payload: bytes | Outbound) -> bool:
        if self._senders or self._is_gone:
            return False
        return self.wire.can_send(0 if payload.__class__ is bytes else len(payload.handles))  # type: ignore[union-attr]

    def _commit(self, payload: bytes | Outbound, keep_open: bool | None) -> None:
        if payload.__class__ is bytes:
            self.wire.commit(payload)
        else:
            tokens = _handles.take(payload.handles, keep_open, self.ends)  # type: ignore[union-attr]
            self.wire.commit(payload, tokens)  # type: ignore[arg-type]

    def commit_first(self, payload: Outbound) -> None:
        """Commit what needs no credit: the call of a function child."""
        self._commit(payload, None)
        self.push()

    def push(self) -> None:
        """Write what there is, unless the writer waits for room already."""
        if not self._blocked or self._writer is None:
            self.flush()

    def cork(self) -> None:
        """Write what there is, but what is committed from now on only at the end of this step of
        the event loop, together; without a background writer there is nobody who could."""
        if self._corked:
            if self.wire.unsent > CORKED_SIZE:
                self.push()
            return
        self.push()
        if self._writer_parked:
            self._corked = True
            self._wake_writer()

    def flush(self) -> bool:
        """Write until all is out or the kernel takes no more. True if nothing is left."""
        wire = self.wire
        if self._is_gone or self.closed:
            return True
        while (chunk := wire.next_write()) is not None:
            buffers, tokens = chunk
            try:
                if tokens:
                    fds = array("i", [token.fd for token in tokens])  # type: ignore[attr-defined]
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
                    count = self._sock.sendmsg(buffers, rights, _SEND_FLAGS)
                elif len(buffers) == 1:
                    count = self._sock.send(buffers[0], _SEND_FLAGS)
                else:
                    count = self._sock.sendmsg(buffers, (), _SEND_FLAGS)
            except OSError as exc:
                return self._write_failed(exc)
            wire.written(count)
        self._blocked = self._out_of_room = False
        self._pause = BACKOFF[0]
        if self._drainers:
            self._complete_all(self._drainers, lambda: None)
        return True

    def _write_failed(self, exc: OSError) -> bool:
        if isinstance(exc, BlockingIOError) or exc.errno in _OUT_OF_ROOM:
            self._out_of_room = exc.errno in _OUT_OF_ROOM
            self._blocked = True
            self._wake_writer()
            return False
        # The peer's last words may still be in the socket: what ends here is only our writing.
        self.wire.abandon_output()
        self.wire.peer_stopped = True
        self._cause = exc
        self._blocked = False
        if self._senders:
            self._complete_all(self._senders, self.send_error)
        self._complete_all(self._drainers, self.send_error)
        return True

    def _admit(self) -> None:
        """Commit for the tasks that wait to send, first come, first served."""
        error = self.send_error()
        if error is not None:
            self._complete_all(self._senders, self.send_error)
            return
        admitted = False
        while self._senders:
            waiter = next(iter(self._senders))
            payload = waiter.payload
            if not self.wire.can_send(0 if payload.__class__ is bytes else len(payload.handles)):
                break
            if waiter is self._leader and not self._leader_runs:
                self._wake_leader()
                break
            del self._senders[waiter]
            try:
                self._commit(payload, waiter.keep_open)
            except Exception as exc:
                waiter.error = exc
            admitted = True
            self._complete(waiter)
        if admitted:
            self.push()

    # Waiting ------------------------------------------------------------------------------

    async def wait_receive(self, owner: object) -> Any:
        """Wait for a message. A checkpoint."""
        waiter = Waiter(owner)
        self._receivers[waiter] = None
        self.want()
        await self._wait(waiter, self._receivers)
        return waiter.value

    async def wait_send(
        self, owner: object, payload: bytes | Outbound, keep_open: bool | None
    ) -> None:
        """Wait until a message is committed. A checkpoint."""
        waiter = Waiter(owner, payload, keep_open)
        self._senders[waiter] = None
        try:
            await self._wait(waiter, self._senders)
        except BaseException:
            if self._senders:  # who stood behind us may have room now
                self._admit()
            raise

    async def wait_drained(self, owner: object) -> None:
        """Wait until the kernel has taken all that is committed. A checkpoint."""
        waiter = Waiter(owner)
        self._drainers[waiter] = None
        self.push()
        await self._wait(waiter, self._drainers)

    async def _wait(self, waiter: Waiter, queue: OrderedDict[Waiter, None]) -> None:
        try:
            if waiter.done:
                await trio.lowlevel.checkpoint()
            while not waiter.done:
                if self._leader is None and not self._is_gone:
                    await self._lead(waiter)
                else:
                    await self._follow(waiter, queue)
                    if self._leader is waiter:  # promoted
                        self._lead_step()
                        if not waiter.done:
                            await self._lead(waiter)
        finally:
            queue.pop(waiter, None)
            if self._leader is waiter:
                self._leader = None
                self._promote()
        if waiter.error is not None:
            raise waiter.error

    async def _follow(self, waiter: Waiter, queue: OrderedDict[Waiter, None]) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            waiter.parked = False
            queue.pop(waiter, None)
            return trio.lowlevel.Abort.SUCCEEDED

        waiter.parked = True
        await trio.lowlevel.wait_task_rescheduled(abort)

    async def _lead(self, waiter: Waiter) -> None:
        self._leader = waiter
        if self._reader_parked:
            trio.lowlevel.notify_closing(self._sock)
        if self._skips:
            self._skips -= 1
        elif await self._spin(waiter):
            return
        while not waiter.done and not self._is_gone:
            self._leader_parked = True
            try:
                await self._park()
            finally:
                self._leader_parked = False
            self._lead_step()
        if not waiter.done:
            self._leader = None

    async def _spin(self, waiter: Waiter) -> bool:
        for _ in range(SPINS):
            await trio.lowlevel.checkpoint()
            if waiter.done or self._lead_step():
                self._backoff = 0
                return waiter.done
        self._backoff = min(2 * self._backoff + 1, MOST_SKIPS)
        self._skips = self._backoff
        return False

    def _lead_step(self) -> bool:
        self._leader_runs = True
        try:
            if self._blocked and self._writer is None:
                self.flush()
            progress = self.read()
            if self._senders:
                self._admit()
            return progress
        finally:
            self._leader_runs = False

    async def _park(self) -> None:
        if self._blocked and self._writer is None:
            await self._park_both()
            return
        try:
            await trio.lowlevel.wait_readable(self._sock)
        except trio.ClosedResourceError:
            pass  # somebody wants us to look around

    async def _park_both(self) -> None:
        # Both sides may be writing, each waiting for the other to read: so wait for both.
        async def wait(ready: Callable[[], Awaitable[None]]) -> None:
            try:
                await ready()
            except trio.ClosedResourceError:
                pass
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, self.wait_for_room)
                nursery.start_soon(wait, self._wait_readable)
        except BaseExceptionGroup as group:
            interrupts = group.subgroup(KeyboardInterrupt)
            if interrupts is not None:
                raise KeyboardInterrupt from group
            raise

    async def _wait_readable(self) -> None:
        await trio.lowlevel.wait_readable(self._sock)

    async def wait_for_room(self) -> None:
        """Wait until the kernel may take more."""
        if self._out_of_room:
            await trio.sleep(self._pause)
            self._pause = min(2 * self._pause, BACKOFF[1])
        else:
            await trio.lowlevel.wait_writable(self._sock)

    def _wake_leader(self) -> None:
        if self._leader_parked:
            trio.lowlevel.notify_closing(self._sock)

    def _promote(self) -> None:
        for queue in (self._receivers, self._senders, self._drainers):
            for waiter in queue:
                if waiter.parked and not self._is_gone:
                    self._leader = waiter
                    waiter.parked = False
                    trio.lowlevel.reschedule(waiter.task)
                    return
                break
        if self._reader_in_line is not None:
            task, self._reader_in_line = self._reader_in_line, None
            trio.lowlevel.reschedule(task)

    def _complete(self, waiter: Waiter) -> None:
        waiter.done = True
        if waiter.parked:
            waiter.parked = False
            trio.lowlevel.reschedule(waiter.task)
        elif waiter is self._leader and not self._leader_runs:
            self._wake_leader()

    def _complete_all(
        self, queue: OrderedDict[Waiter, None], error: Callable[[], BaseException | None]
    ) -> None:
        while queue:
            waiter = queue.popitem(last=False)[0]
            waiter.error = error()
            self._complete(waiter)

    def close_waiters(self, owner: object) -> None:
        """The half that these tasks wait in is closed."""
        for queue in (self._receivers, self._senders, self._drainers):
            for waiter in [waiter for waiter in queue if waiter.owner is owner]:
                del queue[waiter]
                waiter.error = trio.ClosedResourceError()
                self._complete(waiter)

    def describe(self) -> str:
        """Who is at the other end, for people."""
        return f"{self.peer}, gone" if self._is_gone else self.peer

    def busy(self) -> bool:
        """Whether any task is in a call of this channel."""
        return bool(self._receivers or self._senders or self._drainers)

    def waiting(self) -> tuple[int, int]:
        """How many tasks wait to send, and to receive."""
        return len(self._senders), len(self._receivers)

    # The background, in a scope -----------------------------------------------------------

    async def write_in_background(self) -> None:
        """Write what the kernel did not take at once, what is corked, and credit that is due."""
        self._writer = trio.lowlevel.current_task()
        try:
            while not self.closed:
                self._corked = False
                if not self.flush():
                    await self._await_room()
                if self._senders:
                    self._admit()
                if self._blocked or self.closed:
                    continue
                if not await self._await_work(self._grants_scheduled):
                    self._grants_scheduled = False
                    if self.wire.grants_pending > 0:
                        self.grant()
        finally:
            self._writer = None
            self._corked = self._grants_scheduled = False

    async def _await_room(self) -> None:
        try:
            await self.wait_for_room()
        except trio.ClosedResourceError:
            pass

    async def _await_work(self, soon: bool) -> bool:
        """Park until there is work; False if nothing came before the credit was due."""
        deadline = trio.current_time() + GRANT_DELAY if soon else float("inf")
        with trio.CancelScope(deadline=deadline):

            def abort(_: object) -> trio.lowlevel.Abort:
                self._writer_parked = False
                return trio.lowlevel.Abort.SUCCEEDED

            self._writer_parked = True
            await trio.lowlevel.wait_task_rescheduled(abort)
            return True
        return False

    def _wake_writer(self) -> None:
        if self._writer_parked:
            assert self._writer is not None
            self._writer_parked = False
            trio.lowlevel.reschedule(self._writer)

    async def read_in_background(self) -> None:
        """Read while nobody else does: the peer's end must be seen, and its credit taken in."""
        while not self._is_gone:
            if self._leader is not None:
                await self._await_vacancy()
                continue
            seen = self._reads
            await trio.sleep(QUIET)
            if self._leader is not None or self._reads != seen or self._is_gone:
                continue
            self._reader_parked = True
            try:
                await self._park()
            finally:
                self._reader_parked = False
            if self._leader is None:
                self.read()

    async def _await_vacancy(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._reader_in_line = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._reader_in_line = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    # The end ------------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._sock.fileno()

    def shut(self) -> None:
        """Close the socket and all that is in it. Nobody waits without an answer."""
        if self.closed:
            return
        self.closed = True
        self._is_gone = True
        self.gone.set()
        _live.discard(self)
        self.wire.close()
        if self._sock.fileno() >= 0:
            try:
                trio.lowlevel.notify_closing(self._sock)
            except RuntimeError:
                pass  # outside of trio.run nobody can be waiting
            self._sock.close()
        self._wake_writer()
        self._complete_all(self._receivers, self.receive_error)
        self._complete_all(self._senders, self.send_error)
        self._complete_all(self._drainers, self.send_error)


def _own(control: list[tuple[int, int, bytes]]) -> list[Any]:
    """Give each received descriptor an owner; none at all if something else came along."""
    tokens: list[Any] = []
    foreign = False
    for level, kind, data in control:
        if level != socket.SOL_SOCKET or kind != socket.SCM_RIGHTS:
            foreign = True
            continue
        fds = array("i")
        fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        tokens += [_handles.Descriptor(fd) for fd in fds]
    if not _SETS_CLOEXEC:
        for token in tokens:
            os.set_inheritable(token.fd, False)
    if foreign:
        for token in tokens:
            token.close()
        return []
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
