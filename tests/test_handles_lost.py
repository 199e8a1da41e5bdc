"""A handle that nobody gets is closed; one that is not what the peer says ends the channel."""

from __future__ import annotations

import io
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.lowlevel
import trio.testing

import trio_ipc
from trio_ipc import _connection

from . import handle_workers
from .handle_kinds import (
    KINDS,
    Kind,
    channel_pair,
    copies,
    is_open,
    pipe,
    raw_peer,
    sees_end,
    shrink,
    stream_and_client,
    typed_pair,
)
from .handle_workers import read_exactly
from .meaning_helpers import open_raw_peer

# Not received -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_a_handle_that_arrived_is_closed_with_the_channel(kind: Kind) -> None:
    async with kind.make() as made:
        with channel_pair() as (a, b):
            before = copies(made.handle)
            await a.send("read on")
            await a.send([made.handle], keep_open=None if kind.name == "channel" else True)
            assert await b.receive() == "read on"
            assert b.statistics().current_buffer_used == 1
            if kind.name != "channel":
                assert copies(made.handle) == before + 1
            b.close()
            if kind.name != "channel":
                assert copies(made.handle) == before
        if kind.name == "channel":
            with pytest.raises(trio.BrokenResourceError):
                await made.attend()


async def test_a_client_sees_the_end_of_a_connection_that_was_not_received() -> None:
    with stream_and_client() as (stream, client), channel_pair() as (a, b):
        await a.send("read on")
        await a.send(stream)
        assert await b.receive() == "read on"
        b.receive_channel.close()  # the other half stays open
        assert await sees_end(client)


async def test_a_client_sees_the_end_of_a_connection_that_was_not_read_off_the_socket() -> None:
    with stream_and_client() as (stream, client):
        with channel_pair() as (a, b):
            await a.send(stream)
            b.close()
        assert await sees_end(client)


async def test_closing_does_not_take_for_ever_to_read_what_still_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if the peer wrote on as fast as it is read: what remains is the kernel's to close."""
    monkeypatch.setattr(_connection, "MOST_LEFT", 2)
    with ExitStack() as stack:
        clients = []
        a, b = stack.enter_context(channel_pair())
        for _ in range(5):
            stream, client = stack.enter_context(stream_and_client())
            await a.send(stream)
            clients.append(client)
        b.close()
        for client in clients:
            assert await sees_end(client)


async def test_a_client_sees_the_end_of_a_connection_that_was_not_written() -> None:
    with stream_and_client() as (stream, client), channel_pair() as (a, _):
        shrink(a)
        await a.send(bytes(100_000))  # more than the kernel takes, and less than makes us wait
        await a.send(stream)
        assert a.statistics().bytes_unsent
        assert not is_open(stream)
        a.close()  # without a scope, nobody writes the rest: see its documentation
        assert await sees_end(client)


async def test_a_client_sees_the_end_of_a_connection_whose_write_has_failed() -> None:
    with stream_and_client() as (stream, client), open_raw_peer(100) as (channel, raw):
        while not channel.statistics().bytes_unsent:
            channel.send_nowait(bytes(100_000))
        channel.send_nowait(stream)
        raw.shutdown(socket.SHUT_RD)
        with pytest.raises(trio.BrokenResourceError):
            await channel.drain()
        assert await sees_end(client)  # though the channel is not closed


async def test_a_client_sees_the_end_of_a_connection_that_a_child_did_not_receive() -> None:
    with stream_and_client() as (stream, client), pipe() as (reader, writer):
        async with trio_ipc.open_child(handle_workers.receive_nothing, reader) as child:
            await child.send(stream)
            await writer.aclose()
            assert await sees_end(client)


async def test_a_client_sees_the_end_of_a_connection_to_a_child_that_was_killed() -> None:
    with stream_and_client() as (stream, client), pipe() as (reader, _):
        async with trio_ipc.open_child(
            handle_workers.receive_nothing, reader, check=False
        ) as child:
            await child.send(stream)
            child.process.kill()
            assert await sees_end(client)


