"""``receive`` loses nothing; and what is committed goes on leaving while any task waits in any call
of the channel, and by itself inside of a scope."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ipc

from . import meaning_children as children
from .meaning_helpers import (
    MANY_BYTES,
    frame,
    open_child_aside,
    open_pair,
    open_raw_peer,
    script,
    settle,
    waiting,
)

# A cancelled receive takes nothing ------------------------------------------------------------


async def test_a_cancelled_receive_leaves_the_message_for_the_next() -> None:
    with open_pair() as (a, b):
        async with waiting(b.receive) as received:
            a.send_nowait("first")
            a.send_nowait("second")
            received.scope.cancel()
            await received.finished.wait()
        got = [] if received.cancelled else [received.value]
        while len(got) < 2:
            got.append(b.receive_nowait())
        assert got == ["first", "second"]


async def test_a_cancelled_receive_leaves_the_handles_with_the_message() -> None:
    near, far = trio.socket.socketpair()
    with near, far, open_pair() as (a, b):
        await a.send({"socket": near})
        for _ in range(3):
            with trio.CancelScope() as scope:
                scope.cancel()
                await b.receive()
            assert scope.cancelled_caught
        received = b.receive_nowait()["socket"]
        with received:
            await received.send(b"through it")
            assert await far.recv(100) == b"through it"


@pytest.mark.parametrize("leaving", range(3))
async def test_a_receiver_that_is_cancelled_leaves_the_line(leaving: int) -> None:
    with open_pair() as (a, b):
        async with waiting(b.receive) as r0, waiting(b.receive) as r1, waiting(b.receive) as r2:
            calls = [r0, r1, r2]
            await calls.pop(leaving).cancel()
            a.send_nowait("first")
            a.send_nowait("second")
            assert [await call.outcome() for call in calls] == ["first", "second"]


async def receive_with_cancels(channel: Any, number: random.Random, got: list[Any]) -> None:
    """Receive to the end, each time cancelled after a few steps, now and then."""

    async def cancel_soon(scope: trio.CancelScope, steps: int) -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    while True:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_soon, scope, number.randrange(20))
                try:
                    got.append(await channel.receive())
                except trio.EndOfChannel:
                    nursery.cancel_scope.cancel()
                    return
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize("call", ["receive", "drain"])
async def test_a_cancelled_call_that_also_writes_is_merely_cancelled(call: str) -> None:
    """Though it waits for two things at once: `Cancelled` comes out bare, not in a group."""
    with open_pair() as (a, _):
        a.send_nowait(b"x" * MANY_BYTES)
        caught: list[BaseException] = []

        async def wait() -> None:
            try:
                await {"receive": a.receive, "drain": a.send_channel.drain}[call]()
            except BaseException as exc:
                caught.append(exc)
                raise

        async with waiting(wait) as waits:
            waits.scope.cancel()
        assert [type(exc) for exc in caught] == [trio.Cancelled]


async def test_cancelled_receives_lose_nothing() -> None:
    for max_buffer_size in (0, 1, 5):
        with open_pair(max_buffer_size) as (a, b):
            number = random.Random(max_buffer_size)
            got: list[int] = []
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(receive_with_cancels, b, number, got)
                for message in range(500):
                    await a.send(message)
                await a.send_channel.aclose()
            assert sorted(got) == list(range(500))


async def test_cancelled_receives_lose_nothing_between_processes() -> None:
    messages = [[number, "x" * (number % 7 * 5000)] for number in range(500)]
    async with trio_ipc.open_child(children.send_all, messages, max_buffer_size=5) as child:
        number = random.Random(1)
        got: list[Any] = []
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(receive_with_cancels, child, number, got)
        assert sorted(got) == messages


# What is committed leaves: in a pair, while any task waits in any call ------------------------


async def send_two(a: Any) -> None:
    await a.send("one more")
    await a.send("and one more")


CALLS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "receive": lambda a: a.receive(),
    "send": lambda a: send_two(a),
    "drain": lambda a: a.drain(),
    "aclose": lambda a: a.send_channel.aclose(),
}


@pytest.mark.parametrize("call", CALLS)
async def test_what_is_committed_leaves_while_any_call_waits(call: str) -> None:
    with open_pair(2) as (a, b):
        a.send_nowait("small")
        a.send_nowait(b"x" * MANY_BYTES)
        async with waiting(CALLS[call], a):
            assert await b.receive() == "small"
            assert await b.receive() == b"x" * MANY_BYTES


@pytest.mark.parametrize("call", CALLS)
async def test_what_the_peer_sends_is_taken_in_while_any_call_waits(call: str) -> None:
    # The peer reads nothing: the kernel is full in the other direction.
    with open_raw_peer(2) as (a, raw):
        a.send_nowait("small")
        a.send_nowait(b"x" * MANY_BYTES)
        async with (
            trio.open_nursery() as nursery,
            trio.SocketStream(trio.socket.from_stdlib_socket(raw)) as peer,
        ):
            nursery.start_soon(CALLS[call], a)
            await settle()
            await peer.send_all(frame(b"B", b"y" * MANY_BYTES))  # more than the kernel would hold
            nursery.cancel_scope.cancel()


# What is committed leaves: in a scope, by itself ----------------------------------------------


@pytest.mark.parametrize("size", [10, MANY_BYTES])
@pytest.mark.parametrize("how", ["send", "send_nowait"])
async def test_what_is_committed_leaves_while_the_body_is_elsewhere(size: int, how: str) -> None:
    async with open_child_aside(children.say_sizes) as (child, aside):
        if how == "send":
            await child.send(b"x" * size)
        else:
            child.send_nowait("")
            child.send_nowait("y" * size)
            assert await aside.hear() == "0"
        assert await aside.hear() == str(size)  # no call of the channel is under way


async def test_what_a_function_child_committed_leaves_while_it_is_elsewhere() -> None:
    async with open_child_aside(children.send_and_be_elsewhere, MANY_BYTES) as (child, aside):
        assert await child.receive() == "before it"
        assert await child.receive() == b"x" * MANY_BYTES
        await aside.say()


async def test_what_a_script_committed_leaves_while_it_is_elsewhere(tmp_path: Path) -> None:
    source = f"""
        import os, trio, trio_ipc

        async def main():
            async with trio_ipc.open_parent() as parent:
                parent.send_nowait("before it")
                parent.send_nowait(b"x" * {MANY_BYTES})
                await trio.lowlevel.FdStream(os.dup(0)).receive_some()

        trio.run(main)
    """
    async with open_child_aside(script(tmp_path, source)) as (child, aside):
        assert await child.receive() == "before it"
        assert await child.receive() == b"x" * MANY_BYTES
        await aside.say()


async def test_what_arrives_is_taken_in_while_the_body_is_elsewhere() -> None:
    async with open_child_aside(children.send_drain_and_say, MANY_BYTES) as (child, aside):
        assert await aside.hear() == "drained"  # more than the kernel would hold
        assert child.statistics().current_buffer_used >= 1
        assert [len(await child.receive()) for _ in range(2)] == [MANY_BYTES] * 2
        await aside.say()


async def test_what_is_committed_leaves_after_the_sender_was_cancelled() -> None:
    async with open_child_aside(children.say_sizes, max_buffer_size=1) as (child, aside):
        with trio.CancelScope() as scope:
            await child.send(b"x" * MANY_BYTES)
            scope.cancel()
            await child.send(b"never sent")
        assert scope.cancelled_caught
        assert await aside.hear() == str(MANY_BYTES)
        await child.send(b"x" * 7)
        assert await aside.hear() == "7"
