"""Trio alone: bytes over `trio.socket`, without frames or serialization; one Trio process."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from time import perf_counter

import trio

from ..contestant import Maker, Running
from ..messages import ANSWER, SMALL_BYTES, payload as make_payload
from .child_processes import socket_child

__all__ = ["WORKS"]

ENOUGH = 65536
# One small message: a larger buffer would take longer to make.
ONE = 4096
NUMBER = 8


@asynccontextmanager
async def round_trip() -> AsyncIterator[Running]:
    with socket_child(run_child, echo) as (end, pid):
        sock = trio.socket.from_stdlib_socket(end)

        async def run(count: int) -> float:
            start = perf_counter()
            await _exchange(sock, count)
            return perf_counter() - start

        yield Running(run, [pid])


async def _exchange(sock: trio.socket.SocketType, count: int) -> None:
    for _ in range(count):
        await sock.send(SMALL_BYTES)
        await sock.recv(ONE)


def run_child(end: socket.socket, target: Callable[..., Awaitable[None]], *args: object) -> None:
    trio.run(target, trio.socket.from_stdlib_socket(end), *args)


async def echo(sock: trio.socket.SocketType) -> None:
    while data := await sock.recv(ONE):
        await sock.send(data)


@asynccontextmanager
async def stream() -> AsyncIterator[Running]:
    """One call for each message, and reads of many of them."""
    with socket_child(run_child, count_bytes, len(SMALL_BYTES)) as (end, pid):
        sock = trio.socket.from_stdlib_socket(end)
        stream = trio.SocketStream(sock)

        async def run(count: int) -> float:
            start = perf_counter()
            await stream.send_all(count.to_bytes(NUMBER, "big"))
            for _ in range(count):
                await stream.send_all(SMALL_BYTES)
            await sock.recv(1)
            return perf_counter() - start

        yield Running(run, [pid])


async def count_bytes(sock: trio.socket.SocketType, size: int) -> None:
    number = memoryview(bytearray(NUMBER))
    while True:
        await _fill(number, sock)
        left = size * int.from_bytes(number, "big")
        while left:
            left -= len(await sock.recv(min(left, ENOUGH)))
        await sock.send(b"\0")


@asynccontextmanager
async def payload(size: int) -> AsyncIterator[Running]:
    """Every one is answered with a byte."""
    message = make_payload(size)
    with socket_child(run_child, receive_into, size) as (end, pid):
        sock = trio.socket.from_stdlib_socket(end)
        stream = trio.SocketStream(sock)

        async def run(count: int) -> float:
            start = perf_counter()
            for _ in range(count or 1):
                data = message if count else b""
                await stream.send_all(len(data).to_bytes(NUMBER, "big"))
                await stream.send_all(data)
                await sock.recv(1)
            return perf_counter() - start

        yield Running(run, [pid])


async def receive_into(sock: trio.socket.SocketType, size: int) -> None:
    """Without an allocation: every message overwrites the one before."""
    number = memoryview(bytearray(NUMBER))
    buffer = memoryview(bytearray(size))
    while True:
        await _fill(number, sock)
        await _fill(buffer[: int.from_bytes(number, "big")], sock)
        await sock.send(b"\0")


async def _fill(buffer: memoryview, sock: trio.socket.SocketType) -> None:
    filled = 0
    while filled < len(buffer):
        count = await sock.recv_into(buffer[filled:])
        if not count:
            raise EOFError
        filled += count


@asynccontextmanager
async def children(children: int) -> AsyncIterator[Running]:
    """A round trip with each child at a time, and a task for each child."""
    with ExitStack() as stack:
        pairs = [stack.enter_context(socket_child(run_child, echo)) for _ in range(children)]
        socks = [trio.socket.from_stdlib_socket(end) for end, _ in pairs]

        async def run(count: int) -> float:
            start = perf_counter()
            async with trio.open_nursery() as nursery:
                for sock in socks:
                    nursery.start_soon(_exchange, sock, -(-count // children))
            return perf_counter() - start

        yield Running(run, [pid for _, pid in pairs])


@asynccontextmanager
async def serve(workers: int) -> AsyncIterator[Running]:
    """One process that accepts and answers, and no workers at all."""
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        yield Running(None, port=listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


async def answer(stream: trio.SocketStream) -> None:
    async with stream:
        await stream.receive_some(ONE)
        await stream.send_all(ANSWER)


WORKS: dict[str, Maker] = {
    "round_trip": round_trip,
    "stream": stream,
    "payload": payload,
    "children": children,
    "serve": serve,
}
