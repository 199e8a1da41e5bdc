"""What can't travel is refused at the call: nothing was sent, and all is as it was."""

from __future__ import annotations

import gzip
import io
import os
import resource
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import trio_ipc

from . import handle_workers
from .handle_kinds import (
    KINDS,
    Kind,
    answer,
    channel_pair,
    connection,
    is_open,
    pipe,
    stream_and_client,
)
from .handle_workers import ANSWER, close


def context() -> ssl.SSLContext:
    return ssl.create_default_context()


async def assert_refused(obj: Any, why: str) -> None:
    """In every place and by every call, next to a handle that could have gone."""
    calls: list[Callable[[trio_ipc.Channel[Any, Any], Any], None]] = [
        lambda channel, stream: channel.send_nowait(obj),
        lambda channel, stream: channel.send_nowait(None, obj),
        lambda channel, stream: channel.send_nowait([stream, {"it": obj}]),
        lambda channel, stream: channel.send_nowait([stream], obj, keep_open=False),
        lambda channel, stream: channel.send_nowait([obj], stream, keep_open=True),
    ]
    for call in calls:
        with channel_pair() as (a, b), stream_and_client() as (stream, client):
            with pytest.raises(trio_ipc.UnsupportedHandle, match=why):
                call(a, stream)
            with pytest.raises(trio.WouldBlock):
                b.receive_nowait()
            await a.send("the next one")
            assert await b.receive() == "the next one"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, client)
                nursery.start_soon(handle_workers.converse, stream)
    with channel_pair() as (a, _):
        with pytest.raises(trio_ipc.UnsupportedHandle, match=why):
            await a.send(obj)


# By its nature --------------------------------------------------------------------------------

TLS = "TLS session lives in this process; send the plain socket before the handshake"


async def test_a_tls_stream() -> None:
    with stream_and_client() as (stream, client):
        await assert_refused(trio.SSLStream(stream, context(), server_hostname="it"), TLS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, client)
            nursery.start_soon(handle_workers.converse, stream)


async def test_a_tls_listener() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        await assert_refused(trio.SSLListener(listener, context()), TLS)
        assert is_open(listener)


async def test_a_tls_socket() -> None:
    with connection() as (sock, _):
        wrapped = context().wrap_socket(sock, server_hostname="it", do_handshake_on_connect=False)
        with wrapped:
            await assert_refused(wrapped, TLS)
            assert is_open(wrapped)


async def test_a_tls_object() -> None:
    obj = context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="it")
    await assert_refused(obj, TLS)


async def test_a_text_file(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        await assert_refused(file, "send its .buffer")
        file.write("still open")


async def test_files_that_are_none() -> None:
    await assert_refused(io.BytesIO(b"in memory"), "lives in this process")
    await assert_refused(io.StringIO("in memory"), "lives in this process")
    await assert_refused(io.BufferedReader(io.BytesIO()), "only binary files of the operating")
    await assert_refused(io.RawIOBase(), "fileno")


async def test_a_file_whose_descriptor_is_not_what_one_reads_from_it(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "file.gz", "wb") as file:
        assert file.fileno() >= 0
        await assert_refused(file, "only binary files of the operating system")


async def test_a_file_that_was_taken_apart(tmp_path: Path) -> None:
    file = (tmp_path / "file").open("wb")
    with file.detach():
        await assert_refused(file, "detached")


@pytest.mark.parametrize("what", ["file", "directory"])
async def test_a_pipe_that_is_none(what: str, tmp_path: Path) -> None:
    path = tmp_path if what == "directory" else tmp_path / "file"
    if what == "file":
        path.write_bytes(ANSWER)
    stream = trio.lowlevel.FdStream(os.open(path, os.O_RDONLY))
    async with stream:
        await assert_refused(stream, "is of a file")
        assert is_open(stream)
        if what == "file":  # as the text says
            with io.FileIO(stream.fileno(), closefd=False) as file, channel_pair() as (a, b):
                await a.send(file)
                with await b.receive() as received:
                    assert received.read() == ANSWER


async def test_a_buffer_that_reads_ahead_from_a_pipe() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file, os.fdopen(writer, "wb") as far:
        far.write(b"one\ntwo\n")
        far.flush()
        assert file.readline() == b"one\n"
        await assert_refused(file, r"send its \.raw, before")
        assert file.readline() == b"two\n"
        far.write(b"three, ")
        with channel_pair() as (a, b):
            await a.send([file.raw, far])  # a buffer that only writes is flushed
            with ExitStack() as stack:
                raw, end = map(stack.enter_context, await b.receive())
                end.write(b"four")
                assert raw.read(11) == b"three, four"


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="only Linux has it")
async def test_a_file_of_which_only_the_path_is_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with io.FileIO(os.open(path, os.O_PATH)) as file:
        await assert_refused(file, "neither read nor written")


@pytest.mark.parametrize("obj", [5, "a string", b"", [], {}, object(), True], ids=repr)
async def test_handle_is_for_handles(obj: Any) -> None:
    with channel_pair() as (a, b):
        with pytest.raises((trio_ipc.UnsupportedHandle, trio_ipc.UnsupportedMessage)):
            await a.send("with it", obj)
        with pytest.raises(trio.WouldBlock):
            b.receive_nowait()
        await a.send("the next one")
        assert await b.receive() == "the next one"


