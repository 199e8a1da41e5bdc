"""Nobody is busy while nothing happens; and looking again before parking is for speed only: nothing
but the time depends on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import trio_ipc
from trio_ipc import _waiting

from . import (
    meaning_children as children,
    test_meaning_01_checkpoints as checkpoints,
    test_meaning_02_send as send,
    test_meaning_03_receive as receive,
    test_meaning_04_order as order,
    test_meaning_05_bounds as bounds,
    test_meaning_06_end as end,
)
from .meaning_helpers import MANY_BYTES, fill, open_child_aside, open_pair, settle, stop, waiting

# Idle --------------------------------------------------------------------------------------------


async def assert_nobody_is_busy() -> None:
    """No task of this process takes a step for a while, once all are parked."""
    await settle(0.05)
    assert await children.count_steps(0.2) == 0


async def test_a_pair_that_waits_for_messages_is_idle() -> None:
    with open_pair() as (a, b):
        async with waiting(a.receive), waiting(b.receive), waiting(b.receive):
            await assert_nobody_is_busy()


async def test_a_pair_that_waits_for_room_is_idle() -> None:
    with open_pair(1) as (a, _):
        a.send_nowait(b"x" * MANY_BYTES)
        async with waiting(a.send, "x"), waiting(a.drain), waiting(a.receive):
            await assert_nobody_is_busy()


async def test_a_scope_that_nobody_uses_is_idle() -> None:
    async with trio_ipc.open_child(children.echo) as child:
        for number in range(100):
            await child.send(number)
            assert await child.receive() == number
        await assert_nobody_is_busy()
        child.send_nowait("x")
        assert await child.receive() == "x"
        await assert_nobody_is_busy()


async def test_a_scope_that_waits_for_a_message_is_idle() -> None:
    async with trio_ipc.open_child(children.echo) as child:
        await child.send("x")
        assert await child.receive() == "x"
        async with waiting(child.receive), waiting(child.receive):
            await assert_nobody_is_busy()


async def test_a_scope_that_waits_for_room_is_idle() -> None:
    async with open_child_aside(children.take_some_when_told, max_buffer_size=2) as (child, aside):
        assert await child.receive() == "ready"
        assert fill(child) == 2
        async with waiting(child.send, "x") as sent:
            await assert_nobody_is_busy()
            await aside.say("1")
            await sent.outcome()
            assert await aside.hear() == "took 1"


async def test_a_scope_whose_child_does_not_read_is_idle() -> None:
    async with trio_ipc.open_child(children.echo, grace_period=0) as child:
        await child.send("x")
        assert await child.receive() == "x"
        await stop(child.process)
        child.send_nowait(b"x" * MANY_BYTES)
        async with waiting(child.drain), waiting(child.send, "x"):
            await assert_nobody_is_busy()


@pytest.mark.parametrize("how", ["receive", "elsewhere"])
async def test_a_child_with_an_idle_parent_is_idle(how: str) -> None:
    async with open_child_aside(children.count_steps_of_its_own, how) as (child, aside):
        await child.send("x")
        assert await child.receive() == "x"
        assert await aside.hear() == "0 steps"


# Patience ----------------------------------------------------------------------------------------

MEANINGS: list[Callable[[], Awaitable[None]]] = [
    checkpoints.test_a_receive_that_was_cancelled_took_nothing_at_any_step,
    checkpoints.test_a_waiting_receive_that_was_cancelled_took_nothing_at_any_step,
    checkpoints.test_a_waiting_send_that_was_cancelled_did_not_happen_at_any_step,
    checkpoints.test_awaits_that_fail_after_waiting_are_checkpoints,
    send.test_cancelled_sends_never_cut_a_frame_between_processes,
    receive.test_cancelled_receives_lose_nothing,
    order.test_waiting_receivers_are_served_in_their_order,
    order.test_receivers_take_turns,
    order.test_receive_nowait_never_overtakes_a_receiver,
    order.test_receive_nowait_never_overtakes_a_receiver_in_a_scope,
    order.test_send_nowait_never_overtakes_a_sender,
    order.test_the_work_is_handed_over_in_a_scope,
    order.test_all_leaders_in_turn_may_leave,
    order.test_leaving_all_at_once_leaves_nobody_behind,
    order.test_traffic_of_all_kinds_in_a_scope_loses_and_doubles_nothing,
    bounds.test_no_buffer_means_one_message_for_each_task_that_waits,
    bounds.test_no_buffer_means_that_a_child_has_taken_what_was_sent,
    bounds.test_both_sides_may_send_much_before_they_receive,
    end.test_the_end_reaches_all_that_wait,
    end.test_those_who_wait_to_send_are_told_that_the_peer_receives_no_more,
    end.test_those_who_wait_are_told_that_the_child_has_gone,
    end.test_what_is_closed_here_says_so,
]


@pytest.mark.parametrize("meaning", MEANINGS, ids=lambda meaning: meaning.__name__[5:])
@pytest.mark.parametrize("looks", [0, 500])
async def test_patience_changes_no_meaning(
    looks: int, meaning: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_waiting.Patience, "looks", lambda self: looks)
    await meaning()


async def test_patience_comes_back_when_it_pays_again() -> None:
    patience: Any = _waiting.Patience()
    assert patience.looks() > 0
    for _ in range(20):
        patience.in_vain()
    waits = 0
    while not patience.looks():
        waits += 1
        assert waits < 1000
    assert waits > 10
    patience.found()
    assert patience.looks() > 0


# Turns -------------------------------------------------------------------------------------------


def offer(turns: _waiting.Turns, taken: float) -> bool | None:
    """What comes of it, if somebody else takes a turn of so many seconds; None if it was kept."""
    with pytest.MonkeyPatch.context() as patch:
        yields: list[None] = []
        clock = iter([10.0, 10.0 + taken])
        patch.setattr(_waiting.os, "sched_yield", lambda: yields.append(None))
        patch.setattr(_waiting.time, "perf_counter", lambda: next(clock))
        answered = turns.offer()
    return answered if yields else None


SHORT = (_waiting.SHORTEST_TURN + _waiting.LONGEST_TURN) / 2
LONG = 2 * _waiting.LONGEST_TURN


def test_a_turn_is_offered_as_long_as_a_peer_takes_it() -> None:
    turns = _waiting.Turns()
    assert [offer(turns, SHORT) for _ in range(100)] == [True] * 100


def test_after_a_long_turn_ever_more_are_kept() -> None:
    turns = _waiting.Turns()
    for kept in (31, 63, 127, 255, 511, 1023, 1023):
        assert offer(turns, LONG) is True  # and whatever that was, something may be there
        assert [offer(turns, SHORT) for _ in range(kept)] == [None] * kept
    assert offer(turns, SHORT) is True
    assert [offer(turns, SHORT) for _ in range(511)] == [None] * 511
    assert offer(turns, SHORT) is True


def test_if_nobody_takes_it_a_few_turns_are_kept() -> None:
    turns = _waiting.Turns()
    for kept in (*range(1, 16), 15, 15):
        assert offer(turns, 0) is False
        assert [offer(turns, SHORT) for _ in range(kept)] == [None] * kept
    for kept in (7, 3, 1, 0, 0):
        assert offer(turns, SHORT) is True
        assert [offer(turns, SHORT) for _ in range(kept)] == [None] * kept
