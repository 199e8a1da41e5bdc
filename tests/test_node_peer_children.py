"""Children that play Node's part badly, started by `open_child` like any Node program."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ipc
from trio_ipc import _node

from . import meaning_children as children
from .meaning_helpers import assert_reaped, settle, stop, waiting
from .node_peers.raw import assert_alive, connection, is_open

RUDE = Path(__file__).parent / "node_peers" / "rude.py"


def open_rude(
    role: str, *args: str, **options: Any
) -> AbstractAsyncContextManager[trio_ipc.ChildChannel[Any, Any]]:
    command = [sys.executable, "-I", "-S", str(RUDE), role, *args]
    return trio_ipc.open_child(command, protocol="node", **options)


async def test_messages_and_handles_both_ways() -> None:
    async with open_rude("echo") as child:
        await child.send({"a": [1, None, "é\ud800"]})
        assert await child.receive() == {"a": [1, None, "é\ud800"]}
        with connection() as (stream, far):
            await child.send("m", stream)
            assert not is_open(stream)
            message, back = await child.receive()
            assert message == "m"
            async with back:
                await assert_alive(back, far)
    assert_reaped(child.process, 0)


async def test_a_handle_that_is_refused() -> None:
    async with open_rude("refuse") as child:
        with connection() as (stream, far):
            with pytest.raises(trio_ipc.HandleNotDelivered, match=f"child {child.pid}"):
                await child.send("m", stream)
            await assert_alive(stream, far)
            assert await child.receive() == "refused"
            await child.send("m", stream)  # now it takes it
            message, back = await child.receive()
            assert message == "m"
            await back.aclose()
    assert_reaped(child.process, 0)


async def test_a_handle_that_is_never_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_node, "ANSWER_TIMEOUT", 0.05)
    async with open_rude("never_answer") as child:
        with connection() as (stream, far):
            with pytest.raises(trio_ipc.HandleNotDelivered):
                await child.send("m", stream)
            await assert_alive(stream, far)
            assert await child.receive() == "heard"
    assert_reaped(child.process, 0)


@pytest.mark.parametrize("how", ["0", "3", "-9"])
async def test_a_child_that_dies_with_a_handle_under_way(how: str) -> None:
    with connection() as (stream, far):
        error: type[Exception] = trio.BrokenResourceError if how == "0" else trio_ipc.ChildFailed
        with pytest.raises(error) as caught:
            async with open_rude("die_with_handle", how) as child:
                await child.send("m", stream)
        assert_reaped(child.process, int(how))
        assert f"child {child.pid}" in str(caught.value)
        await assert_alive(stream, far)


@pytest.mark.parametrize("how", ["3", "-9"])
async def test_a_child_that_fails_is_noticed_however_much_is_unread(how: str) -> None:
    with trio.fail_after(60), pytest.raises(trio_ipc.ChildFailed):
        async with open_rude("die_with_much_unread", how) as child:
            await trio.sleep_forever()
    assert_reaped(child.process, int(how))


async def test_what_a_dead_child_has_sent_is_all_there_however_much_it_is() -> None:
    with trio.fail_after(60):
        async with open_rude("die_with_much_unread", "0") as child:
            await child.process.wait()
            assert [message async for message in child] == [*range(3000)]
    assert_reaped(child.process, 0)


@pytest.mark.parametrize("how", ["0", "3", "-9"])
async def test_the_same_where_failures_are_the_callers_affair(how: str) -> None:
    with connection() as (stream, far):
        async with open_rude("die_with_handle", how, check=False) as child:
            with pytest.raises(trio.BrokenResourceError, match=f"child {child.pid}"):
                await child.send("m", stream)
            with pytest.raises(trio.EndOfChannel):
                await child.receive()
        assert_reaped(child.process, int(how))
        await assert_alive(stream, far)


@pytest.mark.parametrize("how", ["0", "3"])
async def test_a_child_that_takes_the_handle_and_dies(how: str) -> None:
    with connection() as (stream, far):
        async with open_rude("die_after_answer", how, check=False) as child:
            await child.send("m", stream)
            assert not is_open(stream)
            assert await child.receive() == "last words"
            with pytest.raises(trio.EndOfChannel):
                await child.receive()
        assert_reaped(child.process, int(how))
        assert far.recv(10) == b""


async def test_a_child_that_talks_garbage_and_others() -> None:
    async with trio_ipc.open_child(children.echo) as good, open_rude("echo") as another:
        with pytest.raises(trio_ipc.ProtocolError):
            async with open_rude("garbage") as bad:
                assert await bad.receive() == "before"
                await bad.send("go")
                await bad.receive()
        assert_reaped(bad.process, -signal.SIGTERM)
        for child in (good, another):
            await child.send("x")
            assert await child.receive() == "x"


async def test_a_last_message_that_is_cut_off() -> None:
    """As Node does it in process.exit(), where the pipe is full."""
    with pytest.raises(trio_ipc.ProtocolError, match="219264 bytes of a line without its end"):
        async with open_rude("cut") as child:
            assert await child.receive() == "before"
            await child.receive()
    assert_reaped(child.process, 0)


async def test_a_child_that_exits_with_messages_of_ours_unread() -> None:
    async with open_rude("exit_with_unread") as child:
        assert await child.receive() == "ready"
        await child.send("x" * 1000)
        assert [message async for message in child] == ["last words"]
    assert_reaped(child.process, 0)


async def test_a_child_that_disconnects_and_lives_on() -> None:
    async with open_rude("disconnect", stdin=subprocess.PIPE) as child:
        assert [message async for message in child] == ["bye"]
        await settle()
        assert child.process.returncode is None
        assert child.process.stdin is not None
        async with waiting(child.send, "x") as sent:
            await child.process.stdin.aclose()
            with pytest.raises(trio.BrokenResourceError, match="exited with status 0"):
                await sent.outcome()
    assert_reaped(child.process, 0)


async def test_a_child_that_disconnects_with_a_handle_under_way() -> None:
    """It is lost for certain, so whoever is cancelled keeps it."""
    async with open_rude("disconnect_with_handle", stdin=subprocess.PIPE) as child:
        with connection() as (first, far_1), connection() as (second, far_2):
            async with (
                waiting(child.send, 1, first) as one,
                waiting(child.send, 2, second) as two,
            ):
                with pytest.raises(trio.EndOfChannel):
                    await child.receive()
                await one.cancel()
                await two.cancel()
            await assert_alive(first, far_1)
            await assert_alive(second, far_2)
        assert child.process.stdin is not None
        await child.process.stdin.aclose()
    assert_reaped(child.process, 0)


async def test_a_stopped_child_and_a_handle_that_nobody_waits_for() -> None:
    """It waits in the pipe, and arrives when the child goes on."""
    async with open_rude("echo") as child:
        await stop(child.process)
        with connection() as (stream, far):
            async with waiting(child.send, "m", stream) as sent:
                sent.scope.cancel()
                await sent.finished.wait()
                assert not sent.cancelled
            assert not is_open(stream)
            child.process.send_signal(signal.SIGCONT)
            message, back = await child.receive()
            assert message == "m"
            async with back:
                await assert_alive(back, far)
    assert_reaped(child.process, 0)


async def test_a_flood_and_leaving_in_the_middle_of_it() -> None:
    async with open_rude("flood", max_buffer_size=10, grace_period=60) as child:
        for _ in range(100):
            assert await child.receive() == "x" * 997
        assert child.statistics().current_buffer_used < 100
    assert_reaped(child.process, 0)


async def test_leaving_while_a_handle_is_not_answered() -> None:
    with connection() as (stream, far):
        async with open_rude("never_answer", grace_period=0.05) as child:
            child.send_nowait("m", stream)
            assert await child.receive() == "heard"
        assert_reaped(child.process, -signal.SIGTERM)
        assert far.recv(10) == b""


async def test_what_a_child_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_UNIQUE_ID", "1")
    monkeypatch.setenv("NODE_CHANNEL_FD", "77")
    monkeypatch.setenv("TRIO_IPC_CHANNEL", "1:2:3")
    for options in ({}, {"serialization": "json"}):
        async with open_rude("environment", **options) as child:
            names, mode, number = await child.receive()
            assert names == "NODE_CHANNEL_FD NODE_CHANNEL_SERIALIZATION_MODE"
            assert mode == "json"
            assert number > 2
