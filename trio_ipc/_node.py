"""A channel in Node's protocol, and what it has to do that a native one has not.

A peer acknowledges each handle, so `send` waits for that; and it may ask how many of its sockets
are open here, and want to be told when none is.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import trio

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

from . import _handles, _node_handles
from ._connection import handle_window
from ._errors import HandleNotDelivered
from ._log import LOGGER
from ._waiting import Waiter
from .wire.node import NodeWire
from .wire.node_json import JsonCodec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._connection import Connection
    from .wire import Limits, Outbound
    from .wire.node_sending import Answer
    from .wire.node_values import NodeCodec

# Seconds in which a peer acknowledges a handle. Deno never refuses one (denoland/deno#35968).
ANSWER_TIMEOUT: Final = 30.0
# The same for a peer that nothing is accepted from.
SHORT_ANSWER_TIMEOUT: Final = 2.0
# Seconds between looks at sockets that a peer waits for: nothing tells when an object is closed.
ACCOUNTING_INTERVAL: Final = 0.1


def make_node_wire(serialization: str, message_type: Any, limits: Limits) -> NodeWire:
    """Node's protocol, in one of its serializations.

    Raises:
      ImportError: of a package that the serialization needs.
    """
    codec: NodeCodec
    if serialization == "json":
        codec = JsonCodec(message_type, limits.max_message_size, _is_handle)
    else:
        from .wire.node_advanced import AdvancedCodec

        codec = AdvancedCodec(message_type, limits.max_message_size, _is_handle)
    return NodeWire(codec, _node_handles, limits, handle_window=handle_window())


def _is_handle(obj: Any) -> bool:
    # Of what can't travel at all, it raises the reason.
    return _node_handles.describe(obj) is not None


class Delivery:
    """A handle that was sent, and whose it is.

    Attributes:
      is_ours: the call that sent it has returned, so the library owns the object.
      is_done: the peer has answered.
      is_lost: it never will.
      error: what `send` is to raise; the object is still the caller's.
    """

    def __init__(
        self, payload: Outbound, tokens: list[Any], keep_open: bool | None, patience: float
    ) -> None:
        self._handles = payload.handles
        self._tokens = tokens
        self._keep_open = keep_open
        self.deadline = trio.current_time() + patience
        self.is_ours = False
        self.is_done = self.is_lost = False
        self.error: HandleNotDelivered | None = None
        self.waiter: Waiter | None = None

    def take_over(self) -> None:
        """The object is ours from now on."""
        if not self.is_ours:
            self.is_ours = True
            _handles.let_go(self._handles, self._tokens, self._keep_open)


class Duties:
    """What one connection in Node's protocol has to do."""

    def __init__(self, connection: Connection, wire: NodeWire) -> None:
        self._connection = connection
        self._wire = wire
        self._current: Delivery | None = None
        self._begun = trio.Event()
        self._asked = trio.Event()
        connection.duties = self

    @property
    def tasks(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """What runs in the background."""
        return self._watch_deadlines, self._watch_sockets

    # Acknowledgements -------------------------------------------------------------------------

    def begin(self, payload: Outbound, tokens: list[Any], keep_open: bool | None) -> None:
        """It is committed now, and its answer awaited."""
        patience = ANSWER_TIMEOUT if self._wire.limits.takes_handles else SHORT_ANSWER_TIMEOUT
        payload.delivery = self._current = Delivery(payload, tokens, keep_open, patience)
        self._begun.set()

    def follow_up(self) -> None:
        """Something has arrived that was meant for the library."""
        while self._wire.answers:
            self._settle(self._wire.answers.popleft())
        if self._wire.accounts.closing:
            self._asked.set()

    def _settle(self, answer: Answer) -> None:
        delivery: Delivery = answer.payload.delivery
        self._current = None
        delivery.is_done = True
        if answer.problem is None:
            delivery.take_over()
            answer.token.sent()
        else:
            answer.token.close()
            text = f"{self._connection.peer} did not take the handle: {answer.problem}"
            if delivery.is_ours:
                LOGGER.warning("%s; nobody waited for it", text)
            else:
                delivery.error = HandleNotDelivered(text)
        if delivery.waiter is not None:
            self._connection.complete_answer(delivery.waiter)

    def forget(self) -> None:
        """There is nobody left to answer."""
        if self._current is not None:
            self._current.is_lost = True
            if self._current.is_ours:
                LOGGER.warning("%s went away before it took a handle", self._connection.peer)
            self._current = None

    def leave_behind(self, payload: Any) -> None:
        """Nobody waits for what becomes of the handle of a message that is committed."""
        payload.delivery.take_over()

    async def wait(self, owner: object, payload: Any) -> None:  # noqa: ASYNC910
        """Wait until the peer has taken the handle of a message that is committed. A checkpoint.

        Neither a cancellation nor Ctrl-C can undo that: it ends the waiting only, and is left to
        the next checkpoint.

        Raises:
          HandleNotDelivered, trio.BrokenResourceError: and the handle is still the caller's.
        """
        delivery: Delivery = payload.delivery
        self._connection.glance()
        error = self._connection.send_error() if delivery.is_lost else None
        if delivery.is_done or error is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            delivery.waiter = Waiter(owner)
            try:
                await self._connection.wait_answer(delivery.waiter)
            except (trio.Cancelled, KeyboardInterrupt) as exc:
                if delivery.is_lost:
                    raise
                if not delivery.is_done:
                    delivery.take_over()
                if isinstance(exc, KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)  # Trio has it wait for the next checkpoint
        error = error or delivery.error
        if error is not None:
            raise error

    async def _watch_deadlines(self) -> None:
        while True:  # noqa: ASYNC913 (giving up leaves no deadline, or a later one)
            # Of the delivery no more than this: when it is settled, its handle is not held here.
            deadline = None if self._current is None else self._current.deadline
            if deadline is None:
                self._begun = trio.Event()
                await self._begun.wait()
            elif trio.current_time() < deadline:
                await trio.sleep_until(deadline)
            else:
                self._wire.give_up()
                self.follow_up()
                self._connection.push()
                self._connection.admit()

    # Accounting for sockets -------------------------------------------------------------------

    async def _watch_sockets(self) -> None:
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            while self._wire.accounts.closing:
                await trio.sleep(ACCOUNTING_INTERVAL)
                self._wire.settle_accounts()
                self._connection.push()
