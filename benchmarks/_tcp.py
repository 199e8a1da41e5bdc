"""Connected TCP sockets, both ends of them in this process."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["TcpPairs"]


class TcpPairs:
    """So many connections: ``streams`` are there to be sent away, their other ends stay here."""

    def __init__(self, count: int) -> None:
        self.streams: list[trio.SocketStream] = []
        self._far: list[socket.socket] = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            for _ in range(count):
                near = socket.create_connection(server.getsockname())
                self._far.append(server.accept()[0])
                near.setblocking(False)
                self.streams.append(trio.SocketStream(trio.socket.from_stdlib_socket(near)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for stream in self.streams:
            stream.socket.close()
        for far in self._far:
            far.close()
