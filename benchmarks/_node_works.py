"""Our side of the work that node_programs/ do, in either role."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter
from typing import Any

import trio

import trio_ipc

from ._messages import SMALL
from ._tcp import TcpPairs

__all__ = ["CHILD_WORKS", "PARENT_WORKS"]

AnyChannel = trio_ipc.Channel[Any, Any]


# What both roles do -----------------------------------------------------------------------------


async def send_awaited(channel: AnyChannel, messages: Iterable[object]) -> None:
    for message in messages:
        await channel.send(message)


async def send_nowait(channel: AnyChannel, messages: Iterable[object]) -> None:
    for message in messages:
        try:
            channel.send_nowait(message)
        except trio.WouldBlock:
            await channel.send(message)


async def receive_awaited(channel: AnyChannel, count: int) -> None:
    for _ in range(count):
        await channel.receive()


async def receive_nowait(channel: AnyChannel, count: int) -> None:
    while count:
        await channel.receive()
        count -= 1
        try:
            while count:
                channel.receive_nowait()
                count -= 1
        except trio.WouldBlock:
            pass


async def send_sockets(channel: AnyChannel, streams: Iterable[trio.SocketStream]) -> None:
    for number, stream in enumerate(streams):
        await channel.send(number, stream)


async def receive_sockets(channel: AnyChannel, count: int) -> None:
    for _ in range(count):
        _, stream = await channel.receive()
        stream.socket.close()


Send = Callable[[AnyChannel, Iterable[object]], Awaitable[None]]
Receive = Callable[[AnyChannel, int], Awaitable[None]]


# As a parent ------------------------------------------------------------------------------------


async def echo_parent(child: AnyChannel, count: int) -> float:
    start = perf_counter()
    for _ in range(count):
        await child.send(SMALL)
        await child.receive()
    return perf_counter() - start


def receive_parent(send: Send) -> Callable[[AnyChannel, int], Awaitable[float]]:
    async def run(child: AnyChannel, count: int) -> float:
        start = perf_counter()
        await child.send(count)
        await send(child, [SMALL] * count)
        await child.receive()
        return perf_counter() - start

    return run


def send_parent(receive: Receive) -> Callable[[AnyChannel, int], Awaitable[float]]:
    async def run(child: AnyChannel, count: int) -> float:
        start = perf_counter()
        await child.send({"count": count, "message": SMALL})
        await receive(child, count)
        return perf_counter() - start

    return run


async def receive_sockets_parent(child: AnyChannel, count: int) -> float:
    with TcpPairs(count) as pairs:
        start = perf_counter()
        await child.send(count)
        await send_sockets(child, pairs.streams)
        await child.receive()
        return perf_counter() - start


async def send_sockets_parent(child: AnyChannel, count: int) -> float:
    await child.send(count)
    await child.receive()
    start = perf_counter()
    await child.send(count)
    await receive_sockets(child, count)
    return perf_counter() - start


PARENT_WORKS: dict[str, Callable[[AnyChannel, int], Awaitable[float]]] = {
    "echo": echo_parent,
    "receive": receive_parent(send_nowait),
    "receive-awaited": receive_parent(send_awaited),
    "send": send_parent(receive_nowait),
    "send-awaited": send_parent(receive_awaited),
    "receiveSockets": receive_sockets_parent,
    "sendSockets": send_sockets_parent,
}


# As a child -------------------------------------------------------------------------------------


async def echo_child(parent: AnyChannel) -> None:
    async for message in parent:
        await parent.send(message)


def receive_child(receive: Receive) -> Callable[[AnyChannel], Awaitable[None]]:
    async def run(parent: AnyChannel) -> None:
        async for count in parent:
            await receive(parent, count)
            await parent.send(count)

    return run


def send_child(send: Send) -> Callable[[AnyChannel], Awaitable[None]]:
    async def run(parent: AnyChannel) -> None:
        async for order in parent:
            await send(parent, [order["message"]] * order["count"])

    return run


async def send_sockets_child(parent: AnyChannel) -> None:
    async for count in parent:
        with TcpPairs(count) as pairs:
            await parent.send("ready")
            await parent.receive()
            await send_sockets(parent, pairs.streams)


CHILD_WORKS: dict[str, Callable[[AnyChannel], Awaitable[None]]] = {
    "echo": echo_child,
    "receive": receive_child(receive_nowait),
    "receive-awaited": receive_child(receive_awaited),
    "send": send_child(send_nowait),
    "send-awaited": send_child(send_awaited),
    "receiveSockets": receive_child(receive_sockets),
    "sendSockets": send_sockets_child,
}
