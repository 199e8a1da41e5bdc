"""Without credit: what is sent is bounded by its bytes, what is unread by not reading on."""

from __future__ import annotations

import json
import math
import socket
from typing import Any

import pytest
import trio

from .meaning_helpers import fill, settle, waiting
from .node_peers.raw import (
    ACK,
    connection,
    count,
    get_count,
    handle_frame,
    line,
    open_end,
    open_twins,
)

HIGH_WATER = 128 * 1024


# Sending ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 1000, 200_000])
async def test_send_nowait_would_block_when_128_kib_are_unsent(size: int) -> None:
    async with open_end() as (channel, raw):
        sent = 0
        while True:
            try:
                channel.send_nowait("x" * size)
            except trio.WouldBlock:
                unsent = channel.statistics().bytes_unsent
                await settle()  # what was gathered is written now
                if channel.statistics().bytes_unsent == unsent:
                    break
            else:
                sent += 1
        assert HIGH_WATER <= unsent < HIGH_WATER + size + 3
        assert channel.statistics().credit == 0
        with connection() as (stream, _):
            with pytest.raises(trio.WouldBlock):
                channel.send_nowait("m", stream)
            async with waiting(channel.send, "last") as last:
                for _ in range(sent):
                    assert await raw.hear() == line("x" * size)
                assert await raw.hear() == line("last")
                await last.outcome()
        assert channel.statistics().credit == math.inf
        assert channel.statistics().bytes_unsent == 0


async def test_senders_wait_in_line_for_room() -> None:
    async with open_end() as (channel, raw):
        await channel.send("x" * 3_000_000)
        async with (
            waiting(channel.send, 1) as first,
            waiting(channel.send, 2) as second,
            waiting(channel.send, 3) as third,
        ):
            with pytest.raises(trio.WouldBlock):
                channel.send_nowait("I never overtake")
            await second.cancel()
            assert await raw.hear() == line("x" * 3_000_000)
            await first.outcome()
            await third.outcome()
            assert await raw.hear() == line(1)
            assert await raw.hear() == line(3)


async def test_what_waits_behind_a_handle_is_bounded_as_well() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, _):
            channel.send_nowait("m", stream)
            assert await raw.hear() == handle_frame("m")
            sent = fill(channel, "x" * 998)
            assert (sent - 1) * 1001 < HIGH_WATER <= sent * 1001
            async with waiting(channel.send, "last") as last:
                await raw.say(ACK)
                for _ in range(sent):
                    assert await raw.hear() == line("x" * 998)
                await last.outcome()
                assert await raw.hear() == line("last")


async def test_many_tasks_send_and_no_line_is_cut() -> None:
    async with open_end() as (channel, raw):
        sizes = [1, 1000, 70_000, 300_000]

        async def send(name: int) -> None:
            for number in range(8):
                await channel.send([name, number, "x" * sizes[number % 4]])

        async with trio.open_nursery() as nursery:
            for name in range(4):
                nursery.start_soon(send, name)
            seen = [0] * 4
            for _ in range(32):
                name, number, filler = json.loads(await raw.hear())
                assert (number, len(filler)) == (seen[name], sizes[number % 4])
                seen[name] += 1


# Receiving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_buffer_size", [0, 1, 10])
async def test_a_flood_is_read_only_as_fast_as_the_user_receives(max_buffer_size: int) -> None:
    async with open_end(max_buffer_size=max_buffer_size) as (channel, raw):
        data = line("x" * 61)  # 64 bytes
        assert len(data) == 64
        said = 0
        with trio.move_on_after(5) as scope:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def flood() -> None:
                    nonlocal said
                    while True:
                        await raw.say(data * 100)
                        said += 100

                while True:
                    before = said
                    await settle(0.03)  # the background reader begins when nobody else reads
                    if said == before and said:
                        break
                waiting_here = channel.statistics().current_buffer_used
                assert waiting_here <= max_buffer_size + 65536 // 64 + 1
                assert await channel.receive() == "x" * 61
                # It goes on when half of it is received.
                while said == before:
                    assert await channel.receive() == "x" * 61
                nursery.cancel_scope.cancel()
        assert not scope.cancelled_caught


async def test_a_sender_gives_up_while_enough_is_unread() -> None:
    async with open_end(max_buffer_size=1) as (channel, raw):
        await raw.say(line(1) + line(2))
        while channel.statistics().current_buffer_used < 2:
            await settle(0.001)
        sent = fill(channel, "x" * 1000)
        async with waiting(channel.send, "never") as never:
            await never.cancel()
        async with waiting(channel.send, "last") as last:
            while sent:
                assert await raw.hear() == line("x" * 1000)
                sent -= 1
            await last.outcome()
        assert await raw.hear() == line("last")
        assert [await channel.receive(), await channel.receive()] == [1, 2]
        await raw.say(line(3))
        assert await channel.receive() == 3


async def test_a_flood_of_large_messages_is_bounded_by_its_bytes() -> None:
    async with open_end(max_message_size=2_000_000) as (channel, raw):
        message = line("x" * 1_000_000)
        async with trio.open_nursery() as nursery:
            said = 0

            @nursery.start_soon
            async def flood() -> None:
                nonlocal said
                while True:
                    await raw.say(message)
                    said += 1

            before = -1
            while said != before or not said:
                before = said
                await settle(0.03)
            assert said < 10
            assert channel.statistics().current_buffer_used <= 3
            for _ in range(20):
                assert len(await channel.receive()) == 1_000_000
            nursery.cancel_scope.cancel()


