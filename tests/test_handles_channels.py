"""A channel made by open_channel_pair travels: fresh, or quiet after use; never otherwise."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import trio
import trio.testing

import trio_ipc

from . import handle_workers
from .handle_kinds import (
    answer,
    channel_pair,
    connect_and_answer,
    copies,
    is_open,
    pipe,
    shrink,
    stream_and_client,
)

Pair = tuple[trio_ipc.Channel[Any, Any], trio_ipc.Channel[Any, Any]]


async def pass_on(channel: trio_ipc.Channel[Any, Any]) -> trio_ipc.Channel[Any, Any]:
    """The channel that arrives when this one is sent."""
    with channel_pair() as (a, b):
        await a.send(channel)
        assert not is_open(channel)
        received = await b.receive()
        assert isinstance(received, trio_ipc.Channel)
        return received


@contextmanager
def counted(channel: trio_ipc.Channel[Any, Any]) -> Iterator[None]:
    """No descriptor of the channel's socket is left over."""
    before = copies(channel)
    yield
    assert copies(channel) == before


async def exchange(a: trio_ipc.Channel[Any, Any], b: trio_ipc.Channel[Any, Any]) -> None:
    for one, other in ((a, b), (b, a)):
        await one.send("to you")
        assert await other.receive() == "to you"


# What arrives ---------------------------------------------------------------------------------


async def test_a_fresh_end_arrives_and_the_pair_goes_on() -> None:
    with channel_pair() as (a, b):
        with await pass_on(b) as received:
            await exchange(a, received)
            await received.send_channel.aclose()
            with pytest.raises(trio.EndOfChannel):
                await a.receive()
            await a.send("still open")
            assert await received.receive() == "still open"


async def test_both_ends_may_travel_and_more_than_once() -> None:
    with channel_pair() as (a, b):
        for _ in range(3):
            a, b = await pass_on(a), await pass_on(b)
            await exchange(a, b)
        a.close()
        b.close()


async def test_an_end_may_travel_through_a_pair_that_travelled() -> None:
    with channel_pair() as (a, b), channel_pair() as (c, d):
        with await pass_on(c) as c, await pass_on(d) as d:
            await c.send({"channel": b})
            with (await d.receive())["channel"] as received:
                await exchange(a, received)


async def test_what_is_under_way_to_an_end_goes_with_it() -> None:
    with channel_pair() as (a, b), pipe() as (reader, writer):
        for message in ("one", "two", {"pipe": reader}):
            await a.send(message)  # nothing of b has looked at the socket yet
        with await pass_on(b) as received:
            assert [await received.receive(), await received.receive()] == ["one", "two"]
            with_handle = await received.receive()
            await writer.send_all(b"through it")
            async with with_handle["pipe"] as arrived:
                assert await arrived.receive_some() == b"through it"


