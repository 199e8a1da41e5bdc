"""What Node can't take is refused here, because it would kill the peer or block its channel."""

from __future__ import annotations

import io
import os
import pty
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ipc

from .node_peers.raw import ACK, handle_frame, line, open_end, reset, tcp_pair


def from_socket(sock: socket.socket) -> trio.socket.SocketType:
    return trio.socket.from_stdlib_socket(sock)


# What is refused. Each opens things in a stack, and returns what to send. ------------------------


def unix_datagram(stack: ExitStack) -> Any:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    stack.enter_context(b)
    return stack.enter_context(a)


def unix_datagram_of_trio(stack: ExitStack) -> Any:
    return from_socket(unix_datagram(stack))


def sequential_packets(stack: ExitStack) -> Any:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stack.enter_context(b)
    return stack.enter_context(a)


def raw_packets(stack: ExitStack) -> Any:
    try:
        return stack.enter_context(
            socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        )
    except PermissionError:
        pytest.skip("raw sockets are not for everybody")


def netlink(stack: ExitStack) -> Any:
    return stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))


def unconnected(stack: ExitStack) -> Any:
    return stack.enter_context(socket.socket())


def unconnected_stream(stack: ExitStack) -> Any:
    sock = stack.enter_context(closing(trio.socket.socket()))
    return trio.SocketStream(sock)


def bound(stack: ExitStack) -> Any:
    sock = stack.enter_context(socket.socket())
    sock.bind(("127.0.0.1", 0))
    return sock


def unconnected_unix(stack: ExitStack) -> Any:
    return stack.enter_context(socket.socket(socket.AF_UNIX))


def regular_file(stack: ExitStack) -> Any:
    return stack.enter_context(tempfile.TemporaryFile())


def unbuffered_file(stack: ExitStack) -> Any:
    return stack.enter_context(tempfile.TemporaryFile(buffering=0))


def text_file(stack: ExitStack) -> Any:
    return stack.enter_context(tempfile.TemporaryFile("w+"))


def memory_file(stack: ExitStack) -> Any:
    return stack.enter_context(io.FileIO(os.memfd_create("x"), "r+"))


def nowhere(stack: ExitStack) -> Any:
    return stack.enter_context(open(os.devnull, "rb"))


def bytes_in_memory(stack: ExitStack) -> Any:
    return stack.enter_context(io.BytesIO(b"x"))


def pipe_file(stack: ExitStack) -> Any:
    read, write = os.pipe()
    stack.callback(os.close, write)
    return stack.enter_context(io.FileIO(read))


def terminal(stack: ExitStack) -> Any:
    ours, theirs = pty.openpty()
    stack.callback(os.close, theirs)
    return fd_stream(stack, ours)


def stream_of_a_file(stack: ExitStack) -> Any:
    return fd_stream(stack, os.memfd_create("x"))


def stream_of_a_device(stack: ExitStack) -> Any:
    return fd_stream(stack, os.open(os.devnull, os.O_RDWR))


def stream_of_an_event(stack: ExitStack) -> Any:
    if not hasattr(os, "eventfd"):
        pytest.skip("os.eventfd is new in Python 3.10")
    return fd_stream(stack, os.eventfd(0, os.EFD_CLOEXEC))


def stream_of_a_socket(stack: ExitStack) -> Any:
    a, b = socket.socketpair()
    stack.enter_context(b)
    return fd_stream(stack, a.detach())


def fd_stream(stack: ExitStack, number: int) -> trio.lowlevel.FdStream:
    os.set_blocking(number, False)
    stream = trio.lowlevel.FdStream(number)
    stack.callback(stream.close)
    return stream


def channel(stack: ExitStack) -> Any:
    a, b = trio_ipc.open_channel_pair(1)
    stack.enter_context(a)
    return stack.enter_context(b)


def tls_stream(stack: ExitStack) -> Any:
    stream, far = tcp_pair()
    stack.enter_context(far)
    stack.callback(stream.socket.close)
    return trio.SSLStream(stream, ssl.create_default_context(), server_hostname="x")