async def test_a_list_of_handles_is_no_handle() -> None:
    with channel_pair() as (a, b), stream_and_client() as (stream, client):
        with pytest.raises(trio_ipc.UnsupportedHandle, match="'list' objects are no handles"):
            await a.send("with it", [stream])
        await a.send("the next one")
        assert await b.receive() == "the next one"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, client)
            nursery.start_soon(handle_workers.converse, stream)


# By its state ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_one_that_is_closed(kind: Kind) -> None:
    async with kind.make() as made:
        close(made.handle)
        why = "with both halves open" if kind.name == "channel" else "closed"
        await assert_refused(made.handle, why)


async def test_one_that_was_sent_before() -> None:
    with channel_pair() as (a, b), stream_and_client() as (stream, _):
        await a.send(stream)
        with pytest.raises(trio_ipc.UnsupportedHandle, match="closed"):
            await a.send(stream)
        async with await b.receive():
            with pytest.raises(trio.WouldBlock):
                b.receive_nowait()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it listens on")
async def test_a_listener_that_was_shut_down() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        with socket.socket(fileno=os.dup(listener.socket.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)
        await assert_refused(listener, "listens no more")
        assert is_open(listener)


async def test_one_that_is_closed_while_it_waits_to_be_sent(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for kind in KINDS:
        async with kind.make() as made:
            with channel_pair(1) as (a, b), pipe() as (reader, _), path.open("wb") as file:
                await a.send("fills the buffer")
                async with trio.open_nursery() as nursery:

                    @nursery.start_soon
                    async def send() -> None:
                        with pytest.raises(trio_ipc.UnsupportedHandle):
                            await a.send([reader, file, made.handle])

                    await trio.testing.wait_all_tasks_blocked()
                    close(made.handle)
                    assert await b.receive() == "fills the buffer"
                # Those that could have gone have not.
                assert is_open(reader)
                assert is_open(file)
                await a.send("the next one")
                assert await b.receive() == "the next one"


# The channel's own end ------------------------------------------------------------------------


@pytest.mark.parametrize("disguise", ["socket", "trio socket", "stream", "pipe", "file"])
async def test_an_end_of_the_channel_in_disguise(disguise: str) -> None:
    with channel_pair() as (a, b):
        for end in (a, b):
            number = os.dup(end.fileno())
            # The blocking mode is shared with the channel's socket, which must not block.
            if disguise == "file":
                copy: Any = os.fdopen(number, "r+b", buffering=0)
            elif disguise == "pipe":
                copy = trio.lowlevel.FdStream(number)
            else:
                copy = socket.socket(fileno=number)
                if disguise != "socket":
                    copy = trio.socket.from_stdlib_socket(copy)
                if disguise == "stream":
                    copy = trio.SocketStream(copy)
            for message, handle in (([copy], None), ("it", copy)):
                with pytest.raises(trio_ipc.UnsupportedHandle, match="never see the channel close"):
                    await a.send(message, handle)
            assert is_open(copy)
            close(copy)
        await a.send("the next one")
        assert await b.receive() == "the next one"


async def test_an_end_of_the_channel_to_a_child() -> None:
    async with trio_ipc.open_child(handle_workers.return_all) as child:
        with socket.socket(fileno=os.dup(child.fileno())) as copy:
            with pytest.raises(trio_ipc.UnsupportedHandle, match="never see the channel close"):
                await child.send(copy)
        await child.send("it goes on")
        assert await child.receive() == "it goes on"


async def test_sockets_of_other_channels_may_travel() -> None:
    with channel_pair() as (a, b), channel_pair() as (c, d):
        with socket.socket(fileno=os.dup(c.fileno())) as copy:
            await a.send(copy, keep_open=True)
            with await b.receive() as received:
                assert received.family == socket.AF_UNIX
        await c.send("it goes on")
        assert await d.receive() == "it goes on"


async def test_a_refusal_leaves_the_options_of_a_socket_alone() -> None:
    lingering = struct.pack("ii", 1, 7)

    def lingers(sock: socket.socket) -> bool:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == lingering

    with channel_pair() as (a, _), channel_pair() as (end, _), connection() as (sock, _):
        with socket.socket(fileno=os.dup(a.fileno())) as own_end:
            for each in (sock, own_end):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
            with pytest.raises(trio_ipc.UnsupportedHandle, match="kept open"):
                await a.send([sock, end], keep_open=True)
            assert lingers(sock)
            with pytest.raises(trio_ipc.UnsupportedHandle, match="never see the channel close"):
                await a.send([sock, own_end])
            assert lingers(sock)
            assert lingers(own_end)


# When the kernel refuses ----------------------------------------------------------------------


@contextmanager
def no_more_descriptors(free: int) -> Iterator[None]:
    """Only so many more of them can be opened in here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    try:
        highest = max(map(int, os.listdir("/dev/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, hard))
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        for _ in range(free):
            os.close(taken.pop())
        yield
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_no_descriptor_is_left_for_the_copy() -> None:
    with channel_pair() as (a, b), pipe() as handles, stream_and_client() as (stream, client):
        with no_more_descriptors(1):
            with pytest.raises(OSError, match="open files"):
                await a.send([*handles, stream])
        assert is_open(stream)
        assert all(map(is_open, handles))
        await a.send("the next one")
        assert await b.receive() == "the next one"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, client)
            nursery.start_soon(handle_workers.converse, stream)
