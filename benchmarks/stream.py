"""Many small messages in one direction."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

import trio

import trio_ipc

from ._host import AsyncRun, Contestant, Run
from ._measure import Effort, Rival, contest
from ._messages import SMALL
from ._peers import pipe_peer
from ._result import Report, Unit, at_least

__all__ = ["measure", "measure_awaited"]

THOUSANDS = Unit("k/s", 1e-3, rate=True)
# What open_child has unless told otherwise, and what a stream of _nowait calls is better off with.
USUAL_BUFFER = 1000
LARGE_BUFFER = 10_000


def measure(effort: Effort) -> Report:
    """Small messages streamed with send_nowait and receive_nowait"""
    rival = Rival("multiprocessing.Pipe", Contestant(pipe), at_least(5))
    what = f"nowait stream, max_buffer_size={LARGE_BUFFER}"
    return Report(contest(what, Contestant(ours), [rival], THOUSANDS, effort))


def measure_awaited(effort: Effort) -> Report:
    """Small messages streamed with await send() and await receive()"""
    rival = Rival("in-process memory channel", Contestant(memory), at_least(1.2))
    return Report(
        contest("stream, awaited one by one", Contestant(ours_awaited), [rival], THOUSANDS, effort)
    )


@asynccontextmanager
async def ours() -> AsyncIterator[AsyncRun]:
    async with trio_ipc.open_child(
        receive_all, max_buffer_size=LARGE_BUFFER, stdin=subprocess.DEVNULL
    ) as child:

        async def run(count: int) -> float:
            start = perf_counter()
            await child.send(count)
            for _ in range(count):
                try:
                    child.send_nowait(SMALL)
                except trio.WouldBlock:
                    await child.send(SMALL)
            await child.receive()
            return perf_counter() - start

        yield run


async def receive_all(parent: trio_ipc.Channel[Any, Any]) -> None:
    async for count in parent:
        left = count
        while left:
            await parent.receive()
            left -= 1
            try:
                while left:
                    parent.receive_nowait()
                    left -= 1
            except trio.WouldBlock:
                pass
        await parent.send(count)


@contextmanager
def pipe() -> Iterator[Run]:
    with pipe_peer(receive_from_pipe) as connection:

        def run(count: int) -> float:
            start = perf_counter()
            connection.send(count)
            for _ in range(count):
                connection.send(SMALL)
            connection.recv()
            return perf_counter() - start

        yield run


def receive_from_pipe(connection: Connection) -> None:
    while True:
        count = connection.recv()
        for _ in range(count):
            connection.recv()
        connection.send(count)


@asynccontextmanager
async def ours_awaited() -> AsyncIterator[AsyncRun]:
    async with trio_ipc.open_child(receive_each, stdin=subprocess.DEVNULL) as child:

        async def run(count: int) -> float:
            start = perf_counter()
            await child.send(count)
            for _ in range(count):
                await child.send(SMALL)
            await child.receive()
            return perf_counter() - start

        yield run


async def receive_each(parent: trio_ipc.Channel[Any, Any]) -> None:
    async for count in parent:
        for _ in range(count):
            await parent.receive()
        await parent.send(count)


@asynccontextmanager
async def memory() -> AsyncIterator[AsyncRun]:
    send_channel, receive_channel = trio.open_memory_channel[Any](USUAL_BUFFER)

    async def send(count: int) -> None:
        for _ in range(count):
            await send_channel.send(SMALL)

    async def receive(count: int) -> None:
        for _ in range(count):
            await receive_channel.receive()

    async def run(count: int) -> float:
        start = perf_counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, count)
            nursery.start_soon(receive, count)
        return perf_counter() - start

    with send_channel, receive_channel:
        yield run