async def test_a_client_sees_the_end_of_a_connection_that_the_parent_did_not_receive() -> None:
    with stream_and_client() as (stream, client):
        async with trio_ipc.open_child(handle_workers.send_all_and_wait, [stream]):
            pass  # it is sent back to us, whenever the child comes to that
        assert await sees_end(client)


async def test_a_client_sees_the_end_of_a_connection_to_a_half_that_is_closed() -> None:
    with stream_and_client() as (stream, client):
        async with trio_ipc.open_child(handle_workers.send_all_and_wait, [stream]) as child:
            child.receive_channel.close()
            assert await sees_end(client)


async def test_what_is_lost_when_a_block_is_cancelled_is_closed() -> None:
    with stream_and_client() as (stream, client):
        with trio.CancelScope() as scope:
            handles = ["first", stream]
            async with trio_ipc.open_child(handle_workers.send_all_and_wait, handles) as child:
                assert await child.receive() == "first"
                scope.cancel()
                await trio.sleep_forever()
        assert await sees_end(client)


async def test_a_send_that_was_cancelled_leaves_the_handle_to_the_caller() -> None:
    with stream_and_client() as (stream, client), channel_pair(1) as (a, b):
        await a.send("fills the buffer")
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(a.send, [stream])
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert await b.receive() == "fills the buffer"
        await a.send("the next one")
        assert await b.receive() == "the next one"
        client.sendall(b"still here")
        assert await stream.receive_some() == b"still here"


async def test_a_cancelled_receive_leaves_the_handle_in_the_channel() -> None:
    with stream_and_client() as (stream, client), channel_pair() as (a, b):
        await a.send([stream])
        with trio.CancelScope() as scope:
            scope.cancel()
            await b.receive()
        assert scope.cancelled_caught
        [received] = await b.receive()
        async with received:
            client.sendall(b"still here")
            assert await received.receive_some() == b"still here"


async def test_a_message_of_the_wrong_type_has_its_handles_closed() -> None:
    with typed_pair(dict[str, int]) as (a, b), pipe() as (reader, writer):
        before = copies(reader)
        await a.send({"a": reader, "b": [writer]}, keep_open=True)
        with pytest.raises(trio_ipc.InvalidMessage):
            await b.receive()
        assert copies(reader) == before
        await a.send({"a": 1})
        assert await b.receive() == {"a": 1}


# A frame, by its description: kind, handles, grant, length; and a handle in a message --------

MESSAGES, WITH, PAIR, BYTES, GRANT, END, STOP = b"MWPBGES"
STREAM, LISTENER, TRIO_SOCKET, SOCKET, FD_STREAM, FILE, CHANNEL = range(1, 8)


def send_frame(
    raw: socket.socket, kind: int, payload: bytes, fds: list[int], handles: int | None = None
) -> None:
    header = struct.pack("!BBHI", kind, len(fds) if handles is None else handles, 0, len(payload))
    socket.send_fds(raw, [header, payload], fds)


def handle(index: int, code: int, extra: bytes = b"") -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(-42, bytes((index, code)) + extra)


def one(message: Any) -> bytes:
    return b"\xdd\0\0\0\1" + msgspec.msgpack.encode(message)


def several(*parts: Any) -> bytes:
    """For each message the number of its handles, and then the message."""
    return struct.pack("!BI", 0xDD, len(parts)) + b"".join(map(msgspec.msgpack.encode, parts))


def number(obj: Any) -> int:
    return handle_workers.descriptor_of(obj)


class Impatient(msgspec.Struct):
    stream: trio.SocketStream

    def __post_init__(self) -> None:
        self.stream.socket.close()
        raise ValueError("not today")


async def test_a_type_may_close_the_handles_that_it_does_not_want() -> None:
    with stream_and_client() as (stream, client), typed_pair(Impatient) as (a, b):
        await a.send({"stream": stream})
        with pytest.raises(trio_ipc.InvalidMessage, match="not today"):
            await b.receive()
        assert await sees_end(client)
        await b.send("the channel goes on")
        assert await a.receive() == "the channel goes on"