def tls_socket(stack: ExitStack) -> Any:
    stream, far = tcp_pair()
    stack.enter_context(far)
    near = socket.socket(fileno=os.dup(stream.socket.fileno()))
    stream.socket.close()
    context = ssl.create_default_context()
    wrapped = context.wrap_socket(near, server_hostname="x", do_handshake_on_connect=False)
    return stack.enter_context(wrapped)


def closed_stream(stack: ExitStack) -> Any:
    stream, far = tcp_pair()
    far.close()
    stream.socket.close()
    return stream


def closed_socket(stack: ExitStack) -> Any:
    sock = socket.socket()
    sock.close()
    return sock


def closed_pipe(stack: ExitStack) -> Any:
    read, write = os.pipe()
    os.close(write)
    stream = fd_stream(stack, read)
    stream.close()
    return stream


def number(stack: ExitStack) -> Any:
    return 0


def text(stack: ExitStack) -> Any:
    return "h"


REFUSED: list[Callable[[ExitStack], Any]] = [
    unix_datagram,
    unix_datagram_of_trio,
    sequential_packets,
    raw_packets,
    netlink,
    unconnected,
    unconnected_stream,
    bound,
    unconnected_unix,
    regular_file,
    unbuffered_file,
    text_file,
    memory_file,
    nowhere,
    bytes_in_memory,
    pipe_file,
    terminal,
    stream_of_a_file,
    stream_of_a_device,
    stream_of_an_event,
    stream_of_a_socket,
    channel,
    tls_stream,
    tls_socket,
    closed_stream,
    closed_socket,
    closed_pipe,
    number,
    text,
]


@pytest.mark.parametrize("make", REFUSED)
async def test_refused_and_nothing_is_sent(make: Callable[[ExitStack], Any]) -> None:
    async with open_end() as (channel, raw):
        with ExitStack() as stack:
            handle = make(stack)
            before = descriptor(handle)
            with pytest.raises(trio_ipc.UnsupportedHandle):
                await channel.send("m", handle)
            with pytest.raises(trio_ipc.UnsupportedHandle):
                channel.send_nowait("m", handle)
            with pytest.raises(trio_ipc.UnsupportedHandle):
                await channel.send("m", handle, keep_open=True)
            with pytest.raises(trio_ipc.UnsupportedHandle):
                await channel.send(trio_ipc.HandleMessage("m", handle))
            assert descriptor(handle) == before
        channel.send_nowait("behind")
        assert await raw.hear() == line("behind")
        assert raw.fds == []


def descriptor(handle: Any) -> int:
    try:
        return int(getattr(handle, "socket", handle).fileno())
    except (AttributeError, ValueError, OSError):
        return -1


@pytest.mark.parametrize("name", ["message", "list", "dict", "pair in a list"])
async def test_a_handle_inside_of_a_message(name: str) -> None:
    async with open_end() as (channel, raw):
        stream, far = tcp_pair()
        with far, closing(stream.socket):
            message = {
                "message": stream,
                "list": [stream],
                "dict": {"a": [stream.socket]},
                "pair in a list": [trio_ipc.HandleMessage("m", stream)],
            }[name]
            with pytest.raises(trio_ipc.UnsupportedHandle, match="beside a message"):
                await channel.send(message)
            with tempfile.TemporaryFile() as file:
                with pytest.raises(trio_ipc.UnsupportedHandle, match=r"take a BufferedRandom"):
                    await channel.send([file], stream)
            assert descriptor(stream) >= 0
        channel.send_nowait("behind")
        assert await raw.hear() == line("behind")


async def test_the_channels_own_end() -> None:
    async with open_end() as (channel, raw):
        with socket.socket(fileno=os.dup(channel.fileno())) as own:
            with pytest.raises(trio_ipc.UnsupportedHandle, match="end of the channel"):
                await channel.send("m", own)
            with pytest.raises(trio_ipc.UnsupportedHandle):
                await channel.send("m", channel)
        channel.send_nowait("behind")
        assert await raw.hear() == line("behind")


