"""The bare socket at the other end of a channel in Node's protocol, to say there what no Node says.

Our end is that of a script with a Node parent, in this process: `open_parent` finds it as it would
find Node's.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import trio

import trio_ipc

ACK = b'{"cmd":"NODE_HANDLE_ACK"}\n'
NACK = b'{"cmd":"NODE_HANDLE_NACK"}\n'


def line(message: Any) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def handle_frame(message: Any, type: str = "net.Socket", **more: Any) -> bytes:
    return line({"cmd": "NODE_HANDLE", "type": type, "msg": message, **more})


def get_count(key: str) -> bytes:
    return line({"cmd": "NODE_SOCKET_GET_COUNT", "key": key})


def count(key: str, number: int) -> bytes:
    return line({"cmd": "NODE_SOCKET_COUNT", "key": key, "count": number})


def notify_close(key: str) -> bytes:
    return line({"cmd": "NODE_SOCKET_NOTIFY_CLOSE", "key": key})


def all_closed(key: str) -> bytes:
    return line({"cmd": "NODE_SOCKET_ALL_CLOSED", "key": key})


class Raw:
    """A socket, and the descriptors that arrived on it and were not asked for yet."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.fds: list[int] = []
        self._heard = b""

    async def say(self, data: bytes, *handles: Any) -> None:
        """Write, and these on the first byte."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", map(_number, handles)))]
        while data:
            try:
                sent = self.sock.sendmsg([data], rights if handles else [])
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.sock)
            else:
                data, handles = data[sent:], ()

    def read(self, most: int = 65536) -> bytes:
        """What there is to read, ``b""`` at the end.

        Raises:
          BlockingIOError: nothing is there.
        """
        data, control, _, _ = self.sock.recvmsg(most, socket.CMSG_SPACE(4 * 64))
        for _, _, each in control:
            numbers = array("i")
            numbers.frombytes(each)
            self.fds += numbers
        return data

    async def hear(self) -> bytes:
        """The next line, with its end."""
        while b"\n" not in self._heard:
            try:
                data = self.read()
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.sock)
                continue
            assert data, f"the end after {self._heard!r}"
            self._heard += data
        found, end, self._heard = self._heard.partition(b"\n")
        return found + end

    async def hear_rest(self) -> bytes:
        """All that is still to come, until the other side has ended."""
        while True:
            try:
                data = self.read()
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.sock)
                continue
            self._heard += data
            if not data:
                return self._heard

    def heard_nothing(self) -> bool:
        try:
            self._heard += self.read()
        except BlockingIOError:
            pass
        return not self._heard

    def take_socket(self) -> socket.socket:
        """The oldest handle that has arrived."""
        return socket.socket(fileno=self.fds.pop(0))

    def end(self) -> None:
        """No more will be written, as if Node had called ``process.disconnect()``."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()
        while self.fds:
            os.close(self.fds.pop())


def _number(handle: Any) -> int:
    return handle if isinstance(handle, int) else int(handle.fileno())


@asynccontextmanager
async def open_end(**options: Any) -> AsyncIterator[tuple[trio_ipc.Channel[Any, Any], Raw]]:
    """Our end of a channel, and the bare one. It is closed before ours is left, so that nobody
    waits for it."""
    ours, theirs = socket.socketpair()
    raw = Raw(theirs)
    os.environ["NODE_CHANNEL_FD"] = str(ours.detach())
    try:
        async with trio_ipc.open_parent(**options) as channel:
            try:
                yield channel, raw
            finally:
                raw.close()
    finally:
        raw.close()
        left = os.environ.pop("NODE_CHANNEL_FD", None)
        if left is not None:  # cancelled before it was taken up
            os.close(int(left))


@asynccontextmanager
async def open_twins(
    **options: Any,
) -> AsyncIterator[tuple[trio_ipc.Channel[Any, Any], trio_ipc.Channel[Any, Any]]]:
    """Two of our ends at one channel, each of which takes the other one for its Node parent."""
    first, second = socket.socketpair()
    os.environ["NODE_CHANNEL_FD"] = str(first.detach())
    async with trio_ipc.open_parent(**options) as a:
        os.environ["NODE_CHANNEL_FD"] = str(second.detach())
        async with trio_ipc.open_parent(**options) as b:
            yield a, b


def tcp_pair() -> tuple[trio.SocketStream, socket.socket]:
    """A connection, and who is at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    near.setblocking(False)
    far.settimeout(60)
    return trio.SocketStream(trio.socket.from_stdlib_socket(near)), far


@contextmanager
def connection() -> Iterator[tuple[trio.SocketStream, socket.socket]]:
    """The same; both are closed at the end, if they are not yet."""
    near, far = tcp_pair()
    with far:
        try:
            yield near, far
        finally:
            near.socket.close()


def is_open(stream: trio.SocketStream) -> bool:
    return stream.socket.fileno() >= 0


async def assert_alive(stream: trio.SocketStream, far: socket.socket) -> None:
    """Both directions of a connection work."""
    await stream.send_all(b"to")
    assert far.recv(2) == b"to"
    far.sendall(b"fro")
    assert await stream.receive_some(3) == b"fro"


def reset(sock: socket.socket) -> None:
    """Close it in such a way that the other side gets an error."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
