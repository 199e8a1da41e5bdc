"""The other process of those who have no way of their own to start one."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

__all__ = ["child_with", "pipe_child", "socket_child"]


@contextmanager
def child_with(
    end: socket.socket | Connection, target: Callable[..., None], *args: object
) -> Iterator[int]:
    """Run ``target(end, *args)`` in another process, which has this end alone; give its id."""
    process = multiprocessing.get_context("spawn").Process(
        target=target, args=(end, *args), daemon=True
    )
    with end:  # the child has its own copy once it is started
        process.start()
    assert process.pid is not None
    try:
        yield process.pid
    finally:
        process.kill()
        process.join()


@contextmanager
def socket_child(target: Callable[..., None], *args: object) -> Iterator[tuple[socket.socket, int]]:
    """Such a child at one end of a pair of Unix sockets; give the other, and its id."""
    ours, theirs = socket.socketpair()
    with ours, child_with(theirs, target, *args) as pid:
        yield ours, pid


@contextmanager
def pipe_child(target: Callable[..., None], *args: object) -> Iterator[tuple[Connection, int]]:
    """The same with a `multiprocessing.Pipe`.

    A duplex one, which is a pair of Unix sockets: with small messages as fast as a real pipe, and
    several times as fast with large ones.
    """
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    with ours, child_with(theirs, target, *args) as pid:
        yield ours, pid
