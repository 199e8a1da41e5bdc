"""Handles that come from a peer who plays Node's part badly: made into what they are, or closed."""

from __future__ import annotations

import fcntl
import gc
import io
import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ipc

from .meaning_helpers import settle, waiting
from .node_peers.raw import (
    ACK,
    NACK,
    all_closed,
    assert_alive,
    connection,
    count,
    get_count,
    handle_frame,
    is_open,
    line,
    notify_close,
    open_end,
)

KEY = "4:127.0.0.1:0"


def witness() -> tuple[io.FileIO, int]:
    """The two ends of a pipe. The first reads the end when the second is closed everywhere."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    return io.FileIO(read), write


# What it becomes --------------------------------------------------------------------------------


def stream(stack: ExitStack) -> Any:
    a, b = socket.socketpair()
    stack.enter_context(b)
    return stack.enter_context(a)


def tcp(stack: ExitStack) -> Any:
    near, _ = stack.enter_context(connection())
    return near.socket


def listener(stack: ExitStack) -> Any:
    return stack.enter_context(socket.create_server(("127.0.0.1", 0)))


def udp(stack: ExitStack) -> Any:
    return stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


def pipe(stack: ExitStack) -> Any:
    read, write = os.pipe()
    stack.callback(os.close, read)
    stack.callback(os.close, write)
    return read


ARRIVES: list[tuple[Callable[[ExitStack], Any], str, type]] = [
    (tcp, "net.Socket", trio.SocketStream),
    (tcp, "net.Native", trio.SocketStream),
    (stream, "net.Socket", trio.SocketStream),
    (stream, "net.Native", trio.SocketStream),
    (listener, "net.Server", trio.SocketListener),
    (listener, "net.Native", trio.SocketListener),
    (udp, "dgram.Socket", trio.socket.SocketType),
    (udp, "dgram.Native", trio.socket.SocketType),
    (pipe, "net.Socket", trio.lowlevel.FdStream),
    (pipe, "net.Native", trio.lowlevel.FdStream),
]


@pytest.mark.parametrize(("make", "kind", "type_"), ARRIVES)
async def test_what_arrives(make: Callable[[ExitStack], Any], kind: str, type_: type) -> None:
    async with open_end() as (channel, raw):
        with ExitStack() as stack:
            sent = make(stack)
            number = sent if isinstance(sent, int) else sent.fileno()
            await raw.say(handle_frame({"a": 1}, kind), number)
            assert await raw.hear() == ACK
            message, handle = await channel.receive()
            assert message == {"a": 1}
            assert isinstance(handle, type_)
            copy = getattr(handle, "socket", handle).fileno()
            assert os.fstat(copy).st_ino == os.fstat(number).st_ino
            assert not os.get_inheritable(copy)
            assert fcntl.fcntl(copy, fcntl.F_GETFL) & os.O_NONBLOCK
            if isinstance(handle, trio.socket.SocketType):
                handle.close()
            else:
                await handle.aclose()


def dgram_pair(stack: ExitStack) -> Any:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    stack.enter_context(b)
    return stack.enter_context(a)


def seqpacket(stack: ExitStack) -> Any:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stack.enter_context(b)
    return stack.enter_context(a)


def netlink(stack: ExitStack) -> Any:
    return stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))


def file(stack: ExitStack) -> Any:
    return stack.enter_context(tempfile.TemporaryFile())


def directory(stack: ExitStack) -> Any:
    number = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    stack.callback(os.close, number)
    return number


def path_of_a_socket(stack: ExitStack) -> Any:
    """It is a socket to fstat(), and to nobody else."""
    return opened_as_path(
        stack, lambda path: stack.enter_context(socket.socket(socket.AF_UNIX)).bind(path)
    )


def path_of_a_pipe(stack: ExitStack) -> Any:
    return opened_as_path(stack, os.mkfifo)


def opened_as_path(stack: ExitStack, make: Callable[[str], object]) -> int:
    path = str(Path(stack.enter_context(tempfile.TemporaryDirectory()), "x"))
    make(path)
    number = os.open(path, os.O_PATH)
    stack.callback(os.close, number)
    return number


WRONG: list[tuple[Callable[[ExitStack], Any], Any]] = [
    *((make, "net.Socket") for make in (listener, udp, dgram_pair, seqpacket, netlink)),
    *((make, "net.Socket") for make in (file, directory, path_of_a_socket, path_of_a_pipe)),
    *((make, "net.Server") for make in (tcp, stream, udp, pipe, file)),
    *((make, "dgram.Socket") for make in (tcp, listener, dgram_pair, pipe, path_of_a_socket)),
    *((make, "net.Native") for make in (udp, dgram_pair, file, path_of_a_pipe)),
    *((tcp, kind) for kind in ("", "net.Sock", "Socket", None, 1, ["net.Socket"], {"a": 1})),
    (tcp, "x" * 100_000),
]


@pytest.mark.parametrize(("make", "kind"), WRONG)
async def test_what_is_not_what_it_says(make: Callable[[ExitStack], Any], kind: Any) -> None:
    reader, write = witness()
    with reader, ExitStack() as stack:
        async with open_end() as (channel, raw):
            sent = make(stack)
            await raw.say(handle_frame("before"), write)
            await raw.say(handle_frame("m", kind), sent)
            with pytest.raises(trio_ipc.ProtocolError) as caught:
                while True:
                    await channel.receive()
            assert len(str(caught.value)) < 500
        os.close(write)
        gc.collect()
        assert reader.read() == b""


# Misfits ----------------------------------------------------------------------------------------


async def test_a_handle_without_a_message_of_its_type_is_closed() -> None:
    async with open_end(message_type=int) as (channel, raw):
        with connection() as (sent, far):
            await raw.say(handle_frame("m", key=KEY), sent.socket)
            sent.socket.close()
            assert await raw.hear() == ACK
            with pytest.raises(trio_ipc.InvalidMessage):
                await channel.receive()
            assert far.recv(10) == b""
            await raw.say(get_count(KEY) + line(7))
            assert await raw.hear() == count(KEY, 0)
            assert await channel.receive() == 7


async def test_a_tuple_with_a_stream() -> None:
    async with open_end(message_type=tuple[str, trio.SocketStream]) as (channel, raw):
        with connection() as (sent, far):
            await raw.say(handle_frame("m"), sent.socket)
            message, stream = await channel.receive()
            sent.socket.close()
            assert message == "m"
            await assert_alive(stream, far)
            await stream.aclose()
        with socket.create_server(("127.0.0.1", 0)) as server:
            await raw.say(handle_frame("m", "net.Server"), server)
            with pytest.raises(trio_ipc.InvalidMessage, match="SocketListener"):
                await channel.receive()


async def test_an_invalid_message_leaves_the_channel_alive() -> None:
    async with open_end(message_type=int) as (channel, raw):
        await raw.say(line(1) + line("x") + line({"cmd": "NODE_NEWS"}) + line(2))
        assert await channel.receive() == 1
        with pytest.raises(trio_ipc.InvalidMessage):
            await channel.receive()
        assert channel.receive_nowait() == 2
        await channel.send("x")
        assert await raw.hear() == line("x")


async def test_a_waiting_receiver_gets_the_invalid_one() -> None:
    async with open_end(message_type=int) as (channel, raw):
        async with waiting(channel.receive) as first, waiting(channel.receive) as second:
            await raw.say(line("x") + line(2))
            with pytest.raises(trio_ipc.InvalidMessage):
                await first.outcome()
            assert await second.outcome() == 2


# Surplus and missing ----------------------------------------------------------------------------


async def test_a_frame_without_its_handle_is_refused_and_nothing_is_delivered() -> None:
    async with open_end() as (channel, raw):
        await raw.say(line("before") + handle_frame("m") + line("behind"))
        assert await raw.hear() == NACK
        assert await channel.receive() == "before"
        assert await channel.receive() == "behind"


@pytest.mark.parametrize(
    "data", [line("x"), ACK, get_count(KEY), b"\x02\n", line({"cmd": "NODE_NEWS"})]
)
async def test_a_handle_that_no_message_announced_is_closed(data: bytes) -> None:
    reader, write = witness()
    with reader:
        async with open_end() as (channel, raw):
            await raw.say(data, write)
            os.close(write)
            with pytest.raises(trio_ipc.ProtocolError):
                await channel.receive()
            assert reader.read() == b""


@pytest.mark.parametrize("number", [2, 16, 17, 64])
async def test_more_handles_than_one(number: int) -> None:
    reader, write = witness()
    with reader:
        async with open_end() as (channel, raw):
            await raw.say(handle_frame("m"), *[write] * number)
            os.close(write)
            with pytest.raises(trio_ipc.ProtocolError):
                await channel.receive()
            assert reader.read() == b""


async def test_a_handle_whose_frame_never_ends() -> None:
    reader, write = witness()
    with reader:
        async with open_end() as (channel, raw):
            await raw.say(handle_frame("m")[:-1], write)
            os.close(write)
            await settle()
            raw.close()
            with pytest.raises(trio_ipc.ProtocolError, match="51 bytes of a line"):
                await channel.receive()
            assert reader.read() == b""


async def test_handles_that_nobody_takes_are_closed() -> None:
    reader, write = witness()
    with reader:
        async with open_end() as (_, raw):
            await raw.say(handle_frame("m"), write)
            assert await raw.hear() == ACK
        os.close(write)
        assert reader.read() == b""


async def test_handles_for_who_receives_no_more_are_closed() -> None:
    reader, write = witness()
    with reader:
        async with open_end() as (channel, raw):
            channel.receive_channel.close()
            await raw.say(handle_frame("m"), write)
            assert await raw.hear() == ACK
            os.close(write)
            assert reader.read() == b""


async def test_twice_wrapped() -> None:
    async with open_end() as (channel, raw):
        with connection() as (sent, far):
            inner = {"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": "m", "key": KEY}
            await raw.say(handle_frame(inner, "net.Native") + get_count(KEY), sent.socket)
            sent.socket.close()
            assert await raw.hear() == ACK
            assert await raw.hear() == count(KEY, 1)  # and no second acknowledgement
            message, stream = await channel.receive()
            assert message == "m"
            await assert_alive(stream, far)
            await stream.aclose()


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_peer_that_does_not_wait_for_our_answers(size: int) -> None:
    """The kernel merges the tail of one frame with the head of the next; nobody gets another
    one's handle."""
    async with open_end() as (channel, raw):
        pairs = [socket.socketpair() for _ in range(10)]
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def say_all() -> None:
                for number, (ours, _) in enumerate(pairs):
                    await raw.say(handle_frame([number, "x" * size]), ours)

            for number, (_, theirs) in enumerate(pairs):
                (found, filler), stream = await channel.receive()
                assert (found, len(filler)) == (number, size)
                async with stream:
                    await stream.send_all(b"%d" % number)
                    assert theirs.recv(10) == b"%d" % number
        for pair in pairs:
            for each in pair:
                each.close()


