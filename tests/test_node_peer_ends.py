"""How a channel in Node's protocol ends: with the socket, and in the middle of a line badly."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
import trio

import trio_ipc

from .meaning_helpers import open_pair, settle, waiting
from .node_peers.raw import (
    ACK,
    NACK,
    connection,
    handle_frame,
    line,
    open_end,
)


async def test_the_end_of_the_socket_is_the_end() -> None:
    async with open_end() as (channel, raw):
        await raw.say(line(1) + line(2))
        raw.close()
        assert [message async for message in channel] == [1, 2]
        for _ in range(2):
            with pytest.raises(trio.EndOfChannel):
                await channel.receive()
            with pytest.raises(trio.EndOfChannel):
                channel.receive_nowait()
        with pytest.raises(trio.BrokenResourceError):
            await channel.send("x")
        with pytest.raises(trio.BrokenResourceError):
            channel.send_nowait("x")


async def test_a_reset_is_the_end_as_well() -> None:
    """It comes when the peer closes with data of ours unread, which is usual for a Node that
    exits."""
    async with open_end() as (channel, raw):
        await raw.say(line(1))
        channel.send_nowait("never read")
        await settle()
        raw.close()
        assert await channel.receive() == 1
        with pytest.raises(trio.EndOfChannel):
            await channel.receive()


async def test_a_reset_while_the_last_messages_are_unread() -> None:
    async with open_end(max_buffer_size=1) as (channel, raw):
        channel.send_nowait("never read")
        await settle()
        await raw.say(b"".join(map(line, range(1000))))
        raw.close()
        assert [message async for message in channel] == list(range(1000))


async def test_waiting_tasks_are_told() -> None:
    async with open_end() as (channel, raw):
        async with waiting(channel.receive) as first, waiting(channel.receive) as second:
            raw.close()
            for each in (first, second):
                with pytest.raises(trio.EndOfChannel):
                    await each.outcome()


@pytest.mark.parametrize("data", [b'"', b'{"cmd":"NODE_HANDLE_ACK"}', b"x" * 219_264])
@pytest.mark.parametrize("reset", [False, True])
async def test_the_end_in_the_middle_of_a_line(data: bytes, reset: bool) -> None:
    """What came before it is received, and then it is an error with byte counts."""
    async with open_end() as (channel, raw):
        if reset:
            channel.send_nowait("never read")
            await settle()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def say() -> None:
                await raw.say(line(1) + line(2) + data)
                raw.close()

            assert await channel.receive() == 1
            assert await channel.receive() == 2
            with pytest.raises(trio_ipc.ProtocolError, match=f"{len(data)} bytes of a line"):
                await channel.receive()
        for _ in range(2):
            with pytest.raises(trio_ipc.ProtocolError):
                await channel.receive()
            with pytest.raises(trio_ipc.ProtocolError):
                await channel.send("x")


async def test_our_end_is_a_shutdown_after_all_is_written() -> None:
    async with open_end() as (channel, raw):
        message = "x" * 1_000_000
        channel.send_nowait(message)
        channel.send_channel.close()
        assert await raw.hear_rest() == line(message)
        await raw.say(line("still heard"))
        assert await channel.receive() == "still heard"
        raw.end()
        with pytest.raises(trio.EndOfChannel):
            await channel.receive()


async def test_the_peers_shutdown_leaves_us_writing() -> None:
    """No Node does it by halves, but what is sent before it closes is sent."""
    async with open_end() as (channel, raw):
        raw.end()
        with pytest.raises(trio.EndOfChannel):
            await channel.receive()
        with pytest.raises(trio.BrokenResourceError):
            await channel.send("x")


async def test_leaving_writes_everything_first() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        os.environ["NODE_CHANNEL_FD"] = str(ours.detach())
        received = b""

        async def read_all() -> None:
            nonlocal received
            theirs.setblocking(False)
            while True:
                await trio.lowlevel.wait_readable(theirs)
                data = theirs.recv(10_000)
                if not data:
                    break
                received += data

        async with trio.open_nursery() as nursery:
            async with trio_ipc.open_parent() as channel:
                for number in range(100):
                    channel.send_nowait([number, "x" * 1000])
                    await trio.lowlevel.checkpoint()
                nursery.start_soon(read_all)
        assert received == b"".join(line([number, "x" * 1000]) for number in range(100))


async def test_leaving_waits_for_the_answer_to_a_handle() -> None:
    """What is behind it has to leave, too."""
    with connection() as (stream, _):
        async with open_end() as (channel, raw):
            channel.send_nowait("m", stream)
            channel.send_nowait("behind")
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def close() -> None:
                    await channel.aclose()

                assert await raw.hear() == handle_frame("m")
                await raw.say(NACK)
                assert await raw.hear() == handle_frame("m")
                await raw.say(ACK)
                assert await raw.hear_rest() == line("behind")


async def test_drain_waits_for_the_answer_to_a_handle() -> None:
    with connection() as (stream, _):
        async with open_end() as (channel, raw):
            channel.send_nowait("m", stream)
            async with waiting(channel.drain) as drained:
                assert await raw.hear() == handle_frame("m")
                await settle()
                assert not drained.finished.is_set()
                await raw.say(ACK)
                await drained.outcome()


# What breaks the rules ---------------------------------------------------------------------------

BAD = {
    "an empty line": b"\n",
    "no JSON": b"hello\n",
    "NaN": b"NaN\n",
    "a mark of the byte order": b"\xef\xbb\xbf1\n",
    "no UTF-8": b'"\xff"\n',
    "a line over the limit": line("x" * 1001),
    "one without its end": b"[" * 3000,
    "a question without a name": b'{"cmd":"NODE_SOCKET_GET_COUNT"}\n',
    "the advanced serialization": b"\0\0\0\x04\xff\x0fI\x02\n",
}


@pytest.mark.parametrize("name", BAD)
async def test_a_peer_that_breaks_the_rules(name: str) -> None:
    async with open_end(max_message_size=1000) as (channel, raw):
        with open_pair() as (a, b):
            await raw.say(line("before"))
            assert await channel.receive() == "before"
            with connection() as (stream, _):
                await raw.say(handle_frame("m"), stream.socket)
                assert await raw.hear() == ACK
                await raw.say(BAD[name])
                await settle()
            for _ in range(2):
                with pytest.raises(trio_ipc.ProtocolError) as caught:
                    while True:
                        message: Any = await channel.receive()
                        message.handle.socket.close()
                assert str(caught.value)
                with pytest.raises(trio_ipc.ProtocolError):
                    channel.receive_nowait()
                with pytest.raises(trio_ipc.ProtocolError):
                    await channel.send("x")
                with pytest.raises(trio_ipc.ProtocolError):
                    channel.send_nowait("x")
                with pytest.raises(trio_ipc.ProtocolError):
                    await channel.drain()
            assert channel.fileno() == -1
            assert await raw.hear_rest() == b""
            await a.send("others do not notice")
            assert await b.receive() == "others do not notice"


async def test_it_is_noticed_while_nobody_receives() -> None:
    async with open_end() as (channel, raw):
        await raw.say(b"\n")
        assert await raw.hear_rest() == b""
        with pytest.raises(trio_ipc.ProtocolError):
            await channel.send("x")
