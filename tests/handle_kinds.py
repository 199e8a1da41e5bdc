"""Every kind of handle: one object of it, and somebody at its other end."""

from __future__ import annotations

import io
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    closing,
    contextmanager,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

import trio_ipc
from trio_ipc import _handles
from trio_ipc.wire.msgpack import MsgpackCodec

from .handle_workers import ANSWER, QUESTION, close, descriptor_of

PATIENCE = 60  # seconds that a client without Trio waits; on an idle machine, none does


@dataclass(frozen=True)
class Made:
    """A handle to send, what happens at its other end while the receiver plays its role, and
    what shows afterwards that it did."""

    handle: Any
    attend: Callable[[], Awaitable[None]]
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Kind:
    """One kind of handle.

    Attributes:
      arrives_as: the type of what is received.
      role: what the receiver does with it, one of `handle_workers.ROLES`.
      moves: whether the sender's copy is closed, unless the sender says otherwise.
    """

    name: str
    arrives_as: type
    role: str
    moves: bool
    make: Callable[[], AbstractAsyncContextManager[Made]]


def is_open(handle: Any) -> bool:
    if isinstance(handle, io.IOBase):
        return not handle.closed
    return descriptor_of(handle) >= 0


def copies(obj: Any) -> int:
    """How many descriptors of this process are the socket, pipe or file that ``obj`` is."""
    wanted = _identity(obj if isinstance(obj, int) else descriptor_of(obj))
    count = 0
    for number in map(int, os.listdir("/dev/fd")):
        try:
            count += _identity(number) == wanted
        except OSError:
            pass  # the descriptor of the listing itself
    return count


def _identity(number: int) -> tuple[int, int]:
    status = os.fstat(number)
    return status.st_dev, status.st_ino


@contextmanager
def channel_pair(
    max_buffer_size: float = 10, **limits: Any
) -> Iterator[tuple[trio_ipc.Channel[Any, Any], trio_ipc.Channel[Any, Any]]]:
    first, second = trio_ipc.open_channel_pair(max_buffer_size, **limits)
    with first, second:
        yield first, second


@contextmanager
def typed_pair(
    message_type: Any, **limits: Any
) -> Iterator[tuple[trio_ipc.Channel[Any, Any], trio_ipc.Channel[Any, Any]]]:
    """A pair whose second end takes nothing but that. Between processes `open_child` and
    `open_parent` say the type; a pair in one process is for tests like these."""
    with channel_pair(**limits) as (first, second):
        second._connection.wire.codec = MsgpackCodec(message_type, _handles)
        yield first, second


def shrink(channel: trio_ipc.Channel[Any, Any]) -> None:
    """Let the kernel take as little from it at once as it can."""
    with socket.socket(fileno=os.dup(channel.fileno())) as copy:
        copy.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)


@contextmanager
def raw_peer(
    max_buffer_size: float = 10, **limits: Any
) -> Iterator[tuple[trio_ipc.Channel[Any, Any], socket.socket]]:
    """A channel, and the blocking socket at its other end, which says whatever a test wants."""
    with channel_pair(max_buffer_size, **limits) as (spare, channel):
        with socket.socket(fileno=os.dup(spare.fileno())) as raw:
            raw.setblocking(True)  # nobody uses the other copy of it
            raw.settimeout(PATIENCE)
            yield channel, raw