async def test_what_an_end_has_sent_arrives_after_it_has_gone() -> None:
    with channel_pair() as (a, b):
        await b.send("before it left")
        with await pass_on(b) as received:
            await received.send("after it arrived")
            assert [await a.receive(), await a.receive()] == [
                "before it left",
                "after it arrived",
            ]


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "after use"])
@pytest.mark.parametrize("moved", ["sender", "receiver", "both"])
async def test_the_bound_stays_exact(moved: str, used: bool) -> None:
    with channel_pair(3) as (a, b):
        if used:
            for _ in range(2):
                await exchange(a, b)
        await a.send(0)  # and one is under way while it moves
        if moved != "receiver":
            a = await pass_on(a)
        if moved != "sender":
            b = await pass_on(b)
        with a, b:
            for number in (1, 2):
                a.send_nowait(number)
            with pytest.raises(trio.WouldBlock):
                a.send_nowait("one too many")
            assert await b.receive() == 0
            a.send_nowait(3)
            with pytest.raises(trio.WouldBlock):
                a.send_nowait("one too many")
            assert [await b.receive() for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("size", [0, 1, 1000, math.inf])
async def test_the_size_of_the_buffer_travels_along(size: float) -> None:
    with channel_pair(size) as (a, b):
        with await pass_on(b) as received:
            assert received.statistics().max_buffer_size == size
            assert type(received.statistics().max_buffer_size) is type(size)
            async with trio.open_nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(a.send, number)
                assert sorted([await received.receive() for _ in range(3)]) == [0, 1, 2]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(received.send, "back")
                assert await a.receive() == "back"


async def test_the_limits_travel_along() -> None:
    with channel_pair(max_message_size=100, max_handles=1) as (a, b):
        with await pass_on(b) as received, pipe() as handles:
            for end in (a, received):
                with pytest.raises(trio_ipc.MessageTooLarge):
                    await end.send("x" * 99)
                with pytest.raises(trio_ipc.MessageTooLarge):
                    await end.send(list(handles))
            assert all(map(is_open, handles))
            await received.send("x" * 98)
            assert await a.receive() == "x" * 98


async def test_an_end_that_travelled_still_refuses_its_own_ends() -> None:
    with channel_pair() as (a, b):
        with await pass_on(b) as received:
            for one, other in ((received, received), (received, a), (a, received)):
                with counted(other), pytest.raises(trio_ipc.UnsupportedHandle, match="end of"):
                    await one.send(other)
            await exchange(a, received)


# Through several processes ------------------------------------------------------------------------


async def test_two_children_talk_directly() -> None:
    a, b = trio_ipc.open_channel_pair(10)
    with a, b:
        async with (
            trio_ipc.open_child(handle_workers.count_up, a) as first,
            trio_ipc.open_child(handle_workers.count_along, b),
        ):
            assert not is_open(a)
            assert not is_open(b)
            await first.send(0)
            assert await first.receive() == 200


async def test_a_pair_that_was_used_here_moves_to_two_children() -> None:
    a, b = trio_ipc.open_channel_pair(2)
    with a, b:
        for _ in range(5):
            await exchange(a, b)
        async with (
            trio_ipc.open_child(handle_workers.count_up, a) as first,
            trio_ipc.open_child(handle_workers.count_along, b),
        ):
            await first.send(1)
            assert await first.receive() == 201


async def test_an_end_kept_here_talks_to_a_child() -> None:
    a, b = trio_ipc.open_channel_pair(10)
    with a, b:
        async with trio_ipc.open_child(handle_workers.count_along, b):
            for number in range(10):
                await a.send(number)
                assert await a.receive() == number + 1
            await a.aclose()  # which is what ends the child


@pytest.mark.parametrize("as_pair", [False, True], ids=["in the message", "as handle="])
async def test_a_listener_passes_through_a_third_process(as_pair: bool) -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    a, b = trio_ipc.open_channel_pair(10)
    async with listener:
        address = listener.socket.getsockname()
        with a, b:
            async with (
                trio_ipc.open_child(handle_workers.accept_from, b) as second,
                trio_ipc.open_child(handle_workers.forward_to, a) as first,
            ):
                await (first.send("as a pair", listener) if as_pair else first.send(listener))
                await connect_and_answer(socket.AF_INET, address)
                assert await second.receive() == "accepted"


async def test_a_connection_goes_to_a_child_and_comes_back() -> None:
    async with trio_ipc.open_child(handle_workers.return_all) as child:
        with stream_and_client() as (stream, client):
            await child.send({"stream": stream})
            assert not is_open(stream)
            received = await child.receive()
            await child.send("stream", received["stream"])
            message, stream = await child.receive()
            assert message == "stream"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, client)
                nursery.start_soon(handle_workers.converse, stream)


async def test_an_end_goes_to_a_child_and_comes_back() -> None:
    with channel_pair() as (a, b):
        async with trio_ipc.open_child(handle_workers.return_all) as child:
            await child.send(b)
            with await child.receive() as received:
                await exchange(a, received)


# Refused --------------------------------------------------------------------------------------


async def refused(channel: trio_ipc.Channel[Any, Any], why: str) -> None:
    """It stays what it was, and what it would have travelled through goes on."""
    with channel_pair() as (c, d), counted(channel):
        with pytest.raises(trio_ipc.UnsupportedHandle, match=why):
            await c.send(["it", channel])
        with pytest.raises(trio_ipc.UnsupportedHandle, match=why):
            c.send_nowait("it", channel)
        await exchange(c, d)


async def test_a_channel_with_a_task_in_it_stays() -> None:
    with channel_pair(1) as (a, b):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def receive() -> None:
                assert await b.receive() == "at last"

            await trio.testing.wait_all_tasks_blocked()
            await refused(b, "no task")
            await a.send("at last")

        await a.send("fills the buffer")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.send, "waits for room")
            await trio.testing.wait_all_tasks_blocked()
            await refused(a, "no task")
            assert await b.receive() == "fills the buffer"
        assert await b.receive() == "waits for room"
        with await pass_on(a) as a:
            await exchange(a, b)


