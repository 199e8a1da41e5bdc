"""Every ``await`` is a checkpoint, on every path; every sync method is not; ``Cancelled`` means
that it did not happen."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import assert_checkpoints, assert_no_checkpoints

import trio_ipc

from . import meaning_children as children
from .meaning_helpers import (
    MANY_BYTES,
    open_pair,
    open_raw_peer,
    script,
    settle,
    waiting,
)
from .sweep import cancel_sweep

Ends = tuple[trio_ipc.Channel[Any, Any], trio_ipc.Channel[Any, Any]]

# Awaits are checkpoints -----------------------------------------------------------------------


def everything_works(a: Any, b: Any) -> None:
    b.send_nowait("for a")


def nothing_more_comes(a: Any, b: Any) -> None:
    b.send_channel.close()


def peer_receives_no_more(a: Any, b: Any) -> None:
    b.receive_channel.close()


def peer_gone(a: Any, b: Any) -> None:
    b.close()


def closed(a: Any, b: Any) -> None:
    a.close()


class Case:
    """A call on the end ``a``, in a certain state, and what it raises there."""

    def __init__(
        self,
        arrange: Callable[[Any, Any], None],
        call: Callable[[Any], Awaitable[Any]],
        raises: type[BaseException] | None,
        name: str,
    ) -> None:
        self.arrange = arrange
        self.call = call
        self.raises = raises
        self.name = f"{name}-{arrange.__name__}"

    async def run(self, a: Any) -> None:
        if self.raises is None:
            await self.call(a)
        else:
            with pytest.raises(self.raises):
                await self.call(a)


async def enter_and_leave(resource: Any) -> None:
    async with resource:
        pass


async def anext_of(channel: Any) -> None:
    await channel.__anext__()


CASES = [
    Case(everything_works, lambda a: a.send(1), None, "send"),
    Case(everything_works, lambda a: a.send_channel.send(1), None, "half-send"),
    Case(everything_works, lambda a: a.send(object()), trio_ipc.UnsupportedMessage, "send-bad"),
    Case(everything_works, lambda a: a.send(b"x" * 200), trio_ipc.MessageTooLarge, "send-large"),
    Case(everything_works, lambda a: a.send(1, "x"), trio_ipc.UnsupportedHandle, "send-no-handle"),
    Case(peer_receives_no_more, lambda a: a.send(1), trio.BrokenResourceError, "send"),
    Case(peer_gone, lambda a: a.send(1), trio.BrokenResourceError, "send"),
    Case(closed, lambda a: a.send(1), trio.ClosedResourceError, "send"),
    Case(everything_works, lambda a: a.receive(), None, "receive"),
    Case(everything_works, lambda a: a.receive_channel.receive(), None, "half-receive"),
    Case(everything_works, anext_of, None, "async-for"),
    Case(nothing_more_comes, anext_of, StopAsyncIteration, "async-for"),
    Case(nothing_more_comes, lambda a: a.receive(), trio.EndOfChannel, "receive"),
    Case(peer_gone, lambda a: a.receive(), trio.EndOfChannel, "receive"),
    Case(closed, lambda a: a.receive(), trio.ClosedResourceError, "receive"),
    Case(everything_works, lambda a: a.drain(), None, "drain"),
    Case(everything_works, lambda a: a.send_channel.drain(), None, "half-drain"),
    Case(peer_receives_no_more, lambda a: a.drain(), trio.BrokenResourceError, "drain"),
    Case(closed, lambda a: a.drain(), trio.ClosedResourceError, "drain"),
    *(
        Case(arrange, call, None, name)
        for arrange in (everything_works, peer_gone, closed)
        for call, name in (
            (lambda a: a.aclose(), "aclose"),
            (lambda a: a.send_channel.aclose(), "half-aclose-send"),
            (lambda a: a.receive_channel.aclose(), "half-aclose-receive"),
            (enter_and_leave, "async-with"),
            (lambda a: enter_and_leave(a.send_channel), "half-async-with-send"),
            (lambda a: enter_and_leave(a.receive_channel), "half-async-with-receive"),
        )
    ),
]


async def arrange(case: Case, a: Any, b: Any) -> None:
    case.arrange(a, b)
    if case.arrange in (peer_receives_no_more, peer_gone):
        with pytest.raises(trio.WouldBlock if case.arrange is peer_receives_no_more else Exception):
            a.receive_nowait()  # by which it is known here


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_every_await_of_a_channel_is_a_checkpoint(case: Case) -> None:
    with open_pair(max_message_size=100) as (a, b):
        await arrange(case, a, b)
        with assert_checkpoints():
            await case.run(a)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_every_await_of_a_channel_can_be_cancelled(case: Case) -> None:
    with open_pair(max_message_size=100) as (a, b):
        await arrange(case, a, b)
        with trio.CancelScope() as scope:
            scope.cancel()
            await case.call(a)
            pytest.fail("it was not cancelled")
        assert scope.cancelled_caught


async def test_awaits_that_fail_after_waiting_are_checkpoints() -> None:
    with open_pair(1) as (a, _):
        a.send_nowait("it is full")
        for half, call, argument in (
            (a.send_channel, "send", [1]),
            (a.receive_channel, "receive", []),
        ):
            with half.clone() as clone:

                async def close_it(clone: Any = clone) -> None:
                    await settle(0.05)
                    clone.close()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(close_it)
                    with assert_checkpoints(), pytest.raises(trio.ClosedResourceError):
                        await getattr(clone, call)(*argument)


async def test_receiving_what_is_not_of_the_type_is_a_checkpoint(tmp_path: Path) -> None:
    async with trio_ipc.open_child(children.send_all, ["x", "y"], message_type=int) as child:
        for _ in range(2):  # one that is waited for, perhaps, and one that is there
            with assert_checkpoints():
                with pytest.raises(trio_ipc.InvalidMessage):
                    await child.receive()


async def test_receiving_garbage_is_a_checkpoint() -> None:
    with open_raw_peer() as (channel, raw):
        raw.sendall(b"garbage!")
        with assert_checkpoints():
            with pytest.raises(trio_ipc.ProtocolError):
                await channel.receive()
        with assert_checkpoints():
            with pytest.raises(trio_ipc.ProtocolError):
                await channel.receive()
        with assert_checkpoints():
            with pytest.raises(trio_ipc.ProtocolError):
                await channel.send(1)


async def test_entering_and_leaving_open_child_are_checkpoints() -> None:
    scope = trio_ipc.open_child(children.do_nothing)
    with assert_checkpoints():
        child = await scope.__aenter__()
    assert child.process.returncode is None or child.process.returncode == 0
    with assert_checkpoints():
        await scope.__aexit__(None, None, None)
    assert child.process.returncode == 0


async def test_entering_and_leaving_open_child_are_checkpoints_for_one_that_has_gone() -> None:
    async with trio_ipc.open_child(["true"]) as child:
        await child.process.wait()
        await settle(0.05)
        left = assert_checkpoints()
        left.__enter__()
    left.__exit__(None, None, None)


async def test_the_awaits_of_a_child_scope_are_checkpoints() -> None:
    async with trio_ipc.open_child(children.echo) as child:
        with assert_checkpoints():
            await child.send(1)
        with assert_checkpoints():
            await child.drain()
        with assert_checkpoints():
            assert await child.receive() == 1
        await child.send(2)
        await settle(0.05)
        with assert_checkpoints():
            assert await child.receive() == 2
        for _ in range(2):
            with assert_checkpoints():
                await child.aclose()
        for call in (lambda: child.send(1), child.receive, child.drain):
            with assert_checkpoints():
                with pytest.raises(trio.ClosedResourceError):
                    await call()


async def test_entering_and_leaving_open_parent_are_checkpoints(tmp_path: Path) -> None:
    source = """
        import trio, trio_ipc
        from trio.testing import assert_checkpoints

        async def main():
            scope = trio_ipc.open_parent()
            with assert_checkpoints():
                parent = await scope.__aenter__()
            await parent.send("entered")
            with assert_checkpoints():
                await scope.__aexit__(None, None, None)
            print("left")

        trio.run(main)
    """
    async with trio_ipc.open_child(script(tmp_path, source)) as child:
        assert [message async for message in child] == ["entered"]
    assert child.process.returncode == 0


# Sync methods are none ------------------------------------------------------------------------


async def test_sync_methods_are_no_checkpoints() -> None:
    with assert_no_checkpoints():
        a, b = trio_ipc.open_channel_pair(1)
    with a, b, assert_no_checkpoints():
        a.send_nowait(1)
        with pytest.raises(trio.WouldBlock):
            a.send_nowait(2)
        with pytest.raises(trio.WouldBlock):
            a.receive_nowait()
        assert b.receive_nowait() == 1
        for each in (a, a.send_channel, a.receive_channel):
            each.statistics()
            repr(each)
        for half in (a.send_channel, a.receive_channel):
            with half.clone() as clone:
                clone.close()
        a.fileno()
        with a:
            pass
        a.close()
        a.send_channel.close()
        with pytest.raises(trio.ClosedResourceError):
            a.send_nowait(1)
        with pytest.raises(trio.ClosedResourceError):
            a.receive_nowait()
        with pytest.raises(trio.ClosedResourceError):
            a.send_channel.clone()
        with pytest.raises(trio.EndOfChannel):
            b.receive_nowait()
        with pytest.raises(trio.BrokenResourceError):
            b.send_nowait(1)


async def test_sync_methods_of_a_child_scope_are_no_checkpoints() -> None:
    async with trio_ipc.open_child(children.echo) as child:
        with assert_no_checkpoints():
            child.send_nowait(1)
            with pytest.raises(trio.WouldBlock):
                child.receive_nowait()
            child.statistics()
            repr(child)
            assert child.pid == child.process.pid
            child.fileno()
            child.close()


async def test_sync_methods_work_in_a_cancelled_scope() -> None:
    with open_pair() as (a, b):
        with trio.CancelScope() as scope:
            scope.cancel()
            a.send_nowait(1)
            assert b.receive_nowait() == 1
            a.close()
            with pytest.raises(trio.EndOfChannel):
                b.receive_nowait()
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught


# Cancelled means that it did not happen -------------------------------------------------------


async def test_a_send_that_was_cancelled_did_not_happen_at_any_step() -> None:
    with open_pair(1) as (a, b):

        async def check(cancelled: bool) -> None:
            with pytest.raises(trio.WouldBlock):
                assert not cancelled, b.receive_nowait()
                assert b.receive_nowait() == "x"
                b.receive_nowait()

        assert await cancel_sweep(lambda: a.send("x"), check) >= 2


async def test_a_waiting_send_that_was_cancelled_did_not_happen_at_any_step() -> None:
    async with trio.open_nursery() as nursery:
        with open_pair(1) as (a, b):
            taken = trio.Event()

            def prepare() -> None:
                nonlocal taken
                taken = trio.Event()
                a.send_nowait("before")
                nursery.start_soon(make_room, taken)

            async def make_room(taken: trio.Event) -> None:
                for _ in range(3):
                    await trio.lowlevel.checkpoint()
                assert b.receive_nowait() == "before"
                taken.set()

            async def check(cancelled: bool) -> None:
                await taken.wait()
                if not cancelled:
                    assert b.receive_nowait() == "x"
                with pytest.raises(trio.WouldBlock):
                    b.receive_nowait()

            assert await cancel_sweep(lambda: a.send("x"), check, prepare) >= 2


async def take_into(got: list[Any], channel: Any) -> None:
    got.append(await channel.receive())


async def test_a_receive_that_was_cancelled_took_nothing_at_any_step() -> None:
    with open_pair() as (a, b):
        got: list[Any] = []

        async def check(cancelled: bool) -> None:
            assert got == ([] if cancelled else ["x"])
            if cancelled:
                assert b.receive_nowait() == "x"
            got.clear()
            with pytest.raises(trio.WouldBlock):
                b.receive_nowait()

        operation = partial(take_into, got, b)
        assert await cancel_sweep(operation, check, lambda: a.send_nowait("x")) >= 2


async def test_a_waiting_receive_that_was_cancelled_took_nothing_at_any_step() -> None:
    async with trio.open_nursery() as nursery:
        with open_pair() as (a, b):
            got: list[Any] = []
            sent = trio.Event()

            def prepare() -> None:
                nonlocal sent
                sent = trio.Event()
                nursery.start_soon(send_later, sent)

            async def send_later(sent: trio.Event) -> None:
                for _ in range(3):
                    await trio.lowlevel.checkpoint()
                a.send_nowait("x")
                sent.set()

            async def check(cancelled: bool) -> None:
                await sent.wait()
                assert got == ([] if cancelled else ["x"])
                if cancelled:
                    assert b.receive_nowait() == "x"
                got.clear()
                with pytest.raises(trio.WouldBlock):
                    b.receive_nowait()

            operation = partial(take_into, got, b)
            assert await cancel_sweep(operation, check, prepare) >= 2


async def test_aclose_closes_even_when_it_is_cancelled() -> None:
    for closes in (
        lambda a: a.aclose(),
        lambda a: a.send_channel.aclose(),
        lambda a: a.receive_channel.aclose(),
    ):
        for unsent in (False, True):
            with open_pair() as (a, _):
                if unsent:
                    a.send_nowait(b"x" * MANY_BYTES)
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await closes(a)
                assert scope.cancelled_caught
                left = a.statistics()
                assert left.open_send_channels * left.open_receive_channels == 0


async def test_drain_that_was_cancelled_changes_nothing() -> None:
    with open_pair() as (a, b):
        a.send_nowait(b"x" * MANY_BYTES)
        async with waiting(a.drain) as drained:
            await drained.cancel()
        assert a.statistics().bytes_unsent > 0
        async with waiting(a.drain) as drained:
            assert len(await b.receive()) == MANY_BYTES
            await drained.outcome()
        assert a.statistics().bytes_unsent == 0


async def test_entering_open_child_that_was_cancelled_started_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "it-was-started"
    with trio.CancelScope() as scope:
        scope.cancel()
        async with trio_ipc.open_child(["touch", str(trace)]):
            pytest.fail("it was entered")
    assert scope.cancelled_caught
    assert not trace.exists()


async def test_leaving_open_child_that_was_cancelled_has_left_all_the_same() -> None:
    with trio.CancelScope() as scope:
        async with trio_ipc.open_child(children.echo) as child:
            scope.cancel()
    assert scope.cancelled_caught
    assert child.process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, signal.SIG_DFL)


async def test_entering_open_parent_that_was_cancelled_leaves_the_channel_to_be_opened(
    tmp_path: Path,
) -> None:
    source = """
        import trio, trio_ipc

        async def main():
            with trio.CancelScope() as scope:
                scope.cancel()
                async with trio_ipc.open_parent():
                    assert False, "it was entered"
            assert scope.cancelled_caught
            async with trio_ipc.open_parent() as parent:
                await parent.send("entered")

        trio.run(main)
    """
    async with trio_ipc.open_child(script(tmp_path, source)) as child:
        assert [message async for message in child] == ["entered"]


async def test_leaving_open_parent_that_was_cancelled_has_left_all_the_same(
    tmp_path: Path,
) -> None:
    source = """
        import sys, trio, trio_ipc

        async def main():
            with trio.CancelScope() as scope:
                async with trio_ipc.open_parent() as parent:
                    await parent.send("the last message")
                    if "close" in sys.argv:
                        parent.close()
                    scope.cancel()
            assert scope.cancelled_caught

        trio.run(main)
    """
    for args in [], ["close"]:
        async with trio_ipc.open_child(script(tmp_path, source), *args) as child:
            assert [message async for message in child] == ["the last message"]
