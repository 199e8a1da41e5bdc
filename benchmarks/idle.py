"""What a channel costs that nobody uses, but that was used just before."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import clock_gettime

import trio

import trio_ipc

from ._host import Contestant, Host
from ._measure import Effort
from ._messages import SMALL
from ._result import Line, Report, at_most
from .round_trip import echo

__all__ = ["measure"]


def measure(effort: Effort) -> Report:
    """CPU time that both processes use while nothing is sent"""
    seconds = 1 if effort.quick else 2
    # What the kernel's own accounting, as in top, can't tell from nothing: one tick.
    target = at_most(1000 / os.sysconf("SC_CLK_TCK"))
    waiting: list[float] = []
    sleeping: list[float] = []
    with Host(Contestant(ours)) as host:
        for _ in effort.rounds(quick=2, full=5):
            answer = host.run(seconds)
            waiting.append(answer["waiting"])
            sleeping.append(answer["sleeping"])
    return Report(
        [
            Line(f"CPU in {seconds} s, both ends in receive()", "ms", waiting, target=target),
            Line(f"CPU in {seconds} s, only the child in it", "ms", sleeping, target=target),
        ]
    )


@asynccontextmanager
async def ours() -> AsyncIterator[Callable[[int], Awaitable[dict[str, float]]]]:
    async with trio_ipc.open_child(echo, stdin=subprocess.DEVNULL) as child:

        async def run(seconds: int) -> dict[str, float]:
            pids = [os.getpid(), child.pid]
            for _ in range(1000):
                await child.send(SMALL)
                await child.receive()
            before = _cpu(pids)
            with trio.move_on_after(seconds):
                await child.receive()
            between = _cpu(pids)
            await trio.sleep(seconds)
            return {"waiting": between - before, "sleeping": _cpu(pids) - between}

        yield run


def _cpu(pids: list[int]) -> float:
    """Milliseconds of CPU that these processes have used, to the nanosecond."""
    # clock_getcpuclockid(3), which Python does not have, makes the number of the clock this way.
    return sum(1000 * clock_gettime((~pid << 3) | 2) for pid in pids)
