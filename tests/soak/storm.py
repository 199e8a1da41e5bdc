"""Messages and handles in a storm: many tasks at both ends, half of whose calls are cancelled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable

import trio

from ..node_peers.raw import open_twins
from ..storm import storm_between, storm_in_pair, storm_with_child
from . import Run

# Messages of one round, those of both ends, those that are cancelled included.
ROUND = 20_000
QUICK_ROUND = 4_000
SIZES = (0, 1, 10, 1000, math.inf)
# Seconds that a round may take, on whatever machine; what takes longer hangs.
LIMIT = 300
# Bytes by which the memory may have grown since the first tenth: what a few rounds leave behind in
# the allocator, whose messages are of different sizes, and nothing for each message.
MOST_GROWTH = 8 * 1024 * 1024


def storm_pair(run: Run) -> None:
    """4,000,000 calls that send, half of them cancelled, between two ends in one process."""
    _run(run, _in_pair)


def storm_child(run: Run) -> None:
    """The same with one end in a child; 200 children."""
    _run(run, _with_child)


def storm_node(run: Run) -> None:
    """The same between two ends that speak Node's protocol."""
    _run(run, _as_node)


async def _in_pair(seed: str, count: int, size: float) -> Counter[str]:
    return await storm_in_pair(seed, count, max_buffer_size=size)


async def _with_child(seed: str, count: int, size: float) -> Counter[str]:
    return await storm_with_child(seed, count, max_buffer_size=size)


async def _as_node(seed: str, count: int, size: float) -> Counter[str]:
    async with open_twins(max_buffer_size=size) as (a, b):
        return await storm_between(a, b, seed, count, protocol="node")


def _run(run: Run, storm: Callable[[str, int, float], Awaitable[Counter[str]]]) -> None:
    async def main() -> None:
        first = run.random.randrange(2**32)
        for number in run.cases(quick=5, full=200):
            size = SIZES[number % len(SIZES)]
            with run.case(f"round {number}, max_buffer_size={size}"), trio.fail_after(LIMIT):
                count = QUICK_ROUND if run.quick else ROUND
                for name, value in (await storm(f"{first} {number}", count, size)).items():
                    run.figure(name, value)

    trio.run(main)
    run.check("memory", run.grown() < MOST_GROWTH, f"grown by {run.grown():,} bytes")


SCENARIOS = {"storm-pair": storm_pair, "storm-child": storm_child, "storm-node": storm_node}
