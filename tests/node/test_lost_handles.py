"""Handles that get lost on the way: a full descriptor table, a peer that does not answer.

At its limit of descriptors, the kernel destroys those that arrive, without an error. Node's
protocol notices: such a message is refused, and sent again.
"""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

import trio_ipc

from ..handle_kinds import is_open
from .helpers import command, connection, open_node_aside, read_all


@contextmanager
def full_table() -> Iterator[None]:
    """As long as this lasts, no descriptor fits into this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hoard: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))), hard))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                hoard.append(os.dup(2))
        yield
    finally:
        for number in hoard:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_with_full_table(node: str, makes_room_after: int) -> Any:
    """A Node child into which no descriptor fits, until it has refused one so many times."""
    full = command(node, "handles.js", "full_table", str(makes_room_after))
    return trio_ipc.open_child(
        ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *full], protocol="node", grace_period=0.5
    )


# From Node to us ----------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_node_sends_again_what_we_refuse(node: str, times: int) -> None:
    # It wraps it twice then, and dies of a second acknowledgement.
    async with open_node_aside(node, "handles.js", "refused") as (child, aside):
        with full_table():
            await child.send("begin")
            for _ in range(times - 1):
                assert await aside.hear() == "refused"
                await aside.say()
            assert await aside.hear() == "refused"
        await aside.say()
        message, first = await child.receive()
        assert message == "one"
        assert await child.receive() == "two"
        message, second = await child.receive()
        assert message == "three"
        assert await child.receive() == "four"
        for stream in (first, second):
            assert type(stream) is trio.SocketStream
            async with stream:
                await stream.send_all(b"from the parent")
        assert await aside.hear() == "both ended"
        await child.send("still there")
        assert await child.receive() == "still there"
    assert child.process.returncode == 0


async def test_node_gives_up_what_we_refuse_four_times(node: str) -> None:
    async with open_node_aside(node, "handles.js", "refused_for_good") as (child, aside):
        with full_table():
            await child.send("begin")
            for _ in range(4):
                assert await aside.hear() == "refused"
                await aside.say()
            assert await aside.hear() == "SentHandleNotReceivedWarning"
            assert await child.receive() == "two"
        await aside.say()
        message, stream = await child.receive()
        assert message == "three"
        async with stream:
            await stream.send_all(b"from the parent")
        assert await aside.hear() == "ended"
    assert child.process.returncode == 0


# From us to Node ----------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_we_send_again_what_node_refuses(node: str, times: int) -> None:
    async with open_with_full_table(node, times) as child:
        assert await child.receive() == "full"
        async with connection() as (first, client), connection() as (second, _):
            await child.send("one", first)
            assert not is_open(first)
            assert await read_all(client) == b""
            await child.send("two")
            await child.send("three", second)
        assert await child.receive() == ["one", "net.Socket", times + 1]
        assert await child.receive() == ["two", None, times + 1]
        assert await child.receive() == ["three", "net.Socket", times + 2]


async def test_what_was_sent_meanwhile_stays_in_order(node: str) -> None:
    async with open_with_full_table(node, 2) as child:
        assert await child.receive() == "full"
        async with connection() as (stream, _):
            child.send_nowait("one", stream)
            for number in range(100):
                child.send_nowait(number)
        assert await child.receive() == ["one", "net.Socket", 3]
        for number in range(100):
            assert await child.receive() == [number, None, 3]


async def test_what_node_refuses_four_times_is_not_delivered(node: str) -> None:
    async with open_with_full_table(node, 100) as child:
        assert await child.receive() == "full"
        async with connection() as (stream, client):
            with pytest.raises(trio_ipc.HandleNotDelivered, match="4 times"):
                await child.send("one", stream)
            # Ours as before, in good health; and so is the channel.
            assert is_open(stream)
            await stream.send_all(b"still ours")
            assert await client.receive_some() == b"still ours"
            await child.send("two")
            assert await child.receive() == ["two", None, 4]


async def test_what_nobody_waits_for_is_told_to_the_log(
    node: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_with_full_table(node, 100) as child:
        assert await child.receive() == "full"
        async with connection() as (stream, client):
            with caplog.at_level(logging.WARNING, "trio_ipc"):
                child.send_nowait("one", stream)
                assert not is_open(stream)
                await child.send("two")
                assert await child.receive() == ["two", None, 4]
                assert await read_all(client) == b""
        assert "4 times" in caplog.text


# No answer ----------------------------------------------------------------------------------------


async def test_a_handle_that_is_never_acknowledged(
    node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_ipc._node.ANSWER_TIMEOUT", 0.01)
    async with open_node_aside(node, "handles.js", "never_answer", grace_period=0.1) as (
        child,
        aside,
    ):
        assert await aside.hear() == "here"
        async with connection() as (stream, client):
            with pytest.raises(trio_ipc.HandleNotDelivered, match="in time"):
                await child.send("one", stream)
            assert is_open(stream)
            await stream.send_all(b"still ours")
            assert await client.receive_some() == b"still ours"


async def test_leaving_a_child_that_never_acknowledges(node: str) -> None:
    async with connection() as (stream, client):
        async with open_node_aside(node, "handles.js", "never_answer", grace_period=0.1) as (
            child,
            aside,
        ):
            assert await aside.hear() == "here"
            child.send_nowait("one", stream)
        assert await read_all(client) == b""


async def test_a_child_that_disconnects_before_it_acknowledges(node: str) -> None:
    async with open_node_aside(node, "handles.js", "disconnect_unread") as (child, aside):
        assert await aside.hear() == "here"
        async with connection() as (stream, client):
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def tell() -> None:
                    await trio.testing.wait_all_tasks_blocked()
                    await aside.say()
                    assert await aside.hear() == "disconnected"

                with pytest.raises(trio.BrokenResourceError):
                    await child.send("one", stream)
            assert is_open(stream)
            await stream.send_all(b"still ours")
            assert await client.receive_some() == b"still ours"
        with pytest.raises(trio.EndOfChannel):
            await child.receive()
    assert child.process.returncode == 0


async def test_a_child_that_dies_before_it_acknowledges(node: str) -> None:
    async with open_node_aside(node, "handles.js", "never_answer", check=False) as (child, aside):
        assert await aside.hear() == "here"
        async with connection() as (stream, client):
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def kill() -> None:
                    await trio.testing.wait_all_tasks_blocked()
                    child.process.kill()

                with pytest.raises(trio.BrokenResourceError):
                    await child.send("one", stream)
            assert is_open(stream)
            await stream.send_all(b"still ours")
            assert await client.receive_some() == b"still ours"
