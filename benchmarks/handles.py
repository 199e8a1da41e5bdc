"""Sockets, one in each message."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter
from typing import Any

import trio

import trio_ipc

from ._host import AsyncRun, Contestant, Run
from ._measure import Effort, Rival, contest
from ._peers import socket_peer
from ._result import Report, Unit, at_least

__all__ = ["measure"]

THOUSANDS = Unit("k/s", 1e-3, rate=True)


def measure(effort: Effort) -> Report:
    """A TCP stream in each message, received as a trio.SocketStream and closed"""
    rival = Rival("blocking send_fds, socket.socket", Contestant(blocking), at_least(0.4))
    return Report(contest("TCP streams", Contestant(ours), [rival], THOUSANDS, effort))


@contextmanager
def tcp_connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as near:
            far, _ = server.accept()
            with far:
                yield near, far


@asynccontextmanager
async def ours() -> AsyncIterator[AsyncRun]:
    with tcp_connection() as (near, _):
        near.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(near))
        async with trio_ipc.open_child(close_streams, stdin=subprocess.DEVNULL) as child:

            async def run(count: int) -> float:
                start = perf_counter()
                await child.send(count)
                for _ in range(count):
                    try:
                        child.send_nowait(stream, keep_open=True)
                    except trio.WouldBlock:
                        await child.send(stream, keep_open=True)
                await child.receive()
                return perf_counter() - start

            yield run


async def close_streams(parent: trio_ipc.Channel[Any, Any]) -> None:
    async for count in parent:
        left = count
        while left:
            stream: trio.SocketStream = await parent.receive()
            stream.socket.close()
            left -= 1
            try:
                while left:
                    stream = parent.receive_nowait()
                    stream.socket.close()
                    left -= 1
            except trio.WouldBlock:
                pass
        await parent.send(count)


@contextmanager
def blocking() -> Iterator[Run]:
    with tcp_connection() as (near, _), socket_peer(close_sockets) as sock:

        def run(count: int) -> float:
            start = perf_counter()
            sock.sendall(count.to_bytes(8, "big"))
            for _ in range(count):
                socket.send_fds(sock, [b"\0"], [near.fileno()])
            sock.recv(1)
            return perf_counter() - start

        yield run


def close_sockets(sock: socket.socket) -> None:
    while number := sock.recv(8):
        for _ in range(int.from_bytes(number, "big")):
            _, [fd], _, _ = socket.recv_fds(sock, 1, 1)
            socket.socket(fileno=fd).close()
        sock.send(b"\0")