# Accounting -------------------------------------------------------------------------------------


async def receive_counted(channel: Any, raw: Any, stack: ExitStack, number: int) -> list[Any]:
    """Receive so many sockets of the server."""
    streams = []
    for _ in range(number):
        sent, _ = stack.enter_context(connection())
        await raw.say(handle_frame("m", key=KEY), sent.socket)
        assert await raw.hear() == ACK
        streams.append((await channel.receive()).handle)
    return streams


async def counted(raw: Any) -> int:
    await raw.say(get_count(KEY))
    answer = await raw.hear()
    return next(n for n in range(100) if count(KEY, n) == answer)


async def test_what_counts_as_open() -> None:
    async with open_end() as (channel, raw):
        with ExitStack() as stack:
            assert await counted(raw) == 0
            streams = await receive_counted(channel, raw, stack, 3)
            await raw.say(handle_frame("m", key=KEY), streams[0].socket)
            assert await raw.hear() == ACK
            assert await counted(raw) == 4  # the last one is not even taken
            (await channel.receive()).handle.socket.close()
            assert await counted(raw) == 3
            await streams.pop().aclose()
            assert await counted(raw) == 2
            streams.pop().socket.close()
            assert await counted(raw) == 1
            drop(streams)
            assert await counted(raw) == 0


