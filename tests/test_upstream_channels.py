"""Trio's own tests of its memory channels, run on our halves.

What is new there is run here, too, as soon as that Trio is installed: only what is named below is
left out.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio._tests.test_channel as upstream
from trio.testing import wait_all_tasks_blocked

import trio_ipc

from . import test_open_child_scope

GENERATORS = "it is about the async generator that as_safe_channel runs, and there is none here"

EXCLUDED = {
    "test_statistics": (
        "what waits at the other end can't be known here: test_statistics_of_one_end below"
    ),
    # as_safe_channel is to a generator what open_child is to a process. Those of its tests that are
    # about that are in test_open_child_scope, by these names.
    "test_as_safe_channel_exhaust": "test_exhaust",
    "test_as_safe_channel_broken_resource": "test_closing_the_receive_half_early_is_no_error",
    "test_as_safe_channel_cancelled": "test_cancelled_before_first_use",
    "test_as_safe_channel_no_race": "test_the_childs_failure_comes_out_bare_and_unmasked",
    "test_as_safe_channel_genexit_finally": "test_error_in_the_body_and_error_in_the_cleanup",
    "test_as_safe_channel_nested_loop": "test_nested",
    "test_as_safe_channel_doesnt_leak_cancellation": "test_no_cancellation_of_ours_leaks",
    "test_as_safe_channel_dont_unwrap_user_exceptiongroup": "test_a_users_group_is_untouched",
    "test_as_safe_channel_multiple_receiver": "test_several_receivers_are_served_in_turn",
    "test_as_safe_channel_multi_cancel": "test_both_sides_see_the_cancellation_and_one_comes_out",
    "test_as_safe_channel_does_not_suppress_nested_genexit": "test_special_exceptions_pass",
    "test_as_safe_channel_close_between_iteration": "test_close_between_iteration",
    "test_as_safe_channel_close_before_iteration": "test_close_before_iteration",
    "test_as_safe_channel_close_during_iteration": "test_close_during_iteration",
    "test_as_safe_channel_buffer_size_too_small": GENERATORS,
    "test_as_safe_channel_no_interleave": GENERATORS,
    "test_as_safe_channel_genexit_exception_group": GENERATORS,
    "test_as_safe_channel_genexit_filter": GENERATORS,
    "test_as_safe_channel_swallowing_extra_exceptions": GENERATORS,
}

opened: list[trio_ipc.Channel[Any, Any]] = []


class open_pair:
    """In place of ``trio.open_memory_channel``: one way of a channel pair."""

    def __class_getitem__(cls, item: object) -> type[open_pair]:
        return cls

    def __new__(cls, max_buffer_size: float) -> Any:
        one, other = trio_ipc.open_channel_pair(max_buffer_size)
        opened.extend((one, other))
        one.receive_channel.close()
        other.send_channel.close()
        return one.send_channel, other.receive_channel


@pytest.fixture(autouse=True)
def close_what_upstream_leaves_open() -> Iterator[None]:
    yield
    while opened:
        opened.pop()._connection.shut()  # clones and all


# Some of them say trio.open_memory_channel. Trio itself is not to be touched: it uses its own.
replaced = {name: getattr(trio, name) for name in dir(trio) if not name.startswith("__")}
replaced["open_memory_channel"] = open_pair
upstream.trio = SimpleNamespace(**replaced)  # type: ignore[attr-defined]
upstream.open_memory_channel = open_pair  # type: ignore[attr-defined]

UPSTREAM = {name: test for name, test in vars(upstream).items() if name.startswith("test_")}
globals().update({name: test for name, test in UPSTREAM.items() if name not in EXCLUDED})


def test_upstream_has_tests_and_those_of_open_child_exist() -> None:
    taken = UPSTREAM.keys() - EXCLUDED.keys()
    assert len(taken) >= 12
    assert all("open_memory_channel" in UPSTREAM[name].__globals__ for name in taken)
    ours = [reason for reason in EXCLUDED.values() if reason.startswith("test_")]
    assert len(ours) == 14
    for name in ours:
        assert callable(getattr(test_open_child_scope, name))


async def test_it_is_our_halves_that_upstream_tests() -> None:
    send, receive = upstream.open_memory_channel[int](3)
    assert type(send) is trio_ipc.SendChannel
    assert type(receive) is trio_ipc.ReceiveChannel
    assert upstream.trio.open_memory_channel is upstream.open_memory_channel is open_pair


async def test_statistics_of_one_end() -> None:
    """Upstream's test_statistics, as far as one end knows."""
    one, other = trio_ipc.open_channel_pair(2)
    opened.extend((one, other))
    send, receive = one.send_channel, other.receive_channel

    assert send.statistics() == one.statistics() == one.receive_channel.statistics()
    stats = send.statistics()
    assert stats.current_buffer_used == 0
    assert stats.max_buffer_size == 2
    assert stats.open_send_channels == 1
    assert stats.open_receive_channels == 1
    assert stats.tasks_waiting_send == 0
    assert stats.tasks_waiting_receive == 0
    assert stats.credit == 2
    assert stats.bytes_unsent == 0

    send.send_nowait(None)
    assert send.statistics().credit == 1
    with pytest.raises(trio.WouldBlock):
        one.receive_nowait()
    assert send.statistics().current_buffer_used == 0  # that is what may be received here

    clone = send.clone()
    assert send.statistics().open_send_channels == 2
    send.close()
    assert clone.statistics().open_send_channels == 1
    other_clone = receive.clone()
    assert receive.statistics().open_receive_channels == 2
    other_clone.close()
    assert receive.statistics().open_receive_channels == 1

    async with trio.open_nursery() as nursery:
        clone.send_nowait(None)
        nursery.start_soon(clone.send, None)
        nursery.start_soon(clone.send, None)
        await wait_all_tasks_blocked()
        assert clone.statistics().tasks_waiting_send == 2
        assert clone.statistics().credit == 0
        nursery.cancel_scope.cancel()
    assert clone.statistics().tasks_waiting_send == 0

    receive.receive_nowait()
    assert receive.statistics().current_buffer_used == 1
    receive.receive_nowait()
    assert receive.statistics().current_buffer_used == 0

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive.receive)
        await wait_all_tasks_blocked()
        assert receive.statistics().tasks_waiting_receive == 1
        nursery.cancel_scope.cancel()
    assert receive.statistics().tasks_waiting_receive == 0


async def test_statistics_count_what_the_kernel_has_not_taken() -> None:
    one, other = trio_ipc.open_channel_pair(1)
    opened.extend((one, other))
    with socket.socket(fileno=os.dup(one.fileno())) as sock:
        large = bytes(4 * sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
    one.send_nowait(large)
    assert 0 < one.statistics().bytes_unsent < len(large)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.drain)
        assert await other.receive() == large
    assert one.statistics().bytes_unsent == 0
