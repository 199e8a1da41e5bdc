"""The other process of the contestants that are not ours."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

__all__ = ["pipe_peer", "socket_peer"]


@contextmanager
def _peer(target: Callable[..., None], end: socket.socket | Connection) -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=target, args=(end,), daemon=True)
    with end:  # the peer has its own copy once it is started
        process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


@contextmanager
def socket_peer(target: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """Run ``target`` in another process at one end of a pair of Unix sockets; here is the other."""
    ours, theirs = socket.socketpair()
    with ours, _peer(target, theirs):
        yield ours


@contextmanager
def pipe_peer(target: Callable[[Connection], None]) -> Iterator[Connection]:
    """The same with a `multiprocessing.Pipe`.

    A duplex one, which is a pair of Unix sockets: with small messages as fast as a real pipe, and
    several times as fast with large ones.
    """
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    with ours, _peer(target, theirs):
        yield ours
