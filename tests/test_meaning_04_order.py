"""Messages arrive in the order of the commits; waiting tasks are served first come, first served;
a ``_nowait`` call never overtakes; and of the tasks that wait, there is always one that does the
work."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

import trio_ipc

from . import meaning_children as children
from .meaning_helpers import (
    MANY_BYTES,
    Call,
    open_child_aside,
    open_pair,
    settle,
    waiting,
)

# The order of messages ------------------------------------------------------------------------


async def send_a_mixture(channel: Any, number: random.Random, count: int) -> None:
    """Messages of all sizes and kinds of frames, awaited and not, each with its number."""
    with channel.send_channel.clone() as clone:
        for index in range(count):
            size = number.choice([0, 5, 1000, 20_000, 80_000])
            message = number.choice(
                [
                    [index, "x" * size],
                    {"index": index, "data": b"x" * size},
                    index.to_bytes(4, "big") + b"x" * size,
                ]
            )
            half = number.choice([channel, channel.send_channel, clone])
            if number.random() < 0.5:
                try:
                    half.send_nowait(message)
                    continue
                except trio.WouldBlock:
                    pass
            await half.send(message)


def index_of(message: Any) -> int:
    if isinstance(message, bytes):
        return int.from_bytes(message[:4], "big")
    index: int = message["index"] if isinstance(message, dict) else message[0]
    return index


@pytest.mark.parametrize("max_buffer_size", [0, 1, 7, 1000, float("inf")])
async def test_messages_arrive_in_the_order_of_their_sends(max_buffer_size: float) -> None:
    with open_pair(max_buffer_size) as (a, b):
        got: list[int] = []

        async def receive() -> None:
            async for message in b:
                got.append(index_of(message))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await send_a_mixture(a, random.Random(4), 300)
            await a.send_channel.aclose()
        assert got == list(range(300))


async def test_messages_arrive_in_the_order_of_their_sends_between_processes() -> None:
    async with trio_ipc.open_child(children.echo, max_buffer_size=7) as child:
        got: list[int] = []

        async def receive() -> None:
            async for message in child:
                got.append(index_of(message))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await send_a_mixture(child, random.Random(5), 300)
            await child.send_channel.aclose()
        assert got == list(range(300))


async def test_messages_with_handles_keep_their_place() -> None:
    near, far = trio.socket.socketpair()
    with near, far, open_pair() as (a, b):
        for index in range(3):
            a.send_nowait(index)
            a.send_nowait([index, near], keep_open=True)
            a.send_nowait(index, near, keep_open=True)
        got = []
        for _ in range(9):
            message = await b.receive()
            if isinstance(message, int):
                got.append(message)
            else:
                got.append(message[0])
                message[1].close()
        assert got == [0, 0, 0, 1, 1, 1, 2, 2, 2]


# First come, first served ---------------------------------------------------------------------


async def test_waiting_receivers_are_served_in_their_order() -> None:
    with open_pair() as (a, b), b.receive_channel.clone() as clone:
        async with trio.open_nursery() as nursery:
            calls = []
            for half in (b, clone, b.receive_channel, clone, b):
                calls.append(Call())
                nursery.start_soon(calls[-1].run, half.receive, ())
                await settle()
            assert b.statistics().tasks_waiting_receive == 5
            for number in range(5):
                a.send_nowait(number)
            assert [await call.outcome() for call in calls] == [0, 1, 2, 3, 4]


async def test_receivers_take_turns() -> None:
    with open_pair() as (a, b):
        turns = ""

        async def receive(name: str) -> None:
            nonlocal turns
            for _ in range(5):
                await b.receive()
                turns += name

        async with trio.open_nursery() as nursery:
            for name in "xy":
                nursery.start_soon(receive, name)
                await settle()
            for number in range(10):
                await a.send(number)
                await settle()
        assert turns == "xyxyxyxyxy"


async def test_receive_nowait_never_overtakes_a_receiver() -> None:
    with open_pair() as (a, b):
        async with waiting(b.receive) as received:
            a.send_nowait("x")
            with pytest.raises(trio.WouldBlock):
                b.receive_nowait()
            assert await received.outcome() == "x"
        a.send_nowait("y")
        assert b.receive_nowait() == "y"


async def test_receive_nowait_never_overtakes_a_receiver_in_a_scope() -> None:
    async with open_child_aside(children.send_when_told) as (child, aside):
        async with waiting(child.receive) as received:
            await aside.say()
            while not received.finished.is_set():
                with pytest.raises(trio.WouldBlock):
                    child.receive_nowait()
                await trio.lowlevel.checkpoint()
            assert await received.outcome() == 0


async def test_send_nowait_never_overtakes_a_sender() -> None:
    with open_pair(1) as (a, b):
        a.send_nowait("first")
        async with waiting(a.send, "second") as sent:
            assert await b.receive() == "first"
            # There is credit now, and it is the waiting task's.
            with pytest.raises(trio.WouldBlock):
                a.send_nowait("third")
            await sent.outcome()
            assert await b.receive() == "second"
        a.send_nowait("third")
        assert await b.receive() == "third"


async def test_send_never_overtakes_a_sender() -> None:
    with open_pair(1) as (a, b):
        a.send_nowait("first")
        async with waiting(a.send, "second") as sent:
            assert await b.receive() == "first"
            async with waiting(a.send, "third") as overtaking:
                await sent.outcome()
                assert await b.receive() == "second"
                await overtaking.outcome()
            assert await b.receive() == "third"


# Who does the work ----------------------------------------------------------------------------

KINDS = ("receive", "send", "drain")


@asynccontextmanager
async def everybody_waits(
    channel: Any, first: str, kinds: tuple[str, ...] = KINDS
) -> AsyncIterator[tuple[Any, list[Call]]]:
    """Two tasks in each of these calls; the first of all of them does the work.

    Gives the half that this one waits in, a clone of its own, and the calls.
    """
    order = [first, *(kind for kind in kinds if kind != first), *kinds]
    counts = {kind: itertools.count(1) for kind in kinds}
    half = channel.receive_channel if first == "receive" else channel.send_channel
    with half.clone() as clone:
        async with trio.open_nursery() as nursery:
            calls = []
            for place, kind in enumerate(order):
                number = next(counts[kind])
                where = clone if place == 0 else channel
                args = [f"{kind} {number}"] if kind == "send" else []
                calls.append(Call())
                nursery.start_soon(calls[-1].run, getattr(where, kind), args)
                await settle()
            yield clone, calls
            nursery.cancel_scope.cancel()


async def leave(how: str, clone: Any, call: Call) -> None:
    if how == "cancelled":
        await call.cancel()
    else:
        clone.close()
        with pytest.raises(trio.ClosedResourceError):
            await call.outcome()


@pytest.mark.parametrize("how", ["cancelled", "closed"])
@pytest.mark.parametrize("first", KINDS)
async def test_the_work_is_handed_over(first: str, how: str) -> None:
    with open_pair(1) as (a, b):
        a.send_nowait("x" * MANY_BYTES)
        async with everybody_waits(a, first) as (clone, calls):
            await leave(how, clone, calls.pop(0))
            got = [await b.receive() for _ in range(2 if first == "send" else 3)]
            await b.send(0)
            if first != "receive":
                await b.send(1)
            for call in calls:
                await call.outcome()
        numbers = (2,) if first == "send" else (1, 2)
        assert got == ["x" * MANY_BYTES, *(f"send {number}" for number in numbers)]
        received = [call.value for call in calls if call.value is not None]
        assert received == ([0] if first == "receive" else [0, 1])


async def test_the_work_is_handed_over_in_a_scope() -> None:
    kinds = ("receive", "send")  # the child's kernel and then its scope take all: nothing to drain
    async with open_child_aside(children.take_when_told, max_buffer_size=1) as (child, aside):
        for first, how in itertools.product(kinds, ["cancelled", "closed"]):
            child.send_nowait("x" * MANY_BYTES)
            async with everybody_waits(child, first, kinds) as (clone, calls):
                await leave(how, clone, calls.pop(0))
                numbers = (2,) if first == "send" else (1, 2)
                await aside.say(f"{1 + len(numbers)} {1 if first == 'receive' else 2}")
                for call in calls:
                    await call.outcome()
                assert await aside.hear() == str(
                    [MANY_BYTES, *(f"send {number}" for number in numbers)]
                )


@pytest.mark.parametrize("first", KINDS)
async def test_the_work_is_handed_on_when_it_is_done(first: str) -> None:
    with open_pair(1) as (a, b):
        a.send_nowait("x" * MANY_BYTES)
        async with everybody_waits(a, first) as (_, calls):
            if first == "receive":
                b.send_nowait(0)
                await calls[0].outcome()
            assert await b.receive() == "x" * MANY_BYTES
            assert [await b.receive() for _ in range(2)] == ["send 1", "send 2"]
            for number in range(1 if first == "receive" else 2):
                await b.send(number)
            for call in calls:
                await call.outcome()


async def test_all_leaders_in_turn_may_leave() -> None:
    with open_pair(1) as (a, b):
        a.send_nowait("x" * MANY_BYTES)
        async with everybody_waits(a, "receive") as (_, calls):
            for call in calls[:-1]:
                await call.cancel()
            assert await b.receive() == "x" * MANY_BYTES
            await calls[-1].outcome()  # a task that drains


async def test_leaving_all_at_once_leaves_nobody_behind() -> None:
    with open_pair(1) as (a, b):
        a.send_nowait("x" * MANY_BYTES)
        for first in KINDS:
            async with everybody_waits(a, first) as (_, calls):
                for call in calls:
                    call.scope.cancel()
                for call in calls:
                    await call.finished.wait()
                    assert call.cancelled
        waits = a.statistics()
        assert waits.tasks_waiting_receive == waits.tasks_waiting_send == 0
        async with waiting(a.receive) as received:  # and everything still works
            assert await b.receive() == "x" * MANY_BYTES
            b.send_nowait("y")
            assert await received.outcome() == "y"


class Traffic:
    """Tasks that send, receive and drain on one end, each cancelled again and again."""

    def __init__(self, channel: Any, seed: int) -> None:
        self.channel = channel
        self.random = random.Random(seed)
        self.sent: list[int] = []
        self.received: list[int] = []
        self._numbers = itertools.count()

    async def run(self, count: int) -> None:
        async with trio.open_nursery() as receivers:
            for _ in range(3):
                receivers.start_soon(self._receive)
            receivers.start_soon(self._drain)
            async with trio.open_nursery() as senders:
                for _ in range(3):
                    senders.start_soon(self._send, count)
            await self.channel.send_channel.aclose()

    async def _interrupted(self, call: Any, *args: Any) -> tuple[bool, Any]:
        """Whether it returned, and what."""
        returned, value, error = False, None, None
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel_soon, scope)
                try:
                    value = await call(*args)
                    returned = True
                except (trio.EndOfChannel, trio.ClosedResourceError) as exc:
                    error = exc
                nursery.cancel_scope.cancel()
        if error is not None:
            raise error
        return returned, value

    async def _cancel_soon(self, scope: trio.CancelScope) -> None:
        if self.random.random() < 0.5:
            for _ in range(self.random.randrange(30)):
                await trio.lowlevel.checkpoint()
            scope.cancel()

    async def _send(self, count: int) -> None:
        while (number := next(self._numbers)) < count:
            data = "x" * self.random.choice([0, 100, 100_000])
            if (await self._interrupted(self.channel.send, [number, data]))[0]:
                self.sent.append(number)

    async def _receive(self) -> None:
        while True:
            try:
                returned, message = await self._interrupted(self.channel.receive)
            except trio.EndOfChannel:
                return
            if returned:
                self.received.append(message[0])

    async def _drain(self) -> None:
        while True:
            try:
                await self._interrupted(self.channel.drain)
            except trio.ClosedResourceError:
                return


@pytest.mark.parametrize("max_buffer_size", [0, 1, 4])
async def test_traffic_of_all_kinds_both_ways_loses_and_doubles_nothing(
    max_buffer_size: int,
) -> None:
    with open_pair(max_buffer_size) as (a, b):
        ours, theirs = Traffic(a, seed=1), Traffic(b, seed=2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.run, 200)
            nursery.start_soon(theirs.run, 200)
        assert sorted(ours.received) == sorted(theirs.sent)
        assert sorted(theirs.received) == sorted(ours.sent)
        assert len(ours.sent) > 20


async def test_traffic_of_all_kinds_in_a_scope_loses_and_doubles_nothing() -> None:
    async with trio_ipc.open_child(children.echo, max_buffer_size=4) as child:
        traffic = Traffic(child, seed=3)
        await traffic.run(300)
        assert sorted(traffic.received) == sorted(traffic.sent)
        assert len(traffic.sent) > 20
