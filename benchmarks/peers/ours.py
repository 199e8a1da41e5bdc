"""trio_ipc, as the parent: of a function child, or in the place of a Node parent.

The child's side of each work stands under the same name in ours_child.py, and in
javascript/child.js.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any

import trio

import trio_ipc

from ..contestant import Maker, Running
from ..messages import SMALL, payload as make_payload
from . import ours_child
from .ours_child import send_nowait
from .ours_first_message import first_message
from .tcp import tcp_pairs

__all__ = ["WORKS"]

AnyChannel = trio_ipc.Channel[Any, Any]
AnyChild = trio_ipc.ChildChannel[Any, Any]

NODE_CHILD = Path(__file__).parent / "javascript" / "child.js"
# What a stream of _nowait calls is better off with than with the usual 1000.
STREAM_BUFFER = 10_000
LARGEST = 256 * 2**20


def _open(
    work: str, *args: object, node: bool = False, **options: Any
) -> AbstractAsyncContextManager[AnyChild]:
    if node:
        return trio_ipc.open_child(NODE_CHILD, work, stdin=subprocess.DEVNULL)
    function = getattr(ours_child, work)
    return trio_ipc.open_child(function, *args, stdin=subprocess.DEVNULL, **options)


# What the parent does with one child ------------------------------------------------------------


async def round_trip(child: AnyChannel, count: int) -> None:
    for _ in range(count):
        await child.send(SMALL)
        await child.receive()


async def stream(child: AnyChannel, count: int) -> None:
    await child.send(count)
    await send_nowait(child, SMALL, count)
    await child.receive()


async def stream_awaited(child: AnyChannel, count: int, message: object = SMALL) -> None:
    await child.send(count)
    for _ in range(count):
        await child.send(message)
    await child.receive()


async def stream_back(child: AnyChannel, count: int) -> None:
    await child.send({"count": count, "message": SMALL})
    await ours_child.receive_nowait(child, count)


Work = Callable[[AnyChannel, int], Awaitable[None]]


@asynccontextmanager
async def _pair(work: Work, child_work: str, **options: Any) -> AsyncIterator[Running]:
    async with _open(child_work, **options) as child:

        async def run(count: int) -> float:
            start = perf_counter()
            await work(child, count)
            return perf_counter() - start

        yield Running(run, [child.pid])


# With what has to be prepared -------------------------------------------------------------------


def payload(size: int) -> AbstractAsyncContextManager[Running]:
    """Every one is answered with its length."""
    message = make_payload(size)

    async def ask(child: AnyChannel, count: int) -> None:
        for _ in range(count or 1):
            await child.send(message if count else b"")
            await child.receive()

    return _pair(ask, "payload", max_message_size=LARGEST)


def payload_stream(size: int) -> AbstractAsyncContextManager[Running]:
    """One after the other, and one answer at the end."""
    work = partial(stream_awaited, message=make_payload(size))
    return _pair(work, "stream_awaited", max_message_size=LARGEST)


@asynccontextmanager
async def handles(node: bool = False) -> AsyncIterator[Running]:
    async with _open("handles", node=node) as child:

        async def run(count: int) -> float:
            with tcp_pairs(count) as sockets:
                streams = ours_child.as_streams(sockets)
                start = perf_counter()
                await child.send(count)
                if node:
                    await ours_child.send_handles(child, streams)
                else:
                    await _send_handles_nowait(child, streams)
                await child.receive()
                return perf_counter() - start

        yield Running(run, [child.pid])


async def _send_handles_nowait(child: AnyChannel, streams: Iterable[trio.SocketStream]) -> None:
    for stream in streams:
        try:
            child.send_nowait(stream)
        except trio.WouldBlock:
            await child.send(stream)


@asynccontextmanager
async def handles_back(node: bool) -> AsyncIterator[Running]:
    async with _open("handles_back", node=node) as child:

        async def run(count: int) -> float:
            await child.send(count)
            await child.receive()
            start = perf_counter()
            await child.send(count)
            for _ in range(count):
                _, stream = await child.receive()
                stream.socket.close()
            return perf_counter() - start

        yield Running(run, [child.pid])


@asynccontextmanager
async def queue(length: int) -> AsyncIterator[Running]:
    """All are sent before the first is received; what counts is the time of the calls."""
    async with _open("queue", length, max_buffer_size=math.inf) as child:

        async def run(count: int) -> float:
            times = -(-count // length)
            return sum([await fill() for _ in range(times)]) * count / (times * length)

        async def fill() -> float:
            await child.send("now")
            start = perf_counter()
            await send_nowait(child, SMALL, length)
            await child.send_channel.drain()
            seconds = perf_counter() - start
            emptied: float = await child.receive()
            return seconds + emptied

        yield Running(run, [child.pid])


@asynccontextmanager
async def startup() -> AsyncIterator[Running]:
    async def start_one() -> float:
        start = perf_counter()
        async with trio_ipc.open_child(first_message, stdin=subprocess.DEVNULL) as child:
            await child.receive()
            return perf_counter() - start

    async def run(count: int) -> float:
        return sum([await start_one() for _ in range(count)])

    yield Running(run)


@asynccontextmanager
async def children(children: int) -> AsyncIterator[Running]:
    """A round trip with each child at a time, and a task for each child."""
    async with AsyncExitStack() as stack:
        all_children = [
            await stack.enter_async_context(_open("round_trip")) for _ in range(children)
        ]

        async def run(count: int) -> float:
            start = perf_counter()
            async with trio.open_nursery() as nursery:
                for child in all_children:
                    nursery.start_soon(round_trip, child, -(-count // children))
            return perf_counter() - start

        yield Running(run, [child.pid for child in all_children])


@asynccontextmanager
async def serve(workers: int, share_listener: bool = False) -> AsyncIterator[Running]:
    """This process accepts and hands out, in turns; or it gives every worker the listener."""
    async with AsyncExitStack() as stack:
        all_workers = [
            await stack.enter_async_context(_open("accept" if share_listener else "serve"))
            for _ in range(workers)
        ]
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
        nursery = await stack.enter_async_context(trio.open_nursery())
        if share_listener:
            for worker in all_workers:
                await worker.send(listener)
        else:
            nursery.start_soon(_hand_out, listener, all_workers)
        pids = [worker.pid for worker in all_workers]
        yield Running(None, pids, port=listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


async def _hand_out(listener: trio.SocketListener, workers: Iterable[AnyChannel]) -> None:
    async with listener:
        for worker in cycle(workers):
            await worker.send(await listener.accept())


WORKS: dict[str, Maker] = {
    "round_trip": partial(_pair, round_trip, "round_trip"),
    "stream": partial(_pair, stream, "stream", max_buffer_size=STREAM_BUFFER),
    "stream_awaited": partial(_pair, stream_awaited, "stream_awaited"),
    "stream_back": partial(_pair, stream_back, "stream_back", max_buffer_size=STREAM_BUFFER),
    "payload": payload,
    "payload_stream": payload_stream,
    "handles": handles,
    "handles_back": handles_back,
    "queue": queue,
    "startup": startup,
    "children": children,
    "serve": serve,
}
