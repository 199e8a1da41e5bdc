"""The two background tasks of a connection in a scope.

Neither is on the way of a message between two processes that keep talking: the writer stands in
for what the kernel did not take at once, the reader for when nobody waits.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Final

import trio

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

from ._idle import Idle
from ._waiting import Patience

if TYPE_CHECKING:
    from ._connection import Connection

# Seconds without a reader after which the background reader takes the lead.
QUIET: Final = 0.01
# Seconds that a small message in a stream may wait for the next ones. One with handles waits until
# no task can send more, and at the longest for this, if the event loop is never idle.
GATHERING_DELAY: Final = 0.001
HANDLES_DELAY: Final = 0.01
# Seconds that credit may wait for a frame that takes it along. Nobody waits for it: whoever runs
# short of credit gets it at once. To send and to take in a grant costs more than a message.
CREDIT_DELAY: Final = 0.01


class Background:
    """What the tasks of one connection know of each other."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        connection.background = self
        self._writer: trio.lowlevel.Task | None = None
        # Seconds within which there is something to write.
        self._delay = math.inf
        self._idle: Idle | None = None
        self._patience = Patience()

    # The writer -----------------------------------------------------------------------------

    async def write(self) -> None:  # noqa: ASYNC910 (a task)
        """Write what the kernel did not take at once, what is corked, and credit that is due."""
        connection = self._connection
        try:
            while not connection.closed:
                connection.uncork()
                if not connection.flush() and not await self._look_for_room():
                    await connection.wait_for_room()
                connection.admit()
                if not connection.blocked and not await self._work_comes():
                    self._delay = math.inf
                    connection.grant()
        finally:
            connection.background = None
            connection.uncork()
            if self._idle is not None:
                self._idle.leave(connection.push)

    async def _look_for_room(self) -> bool:
        # The kernel says that there is room when three quarters of its buffer are free. Until
        # then, who looks can write while the peer reads, instead of taking turns with it.
        looks = self._patience.looks()
        for _ in range(looks):
            await trio.lowlevel.checkpoint()
            unsent = self._connection.wire.unsent
            if self._connection.flush() or self._connection.wire.unsent < unsent:
                self._patience.found()
                return True
        if looks:
            self._patience.in_vain()
        return False  # noqa: ASYNC910 (its caller waits)

    async def _work_comes(self) -> bool:
        """Park until `wake_writer`; False if that did not come before the time was up."""
        with trio.CancelScope(deadline=trio.current_time() + self._delay):

            def abort(_: object) -> trio.lowlevel.Abort:
                self._writer = None
                return trio.lowlevel.Abort.SUCCEEDED

            self._writer = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(abort)
            return True
        return False

    def wake_writer(self) -> None:
        if self._writer is not None:
            task, self._writer = self._writer, None
            trio.lowlevel.reschedule(task)

    def work_within(self, delay: float) -> None:
        """Credit is due, or a message gathered: write it, unless something takes it along."""
        if delay < self._delay:
            self._delay = delay
            self.wake_writer()

    def gather(self) -> None:
        """A message with handles waits for the next ones: write it when no task can send more.

        For small messages that would cost too much: each turn of the event loop asks.
        """
        self.work_within(HANDLES_DELAY)
        if self._idle is None:
            self._idle = Idle.of_this_run()
            self._idle.enter()
        self._idle.call(self._connection.push)

    # The reader -----------------------------------------------------------------------------

    async def read(self) -> None:  # noqa: ASYNC910 (a task)
        """Read while nobody else does: the peer's end must be seen, and its credit taken in.

        It keeps out of the way until nobody has read for `QUIET` seconds, because arming epoll
        for each message would double the cost of a short wait.
        """
        connection = self._connection
        seen = -1
        while not connection.gone.is_set():
            if connection.is_led():
                await self._wait_in_line()
            elif connection.reads != seen:
                seen = connection.reads
                await trio.sleep(QUIET)
            elif await self._take_turn():
                seen = connection.reads

    async def _take_turn(self) -> bool:
        """Wait for the socket and read what is there; False if somebody else leads by then."""
        connection = self._connection
        connection.reader_parked = True
        try:
            await connection.wait_readable()
        finally:
            connection.reader_parked = False
        while not connection.is_led():
            if not connection.read():
                return True
            await trio.lowlevel.checkpoint()
        return False

    async def _wait_in_line(self) -> None:
        connection = self._connection

        def abort(_: object) -> trio.lowlevel.Abort:
            connection.reader_in_line = None
            return trio.lowlevel.Abort.SUCCEEDED

        connection.reader_in_line = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)