@contextmanager
def connection(family: int = socket.AF_INET) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected pair, its second end blocking with a timeout: somebody without Trio."""
    if family == socket.AF_UNIX:
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
    theirs.settimeout(PATIENCE)
    with ours, theirs:
        yield ours, theirs


@contextmanager
def stream_and_client() -> Iterator[tuple[trio.SocketStream, socket.socket]]:
    """An accepted TCP connection, and the client at its other end."""
    with connection() as (ours, client):
        sock = trio.socket.from_stdlib_socket(ours)
        with sock:
            yield trio.SocketStream(sock), client


@contextmanager
def pipe() -> Iterator[tuple[trio.lowlevel.FdStream, trio.lowlevel.FdStream]]:
    """A pipe: the end to read and the end to write."""
    # Made blocking, as os.pipe() does and subprocess: closing an FdStream restores that.
    reader, writer = map(trio.lowlevel.FdStream, os.pipe())
    with closing(reader), closing(writer):
        yield reader, writer


async def sees_end(client: socket.socket) -> bool:
    """Wait for the end of a connection whose other end was lost."""

    def wait() -> bytes:
        try:
            return client.recv(1)
        except ConnectionResetError:
            return b""

    return await trio.to_thread.run_sync(wait) == b""


async def answer(client: socket.socket) -> None:
    """The other end of `handle_workers.converse`, blocking and without Trio."""

    def run() -> None:
        assert client.recv(len(QUESTION), socket.MSG_WAITALL) == QUESTION
        client.sendall(ANSWER)

    await trio.to_thread.run_sync(run)


async def connect_and_answer(family: int, address: Any) -> None:
    """A real client, without Trio."""
    with socket.socket(family) as client:
        client.settimeout(PATIENCE)
        await trio.to_thread.run_sync(client.connect, address)
        await answer(client)


# The makers. A `wrap` makes the kind's object of a socket. -----------------------------------


def _stream(sock: socket.socket) -> trio.SocketStream:
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


def _listener(sock: socket.socket) -> trio.SocketListener:
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def _trio_socket(sock: socket.socket) -> trio.socket.SocketType:
    return trio.socket.from_stdlib_socket(sock)


def _socket(sock: socket.socket) -> socket.socket:
    return sock


Wrap = Callable[[socket.socket], Any]


@asynccontextmanager
async def _open_wrapped(sock: socket.socket, wrap: Wrap) -> AsyncIterator[Any]:
    wrapped = wrap(sock)
    try:
        yield wrapped
    finally:
        close(wrapped)  # where it was not moved


def _connected(wrap: Wrap, family: int) -> Callable[[], AbstractAsyncContextManager[Made]]:
    @asynccontextmanager
    async def make() -> AsyncIterator[Made]:
        with connection(family) as (ours, client):
            async with _open_wrapped(ours, wrap) as handle:
                yield Made(handle, lambda: answer(client))

    return make


def _listening(wrap: Wrap, family: int) -> Callable[[], AbstractAsyncContextManager[Made]]:
    @asynccontextmanager
    async def make() -> AsyncIterator[Made]:
        with tempfile.TemporaryDirectory() as folder, socket.socket(family) as sock:
            sock.bind(f"{folder}/s" if family == socket.AF_UNIX else ("127.0.0.1", 0))
            sock.listen()
            address = sock.getsockname()
            async with _open_wrapped(sock, wrap) as handle:
                yield Made(handle, lambda: connect_and_answer(family, address))

    return make


def _udp(wrap: Wrap) -> Callable[[], AbstractAsyncContextManager[Made]]:
    @asynccontextmanager
    async def make() -> AsyncIterator[Made]:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            sock.bind(("127.0.0.1", 0))
            client.connect(sock.getsockname())
            client.settimeout(PATIENCE)

            def ask() -> None:
                client.send(QUESTION)
                assert client.recv(100) == ANSWER

            async with _open_wrapped(sock, wrap) as handle:
                yield Made(handle, lambda: trio.to_thread.run_sync(ask))

    return make


def _unix_datagram(wrap: Wrap) -> Callable[[], AbstractAsyncContextManager[Made]]:
    @asynccontextmanager
    async def make() -> AsyncIterator[Made]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        theirs.settimeout(PATIENCE)

        def reply() -> None:
            assert theirs.recv(100) == QUESTION
            theirs.send(ANSWER)

        with ours, theirs:
            async with _open_wrapped(ours, wrap) as handle:
                yield Made(handle, lambda: trio.to_thread.run_sync(reply))

    return make


@asynccontextmanager
async def _pipe_to_read() -> AsyncIterator[Made]:
    with pipe() as (reader, writer):
        yield Made(reader, lambda: writer.send_all(ANSWER))


@asynccontextmanager
async def _pipe_to_write() -> AsyncIterator[Made]:
    with pipe() as (reader, writer):

        async def attend() -> None:
            assert await reader.receive_some() == QUESTION

        yield Made(writer, attend)


@contextmanager
def _open_temporary(
    mode: str, buffering: int, expected: bytes
) -> Iterator[tuple[Any, Callable[[], None]]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(ANSWER)

        def check() -> None:
            assert path.read_bytes() == expected

        file = path.open(mode, buffering)
        with getattr(file, "raw", file):  # a buffer around it may be detached by the test
            yield file, check


def _file(
    mode: str, buffering: int, expected: bytes
) -> Callable[[], AbstractAsyncContextManager[Made]]:
    async def attend() -> None:
        pass  # nobody is at the other end of a file

    @asynccontextmanager
    async def make() -> AsyncIterator[Made]:
        with _open_temporary(mode, buffering, expected) as (file, check):
            yield Made(file, attend, check)

    return make


@asynccontextmanager
async def _channel() -> AsyncIterator[Made]:
    with channel_pair() as (ours, theirs):

        async def attend() -> None:
            assert await ours.receive() == QUESTION
            await ours.send(ANSWER)

        yield Made(theirs, attend)


def _socket_kinds() -> Iterator[Kind]:
    wraps = (
        ("trio socket", _trio_socket, trio.socket.SocketType),
        ("socket", _socket, socket.socket),
    )
    inet, unix = socket.AF_INET, socket.AF_UNIX
    for name, wrap, kind in (("stream", _stream, trio.SocketStream), *wraps):
        yield Kind(f"{name} TCP", kind, "converse", True, _connected(wrap, inet))
        yield Kind(f"{name} Unix", kind, "converse", True, _connected(wrap, unix))
    for name, wrap, kind in (("listener", _listener, trio.SocketListener), *wraps):
        yield Kind(f"{name} TCP listening", kind, "accept", False, _listening(wrap, inet))
        yield Kind(f"{name} Unix listening", kind, "accept", False, _listening(wrap, unix))
    for name, wrap, kind in wraps:
        yield Kind(f"{name} UDP", kind, "answer_datagram", False, _udp(wrap))
        yield Kind(f"{name} Unix datagram", kind, "ask_datagram", False, _unix_datagram(wrap))


def _file_kinds() -> Iterator[Kind]:
    for mode, role, expected in (
        ("rb", "read_file", ANSWER),
        ("wb", "write_file", QUESTION),
        ("ab", "write_file", ANSWER + QUESTION),
        ("r+b", "rewrite_file", ANSWER + QUESTION),
    ):
        for name, buffering in (("raw", 0), ("buffered", -1)):
            make = _file(mode, buffering, expected)
            yield Kind(f"file {mode} {name}", io.FileIO, role, False, make)


KINDS = [
    *_socket_kinds(),
    Kind("pipe to read", trio.lowlevel.FdStream, "read_pipe", True, _pipe_to_read),
    Kind("pipe to write", trio.lowlevel.FdStream, "write_pipe", True, _pipe_to_write),
    *_file_kinds(),
    Kind("channel", trio_ipc.Channel, "talk", True, _channel),
]

BY_NAME = {kind.name: kind for kind in KINDS}
