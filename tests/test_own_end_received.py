"""A hostile peer sends an end of the very channel it speaks through. An honest one refuses to.

It harms this channel at most: who gets the end closes it, uses it or keeps it, and the channel goes
on, ends, or is a `ProtocolError`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ipc
from trio_ipc._handles import FD_STREAM, SOCKET, STREAM, TRIO_SOCKET

from .handle_workers import close, descriptor_of
from .meaning_helpers import (
    ONE_MESSAGE,
    assert_reaped,
    frame,
    open_pair,
    open_raw_peer,
    raw_script,
    script,
    waiting,
)

# The number 1, and the first handle of the frame as this kind.
WITH_HANDLE = "b'\\xdd\\0\\0\\0\\x01\\x92\\x01\\xd5\\xd6\\x00' + bytes([{}])"
ONE = frame(b"M", ONE_MESSAGE)

kinds = pytest.mark.parametrize("kind", [STREAM, TRIO_SOCKET, SOCKET, FD_STREAM])
both_ends = pytest.mark.parametrize("whose", ["ours", "theirs"])


async def get_end(channel: Any, raw: socket.socket, whose: str, kind: int) -> Any:
    payload = b"\xdd\0\0\0\x01\x92\x01\xd5\xd6\x00" + bytes([kind])
    number = channel.fileno() if whose == "ours" else raw.fileno()
    socket.send_fds(raw, [frame(b"M", payload, handles=1)], [number])
    one, handle = await channel.receive()
    assert one == 1
    assert os.fstat(descriptor_of(handle)).st_ino == os.fstat(number).st_ino
    return handle


async def assert_broken(channel: Any) -> None:
    with pytest.raises(trio.BrokenResourceError):
        await channel.receive()


@kinds
@both_ends
async def test_closed_it_has_done_nothing(whose: str, kind: int) -> None:
    with open_raw_peer() as (channel, raw):
        close(await get_end(channel, raw, whose, kind))
        raw.sendall(ONE)
        assert await channel.receive() == 1
        await channel.send(1)
        assert raw.recv(100).endswith(ONE_MESSAGE)
        raw.close()
        await assert_broken(channel)


@both_ends
async def test_kept_it_hides_the_peers_end_at_most(whose: str) -> None:
    with open_raw_peer() as (channel, raw):
        with await get_end(channel, raw, whose, SOCKET) as kept:
            if whose == "theirs":
                async with waiting(channel.receive) as call:
                    raw.close()
                    kept.close()
                    with pytest.raises(trio.BrokenResourceError):
                        await call.outcome()
            raw.close()
            await assert_broken(channel)


@pytest.mark.parametrize("count", [1, 5])
@both_ends
async def test_never_received_it_is_closed(whose: str, count: int) -> None:
    with open_raw_peer() as (channel, raw):
        number = channel.fileno() if whose == "ours" else raw.fileno()
        payload = b"\xdd\0\0\0\x01\x92\x01\xd5\xd6\x00" + bytes([STREAM])
        for _ in range(count):
            socket.send_fds(raw, [frame(b"M", payload, handles=1)], [number])
        # One of them is taken into the process, the others stay in the queue of its socket.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.drain)
        assert channel.statistics().current_buffer_used <= count
        channel.close()
        while raw.recv(1000):
            pass


async def test_used_it_is_the_peers_voice() -> None:
    with open_raw_peer() as (channel, raw), open_pair() as (a, b):
        async with await get_end(channel, raw, "theirs", STREAM) as stream:
            await stream.send_all(ONE)
            assert await channel.receive() == 1
            await stream.send_all(b"this is no frame")
            with pytest.raises(trio_ipc.ProtocolError):
                await channel.receive()
        await a.send("x")
        assert await b.receive() == "x"


async def test_used_it_steals_what_the_peer_says() -> None:
    with open_raw_peer() as (channel, raw), open_pair() as (a, b):
        async with await get_end(channel, raw, "ours", STREAM) as stream:
            raw.sendall(ONE)
            assert await stream.receive_some(3) == ONE[:3]
            raw.sendall(ONE)
            with pytest.raises(trio_ipc.ProtocolError):
                await channel.receive()
        await a.send("x")
        assert await b.receive() == "x"


async def test_half_closed_it_ends_the_channel() -> None:
    with open_raw_peer() as (channel, raw):
        async with await get_end(channel, raw, "ours", STREAM) as stream:
            await stream.send_eof()
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await channel.send("x")
        while raw.recv(1000):
            pass


# A child that gives its end away ------------------------------------------------------------------


async def close_it(handle: Any) -> None:
    await handle.aclose()


async def keep_it(handle: Any) -> None:
    pass


def giving_child(tmp_path: Path, protocol: str, then: str) -> list[str]:
    if protocol == "native":
        payload = WITH_HANDLE.format(STREAM)
        source = f"""
            socket.send_fds(sock, [frame(b"M", {payload}, 1)], [sock.fileno()])
            {then}
        """
        return raw_script(tmp_path, source)
    source = f"""
        import os, socket, time
        sock = socket.socket(fileno=int(os.environ["NODE_CHANNEL_FD"]))
        line = b'{{"cmd":"NODE_HANDLE","type":"net.Socket","msg":1}}\\n'
        socket.send_fds(sock, [line], [sock.fileno()])
        {then}
    """
    return [sys.executable, "-I", "-S", script(tmp_path, source)]


@pytest.mark.parametrize("deal_with", [close_it, keep_it])
@pytest.mark.parametrize("protocol", ["native", "node"])
async def test_a_child_that_exits_is_gone(
    protocol: Any, deal_with: Callable[[Any], Awaitable[None]], tmp_path: Path
) -> None:
    """Though its end is open here."""
    command = giving_child(tmp_path, protocol, "")
    async with trio_ipc.open_child(command, protocol=protocol, grace_period=60) as child:
        _, stream = await child.receive()
        await deal_with(stream)
        with pytest.raises((trio.BrokenResourceError, trio.EndOfChannel)):
            await child.receive()
    await stream.aclose()
    assert_reaped(child.process, 0)


@pytest.mark.parametrize("deal_with", [close_it, keep_it, None])
@pytest.mark.parametrize("protocol", ["native", "node"])
async def test_the_block_of_a_child_that_stays_is_left(
    protocol: Any, deal_with: Callable[[Any], Awaitable[None]] | None, tmp_path: Path
) -> None:
    """Also if nobody receives the end."""
    command = giving_child(tmp_path, protocol, "sock.close(); os.write(1, b'x'); time.sleep(1000)")
    async with trio_ipc.open_child(
        command, protocol=protocol, grace_period=0.1, stdout=-1
    ) as child:
        assert child.process.stdout is not None
        async with child.process.stdout as stdout:
            await stdout.receive_some()
        if deal_with is not None:
            _, stream = await child.receive()
            await deal_with(stream)
    if deal_with is not None:
        await stream.aclose()
    assert_reaped(child.process, -signal.SIGTERM)


@pytest.mark.parametrize("protocol", ["native", "node"])
async def test_as_an_invalid_message_it_is_closed(protocol: Any, tmp_path: Path) -> None:
    command = giving_child(tmp_path, protocol, "sock.close(); time.sleep(1000)")
    async with trio_ipc.open_child(
        command, protocol=protocol, grace_period=0.1, message_type=str
    ) as child:
        with pytest.raises(trio_ipc.InvalidMessage):
            await child.receive()
        with pytest.raises((trio.BrokenResourceError, trio.EndOfChannel)):
            await child.receive()