async def test_a_peer_that_follows_the_rules() -> None:
    with raw_peer() as (channel, raw), stream_and_client() as (stream, client), pipe() as (r, w):
        send_frame(raw, MESSAGES, one([handle(0, STREAM)]), [number(stream)])
        send_frame(
            raw,
            PAIR,
            msgspec.msgpack.encode([[handle(1, FD_STREAM), 7], handle(0, FD_STREAM)]),
            [number(r), number(w)],
        )
        [received] = await channel.receive()
        assert type(received) is trio.SocketStream
        async with received:
            client.sendall(b"it is")
            assert await read_exactly(received, 5) == b"it is"
        [writer, seven], reader = await channel.receive()
        async with reader, writer:
            assert seven == 7
            await writer.send_all(b"through it")
            assert await reader.receive_some() == b"through it"
        numbers = [number(r), number(w), number(r)]
        two = [handle(1, FD_STREAM), handle(0, FD_STREAM)]
        send_frame(raw, WITH, several(1, handle(0, FD_STREAM), 2, two), numbers)
        reader = await channel.receive()
        [other_reader, writer] = await channel.receive()
        async with reader, other_reader, writer:
            for each in (reader, other_reader):
                await writer.send_all(b"through it")
                assert await each.receive_some() == b"through it"


async def test_what_such_a_peer_receives() -> None:
    with raw_peer() as (channel, raw), stream_and_client() as (stream, client), pipe() as (r, w):
        async with w:
            await channel.send("before")
            await channel.send({"it": stream})
            await channel.send("it", r)
        assert raw.recv(13 + 7, socket.MSG_WAITALL)[13:] == b"\xa6before"
        # The descriptors come with the first byte of their frame.
        header, fds, _, _ = socket.recv_fds(raw, 1, 10)
        assert header == b"M"
        [fd] = fds
        with socket.socket(fileno=fd) as received:
            received.sendall(b"from a stranger")
            assert client.recv(15, socket.MSG_WAITALL) == b"from a stranger"
        _, handles, grant, length = struct.unpack("!BBHI", header + raw.recv(7, socket.MSG_WAITALL))
        assert (handles, grant) == (1, 0)
        payload = raw.recv(length, socket.MSG_WAITALL)
        assert payload == one({"it": handle(0, STREAM)})
        header, [fd], _, _ = socket.recv_fds(raw, 8, 10)
        # An FdStream puts back, when it is closed, what is shared with the receiver.
        assert not os.get_blocking(fd)
        with os.fdopen(fd, "rb") as pipe_to_read:
            assert pipe_to_read.read() == b""
        kind, handles, _, length = struct.unpack("!BBHI", header)
        assert (kind, handles) == (PAIR, 1)
        assert raw.recv(length, socket.MSG_WAITALL) == msgspec.msgpack.encode(
            ["it", handle(0, FD_STREAM)]
        )


# What a peer may not do -----------------------------------------------------------------------


async def assert_dead(channel: trio_ipc.Channel[Any, Any], why: str) -> None:
    for _ in range(2):
        with pytest.raises(trio_ipc.ProtocolError, match=why):
            await channel.receive()
    with pytest.raises(trio_ipc.ProtocolError, match=why):
        await channel.send("anything")


@contextmanager
def things(folder: Path) -> Iterator[dict[str, int]]:
    """A descriptor of each kind of thing."""
    with (
        pipe() as (reader, _),
        stream_and_client() as (stream, _),
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        (folder / "file").open("wb") as file,
    ):
        directory = os.open(folder, os.O_RDONLY)
        path = os.open(folder / "file", os.O_PATH)
        try:
            yield {
                "pipe": reader.fileno(),
                "stream": stream.socket.fileno(),
                "listener": listener.fileno(),
                "UDP socket": udp.fileno(),
                "file": file.fileno(),
                "directory": directory,
                "path": path,
            }
        finally:
            os.close(directory)
            os.close(path)


