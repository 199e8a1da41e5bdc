"""``python -m benchmarks.measuring.clients PORT COUNT``: TCP clients, many at a time.

Each connects, asks, reads the answer and the end, and makes room for the next. One thread and
epoll, with the least that Python can do for a connection: six system calls. Its CPU time is a
figure of its own, and a server that does as little shows how many connections it could make.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import subprocess
import sys
from time import perf_counter, process_time

from ..messages import ANSWER, REQUEST

__all__ = ["connect"]

AT_A_TIME = 32
# Close with a reset, when all is read: the kernel then keeps nothing of the connection.
NO_LINGER = struct.pack("ii", 1, 0)


def connect(port: int, count: int) -> tuple[float, float]:
    """Seconds until all are answered, and CPU seconds of the clients."""
    command = [sys.executable, "-m", __name__, str(port), str(count)]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    seconds, cpu = json.loads(output)
    return seconds, cpu


class _Clients:
    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._epoll = select.epoll()
        self._open: dict[int, socket.socket] = {}

    def run(self, count: int) -> None:
        left = count
        while left or self._open:
            while left and len(self._open) < AT_A_TIME:
                self._connect()
                left -= 1
            for fd, events in self._epoll.poll():
                self._go_on(fd, events)

    def _connect(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        sock.connect_ex(self._address)
        self._open[sock.fileno()] = sock
        self._epoll.register(sock, select.EPOLLOUT)

    def _go_on(self, fd: int, events: int) -> None:
        sock = self._open[fd]
        if events & select.EPOLLOUT:
            sock.send(REQUEST)
            # Woken once, by the end: the answer is there by then.
            self._epoll.modify(fd, select.EPOLLRDHUP)
        else:
            if sock.recv(2 * len(ANSWER)) != ANSWER:
                raise RuntimeError("a connection was not answered")
            del self._open[fd]
            sock.close()


def main() -> None:
    port, count = map(int, sys.argv[1:])
    clients = _Clients(port)
    cpu, start = process_time(), perf_counter()
    clients.run(count)
    print(json.dumps([perf_counter() - start, process_time() - cpu]))


if __name__ == "__main__":
    main()
