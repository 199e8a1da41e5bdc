"""From nothing to the first message of a child."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter

import trio_ipc

from ._first_message import send_one
from ._host import AsyncRun, Contestant, Run
from ._measure import Effort, Rival, contest
from ._result import Report, Unit, at_most

__all__ = ["measure"]

IMPORTS = "import trio, msgspec"


def measure(effort: Effort) -> Report:
    """From open_child to the first message of a function child"""
    rival = Rival(f'python -c "{IMPORTS}"', Contestant(imports, count=1), at_most(1.4))
    ours_once = Contestant(ours, count=1)
    return Report(contest("first message", ours_once, [rival], Unit("ms", 1e3), effort))


@asynccontextmanager
async def ours() -> AsyncIterator[AsyncRun]:
    async def run(count: int) -> float:
        return sum([await start_one() for _ in range(count)])

    async def start_one() -> float:
        start = perf_counter()
        async with trio_ipc.open_child(send_one, stdin=subprocess.DEVNULL) as child:
            await child.receive()
            return perf_counter() - start

    yield run


@contextmanager
def imports() -> Iterator[Run]:
    def run(count: int) -> float:
        start = perf_counter()
        for _ in range(count):
            subprocess.run([sys.executable, "-c", IMPORTS], stdin=subprocess.DEVNULL, check=True)
        return perf_counter() - start

    yield run
