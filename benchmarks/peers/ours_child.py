"""trio_ipc, as the child; ``python -m benchmarks.peers.ours_child WORK`` is one of Node's."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from time import perf_counter
from typing import Any

import trio

import trio_ipc

from ..messages import ANSWER
from .tcp import tcp_pairs

__all__ = [
    "accept",
    "as_streams",
    "handles",
    "handles_back",
    "payload",
    "queue",
    "receive_nowait",
    "round_trip",
    "send_handles",
    "send_nowait",
    "serve",
    "stream",
    "stream_awaited",
    "stream_back",
]

AnyChannel = trio_ipc.Channel[Any, Any]


async def round_trip(parent: AnyChannel) -> None:
    async for message in parent:
        await parent.send(message)


async def payload(parent: AnyChannel) -> None:
    async for message in parent:
        await parent.send(len(message))


async def stream(parent: AnyChannel) -> None:
    async for count in parent:
        await receive_nowait(parent, count)
        await parent.send(count)


async def stream_awaited(parent: AnyChannel) -> None:
    async for count in parent:
        for _ in range(count):
            await parent.receive()
        await parent.send(count)


async def stream_back(parent: AnyChannel) -> None:
    async for order in parent:
        await send_nowait(parent, order["message"], order["count"])


async def send_nowait(channel: AnyChannel, message: object, count: int) -> None:
    for _ in range(count):
        try:
            channel.send_nowait(message)
        except trio.WouldBlock:
            await channel.send(message)


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


async def queue(parent: AnyChannel, length: int) -> None:
    """Receive nothing until all is there, and then everything."""
    async for _ in parent:
        while parent.statistics().current_buffer_used < length:  # noqa: ASYNC110, no event tells
            await trio.sleep(0.0005)
        start = perf_counter()
        for _ in range(length):
            parent.receive_nowait()
        await parent.send(perf_counter() - start)


# Sockets ----------------------------------------------------------------------------------------


async def handles(parent: AnyChannel) -> None:
    """From one of ours a message is the stream itself; Node sends one beside a number."""
    async for count in parent:
        left = count
        while left:
            _close(await parent.receive())
            left -= 1
            try:
                while left:
                    _close(parent.receive_nowait())
                    left -= 1
            except trio.WouldBlock:
                pass
        await parent.send(count)


def _close(message: Any) -> None:
    stream = message.handle if isinstance(message, trio_ipc.HandleMessage) else message
    stream.socket.close()


async def handles_back(parent: AnyChannel) -> None:
    async for count in parent:
        with tcp_pairs(count) as sockets:
            streams = as_streams(sockets)
            await parent.send("ready")
            await parent.receive()
            await send_handles(parent, streams)


def as_streams(sockets: Iterable[socket.socket]) -> list[trio.SocketStream]:
    for sock in sockets:
        sock.setblocking(False)
    return [trio.SocketStream(trio.socket.from_stdlib_socket(_moved(sock))) for sock in sockets]


def _moved(sock: socket.socket) -> socket.socket:
    return socket.socket(sock.family, sock.type, sock.proto, sock.detach())


async def send_handles(channel: AnyChannel, streams: Iterable[trio.SocketStream]) -> None:
    """To Node, which takes one at a time."""
    for number, stream in enumerate(streams):
        await channel.send(number, stream)


async def serve(parent: AnyChannel) -> None:
    """Every message is a connection, which asks once and is answered."""
    async with trio.open_nursery() as nursery:
        async for stream in parent:
            nursery.start_soon(answer, stream)


async def accept(parent: AnyChannel) -> None:
    """The message is the listener."""
    listener = await parent.receive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        async for _ in parent:
            pass
        nursery.cancel_scope.cancel()


async def answer(stream: trio.SocketStream) -> None:
    async with stream:
        await stream.receive_some(4096)
        await stream.send_all(ANSWER)


async def main() -> None:
    async with trio_ipc.open_parent() as parent:
        await globals()[sys.argv[1]](parent)


if __name__ == "__main__":
    trio.run(main)
