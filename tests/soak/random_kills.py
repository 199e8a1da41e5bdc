"""Children that are killed at random moments, while messages and handles flow."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import trio

from ..kills.flow import BARE, kill_at_random, send_back
from . import Run

AT_ONCE = 8
# So many children to a run of Trio.
BATCH = 200


def random_kills(run: Run) -> None:
    """10,000 bare children, each killed within 5 ms while messages and handles flow."""
    _run_children(run, BARE, run.cases(quick=BATCH, full=10_000))


def random_kills_trio(run: Run) -> None:
    """The same for 2,000 function children."""
    _run_children(run, send_back, run.cases(quick=20, full=2_000))


def _run_children(run: Run, target: Any, numbers: Iterator[int]) -> None:
    seed = run.random.random()
    while batch := [number for _, number in zip(range(BATCH), numbers, strict=False)]:
        trio.run(_run_batch, run, target, seed, iter(batch))


async def _run_batch(run: Run, target: Any, seed: float, numbers: Iterator[int]) -> None:
    async def work() -> None:
        for number in numbers:
            with run.case(f"child {number}"):
                seen = await kill_at_random(target, random.Random(f"{seed} {number}"))
                for name, count in seen.items():
                    run.figure(name, count)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(work)


SCENARIOS = {"random-kills": random_kills, "random-kills-trio": random_kills_trio}