async def test_a_burst_before_anybody_receives_arrives_whole() -> None:
    async with open_end(max_buffer_size=3) as (channel, raw):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def burst() -> None:
                for number in range(5000):
                    await raw.say(line(number))
                raw.end()

            await settle(0.03)
            assert [message async for message in channel] == list(range(5000))


async def test_no_receiver_waits_while_there_are_messages() -> None:
    async with open_end(max_buffer_size=1) as (channel, raw):
        received: list[int] = []

        async def receive() -> None:
            async for message in channel:
                received.append(message)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(receive)
            for number in range(500):
                await raw.say(line(number))
            raw.end()
        assert sorted(received) == list(range(500))


async def test_a_flood_of_questions_from_who_reads_no_answers() -> None:
    """What is answered and not read is bounded; all of it is answered when it is."""
    async with open_end() as (channel, raw):
        question, answer = get_count("k" * 1000), count("k" * 1000, 0)
        said = 0
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def flood() -> None:
                nonlocal said
                for _ in range(6000):
                    await raw.say(question)
                    said += 1

            before = -1
            while said != before or not said:
                before = said
                await settle(0.03)
            assert said < 5500
            assert channel.statistics().bytes_unsent < 4 * 65536
            for _ in range(6000):
                assert await raw.hear() == answer


# Both at once -----------------------------------------------------------------------------------


async def test_questions_are_answered_while_a_handle_is_awaited() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, _):
            async with waiting(channel.send, "m", stream) as sent:
                assert await raw.hear() == handle_frame("m")
                await raw.say(get_count("k"))
                assert await raw.hear() == count("k", 0)
                await raw.say(ACK)
                await sent.outcome()


async def test_an_answer_behind_a_flood_is_read() -> None:
    """Though nobody receives, and the buffer is full."""
    async with open_end(max_buffer_size=1) as (channel, raw):
        await raw.say(line(0) * 5)
        while channel.statistics().current_buffer_used < 5:
            await settle(0.001)
        with connection() as (stream, _):
            async with waiting(channel.send, "m", stream) as sent:
                assert await raw.hear() == handle_frame("m")
                await raw.say(line(0) * 5000 + ACK)
                await sent.outcome()
        assert channel.statistics().current_buffer_used == 5005
        for _ in range(5005):
            assert await channel.receive() == 0


@pytest.mark.parametrize("receive", [False, True])
async def test_handles_both_ways_at_once_with_full_buffers(receive: bool) -> None:
    async with open_twins(max_buffer_size=1) as (a, b):
        for channel in (a, b):
            for number in range(20):
                channel.send_nowait(number)
            await settle(0.03)
        pairs = [connection() for _ in range(2)]
        with pairs[0] as (first, far_a), pairs[1] as (second, far_b):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(a.send, "from a", first)
                nursery.start_soon(b.send, "from b", second)
                if receive:
                    await settle()
            for channel, text, far in ((a, "from b", far_b), (b, "from a", far_a)):
                for number in range(20):
                    assert await channel.receive() == number
                message, stream = await channel.receive()
                assert message == text
                async with stream:
                    far.sendall(b"x")
                    assert await stream.receive_some(1) == b"x"


async def test_a_hundred_handles_both_ways() -> None:
    async with open_twins(max_buffer_size=3) as (a, b):

        async def send(channel: Any) -> None:
            for number in range(100):
                near, far = socket.socketpair()
                with near, far:
                    await channel.send(number, near)

        async def receive(channel: Any) -> None:
            for number in range(100):
                message, stream = await channel.receive()
                assert message == number
                await stream.aclose()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for channel in (a, b):
                    nursery.start_soon(send, channel)
                    nursery.start_soon(receive, channel)


@pytest.mark.parametrize("size", [100_000, 3_000_000])
async def test_large_messages_with_handles_both_ways(size: int) -> None:
    """Each side writes more than the kernel takes, and has to read meanwhile."""
    async with open_twins(max_buffer_size=1) as (a, b):
        for _ in range(2):
            with connection() as (first, far_a), connection() as (second, far_b):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(a.send, "a" * size, first)
                    nursery.start_soon(b.send, "b" * size, second)
                for channel, text, far in ((a, "b", far_b), (b, "a", far_a)):
                    message, stream = await channel.receive()
                    assert message == text * size
                    async with stream:
                        far.sendall(b"x")
                        assert await stream.receive_some(1) == b"x"


async def test_large_messages_both_ways_with_nobody_who_receives_yet() -> None:
    async with open_twins(max_buffer_size=1) as (a, b):
        async with trio.open_nursery() as nursery:
            for channel in (a, b):
                for number in range(10):
                    nursery.start_soon(channel.send, [number, "x" * 1_000_000])
            await settle(0.03)
            for channel in (a, b):
                received = [(await channel.receive())[0] for _ in range(10)]
                assert sorted(received) == list(range(10))
