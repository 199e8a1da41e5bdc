"""`multiprocessing`: a Pipe and a process, both without an event loop.

``pickle`` tells whether messages are sent with ``send``, which pickles them, or as ready bytes with
``send_bytes``.
"""

from __future__ import annotations

import multiprocessing
import selectors
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from time import perf_counter
from typing import Any

from ..contestant import Maker, Running
from ..messages import SMALL, SMALL_BYTES, payload as make_payload
from .blocking import answer
from .child_processes import child_with, pipe_child
from .tcp import tcp_pairs

__all__ = ["WORKS"]


def _calls(connection: Connection, pickle: bool) -> tuple[Callable[[Any], None], Callable[[], Any]]:
    if pickle:
        return connection.send, connection.recv
    return connection.send_bytes, connection.recv_bytes


@contextmanager
def round_trip(pickle: bool) -> Iterator[Running]:
    message = SMALL if pickle else SMALL_BYTES
    with pipe_child(echo, pickle) as (connection, pid):
        send, receive = _calls(connection, pickle)

        def run(count: int) -> float:
            start = perf_counter()
            for _ in range(count):
                send(message)
                receive()
            return perf_counter() - start

        yield Running(run, [pid])


def echo(connection: Connection, pickle: bool) -> None:
    send, receive = _calls(connection, pickle)
    while True:
        send(receive())


@contextmanager
def stream(pickle: bool) -> Iterator[Running]:
    with _many(SMALL if pickle else SMALL_BYTES, pickle) as running:
        yield running


@contextmanager
def payload_stream(size: int, pickle: bool) -> Iterator[Running]:
    with _many(make_payload(size), pickle) as running:
        yield running


@contextmanager
def _many(message: object, pickle: bool) -> Iterator[Running]:
    """One after the other, and one answer at the end."""
    with pipe_child(receive_many, pickle) as (connection, pid):
        send, _ = _calls(connection, pickle)

        def run(count: int) -> float:
            start = perf_counter()
            connection.send(count)
            for _ in range(count):
                send(message)
            connection.recv()
            return perf_counter() - start

        yield Running(run, [pid])


def receive_many(connection: Connection, pickle: bool) -> None:
    _, receive = _calls(connection, pickle)
    while True:
        count = connection.recv()
        for _ in range(count):
            receive()
        connection.send(count)


@contextmanager
def payload(size: int, pickle: bool) -> Iterator[Running]:
    """Every one is answered with its length."""
    message = make_payload(size)
    with pipe_child(weigh, pickle) as (connection, pid):
        send, _ = _calls(connection, pickle)

        def run(count: int) -> float:
            start = perf_counter()
            for _ in range(count or 1):
                send(message if count else b"")
                connection.recv()
            return perf_counter() - start

        yield Running(run, [pid])


def weigh(connection: Connection, pickle: bool) -> None:
    _, receive = _calls(connection, pickle)
    while True:
        connection.send(len(receive()))


@contextmanager
def handles(pickle: bool) -> Iterator[Running]:
    """``pickle``: a socket as a message, by way of multiprocessing's own server thread. Otherwise
    ``send_handle``, which writes the descriptor into the Pipe."""
    with pipe_child(close_sockets, pickle) as (connection, pid):

        def run(count: int) -> float:
            with tcp_pairs(count) as sockets:
                start = perf_counter()
                connection.send(count)
                for sock in sockets:
                    if pickle:
                        connection.send(sock)
                    else:
                        send_handle(connection, sock.fileno(), pid)
                    sock.close()
                connection.recv()
                return perf_counter() - start

        yield Running(run, [pid])


def close_sockets(connection: Connection, pickle: bool) -> None:
    while True:
        count = connection.recv()
        for _ in range(count):
            if pickle:
                connection.recv().close()
            else:
                socket.socket(fileno=recv_handle(connection)).close()
        connection.send(count)


@contextmanager
def children(children: int, pickle: bool) -> Iterator[Running]:
    """A round trip with each child at a time; a selector tells which of them have answered."""
    with ExitStack() as stack:
        all_children = [stack.enter_context(pipe_child(echo, pickle)) for _ in range(children)]
        connections = [connection for connection, _ in all_children]
        # multiprocessing.connection.wait() makes one at every call.
        selector = stack.enter_context(selectors.DefaultSelector())
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ, connection)

        def run(count: int) -> float:
            left = dict.fromkeys(connections, -(-count // children))
            start = perf_counter()
            for connection in connections:
                connection.send(SMALL)
            while left:
                for key, _ in selector.select():
                    key.data.recv()
                    left[key.data] -= 1
                    if left[key.data]:
                        key.data.send(SMALL)
                    else:
                        del left[key.data]
            return perf_counter() - start

        yield Running(run, [pid for _, pid in all_children])


@contextmanager
def startup(method: str) -> Iterator[Running]:
    context: Any = multiprocessing.get_context(method)

    def start_one() -> float:
        start = perf_counter()
        ours, theirs = context.Pipe()
        process = context.Process(target=send_one, args=(theirs,))
        process.start()
        theirs.close()
        ours.recv()
        seconds = perf_counter() - start
        process.join()
        ours.close()
        return seconds

    yield Running(lambda count: sum(start_one() for _ in range(count)))


def send_one(connection: Connection) -> None:
    connection.send(1)


@contextmanager
def serve(workers: int, pickle: bool) -> Iterator[Running]:
    """One process accepts and hands out, in turns; each worker does one connection at a time."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        port = listener.getsockname()[1]
        all_workers = [stack.enter_context(pipe_child(answer_each)) for _ in range(workers)]
        acceptor = stack.enter_context(child_with(listener, hand_out, all_workers))
        yield Running(None, [acceptor, *(pid for _, pid in all_workers)], False, port)


def hand_out(listener: socket.socket, workers: list[tuple[Connection, int]]) -> None:
    for connection, pid in cycle(workers):
        sock, _ = listener.accept()
        send_handle(connection, sock.fileno(), pid)
        sock.close()


def answer_each(connection: Connection) -> None:
    while True:
        answer(socket.socket(fileno=recv_handle(connection)))


WORKS: dict[str, Maker] = {
    "round_trip": round_trip,
    "stream": stream,
    "payload": payload,
    "payload_stream": payload_stream,
    "handles": handles,
    "children": children,
    "startup": startup,
    "serve": serve,
}