NO_CHANNEL = msgspec.msgpack.encode("no channel")
MOVED = msgspec.msgpack.encode([10, 1000, 1, [[1, 1], [1, 2]], [10, 10, 0, 0, 1000, 1]])


@pytest.mark.parametrize(
    ("announced", "extra", "thing", "why"),
    [
        (STREAM, b"", "pipe", "a socket that is none"),
        (STREAM, b"", "file", "a socket that is none"),
        (STREAM, b"", "listener", "a stream that is none"),
        (STREAM, b"", "UDP socket", "a stream that is none"),
        (LISTENER, b"", "pipe", "a socket that is none"),
        (LISTENER, b"", "stream", "a listener that is none"),
        (LISTENER, b"", "UDP socket", "a listener that is none"),
        (TRIO_SOCKET, b"", "pipe", "a socket that is none"),
        (SOCKET, b"", "directory", "a socket that is none"),
        (FD_STREAM, b"", "file", "a pipe that is none"),
        (FD_STREAM, b"", "directory", "a pipe that is none"),
        (FILE, b"", "directory", "a file that is none"),
        (FILE, b"", "path", "a file that"),
        (CHANNEL, b"", "stream", "a channel that is none"),
        (CHANNEL, b"\xff", "stream", "a channel that is none"),
        (CHANNEL, NO_CHANNEL, "stream", "a channel that is none"),
        (CHANNEL, MOVED, "stream", "a channel that is none"),
        (CHANNEL, MOVED, "pipe", "a channel that is none"),
        (99, b"", "stream", "unknown kind 99"),
        (0, b"", "stream", "unknown kind 0"),
    ],
)
async def test_a_handle_is_not_what_the_peer_says(
    announced: int, extra: bytes, thing: str, why: str, tmp_path: Path
) -> None:
    with things(tmp_path) as numbers, raw_peer() as (channel, raw):
        fd = numbers[thing]
        before = copies(fd)
        send_frame(raw, MESSAGES, one(handle(0, announced, extra)), [fd])
        await assert_dead(channel, why)
        assert copies(fd) == before


A = handle(0, FD_STREAM)
A_PIPE = one(A)


