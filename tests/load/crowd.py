"""Many children at once, who all talk, and who end in different ways at the same time."""

from __future__ import annotations

import random
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from typing import Any

import trio

import trio_ipc

from .talking import Conversation, open_kind

# Children that start at the same moment: more of them would only be in each other's way.
STARTING = 16


async def cause_end(child: trio_ipc.ChildChannel[Any, Any], end: str) -> None:
    """Make the child end in this way, and wait until it has."""
    if end == "killed":
        child.process.kill()
    elif end == "stopped and killed":
        child.process.send_signal(signal.SIGSTOP)
        child.process.kill()
    else:
        await child.send({"do": {"exits": "exit", "fails": "fail", "kills itself": "SIGKILL"}[end]})
    await child.process.wait()


def statuses_after(kind: str, end: str) -> tuple[int, ...]:
    """What the exit status may be."""
    if end == "cancelled":
        # A function child is cancelled by the signal, and says so. Any may have ended before, which
        # a program that finds its channel closed may do in its own way.
        return (143, -signal.SIGTERM, 0) if kind == "function" else (-signal.SIGTERM, 0, 1)
    if "kill" in end:
        return (-signal.SIGKILL,)
    return (1,) if end == "fails" else (0,)


def options_for(end: str) -> dict[str, Any]:
    """Who fails on purpose need not complain."""
    return {"stderr": subprocess.DEVNULL} if end in ("fails", "cancelled") else {}


class Crowd:
    """The children: they talk, meet, and end.

    Args:
      kinds: which kinds of children, by turns.
    """

    ENDS = ("closed", "exits", "killed", "fails", "cancelled")

    def __init__(self, kinds: Sequence[str], count: int, chance: random.Random) -> None:
        self._kinds = kinds
        self._count = count
        self._chance = chance
        self._starting = trio.Semaphore(STARTING)
        self._waiting = 0
        self._met = trio.Event()
        self.seen: Counter[str] = Counter()

    async def run(self, messages: int) -> None:
        """All of them talk at once, so many messages each, and then end at once.

        Raises:
          AssertionError: one has not said what it should, or not ended as it should.
        """
        async with trio.open_nursery() as nursery:
            for number in range(self._count):
                kind = self._kinds[number % len(self._kinds)]
                end = self.ENDS[number // len(self._kinds) % len(self.ENDS)]
                nursery.start_soon(self._live, kind, end, messages)
        assert sum(self.seen[end] for end in self.ENDS) == self._count

    async def _live(self, kind: str, end: str, messages: int) -> None:
        scope = trio.CancelScope()
        with scope:
            await self._starting.acquire()
            async with open_kind(kind, "send_back", check=False, **options_for(end)) as child:
                talk = Conversation(child, kind, handles=self._chance.choice([0, 10, 50]))
                await talk.exchange(1)
                self._starting.release()
                await self._meet()
                await talk.exchange(messages)
                await talk.compare_sums()
                await self._meet()
                if end == "cancelled":
                    scope.cancel()
                elif end != "closed":
                    await cause_end(child, end)
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught == (end == "cancelled")
        assert child.process.returncode in statuses_after(kind, end), (kind, end, child.process)
        self.seen += talk.seen
        self.seen[end] += 1

    async def _meet(self) -> None:
        """Wait until all of them are here."""
        met = self._met
        self._waiting += 1
        if self._waiting == self._count:
            self._waiting, self._met = 0, trio.Event()
            met.set()
        await met.wait()
