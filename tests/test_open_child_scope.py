"""open_child as a scope: what Trio promises of as_safe_channel, of a process.

The names of upstream's tests are in test_upstream_channels.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_ipc

from . import scope_children as children

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup


def assert_reaped(child: trio_ipc.ChildChannel[Any, Any]) -> None:
    assert child.process._pidfd is None  # type: ignore[attr-defined]  # Trio's own sign of it
    assert child.process.returncode is not None
    assert child.fileno() == -1


async def test_exhaust() -> None:
    async with trio_ipc.open_child(children.count, 3) as child:
        assert [number async for number in child] == [0, 1, 2]
    assert child.process.returncode == 0
    assert_reaped(child)


async def test_closing_the_receive_half_early_is_no_error() -> None:
    async with trio_ipc.open_child(children.count_for_ever) as child:
        assert await child.__anext__() == 0
        await child.receive_channel.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await child.__anext__()
    assert child.process.returncode == 0
    assert_reaped(child)


async def test_cancelled_before_first_use() -> None:
    with trio.CancelScope() as scope:
        async with trio_ipc.open_child(children.listen) as child:
            scope.cancel()
    assert scope.cancelled_caught  # leaving is a checkpoint
    assert_reaped(child)


async def test_cancelled_before_it_is_entered() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        async with trio_ipc.open_child(children.listen):
            raise AssertionError("not to be reached")
    assert scope.cancelled_caught


async def test_the_childs_failure_comes_out_bare_and_unmasked() -> None:
    with pytest.raises(trio_ipc.ChildFailed, match="status 1") as caught:
        async with trio_ipc.open_child(children.send_and_fail, "oae") as child:
            async for number in child:
                assert number == 1
    assert "ValueError: oae" in str(caught.value.remote_traceback)
    assert_reaped(child)


async def test_error_in_the_body_and_error_in_the_cleanup() -> None:
    """The child's clean-up is what runs at the end: nothing is lost."""
    body = TypeError("iterator")
    with pytest.raises(TypeError) as caught:
        async with trio_ipc.open_child(children.fail_when_cancelled, "agen") as child:
            async for message in child:
                assert message == "ready"
                raise body
    assert caught.value is body
    assert isinstance(body.__context__, trio_ipc.ChildFailed)
    assert "ValueError: agen" in str(body.__context__.remote_traceback)
    assert_reaped(child)


async def test_nested() -> None:
    pairs = []
    async with trio_ipc.open_child(children.count, 2) as outer:
        async for i in outer:
            async with trio_ipc.open_child(children.count, 2) as inner:
                async for j in inner:
                    pairs.append((i, j))
            assert_reaped(inner)
    assert_reaped(outer)
    assert pairs == [(0, 0), (0, 1), (1, 0), (1, 1)]


async def test_the_failure_of_an_inner_child_leaves_the_outer_one_by_an_exception() -> None:
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with trio_ipc.open_child(children.listen) as outer:
            async with trio_ipc.open_child(children.send_and_fail, "inner") as inner:
                await trio.sleep_forever()
    assert caught.value.pid == inner.pid
    for child in (inner, outer):
        assert_reaped(child)


async def test_no_cancellation_of_ours_leaks() -> None:
    error = AssertionError("should be reachable")
    with pytest.raises(AssertionError) as caught:
        async with trio_ipc.open_child(children.swallow_a_cancellation_of_its_own) as child:
            assert [number async for number in child] == [1]
            raise error
    assert caught.value is error
    assert error.__context__ is None


async def test_our_own_cancellation_swallows_no_exception_of_the_body() -> None:
    """The child fails, which cancels the block; what the body makes of that comes out."""
    error = KeyError("in the clean-up of the body")
    with pytest.raises(KeyError) as caught:
        async with trio_ipc.open_child(children.send_and_fail, "oae"):
            try:
                await trio.sleep_forever()
            finally:
                raise error
    assert caught.value is error
    first = error.__context__
    assert isinstance(first, trio.Cancelled)
    assert isinstance(first.__context__, trio_ipc.ChildFailed)


@pytest.mark.parametrize("size", [1, 2])
async def test_a_users_group_is_untouched(size: int) -> None:
    inside = [ValueError("bar"), KeyError("baz")][:size]
    group = ExceptionGroup("foo", inside)
    with pytest.raises(ExceptionGroup) as caught:
        async with trio_ipc.open_child(children.listen) as child:
            raise group
    assert caught.value is group
    assert group.exceptions == tuple(inside)
    assert group.__cause__ is None
    assert group.__context__ is None
    assert not getattr(group, "__notes__", [])
    assert_reaped(child)


