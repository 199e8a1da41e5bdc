"""What a peer that breaks the rules does to the channel, and what it does to nothing else.

The frames themselves have their tests in ``wire/``; here is what comes of them with a real socket.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import struct
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import trio_ipc

from . import meaning_children as children
from .meaning_helpers import (
    ONE_MESSAGE,
    assert_reaped,
    frame,
    open_pair,
    open_raw_peer,
    raw_script,
    script,
    settle,
    waiting,
)

ARRAY_OF_TWO = b"\xdd\0\0\0\x02"

# Each is one that a channel with max_buffer_size=3, max_message_size=1000 must not accept.
FRAMES = {
    "unknown kind": frame(b"?"),
    "no frame at all": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(100),
    "a second greeting": frame(b"H", b"\x96\x01\x03\xcd\x03\xe8\x10\0\0"),
    "a call": frame(b"C", b"\x92\x80\x90"),
    "a failure": frame(b"F", b"Traceback"),
    "a batch that is no array": frame(b"M", b"\x01"),
    "an empty batch without its array": frame(b"M"),
    "a batch with too few messages": frame(b"M", ARRAY_OF_TWO + b"\x01"),
    "a batch with too many messages": frame(b"M", ONE_MESSAGE + b"\x01"),
    "a message that is none": frame(b"M", b"\xdd\0\0\0\x01\xc1"),
    "a message over the limit": frame(b"B", b"x" * 1001),
    "a frame over the limit": frame(b"M", length=1_000_000),
    "the longest frame of all": frame(b"B", length=0xFFFFFFFF),
    "a grant with a payload": frame(b"G", b"x"),
    "an end with a payload": frame(b"E", b"x"),
    "a message after the end": frame(b"E") + frame(b"M", ONE_MESSAGE),
    "a second end": frame(b"E") + frame(b"E"),
    "more messages than there is credit for": 4 * frame(b"M", ONE_MESSAGE),
    "a handle that does not come": frame(b"M", ONE_MESSAGE, handles=1),
    "handles with bytes": frame(b"B", b"x", handles=1),
    "handles with a grant": frame(b"G", handles=1),
    "a message that speaks of a handle": frame(b"M", b"\xdd\0\0\0\x01\xd5\xd6\x00\x01"),
    "a pair that is none": frame(b"P", b"\x01"),
}


def open_victim() -> Any:
    return open_raw_peer(3, max_message_size=1000)


@contextmanager
def open_witness() -> Iterator[tuple[io.FileIO, int]]:
    """The two ends of a pipe, of which the first says whether the second is closed everywhere.

    Whoever uses this closes the second.
    """
    read, write = os.pipe()
    os.set_blocking(read, False)
    with io.FileIO(read) as reader:
        yield reader, write


async def receive_error(channel: Any) -> BaseException:
    """Receive until there is nothing more, and why there is not."""
    try:
        while True:
            await channel.receive()
    except Exception as exc:
        return exc


@pytest.mark.parametrize("name", FRAMES)
async def test_a_bad_frame_is_a_protocol_error(name: str) -> None:
    with open_victim() as (channel, raw), open_pair() as (a, b):
        raw.sendall(FRAMES[name])
        error = await receive_error(channel)
        assert isinstance(error, trio_ipc.ProtocolError), error
        assert isinstance(error, trio.BrokenResourceError)
        assert str(error)
        # The channel is dead in both directions, ...
        with pytest.raises(trio_ipc.ProtocolError):
            await channel.receive()
        with pytest.raises(trio_ipc.ProtocolError):
            channel.receive_nowait()
        with pytest.raises(trio_ipc.ProtocolError):
            await channel.send("x")
        with pytest.raises(trio_ipc.ProtocolError):
            channel.send_nowait("x")
        with pytest.raises(trio_ipc.ProtocolError):
            await channel.drain()
        # ... its socket is closed, which the peer sees, ...
        assert channel.fileno() == -1
        raw.shutdown(socket.SHUT_WR)
        try:
            while raw.recv(1000):
                pass
        except ConnectionResetError:
            pass
        # ... and others do not notice.
        await a.send("x")
        assert await b.receive() == "x"


async def test_all_that_wait_are_told() -> None:
    with open_victim() as (channel, raw):
        while True:
            try:
                channel.send_nowait("x")
            except trio.WouldBlock:
                break
        async with (
            waiting(channel.receive) as first,
            waiting(channel.receive) as second,
            waiting(channel.send, "x") as third,
        ):
            raw.sendall(b"this is no frame")
            for call in (first, second, third):
                with pytest.raises(trio_ipc.ProtocolError):
                    await call.outcome()


async def test_what_is_too_long_is_refused_at_its_header() -> None:
    # Nothing is allocated for it, and nothing more is waited for.
    with open_raw_peer() as (channel, raw):
        async with waiting(channel.receive) as received:
            raw.sendall(frame(b"B", length=0xFFFFFFFF)[:7])
            await settle()
            assert not received.finished.is_set()
            raw.sendall(frame(b"B", length=0xFFFFFFFF)[7:])
            with pytest.raises(trio_ipc.ProtocolError, match="4294967295 bytes"):
                await received.outcome()


async def test_the_end_of_a_channel_that_is_dead_is_its_error_for_ever() -> None:
    with open_victim() as (channel, raw):
        raw.sendall(frame(b"M", ONE_MESSAGE))
        assert await channel.receive() == 1
        raw.sendall(b"this is no frame")
        for _ in range(3):
            with pytest.raises(trio_ipc.ProtocolError):
                await channel.receive()


async def test_the_first_mistake_that_was_seen_stays_the_reason() -> None:
    """The peer has cut a frame off, and is found out to have lied before that."""
    handle = msgspec.msgpack.encode(msgspec.msgpack.Ext(-42, b"\0\x63"))
    with open_victim() as (channel, raw):
        with open_witness() as (reader, write):
            message = frame(b"M", ONE_MESSAGE[:-1] + handle, handles=1)
            socket.send_fds(raw, [message], [write])
            os.close(write)
            raw.sendall(frame(b"B", length=10))
            raw.shutdown(socket.SHUT_WR)
            with pytest.raises(trio_ipc.ProtocolError, match="in the middle"):
                for _ in range(4):
                    channel.send_nowait("each of these reads a little first")
            with pytest.raises(trio_ipc.ProtocolError, match="unknown kind 99"):
                await channel.receive()
            assert reader.read() == b""
            with pytest.raises(trio_ipc.ProtocolError, match="in the middle"):
                await channel.receive()


async def test_descriptors_that_no_frame_announced_are_closed() -> None:
    with open_victim() as (channel, raw):
        with open_witness() as (reader, write):
            socket.send_fds(raw, [frame(b"M", ONE_MESSAGE)], [write])
            os.close(write)
            assert isinstance(await receive_error(channel), trio_ipc.ProtocolError)
            assert reader.read() == b""  # nobody has it open any more


async def test_descriptors_of_a_frame_that_never_ends_are_closed() -> None:
    with open_victim() as (channel, raw):
        with open_witness() as (reader, write):
            socket.send_fds(raw, [frame(b"M", b"\xdd", handles=1, length=100)], [write])
            os.close(write)
            raw.close()
            assert isinstance(await receive_error(channel), trio_ipc.ProtocolError)
            assert reader.read() == b""


async def test_other_ancillary_data_is_refused() -> None:
    with open_victim() as (channel, raw):
        sock = socket.socket(fileno=os.dup(channel.fileno()))
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            raw.sendmsg(
                [frame(b"M", ONE_MESSAGE)],
                [
                    (
                        socket.SOL_SOCKET,
                        socket.SCM_CREDENTIALS,
                        struct.pack("3i", os.getpid(), os.getuid(), os.getgid()),
                    )
                ],
            )
            assert isinstance(await receive_error(channel), trio_ipc.ProtocolError)


async def test_more_descriptors_than_may_come_are_refused_and_closed() -> None:
    with open_raw_peer(3, max_handles=1) as (channel, raw):
        with open_witness() as (reader, write):
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [write] * 5))]
            raw.sendmsg([frame(b"M", ONE_MESSAGE, handles=5)], rights)
            os.close(write)
            assert isinstance(await receive_error(channel), trio_ipc.ProtocolError)
            assert reader.read() == b""


# A child that breaks the rules -----------------------------------------------------------------


async def test_a_child_that_breaks_the_rules_is_ended_and_others_are_not(tmp_path: Path) -> None:
    source = """
        sock.sendall(frame(b"M", ONE) + b"this is no frame")
        time.sleep(1000)
    """
    async with trio_ipc.open_child(children.echo) as good:
        with pytest.raises(trio_ipc.ProtocolError):
            async with trio_ipc.open_child(raw_script(tmp_path, source)) as bad:
                while True:
                    await bad.receive()
        assert_reaped(bad.process, -signal.SIGTERM)
        await good.send("x")
        assert await good.receive() == "x"


@pytest.mark.parametrize("greeting", [b"", b"\x01", b"\x96\x63\x03\xcd\x03\xe8\x10\0\0"])
async def test_a_child_that_greets_wrongly(greeting: bytes, tmp_path: Path) -> None:
    source = f"""
        import os, socket
        sock = socket.socket(fileno=int(os.environ["TRIO_IPC_CHANNEL"].split(":")[0]))
        sock.sendall({frame(b"H", greeting)!r})
        while sock.recv(1000):
            pass
    """
    command = [sys.executable, "-I", "-S", script(tmp_path, source)]
    with pytest.raises(trio_ipc.ProtocolError, match=r"greeting|version"):
        async with trio_ipc.open_child(command) as child:
            await child.receive()
