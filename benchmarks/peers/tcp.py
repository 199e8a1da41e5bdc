"""Connected TCP sockets, both ends of them in this process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["tcp_pairs"]


@contextmanager
def tcp_pairs(count: int) -> Iterator[list[socket.socket]]:
    """Give one end of so many connections, to be sent away; the other ends stay open meanwhile."""
    with ExitStack() as stack:
        near = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            for _ in range(count):
                near.append(stack.enter_context(socket.create_connection(server.getsockname())))
                stack.enter_context(server.accept()[0])
        yield near
