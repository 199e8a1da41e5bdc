"""A small message there and back, one at a time."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter, sleep
from typing import Any

import trio

import trio_ipc

from ._host import AsyncRun, Contestant, Run
from ._measure import Effort, Rival, contest
from ._messages import SMALL, SMALL_BYTES
from ._peers import socket_peer
from ._result import Line, Report, Unit, at_most

__all__ = ["echo", "measure", "measure_apart", "measure_paused", "measure_pinned"]

MICROSECONDS = Unit("µs", 1e6)
# Reads that only have to hold one small message.
ENOUGH = 4096
# Seconds of silence: long enough for everything to have gone to sleep.
PAUSE = 0.02


def measure(effort: Effort) -> Report:
    """Awaited round trip of a small message"""
    return Report(_measure("round trip", None, effort))


def measure_apart(effort: Effort) -> Report:
    """The same with one CPU for each process: busy ones make the kernel put both on one"""
    return Report(_measure("round trip on two CPUs", 2, effort))


def _measure(what: str, cpus: int | None, effort: Effort) -> list[Line]:
    rivals = [
        Rival("trio.socket echo", Contestant(raw_trio, cpus=cpus), at_most(0.55)),
        Rival("blocking socketpair echo", Contestant(blocking, cpus=cpus), at_most(2)),
    ]
    return contest(what, Contestant(ours, cpus=cpus), rivals, MICROSECONDS, effort)


def measure_pinned(effort: Effort) -> Report:
    """The same with both processes on one CPU"""
    rival = Rival("trio.socket echo", Contestant(raw_trio, cpus=1), at_most(1))
    contestant = Contestant(ours, cpus=1)
    return Report(contest("round trip on one CPU", contestant, [rival], MICROSECONDS, effort))


def measure_paused(effort: Effort) -> Report:
    """A single round trip now and then"""
    rivals = [
        Rival("trio.socket echo", Contestant(raw_trio_paused, count=5)),
        Rival("blocking socketpair echo", Contestant(blocking_paused, count=5)),
    ]
    what = f"round trip after {1000 * PAUSE:g} ms of silence"
    return Report(contest(what, Contestant(ours_paused, count=5), rivals, MICROSECONDS, effort))


@asynccontextmanager
async def ours() -> AsyncIterator[AsyncRun]:
    async with trio_ipc.open_child(echo, stdin=subprocess.DEVNULL) as child:

        async def run(count: int) -> float:
            start = perf_counter()
            for _ in range(count):
                await child.send(SMALL)
                await child.receive()
            return perf_counter() - start

        yield run


async def echo(parent: trio_ipc.Channel[Any, Any]) -> None:
    async for message in parent:
        await parent.send(message)


@asynccontextmanager
async def raw_trio() -> AsyncIterator[AsyncRun]:
    with socket_peer(echo_trio) as end:
        sock = trio.socket.from_stdlib_socket(end)

        async def run(count: int) -> float:
            start = perf_counter()
            for _ in range(count):
                await sock.send(SMALL_BYTES)
                await sock.recv(ENOUGH)
            return perf_counter() - start

        yield run


def echo_trio(end: socket.socket) -> None:
    async def echo_async() -> None:
        sock = trio.socket.from_stdlib_socket(end)
        while data := await sock.recv(ENOUGH):
            await sock.send(data)

    trio.run(echo_async)


@contextmanager
def blocking() -> Iterator[Run]:
    with socket_peer(echo_blocking) as sock:

        def run(count: int) -> float:
            start = perf_counter()
            for _ in range(count):
                sock.send(SMALL_BYTES)
                sock.recv(ENOUGH)
            return perf_counter() - start

        yield run


def echo_blocking(sock: socket.socket) -> None:
    while data := sock.recv(ENOUGH):
        sock.send(data)


@asynccontextmanager
async def ours_paused() -> AsyncIterator[AsyncRun]:
    async with ours() as run:
        yield _with_pauses(run)


@asynccontextmanager
async def raw_trio_paused() -> AsyncIterator[AsyncRun]:
    async with raw_trio() as run:
        yield _with_pauses(run)


def _with_pauses(run_once: AsyncRun) -> AsyncRun:
    async def run(count: int) -> float:
        seconds = 0.0
        for _ in range(count):
            await trio.sleep(PAUSE)
            seconds += await run_once(1)
        return seconds

    return run


@contextmanager
def blocking_paused() -> Iterator[Run]:
    with blocking() as run_once:

        def run(count: int) -> float:
            seconds = 0.0
            for _ in range(count):
                sleep(PAUSE)
                seconds += run_once(1)
            return seconds

        yield run
