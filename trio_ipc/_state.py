"""What is known of one end of a channel: whether it goes on, and why not."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, cast

import trio

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

from ._errors import ProtocolError, closed_here
from ._log import say_nothing
from ._waiting import Waiting

if TYPE_CHECKING:
    import socket

    from ._background import Background
    from ._log import Tell
    from ._node import Duties
    from .wire import Wire


class State(Waiting):
    """What `Connection` stands on; the arguments and attributes are explained there."""

    def __init__(self, sock: socket.socket, wire: Wire, peer: str, scoped: bool) -> None:
        super().__init__()
        self._sock = sock
        self.wire = wire
        self.peer = peer
        self.scoped = scoped
        self.background: Background | None = None
        self.duties: Duties | None = None
        # Set when the socket is to be read again, while it is left alone.
        self._hungry: trio.Event | None = None
        # Told of what happens to this end, except for messages; see `_log`.
        self.tell: Tell = say_nothing
        self.closed = False
        self.cut_off = False
        # The scope is being left, and messages were lost by that: nobody gets what comes after.
        self.dropped = False
        self.gone = trio.Event()
        # Why it ended: an OSError, or what the peer did wrong. In a scope, the verdict on a peer
        # that went away without a goodbye waits until it is known how it ended.
        self._cause: BaseException | None = None
        self._blame: str | None = None
        self.told = False
        self._settled = not scoped
        self._errors: weakref.WeakSet[BaseException] = weakref.WeakSet()

    def receive_error(self) -> BaseException | None:
        """Why no message will ever come again; None while one may. Unread ones come first."""
        if self._blame is not None:
            return self._blamed(self._blame)
        if self.closed or self.dropped:
            return closed_here()
        if self.wire.peer_ended:
            return self._note(trio.EndOfChannel(f"{self.peer} will send no more messages"))
        if self.is_gone and self._settled:
            if not self.wire.greeted:
                return self._broken(
                    f"{self.peer} has never opened its channel: does it call open_parent()? A Node"
                    " program needs protocol='node'"
                )
            return self._broken(f"{self.peer} went away without closing its channel")
        return None

    def send_error(self) -> BaseException | None:
        """Why nothing can be sent any more; None while it can."""
        if self._blame is not None:
            return self._blamed(self._blame)
        if self.closed:
            return closed_here()
        if self.wire.ended:
            return closed_here()
        if self.wire.peer_stopped:
            return self._broken(f"{self.peer} receives no more messages")
        if self.is_gone and self._settled:
            return self._broken(f"{self.peer} is gone")
        return None

    def _blamed(self, text: str) -> BaseException:
        self.told = True
        return self._note(ProtocolError(text))

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

    def has_raised(self, error: BaseException, *, ends: bool = True) -> bool:
        """Whether this error is the peer's doing. So a scope tells a symptom of the child's
        failure from an exception of the user's own.

        With ``ends`` False, a mere `trio.EndOfChannel` does not count.
        """
        if isinstance(error, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", error)
            return all(self.has_raised(each, ends=ends) for each in group.exceptions)
        if isinstance(error, trio.EndOfChannel) and not ends:
            return False
        return any(each is error for each in self._errors)  # not each can be hashed

    def settle(self, text: str | None = None, cause: BaseException | None = None) -> None:
        """The scope knows what became of the peer: let those go who wait for a dead one."""
        if text is not None:
            self.peer = text
        if cause is not None:
            self._cause = cause
        self._settled = True
        if text is not None and self.tell is not say_nothing:
            self.tell("the verdict: %s", self._blame or self.receive_error())
        if self.is_gone and not self.closed:
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

    def describe(self) -> str:
        """Who is at the other end, for people."""
        peer = self.peer.rstrip(",")
        return f"{peer}, gone" if self.is_gone else peer

    # Parking --------------------------------------------------------------------------------

    def _resume_reading(self) -> None:
        if not self.wire.sated:
            self._wake_hungry()

    def _wake_hungry(self) -> None:
        if self._hungry is not None:
            self._hungry.set()
            self._hungry = None

    async def _wait_until_hungry(self) -> None:
        if self._hungry is None:
            self._hungry = trio.Event()
        await self._hungry.wait()

    def _interrupt_park(self) -> None:
        self._wake_hungry()
        trio.lowlevel.notify_closing(self._sock)

    async def wait_readable(self) -> None:  # noqa: ASYNC910 (its wait was ended)
        """Wait until there is something to read, or somebody wants us to look around."""
        if self.wire.sated:
            await self._wait_until_hungry()
            return
        try:
            await trio.lowlevel.wait_readable(self._sock)
        except trio.ClosedResourceError:
            pass