async def test_a_channel_with_unread_messages_stays() -> None:
    with channel_pair() as (a, b):
        await a.send(1)
        await a.send(2)
        assert await b.receive() == 1  # both were read
        await refused(b, "no message")
        assert await b.receive() == 2
        with await pass_on(b) as b:
            await exchange(a, b)


async def test_a_channel_with_unwritten_messages_stays() -> None:
    with channel_pair() as (a, b):
        shrink(a)
        await a.send(bytes(1_000_000))
        assert a.statistics().bytes_unsent
        await refused(a, "no message")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.drain)
            assert await b.receive() == bytes(1_000_000)
        assert not a.statistics().bytes_unsent
        with await pass_on(a) as a:
            await exchange(a, b)


@pytest.mark.parametrize(
    "clone",
    [lambda channel: channel.send_channel.clone(), lambda channel: channel.receive_channel.clone()],
    ids=["send half", "receive half"],
)
async def test_a_channel_with_clones_stays(
    clone: Callable[[trio_ipc.Channel[Any, Any]], AbstractContextManager[Any]],
) -> None:
    with channel_pair() as (a, b):
        with clone(b):
            await refused(b, "without clones")
        with await pass_on(b) as b:
            await exchange(a, b)


async def test_half_a_channel_stays() -> None:
    with channel_pair() as (a, b):
        b.send_channel.close()
        await refused(b, "both halves")
        await a.send("the other half")
        assert await b.receive() == "the other half"
    with channel_pair() as (a, b):
        b.receive_channel.close()
        await refused(b, "both halves")
        await b.send("the other half")
        assert await a.receive() == "the other half"


async def test_a_channel_whose_peer_has_closed_a_half_stays() -> None:
    with channel_pair() as (a, b):
        a.send_channel.close()
        with pytest.raises(trio.EndOfChannel):
            await b.receive()
        await refused(b, "while nothing of it")
        await b.send("the other half")
        assert await a.receive() == "the other half"


async def test_a_closed_channel_stays_closed() -> None:
    with channel_pair() as (a, b), channel_pair() as (c, d):
        b.close()
        with pytest.raises(trio_ipc.UnsupportedHandle):
            await c.send(b)
        await exchange(c, d)
        with pytest.raises(trio.EndOfChannel):
            await a.receive()


async def test_a_channel_cannot_be_kept_open() -> None:
    with channel_pair() as (a, b), channel_pair() as (c, d), pipe() as (reader, writer):
        with counted(b), pytest.raises(trio_ipc.UnsupportedHandle, match="kept open"):
            await c.send([reader, b], keep_open=True)
        assert is_open(reader)
        await exchange(a, b)
        await c.send([reader, b], keep_open=False)
        arrived, received = await d.receive()
        with received:
            await exchange(a, received)
        await writer.send_all(b"too")
        async with arrived:
            assert await arrived.receive_some() == b"too"


async def test_a_channel_that_is_used_while_it_waits_to_be_sent_stays() -> None:
    with channel_pair() as (a, b), channel_pair(1) as (c, d):
        await c.send("fills the buffer")
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                with pytest.raises(trio_ipc.UnsupportedHandle, match="while it waited"):
                    await c.send(b)

            await trio.testing.wait_all_tasks_blocked()
            await b.send("used")
            assert await d.receive() == "fills the buffer"
        assert await a.receive() == "used"
        await exchange(a, b)
        await exchange(c, d)


async def test_an_end_does_not_travel_through_its_own_channel() -> None:
    with channel_pair() as (a, b):
        for one, other in ((a, a), (a, b), (b, a)):
            with counted(other), pytest.raises(trio_ipc.UnsupportedHandle, match="end of"):
                await one.send(other)
        await exchange(a, b)


async def test_the_channel_of_a_child_does_not_travel() -> None:
    async with trio_ipc.open_child(handle_workers.return_all) as child:
        await refused(child, "belongs to a child")
        with counted(child), pytest.raises(trio_ipc.UnsupportedHandle, match="belongs to a child"):
            await child.send(child)
        await child.send("it goes on")
        assert await child.receive() == "it goes on"


async def test_the_channel_of_the_parent_does_not_travel() -> None:
    async with trio_ipc.open_child(handle_workers.offer_own_end) as child:
        assert "belongs to a child or to the parent" in await child.receive()
        assert "end of the channel it would travel through" in await child.receive()
        with pytest.raises(trio.EndOfChannel):
            await child.receive()
