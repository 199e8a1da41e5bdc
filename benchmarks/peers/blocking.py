"""Blocking sockets: the floor, with no event loop, no frames and no serialization."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from ..contestant import Maker, Running
from ..messages import ANSWER, SMALL_BYTES, payload as make_payload
from .child_processes import child_with, socket_child
from .tcp import tcp_pairs

__all__ = ["WORKS"]

# Reads that only have to hold small messages.
ENOUGH = 65536
# One small message: a larger buffer would take longer to make.
ONE = 4096
NUMBER = 8


@contextmanager
def round_trip() -> Iterator[Running]:
    with socket_child(echo) as (sock, pid):

        def run(count: int) -> float:
            start = perf_counter()
            for _ in range(count):
                sock.send(SMALL_BYTES)
                sock.recv(ONE)
            return perf_counter() - start

        yield Running(run, [pid])


def echo(sock: socket.socket) -> None:
    while data := sock.recv(ONE):
        sock.send(data)


@contextmanager
def stream() -> Iterator[Running]:
    """One call for each message, and reads of many of them."""
    with socket_child(count_bytes, len(SMALL_BYTES)) as (sock, pid):

        def run(count: int) -> float:
            start = perf_counter()
            sock.sendall(count.to_bytes(NUMBER, "big"))
            for _ in range(count):
                sock.sendall(SMALL_BYTES)
            sock.recv(1)
            return perf_counter() - start

        yield Running(run, [pid])


def count_bytes(sock: socket.socket, size: int) -> None:
    while number := sock.recv(NUMBER, socket.MSG_WAITALL):
        left = size * int.from_bytes(number, "big")
        while left:
            left -= len(sock.recv(min(left, ENOUGH)))
        sock.send(b"\0")


@contextmanager
def payload(size: int) -> Iterator[Running]:
    """Every one is answered with a byte."""
    message = make_payload(size)
    with socket_child(receive_into, size) as (sock, pid):

        def run(count: int) -> float:
            start = perf_counter()
            for _ in range(count or 1):
                data = message if count else b""
                sock.sendall(len(data).to_bytes(NUMBER, "big"))
                sock.sendall(data)
                sock.recv(1)
            return perf_counter() - start

        yield Running(run, [pid])


def receive_into(sock: socket.socket, size: int) -> None:
    """Without an allocation: every message overwrites the one before."""
    buffer = memoryview(bytearray(size))
    while number := sock.recv(NUMBER, socket.MSG_WAITALL):
        _fill(buffer[: int.from_bytes(number, "big")], sock)
        sock.send(b"\0")


@contextmanager
def payload_stream(size: int) -> Iterator[Running]:
    """One after the other, and one answer at the end."""
    message = make_payload(size)
    with socket_child(receive_many_into, size) as (sock, pid):

        def run(count: int) -> float:
            start = perf_counter()
            sock.sendall(count.to_bytes(NUMBER, "big"))
            for _ in range(count):
                sock.sendall(message)
            sock.recv(1)
            return perf_counter() - start

        yield Running(run, [pid])


def receive_many_into(sock: socket.socket, size: int) -> None:
    buffer = memoryview(bytearray(size))
    while number := sock.recv(NUMBER, socket.MSG_WAITALL):
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


@contextmanager
def handles() -> Iterator[Running]:
    """`socket.send_fds`, one descriptor in each message."""
    with socket_child(close_sockets) as (sock, pid):

        def run(count: int) -> float:
            with tcp_pairs(count) as connections:
                start = perf_counter()
                sock.sendall(count.to_bytes(NUMBER, "big"))
                for connection in connections:
                    socket.send_fds(sock, [b"\0"], [connection.fileno()])
                    connection.close()
                sock.recv(1)
                return perf_counter() - start

        yield Running(run, [pid])


def close_sockets(sock: socket.socket) -> None:
    while number := sock.recv(NUMBER, socket.MSG_WAITALL):
        for _ in range(int.from_bytes(number, "big")):
            _, [fd], _, _ = socket.recv_fds(sock, 1, 1)
            socket.socket(fileno=fd).close()
        sock.send(b"\0")


@contextmanager
def startup(code: str) -> Iterator[Running]:
    """A Python that runs this code, and no channel at all."""

    def run(count: int) -> float:
        start = perf_counter()
        for _ in range(count):
            subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, check=True)
        return perf_counter() - start

    yield Running(run)


@contextmanager
def serve(workers: int) -> Iterator[Running]:
    """One process, and one connection at a time: as many as the clients can make."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        port = listener.getsockname()[1]
        with child_with(listener, accept_forever) as pid:
            yield Running(None, [pid], parent=False, port=port)


def accept_forever(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        answer(connection)


def answer(connection: socket.socket) -> None:
    with connection:
        connection.recv(ONE)
        connection.sendall(ANSWER)


WORKS: dict[str, Maker] = {
    "round_trip": round_trip,
    "stream": stream,
    "payload": payload,
    "payload_stream": payload_stream,
    "handles": handles,
    "startup": startup,
    "serve": serve,
}
