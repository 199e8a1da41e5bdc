"""``max_buffer_size`` is exact, the bytes under way are bounded in both processes, and a peer that
stops reading stops the sender: it never fills memory."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ipc

from . import meaning_children as children
from .meaning_helpers import (
    MANY_BYTES,
    fill,
    open_child_aside,
    open_pair,
    script,
    settle,
    stop,
    waiting,
)

KIB = 1024
MIB = 1024 * 1024

# Messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 3, 100, 1000])
async def test_the_buffer_is_exact_in_a_pair(size: int) -> None:
    with open_pair(size) as (a, b):
        assert fill(a) == size
        for _ in range(min(size, 3)):
            assert b.receive_nowait() == "x"
            assert fill(a) == 1
        for _ in range(size):
            b.receive_nowait()
        with pytest.raises(trio.WouldBlock):
            b.receive_nowait()
        # Where nobody does anything in the background, a sender that has much credit left may
        # wait a little for more.
        assert size - size // 16 <= fill(a) <= size


async def test_no_buffer_means_one_message_for_each_task_that_waits() -> None:
    with open_pair(0) as (a, b):
        assert fill(a) == 0
        async with waiting(b.receive) as first, waiting(b.receive) as second:
            assert fill(a) == 2
            await first.outcome()
            await second.outcome()
        assert fill(a) == 0


@pytest.mark.parametrize("size", [1, 2, 5, 100])
async def test_the_buffer_is_exact_towards_a_child(size: int) -> None:
    async with open_child_aside(children.take_some_when_told, max_buffer_size=size) as (
        child,
        aside,
    ):
        assert fill(child) == size
        assert await child.receive() == "ready"
        assert fill(child) == 0
        for _ in range(3):
            await aside.say("1")
            assert await aside.hear() == "took 1"
            # The child does something else now, and still there is room for just one.
            await child.send("one more")
            assert fill(child) == 0


async def test_no_buffer_means_that_a_child_has_taken_what_was_sent() -> None:
    async with open_child_aside(children.take_some_when_told, max_buffer_size=0) as (child, aside):
        assert await child.receive() == "ready"
        for _ in range(3):
            assert fill(child) == 0
            async with waiting(child.send, "x") as sent:
                await aside.say("1")
                await sent.outcome()
                assert await aside.hear() == "took 1"
        assert fill(child) == 0


@pytest.mark.parametrize("size", [0, 1, 5, 100])
async def test_the_buffer_is_exact_towards_the_parent(size: int) -> None:
    async with open_child_aside(children.fill_and_say, max_buffer_size=size) as (child, aside):
        assert await aside.hear() == str(size)
        for _ in range(3):
            assert await child.receive() == "x"
            # This task does something else now, and still there is room for just one.
            assert await aside.hear() == "sent one more" + (", and no other" if size else "")


async def test_each_side_may_have_its_own_buffer(tmp_path: Path) -> None:
    source = """
        import trio, trio_ipc

        async def main():
            async with trio_ipc.open_parent(max_buffer_size=2) as parent:
                await parent.send("ready")
                count = 1
                try:
                    while True:
                        parent.send_nowait("x")
                        count += 1
                except trio.WouldBlock:
                    print(count, flush=True)
                await trio.sleep_forever()

        trio.run(main)
    """
    async with open_child_aside(script(tmp_path, source), max_buffer_size=5, grace_period=0) as (
        child,
        aside,
    ):
        assert await aside.hear() == "5"
        assert await child.receive() == "ready"
        assert fill(child) == 2
        assert child.statistics().max_buffer_size == 5


async def test_a_script_takes_over_an_unlimited_buffer(tmp_path: Path) -> None:
    source = """
        import math, trio, trio_ipc

        async def main():
            async with trio_ipc.open_parent() as parent:
                assert parent.statistics().max_buffer_size == math.inf
                for number in range(5000):
                    parent.send_nowait(number)

        trio.run(main)
    """
    async with trio_ipc.open_child(script(tmp_path, source), max_buffer_size=math.inf) as child:
        assert child.statistics().credit == math.inf
        assert [number async for number in child] == list(range(5000))


# Bytes ----------------------------------------------------------------------------------------


async def fill_and_drain(channel: Any, message: Any) -> int:
    """Send until there is no room though everything is written; how many messages that were."""
    count = 0
    while more := fill(channel, message):
        count += more
        await channel.drain()
    return count


@pytest.mark.parametrize("size", [100, 10 * KIB, 100 * KIB, 1000 * KIB])
async def test_the_bytes_under_way_are_bounded_without_a_limit_on_messages(size: int) -> None:
    async with open_child_aside(
        children.take_some_when_told, max_buffer_size=math.inf, max_message_size=MIB
    ) as (child, _):
        assert await child.receive() == "ready"
        count = await fill_and_drain(child, b"x" * size)
        assert count > 0
        assert count * size <= 2 * MIB + size
        if size == 100:
            assert count > 1000  # or it would be no bound for bytes, but for messages


async def test_the_bytes_under_way_are_bounded_with_a_limit_on_messages_too() -> None:
    async with open_child_aside(
        children.take_some_when_told, max_buffer_size=1000, max_message_size=MIB
    ) as (child, _):
        assert await child.receive() == "ready"
        assert await fill_and_drain(child, b"x" * 100 * KIB) <= 21


async def test_one_message_of_the_greatest_size_always_goes_in() -> None:
    size = 3 * MIB
    with open_pair(max_message_size=size) as (a, b):
        for _ in range(3):
            async with waiting(b.receive) as received:
                await a.send(b"x" * size)
                await a.drain()
                assert len(await received.outcome()) == size


async def test_the_bytes_that_are_not_written_are_bounded() -> None:
    size = 100 * KIB
    with open_pair(math.inf) as (a, _):
        fill(a, b"x" * size)
        assert a.statistics().bytes_unsent <= 256 * KIB + size
        # With nothing under way, however, a message goes in that is larger than that.
    with open_pair(math.inf) as (a, _):
        a.send_nowait(b"x" * MANY_BYTES)
        assert fill(a) == 0


async def test_a_child_that_has_taken_everything_has_room_again() -> None:
    # Sizes at which the bytes under way are what holds the sender up.
    for size in (100, 5 * KIB, 20 * KIB, 500 * KIB):
        async with open_child_aside(
            children.take_some_when_told, max_buffer_size=math.inf, max_message_size=MIB
        ) as (child, aside):
            assert await child.receive() == "ready"
            for _ in range(4):
                count = await fill_and_drain(child, b"x" * size)
                await aside.say(str(count))
                assert await aside.hear() == f"took {count}"
                await child.send(b"x" * size)  # and not only when it takes more
                await aside.say("1")
                assert await aside.hear() == "took 1"


async def test_a_child_that_has_taken_all_handles_has_room_again() -> None:
    near, far = trio.socket.socketpair()
    async with open_child_aside(children.take_some_when_told) as (child, aside):
        with near, far:
            assert await child.receive() == "ready"
            one, many = [near], [far.dup() for _ in range(16)]
            for _ in range(3):
                count = 0
                with pytest.raises(trio.WouldBlock):
                    while True:
                        child.send_nowait(one, keep_open=True)
                        count += 1
                assert 16 <= count <= 256
                await aside.say(str(count))
                assert await aside.hear() == f"took {count}"
                await child.send(many, keep_open=True)
                await aside.say("1")
                assert await aside.hear() == "took 1"
            for sock in many:
                sock.close()


# A peer that stops reading --------------------------------------------------------------------


@pytest.mark.parametrize("size", [200, 100 * KIB])
async def test_a_peer_that_stops_reading_stops_the_sender(size: int) -> None:
    messages = [[number, b"x" * size] for number in range(12_000 if size == 200 else 100)]
    sent = 0

    async def send_all() -> None:
        nonlocal sent
        for message in messages:
            await child.send(message)
            sent += 1
        await child.send_channel.aclose()

    async with trio_ipc.open_child(
        children.check_numbers, max_buffer_size=math.inf, max_message_size=MIB
    ) as child:
        assert await child.receive() == "ready"
        await stop(child.process)
        async with waiting(send_all) as sending:
            assert child.statistics().tasks_waiting_send == 1
            assert child.statistics().bytes_unsent <= 256 * KIB + max(size + 100, 64 * KIB)
            assert sent * size <= 3 * MIB
            assert sent < len(messages)
            child.process.send_signal(signal.SIGCONT)
            await sending.outcome()
        assert await child.receive() == len(messages)


async def test_a_peer_that_stops_reading_can_be_waited_for_with_a_timeout() -> None:
    async with trio_ipc.open_child(children.check_numbers, max_buffer_size=1) as child:
        assert await child.receive() == "ready"
        await stop(child.process)
        await child.send([0, b""])
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.send, [1, b"cancelled"])
                await settle()
                scope.cancel()
        child.process.send_signal(signal.SIGCONT)
        await child.send([1, b""])
        await child.send_channel.aclose()
        assert await child.receive() == 2


# Both at once ---------------------------------------------------------------------------------


async def send_then_receive(channel: Any, count: int, size: int) -> None:
    await children.send_then_receive(channel, count, size)


async def test_both_sides_may_send_much_before_they_receive() -> None:
    with open_pair(100) as (a, b):
        async with trio.open_nursery() as nursery:
            for end in (a, b):
                nursery.start_soon(send_then_receive, end, 20, 300 * KIB)


async def test_both_processes_may_send_much_before_they_receive() -> None:
    async with trio_ipc.open_child(
        children.send_then_receive, 20, 300 * KIB, max_buffer_size=100
    ) as child:
        await send_then_receive(child, 20, 300 * KIB)


async def test_both_processes_may_send_much_at_the_same_time() -> None:
    async with trio_ipc.open_child(
        children.send_while_receiving, 50, 1000 * KIB, max_buffer_size=1
    ) as child:
        await children.send_while_receiving(child, 50, 1000 * KIB)


# Memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_buffer_size", [3, math.inf])
async def test_memory_is_bounded_however_much_goes_through(max_buffer_size: float) -> None:
    count, size = 200, 1000 * KIB
    async with trio_ipc.open_child(
        children.measure_memory,
        count,
        size,
        max_buffer_size=max_buffer_size,
        max_message_size=MIB,
    ) as child:
        for _ in range(count):
            await child.send(b"x" * size)
        for _ in range(count):
            assert len(await child.receive()) == size
        growth = await child.receive()
        assert growth < 24 * MIB < count * size