async def test_a_group_of_a_users_nursery_is_untouched() -> None:
    error = ValueError("in a task")

    async def fail() -> None:
        raise error

    with pytest.raises(ExceptionGroup) as caught:
        async with trio_ipc.open_child(children.listen), trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()
    assert caught.value.exceptions == (error,)


async def test_several_receivers_are_served_in_turn() -> None:
    got: list[tuple[int, int]] = []

    async def receive(number: int) -> None:
        got.append((number, await child.receive()))

    async with trio_ipc.open_child(children.send_when_told) as child:
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(receive, number)
                await wait_all_tasks_blocked()
            await child.send(4)
    assert sorted(got) == [(number, number) for number in range(4)]


async def test_both_sides_see_the_cancellation_and_one_comes_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with trio.CancelScope() as scope:
        with pytest.raises(trio.Cancelled):
            async with trio_ipc.open_child(children.note_the_cancellation, str(log)) as child:
                async for _ in child:
                    scope.cancel()
                    try:
                        await trio.lowlevel.checkpoint()
                    except trio.Cancelled:
                        log.write_text("body cancel\n")
                        raise
    assert log.read_text().splitlines() == ["body cancel", "child cancel"]
    assert_reaped(child)


SPECIAL = [GeneratorExit, StopIteration, StopAsyncIteration, KeyboardInterrupt, SystemExit]


@pytest.mark.parametrize("kind", SPECIAL)
async def test_special_exceptions_pass(kind: type[BaseException]) -> None:
    """A context manager that is written as a generator has its own ideas of some of them."""
    error = kind("the body's")
    with pytest.raises(kind) as caught:
        async with trio_ipc.open_child(children.listen) as child:
            raise error
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None
    assert_reaped(child)


@pytest.mark.parametrize("kind", SPECIAL[:3])
async def test_special_exceptions_pass_out_of_a_nursery(kind: type[BaseException]) -> None:
    error = kind("the body's")
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio_ipc.open_child(children.listen), trio.open_nursery():
            raise error
    assert caught.value.exceptions == (error,)


async def test_close_between_iteration() -> None:
    async with trio_ipc.open_child(children.count_for_ever, grace_period=60) as child:
        async with trio.open_nursery() as nursery:

            async def close() -> None:
                await trio.lowlevel.checkpoint()
                await child.aclose()

            nursery.start_soon(close)
            with pytest.raises(trio.ClosedResourceError):
                async for _ in child:
                    pass
    assert child.process.returncode == 0


async def test_close_before_iteration() -> None:
    async with trio_ipc.open_child(children.listen, grace_period=60) as child:
        await child.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await child.receive()
        with pytest.raises(trio.ClosedResourceError):
            await child.send(1)
    assert child.process.returncode == 0


async def test_close_during_iteration() -> None:
    """The receiver waits already."""
    async with trio_ipc.open_child(children.listen) as child:
        async with trio.open_nursery() as nursery:

            async def iterate() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    async for _ in child:
                        raise AssertionError("the child sends nothing")

            nursery.start_soon(iterate)
            await wait_all_tasks_blocked()
            await child.aclose()
    assert child.process.returncode == 0


async def test_use_after_the_block() -> None:
    async with trio_ipc.open_child(children.listen) as child:
        pass
    for attempt in (child.send_nowait, lambda _: child.receive_nowait()):
        with pytest.raises(trio.ClosedResourceError):
            attempt(1)
    with pytest.raises(trio.ClosedResourceError):
        await child.send(1)
    with pytest.raises(trio.ClosedResourceError):
        await child.receive()
    await child.aclose()


async def test_a_task_that_waits_when_the_block_is_left_gets_an_answer() -> None:
    outcomes: list[Any] = []

    async def call(function: Any, *args: Any) -> None:
        try:
            outcomes.append(await function(*args))
        except Exception as exc:
            outcomes.append(type(exc))

    async with trio.open_nursery() as nursery:
        async with trio_ipc.open_child(children.listen) as child:
            nursery.start_soon(call, child.receive)
            await wait_all_tasks_blocked()
    # The child said goodbye: its end came before ours.
    assert outcomes == [trio.EndOfChannel]
    assert_reaped(child)
