"""What a channel says of itself: ``statistics()`` and ``repr()``."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import trio

import trio_ipc

from . import meaning_children as children
from .meaning_helpers import MANY_BYTES, open_child_aside, open_pair, open_raw_peer, waiting


def changes(before: trio_ipc.ChannelStatistics, channel: Any) -> dict[str, Any]:
    """What is different now."""
    after = attrs.asdict(channel.statistics())
    return dict(after.items() - attrs.asdict(before).items())


async def test_a_fresh_channel() -> None:
    with open_pair(5) as ends:
        for channel in ends:
            assert channel.statistics() == trio_ipc.ChannelStatistics(
                current_buffer_used=0,
                max_buffer_size=5,
                open_send_channels=1,
                open_receive_channels=1,
                tasks_waiting_send=0,
                tasks_waiting_receive=0,
                bytes_unsent=0,
                credit=5,
            )


async def test_all_objects_of_one_end_say_the_same() -> None:
    with open_pair() as (a, b), a.send_channel.clone() as clone:
        a.send_nowait("x")
        said = {each.statistics() for each in (a, a.send_channel, a.receive_channel, clone)}
        assert len(said) == 1
        assert b.statistics() not in said


async def test_they_cannot_be_changed() -> None:
    with open_pair() as (a, _):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            a.statistics().credit = 100  # type: ignore[misc]
        assert hash(a.statistics()) == hash(a.statistics())


async def test_messages_and_credit() -> None:
    with open_pair(3) as (a, b):
        before = a.statistics()
        for number in range(3):
            a.send_nowait(number)
            assert changes(before, a) == {"credit": 2 - number}
        assert b.receive_nowait() == 0
        assert b.statistics().current_buffer_used == 2
        a.send_nowait(3)  # which sees that there is credit again
        assert a.statistics().credit == 0
        for _ in range(3):
            b.receive_nowait()
        assert b.statistics().current_buffer_used == 0


async def test_credit_without_limit() -> None:
    with open_pair(math.inf) as (a, _):
        a.send_nowait("x")
        assert a.statistics().credit == math.inf
        assert a.statistics().max_buffer_size == math.inf


async def test_without_a_buffer_there_is_credit_for_those_who_wait() -> None:
    with open_pair(0) as (a, b):
        assert a.statistics().credit == 0
        async with waiting(b.receive) as received:
            assert b.statistics().tasks_waiting_receive == 1
            a.send_nowait("x")
            assert a.statistics().credit == 0
            await received.outcome()
        assert b.statistics().tasks_waiting_receive == 0


async def test_tasks_that_wait() -> None:
    with open_pair(1) as (a, b):
        a.send_nowait("x" * MANY_BYTES)
        before = a.statistics()
        async with waiting(a.send, "y"), waiting(a.send, "z"), waiting(a.receive):
            assert changes(before, a) == {"tasks_waiting_send": 2, "tasks_waiting_receive": 1}
        assert changes(before, a) == {}
        assert b.statistics().tasks_waiting_receive == 0


async def test_bytes_that_are_not_written() -> None:
    with open_pair() as (a, b):
        a.send_nowait(b"x" * MANY_BYTES)
        assert 0 < a.statistics().bytes_unsent < MANY_BYTES
        async with waiting(a.drain) as drained:
            await b.receive()
            await drained.outcome()
        assert a.statistics().bytes_unsent == 0


async def test_open_halves() -> None:
    with open_pair() as (a, _):
        before = a.statistics()
        with a.send_channel.clone(), a.receive_channel.clone() as clone:
            with clone.clone():
                assert changes(before, a) == {"open_send_channels": 2, "open_receive_channels": 3}
        assert changes(before, a) == {}
        a.send_channel.close()
        assert changes(before, a) == {"open_send_channels": 0}
        a.close()
        assert changes(before, a)["open_receive_channels"] == 0


async def test_a_child() -> None:
    async with open_child_aside(children.take_some_when_told, max_buffer_size=4) as (
        child,
        aside,
    ):
        assert await child.receive() == "ready"
        assert child.statistics().credit == 4
        await child.send("x")
        assert child.statistics().credit == 3
        await aside.say("1")
        assert await aside.hear() == "took 1"
        assert child.statistics().max_buffer_size == 4
    gone = child.statistics()
    assert gone.bytes_unsent == gone.current_buffer_used == 0


async def test_a_channel_is_its_halves() -> None:
    with open_pair(1) as (a, b):
        # By way of the class, as a wrapper might do it.
        await trio_ipc.Channel.send(a, 1)
        with pytest.raises(trio.WouldBlock):
            trio_ipc.Channel.send_nowait(a, 2)
        assert trio_ipc.Channel.receive_nowait(b) == 1
        trio_ipc.Channel.send_nowait(a, 2)
        assert await trio_ipc.Channel.receive(b) == 2
        await trio_ipc.Channel.drain(a)
        a.send_channel.send_nowait(3)
        assert b.receive_channel.receive_nowait() == 3
        await trio_ipc.Channel.aclose(a)
        with pytest.raises(trio.ClosedResourceError):
            a.send_channel.send_nowait(4)
        with pytest.raises(trio.ClosedResourceError):
            a.receive_channel.receive_nowait()


# repr() ---------------------------------------------------------------------------------------


async def test_what_an_end_of_a_pair_is_called() -> None:
    with open_pair() as (a, b):
        assert repr(a) == "<channel to its peer>"
        assert repr(a.send_channel) == "<send channel to its peer>"
        assert repr(a.receive_channel) == "<receive channel from its peer>"
        a.send_channel.close()
        assert repr(a) == "<channel to its peer, send half closed>"
        assert repr(a.send_channel) == "<send channel to its peer, closed>"
        a.close()
        assert "closed" in repr(a)
        assert "closed" in repr(a.receive_channel)
        with pytest.raises(trio.EndOfChannel):
            await b.receive()
        assert "closed" not in repr(b)


async def test_what_a_channel_is_called_whose_peer_has_gone() -> None:
    with open_raw_peer() as (a, raw):
        raw.close()
        with pytest.raises(trio.BrokenResourceError):
            await a.receive()
        assert repr(a) == "<channel to its peer, gone>"


async def test_what_a_child_is_called() -> None:
    async with trio_ipc.open_child(children.say_its_name) as child:
        assert repr(child) == f"<channel to child {child.pid}>"
        assert repr(child.send_channel) == f"<send channel to child {child.pid}>"
        assert repr(child.receive_channel) == f"<receive channel from child {child.pid}>"
        assert await child.receive() == "<channel to the parent>"
    assert str(child.pid) in repr(child)
    assert "gone" in repr(child)
    assert "status 0" in repr(child)


def test_what_a_message_with_a_handle_is_called() -> None:
    assert repr(trio_ipc.HandleMessage("x", None)) == "HandleMessage(message='x', handle=None)"
