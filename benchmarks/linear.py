"""Whether twice as much costs twice as much, and not more."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import trio

import trio_ipc

from ._host import AsyncRun, Contestant, Host
from ._measure import Effort, Rival, contest
from ._messages import SMALL, payload
from ._result import Line, Report, Series, Unit, at_most

__all__ = ["measure_count", "measure_size"]

MIB = 2**20
SIZES = (1, 4, 16, 64, 256)
# What the largest is compared with: below, what does not depend on the size weighs too much.
REFERENCE = 16
FEW, MANY = 100, 100_000

Weights = dict[str, float]


# By size ----------------------------------------------------------------------------------------


def measure_size(effort: Effort) -> Report:
    """Time and memory of one message of up to 256 MiB"""
    samples: dict[int, list[Weights]] = {size: [] for size in SIZES}
    for _ in effort.rounds(quick=2, full=9):
        for size in SIZES:
            _back_memory(3 * size * MIB)
            # A fresh pair: neither memory that is there already nor a peak of before.
            with Host(Contestant(ours)) as host:
                samples[size].append(host.run(size * MIB))
    largest, reference = samples[SIZES[-1]], samples[REFERENCE]
    return Report(
        [
            Line(
                f"one message of {SIZES[-1]} MiB, time per MiB",
                "ms",
                [1000 * each["seconds"] / SIZES[-1] for each in largest],
                f"one of {REFERENCE} MiB",
                [1000 * each["seconds"] / REFERENCE for each in reference],
                at_most(1.5),
            ),
            Line(
                "the same, growth of both processes per MiB",
                "MiB",
                [_growth(each, SIZES[-1]) for each in largest],
                f"one of {REFERENCE} MiB",
                [_growth(each, REFERENCE) for each in reference],
                at_most(1.1),
            ),
        ],
        [_series(samples)],
    )


def _back_memory(size: int) -> None:
    """Have a virtual machine's host back its memory with some of its own.

    Where that was taken back, the first touch of it takes many times as long as any other; how
    often that happens depends on the size, but is none of our doing.
    """
    subprocess.run([sys.executable, "-c", f"b'x' * {size}"], check=True)


def _growth(weights: Weights, size: int) -> float:
    return (weights["sender"] + weights["receiver"]) / (size * MIB)


def _series(samples: dict[int, list[Weights]]) -> Series:
    rows = []
    for size, weights in samples.items():
        middle = {
            name: statistics.median(each[name] for each in weights)
            for name in ("seconds", "sender", "receiver")
        }
        rows.append(
            [
                f"{size} MiB",
                f"{middle['seconds']:.4f}",
                f"{size * MIB / middle['seconds'] / 1e9:.2f}",
                f"{middle['sender'] / (size * MIB):.2f}",
                f"{middle['receiver'] / (size * MIB):.2f}",
            ]
        )
    return Series(
        "One bytes message, the first large one of its processes",
        ["size", "seconds", "GB/s", "sender's growth / size", "receiver's growth / size"],
        rows,
    )


@asynccontextmanager
async def ours() -> AsyncIterator[Callable[[int], Awaitable[Weights]]]:
    async with trio_ipc.open_child(
        weigh, max_message_size=300 * MIB, stdin=subprocess.DEVNULL
    ) as child:

        async def run(size: int) -> Weights:
            message = payload(size)
            await child.send("a large one comes")
            await child.receive()
            before = _memory("VmRSS")
            start = perf_counter()
            await child.send(message)
            assert await child.receive() == size
            seconds = perf_counter() - start
            growth = _memory("VmHWM") - before
            return {"seconds": seconds, "sender": growth, "receiver": await child.receive()}

        yield run


async def weigh(parent: trio_ipc.Channel[Any, Any]) -> None:
    """Say how long each message is, and how much memory it took to receive it."""
    async for announcement in parent:
        before = _memory("VmRSS")
        await parent.send(announcement)
        await parent.send(len(await parent.receive()))
        await parent.send(_memory("VmHWM") - before)


def _memory(name: str) -> int:
    """The process's resident bytes: ``VmRSS`` now, ``VmHWM`` at most."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(name):
                return 1024 * int(line.split()[1])
    raise LookupError(name)


# By number --------------------------------------------------------------------------------------


def measure_count(effort: Effort) -> Report:
    """Small messages that wait in the channel, 100,000 and 100 of them"""
    rival = Rival(f"{FEW} queued", Contestant(queue, (FEW,), count=FEW * 50), at_most(1))
    many = Contestant(queue, (MANY,), count=MANY)
    unit = Unit("µs", 1e6)
    what = f"{MANY:,} queued, each sent and received"
    return Report(contest(what, many, [rival], unit, effort, generations=1))


@asynccontextmanager
async def queue(length: int) -> AsyncIterator[AsyncRun]:
    async with trio_ipc.open_child(
        empty, length, max_buffer_size=math.inf, stdin=subprocess.DEVNULL
    ) as child:

        async def run(count: int) -> float:
            return sum([await fill() for _ in range(count // length)])

        async def fill() -> float:
            await child.send("now")
            start = perf_counter()
            for _ in range(length):
                try:
                    child.send_nowait(SMALL)
                except trio.WouldBlock:
                    await child.send(SMALL)
            await child.send_channel.drain()
            seconds = perf_counter() - start
            emptied: float = await child.receive()
            return seconds + emptied

        yield run


async def empty(parent: trio_ipc.Channel[Any, Any], length: int) -> None:
    """Receive nothing until all is there, and then everything."""
    async for _ in parent:
        while parent.statistics().current_buffer_used < length:  # noqa: ASYNC110, no event tells
            await trio.sleep(0.0005)
        start = perf_counter()
        for _ in range(length):
            parent.receive_nowait()
        await parent.send(perf_counter() - start)
