"""One Unix socket, the protocol that is spoken on it, and the tasks that wait for it.

`Connection` stands on `Writing`, that on `State`, and that on `Waiting`: each knows only what is
below it. Here is how messages arrive, and the end.
"""

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

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

from . import _handles
from ._background import CREDIT_DELAY
from ._errors import ProtocolError
from ._waiting import Waiter
from ._writing import Writing
from .wire import HANDLE_WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .wire import Wire

# MSG_CMSG_CLOEXEC is Linux's: elsewhere the flag is set afterwards.
_RECEIVE_FLAGS: Final = int(socket.MSG_DONTWAIT) | int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))
_SETS_CLOEXEC: Final = hasattr(socket, "MSG_CMSG_CLOEXEC")
_TRUNCATED: Final = int(socket.MSG_CTRUNC)
# Linux 6.16, include/uapi/asm-generic/socket.h; not yet known to Python.
SO_PASSRIGHTS: Final = 83

# Reads, to empty a socket before it is closed. The kernel holds fewer messages with handles.
MOST_LEFT: Final = 1024

_live: weakref.WeakSet[Connection] = weakref.WeakSet()


class Connection(Writing):
    """One end of a channel.

    Args:
      sock: our end, owned from now on; closed if this raises.
      wire: what is spoken on it.
      peer: how errors call the other side.
      ends: (device, inode) of the channel's own sockets, which may not travel through it.
      scoped: a scope will say what became of the peer, and close this.

    Attributes:
      clear: nothing stands in the way of a message, except perhaps its want of credit.
      corked: what is committed is written at the end of this step of the event loop.
      blocked: the kernel takes no more for now.
      cut_off: we ended it, because the peer broke the rules.
      told: somebody has got the error that says so.
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
        scoped: bool = False,
    ) -> None:
        try:
            sock.setblocking(False)
            super().__init__(sock, wire, peer, scoped)
            if not wire.limits.takes_handles:
                _refuse_descriptors(sock)
        except BaseException:
            self.closed = True
            sock.close()
            raise
        self._recvmsg_into = sock.recvmsg_into
        self.reads = 0
        self.movable = False
        self.twin: weakref.ref[Connection] | None = None
        self.accept_handles(wire.limits.max_handles_taken, ends)
        self._sinking = False
        _live.add(self)

    def accept_handles(self, max_handles: int, ends: frozenset[tuple[int, int]]) -> None:
        """How many may arrive with one message, and which sockets may never be sent."""
        self.ends = ends
        # One read never spans two sets of descriptors, and what does not fit is closed by the
        # kernel. CMSG_SPACE would have room for one more than asked: CVE-2014-3635.
        self._control_size = socket.CMSG_LEN(4 * max(1, max_handles))

    def fileno(self) -> int:
        return self._sock.fileno()

    def __del__(self) -> None:
        if not getattr(self, "closed", True):
            # First of all close it: the warning may be an exception.
            self._sock.close()
            self.wire.close()
            warnings.warn(
                f"unclosed channel to {self.peer}", ResourceWarning, stacklevel=2, source=self
            )

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
            if not self.scoped:  # or there are last words that the peer still has to get
                self._complete_all(self.drainers, self.send_error)

    def _follow_up(self) -> None:
        assert self.duties is not None  # the native protocol answers nothing
        self.wire.must_push = False
        self.duties.follow_up()
        if self.wire.has_output() or self.wire.ended or self.drainers:
            self.push()

    def sink(self) -> None:
        """Nobody here will receive any more, but the peer may go on sending until it is done."""
        self._sinking = True
        self._sink_unread()

    def _sink_unread(self) -> None:
        wire = self.wire
        if not self.is_gone:
            wire.want(1)
        if wire.unread:
            self.dropped = True
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
            self.told = True
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
                self.background.work_within(CREDIT_DELAY)
        elif due > 0 and self.wire.needs_grant():
            self.grant()

    def grant(self) -> None:
        """Give the peer all the credit that is due, now."""
        if self.wire.grants_pending > 0 and not self.is_gone:
            self.wire.flush_grants()
            self.push()

    def has_input(self) -> bool:
        """Whether something can be read, the end included."""
        if self.is_gone:
            return False
        poll = select.poll()  # select() knows of the first 1024 descriptors only
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def look(self) -> bool:
        """Take in what has arrived, unless tasks wait for it already. False if nothing did."""
        return self._leader is None and not self.receivers and self.read()

    def take_all(self) -> None:
        """The peer is dead: read what it has left, however much is unread."""
        self.wire.take_all()
        self._resume_reading()

    def wait_receive(self, owner: object) -> Coroutine[Any, Any, Any]:
        """Wait for a message. A checkpoint."""
        self._end_streak()
        return self.wait(Waiter(owner), self.receivers)

    def want(self) -> None:
        """One more task begins to wait for a message."""
        self.wire.want(len(self.receivers) + 1)
        self.grant()

    # The end ------------------------------------------------------------------------------

    def _lose(self, cause: BaseException | None) -> None:
        """The socket has ended: what was complete stays, and nothing more will come."""
        self.tell("the peer's end is gone%s", "" if cause is None else f": {cause}")
        self.is_gone = True
        self._update_clear()
        self._cause = cause
        self.blocked = False
        try:
            # Of what has failed here, the peer is neither to be blamed, nor has it said goodbye.
            if not self.wire.peer_ended and (cause is None or isinstance(cause, ConnectionError)):
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
        self.tell("the peer broke the protocol: %s", error)
        if self._blame is None:
            self._blame = str(error)
        self.shut()

    def lose(self) -> None:
        """The peer is known to be gone, though something still holds its end open."""
        if not self.is_gone:
            self._lose(None)

    def shut(self, *, moved: bool = False) -> None:
        """Close the socket and all that is in it. Nobody waits without an answer.

        What is in it of a channel that has ``moved`` is its new owner's.
        """
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
        try:
            trio.lowlevel.notify_closing(self._sock)
        except RuntimeError:
            pass  # outside of trio.run nobody can be waiting
        if not moved:
            self._empty()
        self._sock.close()
        self._wake_hungry()
        self._wake_writer()
        self._complete_all(self.receivers, self.receive_error)
        self._dismiss_senders()
        self.tell("moved to another process" if moved else "closed")

    def _empty(self) -> None:
        # Handles that are left in the queue would be closed by the kernel, in our close(), and if
        # their sender has set SO_LINGER, that waits for as long as it likes.
        rest = [bytearray(65536)]
        for _ in range(MOST_LEFT):
            try:
                count, control, _, _ = self._sock.recvmsg_into(
                    rest, self._control_size, _RECEIVE_FLAGS
                )
            except OSError:
                return  # it is empty, or reset
            if not count:
                return
            for token in _descriptors(control):
                token.close()


def _refuse_descriptors(sock: socket.socket) -> None:
    # Not even into the queue, where they would count as ours and be closed by us (unix(7)).
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError as exc:
        if exc.errno not in (errno.ENOPROTOOPT, errno.EINVAL, errno.EOPNOTSUPP):
            raise  # what is older is refused when it is read


def _own(control: list[tuple[int, int, bytes]], flags: int, sent_again: bool) -> list[Any]:
    """Give each received descriptor an owner.

    With ``sent_again``, the peer can be asked to send it once more if there was no room for it.

    Raises:
      ProtocolError: some were lost, or something else came along; all are closed.
    """
    sound = not flags & _TRUNCATED or (sent_again and not control)
    for level, kind, _ in control:
        if level != socket.SOL_SOCKET or kind != socket.SCM_RIGHTS:
            sound = False
    tokens = _descriptors(control)
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


def _descriptors(control: list[tuple[int, int, bytes]]) -> list[_handles.Descriptor]:
    fds = array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return [_handles.Descriptor(fd) for fd in fds]


def socket_identity(sock: socket.socket) -> tuple[int, int]:
    """(device, inode): what tells an end of a socket pair, however often it is duplicated."""
    status = os.fstat(sock.fileno())
    return status.st_dev, status.st_ino


def handle_window() -> int:
    """How many handles may be under way in one channel."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return HANDLE_WINDOW
    return max(1, min(HANDLE_WINDOW, soft // 4))


def _close_after_fork() -> None:
    # A forked process that holds our end would keep the peer from seeing it close. Only the
    # descriptors: what is in them is the parent's affair.
    for connection in list(_live):
        connection.closed = True
        connection._sock.close()


os.register_at_fork(after_in_child=_close_after_fork)
