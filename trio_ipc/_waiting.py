"""Tasks that wait in calls of one channel, and which of them does the work for all.

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

Before it parks, a leader looks again after each of a few checkpoints: arming epoll and being woken
by it costs more than several of those. Where that does not pay, because the peer takes its time or
needs this very CPU, it notices, and does not look for a while. A peer that waits for this CPU is
let through first. `Patience` and `Turns` learn what pays.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import trio

from ._errors import closed_here

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# How often a leader looks again before it parks, and for how many waits it does not look at all,
# after that was in vain many times in a row.
LOOKS: Final = 12
MOST_SKIPS: Final = 127
# After so many waits that looking has shortened it asks the kernel how often it took the CPU from
# us meanwhile. A peer that gets its turn only then has been waiting for us to stop looking.
SAMPLE: Final = 16
MOST_PREEMPTIONS: Final = 2
# Seconds that a peer takes for an answer, if it gets its turn on this CPU when we offer ours. In
# less, nobody had a turn; in more, somebody did who is no such peer. For how many waits ours is
# kept then.
SHORTEST_TURN: Final = 0.000_005
LONGEST_TURN: Final = 0.000_2
FEW_KEPT: Final = 15
MANY_KEPT: Final = (31, 1023)

_RUSAGE_THREAD: Final = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)


class Waiter:
    """A task that waits in a call of the channel, and what it waits for."""

    # As class attributes, because most of them never change, and one is made for each message.
    task: trio.lowlevel.Task | None = None
    parked = False
    done = False
    payload: Any = None
    keep_open: bool | None = None
    value: Any = None
    error: BaseException | None = None

    def __init__(self, owner: object) -> None:
        self.owner = owner


Queue = OrderedDict[Waiter, None]


class Patience:
    """Learns whether looking again pays, or parking at once is better."""

    __slots__ = ("_backoff", "_found", "_preemptions", "prompt", "skips")

    def __init__(self) -> None:
        self._backoff = 0
        self.skips = 0
        # The last answer was there at the first look.
        self.prompt = False
        self._found = 0
        self._preemptions = 0

    def looks(self) -> int:
        """How often to look again in the wait that begins."""
        if self.skips:
            self.skips -= 1
            return 0
        return LOOKS

    def found(self) -> None:
        """Looking again has found something."""
        self._found += 1
        if self._found < SAMPLE:
            self._backoff = 0
            return
        self._found = 0
        before = self._preemptions
        self._preemptions = resource.getrusage(_RUSAGE_THREAD).ru_nivcsw
        if self._preemptions - before > MOST_PREEMPTIONS:
            self.skips = self._backoff = MOST_SKIPS

    def in_vain(self) -> None:
        """Nothing came while we looked."""
        self._backoff = min(2 * self._backoff + 1, MOST_SKIPS)
        self.skips = self._backoff // 2


class Turns:
    """Learns whether a peer waits for this very CPU, and answers if it is let through."""

    __slots__ = ("_keep", "_kept")

    def __init__(self) -> None:
        self._keep = self._kept = 0

    def offer(self) -> bool:
        """Let somebody else have a turn; False if nobody had one.

        It saves both ends of a channel the way through epoll. What is no peer may take the CPU for
        as long as the scheduler lets it, some milliseconds: see sched_yield(2).
        """
        if self._kept:
            self._kept -= 1
            return False
        before = time.perf_counter()
        os.sched_yield()
        turn = time.perf_counter() - before
        if turn > LONGEST_TURN:
            self._keep = min(max(2 * self._keep + 1, MANY_KEPT[0]), MANY_KEPT[1])
        elif turn > SHORTEST_TURN:
            self._keep //= 2
        elif self._keep < FEW_KEPT:
            self._keep += 1
        self._kept = self._keep
        return turn > SHORTEST_TURN


# All channels of a process share its CPU.
_turns: Final = Turns()


class Waiting:
    """The waiting half of a connection: who waits for what, and who leads."""

    def __init__(self) -> None:
        self.receivers: Queue = OrderedDict()
        self.senders: Queue = OrderedDict()
        self.drainers: Queue = OrderedDict()
        # Those who have sent a handle that the peer is to acknowledge.
        self.unanswered: Queue = OrderedDict()
        # There is nothing more to read: all that wait are followers, until they are told.
        self.is_gone = False
        # Whoever leads looks at least so often before it parks.
        self.least_looks = 0
        # The kernel takes no more for now.
        self.blocked = False
        # The background reader waits for the socket; who takes the lead has it step aside. Or it
        # waits for its turn to lead.
        self.reader_parked = False
        self.reader_in_line: trio.lowlevel.Task | None = None
        self._leader: Waiter | None = None
        self._leader_parked = False
        self._followers = 0
        self._patience = Patience()

    # What the connection does.

    def read(self) -> bool:
        """Read without waiting, and hand on what came; False if nothing did."""
        raise NotImplementedError

    def admit(self, running: Waiter | None = None) -> None:
        """Commit for the tasks that wait to send; ``running`` is the one that calls."""
        raise NotImplementedError

    def _park(self) -> Awaitable[None]:
        """Wait until there may be something to read.

        Raises:
          trio.ClosedResourceError: `_interrupt_park` was called.
        """
        raise NotImplementedError

    def _interrupt_park(self) -> None:
        raise NotImplementedError

    def _nobody_writes(self) -> None:
        """There is more to write than the kernel took, and nobody waits here any more."""
        raise NotImplementedError

    # Waiting ------------------------------------------------------------------------------

    def is_led(self) -> bool:
        """Whether a task that waits does the reading."""
        return self._leader is not None

    def busy(self) -> bool:
        """Whether any task is in a call of this channel."""
        return bool(self.receivers or self.senders or self.drainers)

    def glance(self) -> None:
        """Look once before waiting, if the answer may be there or the leader would park at once."""
        if self._leader is not None or self.receivers:
            return
        patience = self._patience
        if not (_turns.offer() or patience.skips or patience.prompt):
            return
        if not self.read():
            patience.prompt = False
        elif patience.skips:
            patience.skips -= 1

    async def wait(self, waiter: Waiter, queue: Queue) -> Any:
        """Wait in ``queue`` until the waiter is done. A checkpoint."""
        queue[waiter] = None
        looks = taken = 0
        try:
            while not waiter.done:
                if self._leader is not waiter:
                    if self._leader is not None or self.is_gone:
                        await self._follow(waiter, queue)
                        if self._leader is waiter:  # promoted, and there may be work already
                            self._lead(waiter)
                            looks, taken = 1, 0
                        continue
                    self._leader = waiter
                    if self.reader_parked:
                        self._interrupt_park()
                    looks, taken = self._patience.looks() or self.least_looks, 0
                elif self.is_gone:
                    self._leader = None
                elif taken < looks:
                    taken += 1
                    await trio.lowlevel.checkpoint()
                    if waiter.done or self._lead(waiter):
                        self._patience.found()
                        self._patience.prompt = taken == 1
                        taken = 0
                    elif taken == LOOKS:
                        self._patience.in_vain()
                elif await self._park_and_lead(waiter):
                    looks, taken = max(looks, 1), 0  # there may be more: park when there is none
        finally:
            queue.pop(waiter, None)
            if self._leader is waiter:
                self._leader = None
                if self._followers or self.reader_in_line is not None or self.blocked:
                    self._promote()
        if waiter.error is not None:
            raise waiter.error
        return waiter.value  # noqa: ASYNC910 (it was not done at first)

    async def _park_and_lead(self, leader: Waiter) -> bool:
        self._leader_parked = True
        try:
            await self._park()
        except trio.ClosedResourceError:
            pass  # somebody wants us to look around
        finally:
            self._leader_parked = False
        return self._lead(leader)

    def _lead(self, leader: Waiter) -> bool:
        progress = self.read()
        if self.senders:
            self.admit(leader)
        return progress

    async def _follow(self, waiter: Waiter, queue: Queue) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._unpark(waiter)
            queue.pop(waiter, None)
            return trio.lowlevel.Abort.SUCCEEDED

        waiter.task = trio.lowlevel.current_task()
        waiter.parked = True
        self._followers += 1
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _unpark(self, waiter: Waiter) -> None:
        waiter.parked = False
        self._followers -= 1

    def _reschedule(self, waiter: Waiter) -> None:
        assert waiter.task is not None
        self._unpark(waiter)
        trio.lowlevel.reschedule(waiter.task)

    def _promote(self) -> None:
        """The leader has left: the next one is whoever can use what it reads itself."""
        if self._followers and not self.is_gone:
            queues = self.receivers, self.unanswered, self.senders, self.drainers
            # Who waits without having led is parked.
            self._leader = next(waiter for queue in queues for waiter in queue)
            self._reschedule(self._leader)
            return
        if self.reader_in_line is not None:
            task, self.reader_in_line = self.reader_in_line, None
            trio.lowlevel.reschedule(task)
        if self.blocked:
            self._nobody_writes()

    def _wake_leader(self) -> None:
        if self._leader_parked:
            self._interrupt_park()

    # Being done -----------------------------------------------------------------------------

    def _complete(self, waiter: Waiter) -> None:
        waiter.done = True
        if waiter.parked:
            self._reschedule(waiter)
        elif self._leader_parked and waiter is self._leader:
            self._interrupt_park()

    def _complete_all(self, queue: Queue, error: Callable[[], BaseException | None]) -> None:
        while queue:
            waiter = queue.popitem(last=False)[0]
            waiter.error = error()
            self._complete(waiter)

    def close_waiters(self, owner: object) -> None:
        """The half that these tasks wait in is closed."""
        for queue in (self.receivers, self.senders, self.drainers):
            for waiter in [waiter for waiter in queue if waiter.owner is owner]:
                del queue[waiter]
                waiter.error = closed_here()
                self._complete(waiter)
