"""``send`` commits or does not: first come, first served; and once a frame's first byte is out, the
frame is finished, whatever happens to the caller."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ipc

from . import meaning_children as children
from .meaning_helpers import MANY_BYTES, open_child_aside, open_pair, script, settle, waiting

# To commit, or not ----------------------------------------------------------------------------


async def test_what_is_refused_leaves_no_trace() -> None:
    with open_pair(2, max_message_size=100, max_handles=0) as (a, b):
        before = a.statistics()
        for wrong in (object(), {"deep": [1, {"in": object()}]}, b"x" * 200, ["x" * 200], 1 << 70):
            with pytest.raises((trio_ipc.UnsupportedMessage, trio_ipc.MessageTooLarge)):
                await a.send(wrong)
            with pytest.raises((trio_ipc.UnsupportedMessage, trio_ipc.MessageTooLarge)):
                a.send_nowait(wrong)
        assert a.statistics() == before
        await a.send(1)
        await a.send(2)
        assert [b.receive_nowait(), b.receive_nowait()] == [1, 2]


async def test_what_is_refused_is_refused_before_there_is_room() -> None:
    with open_pair(1) as (a, _):
        a.send_nowait("it is full")
        for send in (a.send, a.send_nowait):
            with pytest.raises(trio_ipc.UnsupportedMessage):
                outcome = send(object())
                if outcome is not None:
                    await outcome


async def test_a_message_is_what_it_was_when_it_was_sent() -> None:
    with open_pair(1) as (a, b):
        message = ["first"]
        a.send_nowait(message)
        message[0] = "second"
        async with waiting(a.send, message) as sent:
            message[0] = "changed while it waited"
            assert await b.receive() == ["first"]
            await sent.outcome()
        assert await b.receive() == ["second"]


async def test_send_returns_when_it_is_committed_not_when_it_is_written() -> None:
    with open_pair() as (a, b):
        await a.send(b"x" * MANY_BYTES)
        assert a.statistics().bytes_unsent > 0
        with pytest.raises(trio.WouldBlock):
            b.receive_nowait()
        async with waiting(a.drain) as drained:
            assert await b.receive() == b"x" * MANY_BYTES
            await drained.outcome()


async def test_send_nowait_says_at_once_that_there_is_no_room() -> None:
    with open_pair(3) as (a, b):
        for number in range(3):
            a.send_nowait(number)
        for _ in range(2):
            with pytest.raises(trio.WouldBlock):
                a.send_nowait("one more")
        assert [b.receive_nowait() for _ in range(3)] == [0, 1, 2]
        with pytest.raises(trio.WouldBlock):
            b.receive_nowait()


# First come, first served ---------------------------------------------------------------------


@pytest.mark.parametrize("max_buffer_size", [0, 1])
async def test_waiting_senders_are_served_in_their_order(max_buffer_size: int) -> None:
    with open_pair(max_buffer_size) as (a, b):
        if max_buffer_size:
            a.send_nowait("before")
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(a.send, number)
                await settle()
            assert a.statistics().tasks_waiting_send == 5
            got = [await b.receive() for _ in range(5 + max_buffer_size)]
        assert got == ["before", 0, 1, 2, 3, 4][1 - max_buffer_size :]


@pytest.mark.parametrize("leaving", range(4))
async def test_a_sender_that_is_cancelled_leaves_the_line(leaving: int) -> None:
    with open_pair(1) as (a, b):
        a.send_nowait("before")
        async with (
            waiting(a.send, 0) as s0,
            waiting(a.send, 1) as s1,
            waiting(a.send, 2) as s2,
            waiting(a.send, 3) as s3,
        ):
            calls = [s0, s1, s2, s3]
            await calls.pop(leaving).cancel()
            assert [await b.receive() for _ in range(4)] == [
                "before",
                *(number for number in range(4) if number != leaving),
            ]
            for call in calls:
                await call.outcome()
        with pytest.raises(trio.WouldBlock):
            b.receive_nowait()


async def test_senders_on_clones_stand_in_one_line() -> None:
    with open_pair(1) as (a, b), a.send_channel.clone() as clone:
        a.send_nowait("before")
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon((clone, a)[number % 2].send, number)
                await settle()
            assert [await b.receive() for _ in range(5)] == ["before", 0, 1, 2, 3]


async def test_a_sender_that_fails_at_the_commit_does_not_hold_up_the_next() -> None:
    near, far = trio.socket.socketpair()
    with near, far, open_pair(1) as (a, b):
        a.send_nowait("before")
        async with waiting(a.send, [near]) as first, waiting(a.send, "second") as second:
            near.close()
            assert await b.receive() == "before"
            with pytest.raises(trio_ipc.UnsupportedHandle):
                await first.outcome()
            await second.outcome()
        assert await b.receive() == "second"


async def test_a_sender_that_is_cancelled_as_its_turn_comes_passes_it_on() -> None:
    with open_pair(1) as (a, b):
        a.send_nowait("before")
        async with waiting(a.send, "first") as first, waiting(a.send, "second") as second:
            assert await b.receive() == "before"
            first.scope.cancel()
            # Whichever of the two came first, exactly what returned was sent.
            got = await b.receive()
            await first.finished.wait()
            assert got == ("second" if first.cancelled else "first")
            if not first.cancelled:
                assert await b.receive() == "second"
            await second.outcome()


# A frame is never cut -------------------------------------------------------------------------


async def test_a_sender_that_is_gone_does_not_cut_its_frame() -> None:
    with open_pair() as (a, b):
        with trio.CancelScope() as scope:
            await a.send(b"x" * MANY_BYTES)
            scope.cancel()
            await a.send("never sent")
        assert scope.cancelled_caught
        async with waiting(a.send, "after") as sent, waiting(a.receive):
            assert await b.receive() == b"x" * MANY_BYTES
            await sent.outcome()
            assert await b.receive() == "after"


def make(number: int, size: int) -> dict[str, Any]:
    return {"number": number, "data": bytes([number % 251]) * size}


def check_whole(message: dict[str, Any]) -> int:
    number: int = message["number"]
    assert set(message["data"]) <= {number % 251}
    return number


class Chaos:
    """Many senders of large and small messages, cancelled at all kinds of moments."""

    def __init__(self, channel: Any, seed: int) -> None:
        self.channel = channel
        self.random = random.Random(seed)
        self.returned: set[int] = set()
        self.cancelled: set[int] = set()

    async def run(self, messages: int) -> None:
        numbers = iter(range(messages))
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(self._send_some, numbers)

    async def _send_some(self, numbers: Any) -> None:
        for number in numbers:
            message = make(number, self.random.choice([0, 10, 1000, 70_000, 300_000]))
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._cancel_soon, scope, self.random.randrange(12))
                    await self.channel.send(message)
                    self.returned.add(number)
                    nursery.cancel_scope.cancel()
            if number not in self.returned:
                self.cancelled.add(number)

    async def _cancel_soon(self, scope: trio.CancelScope, steps: int) -> None:
        if self.random.random() < 0.7:
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            scope.cancel()


@pytest.mark.parametrize("max_buffer_size", [0, 1, 5, 100])
async def test_cancelled_sends_never_cut_a_frame(max_buffer_size: int) -> None:
    with open_pair(max_buffer_size, max_message_size=400_000) as (a, b):
        chaos = Chaos(a, seed=max_buffer_size)
        got: list[int] = []

        async def receive() -> None:
            async for message in b:
                got.append(check_whole(message))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await chaos.run(300)
            await a.send_channel.aclose()
        assert sorted(got) == sorted(chaos.returned)
        assert chaos.returned
        assert chaos.cancelled


async def test_cancelled_sends_never_cut_a_frame_between_processes() -> None:
    async with trio_ipc.open_child(children.check_chaos, max_buffer_size=3) as child:
        chaos = Chaos(child, seed=1)
        await chaos.run(300)
        await child.send_channel.aclose()
        got = await child.receive()
        assert sorted(got) == sorted(chaos.returned)
        assert chaos.returned
        assert chaos.cancelled


async def test_a_frame_that_was_begun_is_finished_after_the_half_is_closed() -> None:
    async with open_child_aside(children.count_bytes_when_told) as (child, aside):
        child.process.send_signal(signal.SIGSTOP)  # or it might have read it all by then
        await child.send(b"x" * MANY_BYTES)
        assert child.statistics().bytes_unsent > 0
        child.close()
        child.process.send_signal(signal.SIGCONT)
        await aside.say()
        assert await aside.hear() == f"{MANY_BYTES} bytes, then the end"


@pytest.mark.parametrize("how", ["return", "raise", "cancel"])
async def test_a_frame_that_was_begun_is_finished_when_the_child_returns(how: str) -> None:
    async with trio_ipc.open_child(
        children.send_much_and_leave, how, MANY_BYTES, check=False
    ) as child:
        assert len(await child.receive()) == MANY_BYTES
        assert await child.receive() == "after it"
        # Who fails says no goodbye.
        with pytest.raises(trio.BrokenResourceError if how == "raise" else trio.EndOfChannel):
            await child.receive()


@pytest.mark.parametrize("how", ["return", "raise", "cancel", "cancel-while-leaving"])
async def test_a_frame_that_was_begun_is_finished_when_a_script_leaves_its_block(
    how: str, tmp_path: Path
) -> None:
    source = f"""
        import sys, trio, trio_ipc

        async def main(how):
            with trio.CancelScope() as scope:
                async with trio_ipc.open_parent() as parent:
                    await parent.send(b"x" * {MANY_BYTES})
                    if how == "raise":
                        sys.exit(0)
                    if how.startswith("cancel"):
                        scope.cancel()
                    if how == "cancel":
                        await trio.sleep_forever()

        trio.run(main, sys.argv[1])
    """
    async with trio_ipc.open_child(script(tmp_path, source), how) as child:
        assert await child.receive() == b"x" * MANY_BYTES
        with pytest.raises(trio.EndOfChannel):
            await child.receive()