async def test_no_handles_are_allowed() -> None:
    async with open_end(max_handles=0) as (channel, raw):
        stream, far = tcp_pair()
        with far, closing(stream.socket):
            with pytest.raises(trio_ipc.MessageTooLarge):
                await channel.send("m", stream)
        await raw.say(handle_frame("m"))
        with pytest.raises(trio_ipc.ProtocolError):
            await channel.receive()


# What is taken, and as what ----------------------------------------------------------------------


@contextmanager
def unix_listener() -> Iterator[socket.socket]:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(Path(folder, "s")))
        sock.listen()
        yield sock


def gone_tcp(stack: ExitStack) -> Any:
    stream, far = tcp_pair()
    stack.callback(stream.socket.close)
    far.close()
    return stream


def reset_tcp(stack: ExitStack) -> Any:
    """A client that has gone is no mistake of the sender's."""
    stream, far = tcp_pair()
    stack.callback(stream.socket.close)
    reset(far)
    return stream


def gone_unix(stack: ExitStack) -> Any:
    a, b = socket.socketpair()
    b.close()
    return stack.enter_context(a)


def tcp_listener(stack: ExitStack) -> Any:
    return stack.enter_context(socket.create_server(("127.0.0.1", 0)))


def listener_of_trio(stack: ExitStack) -> Any:
    sock = from_socket(tcp_listener(stack))
    return trio.SocketListener(sock)


def listener_of_a_path(stack: ExitStack) -> Any:
    return stack.enter_context(unix_listener())


def udp(stack: ExitStack) -> Any:
    return stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


def udp_of_trio(stack: ExitStack) -> Any:
    sock = udp(stack)
    sock.bind(("127.0.0.1", 0))
    return from_socket(sock)


def udp6(stack: ExitStack) -> Any:
    try:
        return stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    except OSError:
        pytest.skip("there is no IPv6 here")


def tcp6_listener(stack: ExitStack) -> Any:
    try:
        return stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
    except OSError:
        pytest.skip("there is no IPv6 here")


def read_end(stack: ExitStack) -> Any:
    read, write = os.pipe()
    stack.callback(os.close, write)
    return fd_stream(stack, read)


def write_end(stack: ExitStack) -> Any:
    read, write = os.pipe()
    stack.callback(os.close, read)
    return fd_stream(stack, write)


TAKEN: list[tuple[Callable[[ExitStack], Any], dict[str, str]]] = [
    (gone_tcp, {"type": "net.Socket"}),
    (reset_tcp, {"type": "net.Socket"}),
    (gone_unix, {"type": "net.Socket"}),
    (tcp_listener, {"type": "net.Server"}),
    (tcp6_listener, {"type": "net.Server"}),
    (listener_of_trio, {"type": "net.Server"}),
    (listener_of_a_path, {"type": "net.Server"}),
    (udp, {"type": "dgram.Socket", "dgramType": "udp4"}),
    (udp_of_trio, {"type": "dgram.Socket", "dgramType": "udp4"}),
    (udp6, {"type": "dgram.Socket", "dgramType": "udp6"}),
    (read_end, {"type": "net.Socket"}),
    (write_end, {"type": "net.Socket"}),
]


@pytest.mark.parametrize(("make", "members"), TAKEN)
async def test_taken_as(make: Callable[[ExitStack], Any], members: dict[str, str]) -> None:
    async with open_end() as (channel, raw):
        with ExitStack() as stack:
            handle = make(stack)
            identity = os.fstat(descriptor(handle)).st_ino
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.send, "m", handle)
                assert await raw.hear() == line({"cmd": "NODE_HANDLE", **members, "msg": "m"})
                [number] = raw.fds
                assert os.fstat(number).st_ino == identity
                await raw.say(ACK)
            moves = members["type"] == "net.Socket"
            assert (descriptor(handle) < 0) == moves
