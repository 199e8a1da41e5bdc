"""Trio's memory channel: the same meanings within one process, with nothing to write or read."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import trio

from ..contestant import Maker, Running
from ..messages import SMALL

__all__ = ["WORKS"]

# What open_child has unless told otherwise.
USUAL_BUFFER = 1000


@asynccontextmanager
async def round_trip() -> AsyncIterator[Running]:
    there_send, there_receive = trio.open_memory_channel[Any](USUAL_BUFFER)
    back_send, back_receive = trio.open_memory_channel[Any](USUAL_BUFFER)

    async def echo() -> None:
        async for message in there_receive:
            await back_send.send(message)

    async def run(count: int) -> float:
        start = perf_counter()
        for _ in range(count):
            await there_send.send(SMALL)
            await back_receive.receive()
        return perf_counter() - start

    with there_receive, back_send, back_receive:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo)
            with there_send:
                yield Running(run)


@asynccontextmanager
async def stream() -> AsyncIterator[Running]:
    """With the calls that do not wait, and a turn of the event loop when the buffer is full."""
    send_channel, receive_channel = trio.open_memory_channel[Any](USUAL_BUFFER)

    async def send(count: int) -> None:
        for _ in range(count):
            try:
                send_channel.send_nowait(SMALL)
            except trio.WouldBlock:
                await send_channel.send(SMALL)

    async def receive(count: int) -> None:
        left = count
        while left:
            await receive_channel.receive()
            left -= 1
            try:
                while left:
                    receive_channel.receive_nowait()
                    left -= 1
            except trio.WouldBlock:
                pass

    with send_channel, receive_channel:
        yield Running(_both(send, receive))


@asynccontextmanager
async def stream_awaited() -> AsyncIterator[Running]:
    send_channel, receive_channel = trio.open_memory_channel[Any](USUAL_BUFFER)

    async def send(count: int) -> None:
        for _ in range(count):
            await send_channel.send(SMALL)

    async def receive(count: int) -> None:
        for _ in range(count):
            await receive_channel.receive()

    with send_channel, receive_channel:
        yield Running(_both(send, receive))


def _both(*tasks: Callable[[int], Awaitable[None]]) -> Callable[[int], Awaitable[float]]:
    async def run(count: int) -> float:
        start = perf_counter()
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(task, count)
        return perf_counter() - start

    return run


@asynccontextmanager
async def queue(length: int) -> AsyncIterator[Running]:
    """All are sent before the first is received."""
    send_channel, receive_channel = trio.open_memory_channel[Any](math.inf)

    async def run(count: int) -> float:
        times = -(-count // length)
        start = perf_counter()
        for _ in range(times):
            for _ in range(length):
                send_channel.send_nowait(SMALL.copy())  # what waits is not one object many times
            for _ in range(length):
                receive_channel.receive_nowait()
        return (perf_counter() - start) * count / (times * length)

    with send_channel, receive_channel:
        yield Running(run)


WORKS: dict[str, Maker] = {
    "round_trip": round_trip,
    "stream": stream,
    "stream_awaited": stream_awaited,
    "queue": queue,
}