async def test_a_socket_counts_without_its_stream() -> None:
    async with open_end() as (channel, raw):
        with ExitStack() as stack:
            sockets = [each.socket for each in await receive_counted(channel, raw, stack, 1)]
            gc.collect()
            assert await counted(raw) == 1
            await raw.say(notify_close(KEY))
            assert await counted(raw) == 1
            sockets.pop().close()
            assert await raw.hear() == all_closed(KEY)


def drop(streams: list[Any]) -> None:
    with pytest.warns(ResourceWarning, match="unclosed"):
        forget(streams)


def forget(streams: list[Any]) -> None:
    streams.clear()
    gc.collect()


async def test_what_has_moved_on_does_not_count() -> None:
    async with open_end() as (channel, raw):
        with ExitStack() as stack:
            streams = await receive_counted(channel, raw, stack, 2)
            a, b = trio_ipc.open_channel_pair(1)
            with a, b:
                a.send_nowait(streams.pop())
                assert await counted(raw) == 1
            async with waiting(channel.send, "back", streams.pop()) as sent:
                assert await raw.hear() == handle_frame("back")
                assert await counted(raw) == 1  # until the peer has it
                await raw.say(ACK)
                await sent.outcome()
            assert await counted(raw) == 0


async def test_the_last_socket_of_a_server() -> None:
    async with open_end() as (channel, raw):
        with ExitStack() as stack:
            first, second = await receive_counted(channel, raw, stack, 2)
            await raw.say(notify_close(KEY))
            await first.aclose()
            assert await counted(raw) == 1
            assert raw.heard_nothing()
            await second.aclose()
            assert await raw.hear() == all_closed(KEY)
            await raw.say(notify_close(KEY))
            assert await raw.hear() == all_closed(KEY)
            assert await counted(raw) == 0