@pytest.mark.parametrize(
    ("kind", "payload", "announced", "sent", "why"),
    [
        pytest.param(MESSAGES, A_PIPE, 1, 0, "1 handles and 0 arrived", id="none"),
        pytest.param(MESSAGES, A_PIPE, 2, 1, "2 handles and 1 arrived", id="too few"),
        pytest.param(MESSAGES, A_PIPE, 0, 1, "sent none", id="not announced"),
        pytest.param(MESSAGES, one("text"), 0, 1, "no frame announced", id="beside a message"),
        pytest.param(MESSAGES, A_PIPE, 1, 2, "no frame announced", id="too many"),
        pytest.param(MESSAGES, A_PIPE, 0, 0, "sent none", id="only in the message"),
        pytest.param(MESSAGES, A_PIPE, 2, 2, "does not contain", id="not all in the message"),
        pytest.param(MESSAGES, one("text"), 1, 1, "does not contain", id="none in the message"),
        pytest.param(MESSAGES, one(handle(1, FD_STREAM)), 1, 1, "sent none", id="wrong index"),
        pytest.param(
            MESSAGES, one(msgspec.msgpack.Ext(-42, b"\0")), 1, 1, "sent none", id="no kind"
        ),
        pytest.param(MESSAGES, one(handle(0, 5))[:-1], 1, 1, "malformed", id="malformed message"),
        pytest.param(MESSAGES, b"\xdd\0\0\0\2\1\2", 1, 1, "batch", id="two messages"),
        pytest.param(PAIR, b"\x93\1\2\xd5\xd6\0\5", 1, 1, "pair that is none", id="no pair"),
        pytest.param(WITH, several(1, A), 1, 0, "1 handles and 0 arrived", id="several: none"),
        pytest.param(WITH, several(1, A, 1, A), 1, 1, "contain", id="several: too few"),
        pytest.param(WITH, several(1, A), 2, 2, "contain", id="several: too many"),
        pytest.param(WITH, several(2, A), 2, 2, "contain", id="several: not all in the message"),
        pytest.param(WITH, several(0, 1, 1, A), 1, 1, "contain", id="several: one without any"),
        pytest.param(WITH, several(1, A, 1), 2, 2, "contain", id="several: no message"),
        pytest.param(WITH, several("1", A), 1, 1, "contain", id="several: no number"),
        pytest.param(WITH, several(1, A)[:-1], 1, 1, "malformed", id="several: malformed"),
        pytest.param(WITH, several(), 0, 0, "contain", id="several: no messages at all"),
        pytest.param(MESSAGES, A_PIPE, 3, 3, "3 handles|lost", id="more than max_handles"),
        pytest.param(BYTES, b"abc", 1, 1, "not allowed", id="with bare bytes"),
        pytest.param(GRANT, b"", 1, 1, "not allowed", id="with a grant"),
        pytest.param(END, b"", 1, 1, "not allowed", id="with the end"),
        pytest.param(STOP, b"", 1, 1, "not allowed", id="with a stop"),
        pytest.param(ord("?"), b"", 1, 1, "unexpected frame", id="with an unknown frame"),
    ],
)
async def test_handles_and_what_is_said_of_them_do_not_fit(
    kind: int, payload: bytes, announced: int, sent: int, why: str
) -> None:
    with pipe() as (reader, _), raw_peer(max_handles=2) as (channel, raw):
        before = copies(reader)
        send_frame(raw, kind, payload, [reader.fileno()] * sent, announced)
        await assert_dead(channel, why)
        assert copies(reader) == before


async def test_handles_that_arrived_before_the_mistake_are_closed() -> None:
    with pipe() as (reader, _), raw_peer(max_handles=2) as (channel, raw):
        before = copies(reader)
        for _ in range(3):
            send_frame(raw, MESSAGES, A_PIPE, [reader.fileno()])
        send_frame(raw, MESSAGES, A_PIPE, [])
        received = await channel.receive()  # before anybody has seen the mistake
        assert copies(reader) == before + 1
        await received.aclose()
        await assert_dead_after_the_rest(channel)
        assert copies(reader) == before


async def assert_dead_after_the_rest(channel: trio_ipc.Channel[Any, Any]) -> None:
    with pytest.raises(trio_ipc.ProtocolError):
        while True:
            await (await channel.receive()).aclose()
    await assert_dead(channel, "sent none")


async def test_the_handles_of_half_a_frame_are_closed_with_the_channel() -> None:
    with pipe() as (reader, _), raw_peer() as (channel, raw):
        before = copies(reader)
        header = struct.pack("!BBHI", MESSAGES, 1, 0, len(A_PIPE))
        socket.send_fds(raw, [header, A_PIPE[:-1]], [reader.fileno()])
        with pytest.raises(trio.WouldBlock):
            channel.receive_nowait()
        assert copies(reader) == before + 1
        channel.close()
        assert copies(reader) == before


@pytest.mark.parametrize("length", [1, 7, 8, 12])
async def test_the_handles_of_half_a_frame_are_closed_when_the_peer_goes(length: int) -> None:
    with pipe() as (reader, _), raw_peer() as (channel, raw):
        before = copies(reader)
        frame = struct.pack("!BBHI", MESSAGES, 1, 0, len(A_PIPE)) + A_PIPE
        socket.send_fds(raw, [frame[:length]], [reader.fileno()])
        raw.shutdown(socket.SHUT_WR)
        await assert_dead(channel, "ended in the middle of a frame")
        assert copies(reader) == before


