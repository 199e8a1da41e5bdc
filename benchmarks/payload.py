"""Large messages of bytes in one direction."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from time import perf_counter

import trio_ipc

from ._host import AsyncRun, Contestant, Run
from ._measure import Effort, Rival, contest
from ._messages import payload
from ._peers import pipe_peer, socket_peer
from ._result import Report, Unit, at_least
from .stream import receive_each

__all__ = ["measure_10mb", "measure_100kb"]

KB100 = 100_000
MB10 = 10_000_000


def measure_10mb(effort: Effort) -> Report:
    """Bytes messages of 10 MB"""
    return _measure(
        "10 MB",
        MB10,
        [
            Rival("Pipe.send_bytes", Contestant(pipe, (MB10,)), at_least(2)),
            Rival("Pipe.send", Contestant(pickling_pipe, (MB10,))),
            Rival("blocking socketpair, recv_into", Contestant(blocking, (MB10,)), at_least(0.5)),
        ],
        effort,
    )


def measure_100kb(effort: Effort) -> Report:
    """Bytes messages of 100 kB"""
    return _measure(
        "100 kB",
        KB100,
        [
            Rival("Pipe.send_bytes", Contestant(pipe, (KB100,)), at_least(1)),
            Rival("Pipe.send", Contestant(pickling_pipe, (KB100,))),
        ],
        effort,
    )


def _measure(name: str, size: int, rivals: list[Rival], effort: Effort) -> Report:
    unit = Unit("GB/s", size / 1e9, rate=True)
    return Report(contest(f"{name} bytes", Contestant(ours, (size,)), rivals, unit, effort))


@asynccontextmanager
async def ours(size: int) -> AsyncIterator[AsyncRun]:
    message = payload(size)
    async with trio_ipc.open_child(receive_each, stdin=subprocess.DEVNULL) as child:

        async def run(count: int) -> float:
            start = perf_counter()
            await child.send(count)
            for _ in range(count):
                await child.send(message)
            await child.receive()
            return perf_counter() - start

        yield run


@contextmanager
def pipe(size: int) -> Iterator[Run]:
    message = payload(size)
    with pipe_peer(receive_bytes) as connection:

        def run(count: int) -> float:
            start = perf_counter()
            connection.send(count)
            for _ in range(count):
                connection.send_bytes(message)
            connection.recv()
            return perf_counter() - start

        yield run


def receive_bytes(connection: Connection) -> None:
    while True:
        count = connection.recv()
        for _ in range(count):
            connection.recv_bytes()
        connection.send(count)


@contextmanager
def pickling_pipe(size: int) -> Iterator[Run]:
    message = payload(size)
    with pipe_peer(receive_pickles) as connection:

        def run(count: int) -> float:
            start = perf_counter()
            connection.send(count)
            for _ in range(count):
                connection.send(message)
            connection.recv()
            return perf_counter() - start

        yield run


def receive_pickles(connection: Connection) -> None:
    while True:
        count = connection.recv()
        for _ in range(count):
            connection.recv()
        connection.send(count)


@contextmanager
def blocking(size: int) -> Iterator[Run]:
    message = payload(size)
    with socket_peer(partial(receive_into, size)) as sock:

        def run(count: int) -> float:
            start = perf_counter()
            sock.sendall(count.to_bytes(8, "big"))
            for _ in range(count):
                sock.sendall(message)
            sock.recv(1)
            return perf_counter() - start

        yield run


def receive_into(size: int, sock: socket.socket) -> None:
    """Without an allocation: every message overwrites the one before."""
    number = memoryview(bytearray(8))
    buffer = memoryview(bytearray(size))
    while True:
        _fill(number, sock)
        for _ in range(int.from_bytes(number, "big")):
            _fill(buffer, sock)
        sock.send(b"\0")


def _fill(buffer: memoryview, sock: socket.socket) -> None:
    filled = 0
    while filled < len(buffer):
        count = sock.recv_into(buffer[filled:])
        if not count:
            raise EOFError
        filled += count