async def test_it_asks_before_anything_else_has_happened() -> None:
    with connection() as (sent, _):
        async with open_end() as (channel, raw):
            await raw.say(handle_frame("m", key=KEY), sent.socket)
            await raw.say(notify_close(KEY))
            [_, stream] = channel.receive_nowait()
            assert await raw.hear() == ACK
            await stream.aclose()
            assert await raw.hear() == all_closed(KEY)


async def test_it_is_told_while_nobody_receives() -> None:
    async with open_end(max_buffer_size=1) as (channel, raw):
        with ExitStack() as stack:
            [stream] = await receive_counted(channel, raw, stack, 1)
            await raw.say(line(1) + notify_close(KEY) + line(2))
            while channel.statistics().current_buffer_used < 2:
                await settle(0.001)
            await stream.aclose()
            assert await raw.hear() == all_closed(KEY)
            assert await channel.receive() == 1


async def test_the_peer_ends_while_it_waits_for_that() -> None:
    async with open_end() as (channel, raw):
        with ExitStack() as stack:
            [stream] = await receive_counted(channel, raw, stack, 1)
            await raw.say(notify_close(KEY))
            raw.close()
            with pytest.raises(trio.EndOfChannel):
                await channel.receive()
            assert is_open(stream)
            await stream.aclose()


async def test_a_question_with_a_lone_surrogate() -> None:
    async with open_end() as (_, raw):
        await raw.say(b'{"cmd":"NODE_SOCKET_GET_COUNT","key":"\\ud800"}\n')
        assert await raw.hear() == b'{"cmd":"NODE_SOCKET_COUNT","key":"\\ud800","count":0}\n'