async def test_one_broken_channel_harms_no_other(tmp_path: Path) -> None:
    with channel_pair() as (a, b), stream_and_client() as (stream, client):
        await a.send([stream])
        with raw_peer() as (channel, raw):
            send_frame(raw, MESSAGES, A_PIPE, [])
            await assert_dead(channel, "arrived|sent none")
        [received] = await b.receive()
        async with received:
            client.sendall(b"unharmed")
            assert await read_exactly(received, 8) == b"unharmed"


# SO_LINGER: closing must not wait for the peer ----------------------------------------------------

LINGERING = struct.pack("ii", 1, 3600)


@contextmanager
def lingering_stream() -> Iterator[trio.SocketStream]:
    """It must not linger any more when its copy, which arrived somewhere, was discarded."""
    with stream_and_client() as (stream, _):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGERING)
        yield stream
        # The option belongs to the socket, whoever holds a descriptor of it.
        value = stream.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        assert struct.unpack("ii", value)[0] == 0


async def test_a_connection_that_was_not_received_does_not_linger() -> None:
    with lingering_stream() as stream, channel_pair() as (a, b):
        await a.send("read on")
        await a.send(stream, keep_open=True)
        assert await b.receive() == "read on"
        b.close()


async def test_a_connection_that_comes_too_late_does_not_linger() -> None:
    with lingering_stream() as stream, raw_peer() as (channel, raw):
        channel.receive_channel.close()
        send_frame(raw, MESSAGES, one(handle(0, STREAM)), [number(stream)])
        with pytest.raises(trio.WouldBlock):
            while True:  # without credit, it looks whether some has come
                channel.send_nowait(None)


async def test_a_connection_in_a_message_of_the_wrong_type_does_not_linger() -> None:
    with lingering_stream() as stream, typed_pair(int) as (a, b):
        await a.send(stream, keep_open=True)
        with pytest.raises(trio_ipc.InvalidMessage):
            await b.receive()


async def test_a_connection_that_is_announced_as_something_else_does_not_linger() -> None:
    for code in (LISTENER, CHANNEL):
        with lingering_stream() as stream, raw_peer() as (channel, raw):
            send_frame(raw, MESSAGES, one(handle(0, code, MOVED)), [number(stream)])
            await assert_dead(channel, "none")


async def test_a_connection_beside_a_mistake_does_not_linger() -> None:
    with lingering_stream() as stream, raw_peer() as (channel, raw):
        message = [handle(0, STREAM), handle(1, STREAM)]
        send_frame(raw, MESSAGES, one(message), [number(stream)])
        await assert_dead(channel, "sent none")


async def test_a_connection_in_half_a_frame_does_not_linger() -> None:
    with lingering_stream() as stream, raw_peer() as (channel, raw):
        socket.send_fds(raw, [b"M"], [number(stream)])
        with pytest.raises(trio.WouldBlock):
            channel.receive_nowait()


def fill(channel: trio_ipc.Channel[Any, Any]) -> None:
    """What is sent from now on is not written."""
    while not channel.statistics().bytes_unsent:
        channel.send_nowait(bytes(100_000))


async def test_a_connection_that_is_kept_lingers_as_before_when_it_is_not_written() -> None:
    with stream_and_client() as (stream, _), open_raw_peer(100) as (channel, _):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGERING)
        fill(channel)
        channel.send_nowait(stream, keep_open=True)
        channel.close()
        assert stream.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == LINGERING


WRAPPERS: dict[str, Callable[[int], Any]] = {
    "socket": lambda fd: socket.socket(fileno=fd),
    "Trio socket": lambda fd: trio.socket.from_stdlib_socket(socket.socket(fileno=fd)),
    "pipe": trio.lowlevel.FdStream,
    "file": lambda fd: io.FileIO(fd, "r+"),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
async def test_one_that_was_kept_and_closed_does_not_linger_when_it_is_not_written(
    wrap: Callable[[int], Any],
) -> None:
    with lingering_stream() as stream, open_raw_peer(100) as (channel, _):
        fill(channel)
        obj = wrap(os.dup(number(stream)))
        channel.send_nowait(obj, keep_open=True)
        obj.close()
        channel.close()
