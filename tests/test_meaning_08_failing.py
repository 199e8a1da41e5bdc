"""A child that fails cancels the block and raises ``ChildFailed``; exceptions come out bare; and
the body's own exception wins."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ipc

from . import meaning_children as children
from .meaning_helpers import assert_reaped, open_child_aside, raw_script, script

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup


def chain_of(exc: BaseException | None) -> Iterator[BaseException]:
    """An exception and all that stand behind it."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def failure_behind(exc: BaseException) -> trio_ipc.ChildFailed:
    [failure] = [each for each in chain_of(exc) if isinstance(each, trio_ipc.ChildFailed)]
    return failure


# A child that fails ----------------------------------------------------------------------------


async def test_a_function_child_that_raises_cancels_the_block() -> None:
    cancelled = False
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with trio_ipc.open_child(children.fail) as child:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                cancelled = True
                raise
    assert cancelled
    failure = caught.value
    assert isinstance(failure, subprocess.CalledProcessError)
    assert failure.returncode == 1
    assert_reaped(child.process, 1)
    await trio.lowlevel.checkpoint()  # nothing is cancelled but the block


async def test_the_remote_traceback_is_the_cause() -> None:
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with trio_ipc.open_child(children.fail):
            await trio.sleep_forever()
    failure = caught.value
    text = failure.remote_traceback
    assert text is not None
    assert text.startswith("Traceback (most recent call last):\n")
    assert text.endswith("ValueError: on purpose\n")
    assert "in fail\n" in text
    assert "in fail_deeper\n" in text
    assert "_worker.py" not in text
    assert isinstance(failure.__cause__, trio_ipc.RemoteTraceback)
    shown = "".join(traceback.format_exception(type(failure), failure, None))
    assert text in shown
    assert "the direct cause" in shown
    assert "exit" in str(failure)
    assert "1" in str(failure)


async def test_a_group_that_a_function_child_raises_is_shown_whole() -> None:
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with trio_ipc.open_child(children.fail_in_two_tasks):
            await trio.sleep_forever()
    text = caught.value.remote_traceback
    assert text is not None
    assert "ValueError: first" in text
    assert "ValueError: second" in text


@pytest.mark.parametrize(
    ("end", "returncode"),
    [
        ("sys.exit(3)", 3),
        ("os._exit(4)", 4),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(1000)", -signal.SIGTERM),
    ],
)
async def test_a_script_that_fails_cancels_the_block(
    end: str, returncode: int, tmp_path: Path
) -> None:
    command = raw_script(tmp_path, end)
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with trio_ipc.open_child(command) as child:
            await trio.sleep_forever()
    assert caught.value.returncode == returncode
    assert caught.value.cmd == command
    assert caught.value.remote_traceback is None
    assert caught.value.__cause__ is None
    assert_reaped(child.process, returncode)


@pytest.mark.parametrize(("status", "returncode"), [(3, 3), ("a complaint", 1)])
async def test_a_function_child_may_choose_its_exit_status(status: Any, returncode: int) -> None:
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with trio_ipc.open_child(children.leave_with, status, stderr=subprocess.DEVNULL):
            await trio.sleep_forever()
    assert caught.value.returncode == returncode
    assert caught.value.remote_traceback is None


@pytest.mark.parametrize("status", [0, None])
async def test_a_child_that_does_not_fail_cancels_nothing(status: int | None) -> None:
    async with trio_ipc.open_child(children.leave_with, status) as child:
        await child.process.wait()
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        assert child.process.returncode == 0


async def test_a_child_that_fails_when_the_body_is_done_has_failed_too() -> None:
    done = False
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with trio_ipc.open_child(children.fail_at_the_end) as child:
            await child.send("x")
            done = True
    assert done
    assert "at the end" in str(caught.value.remote_traceback)


async def test_one_of_two_children_that_fails_ends_the_other() -> None:
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with trio_ipc.open_child(children.fail_when_told) as first:
            async with trio_ipc.open_child(children.wait_for_kill) as second:
                assert await second.receive() == "ready"
                await first.send("fail")
                await trio.sleep_forever()
    assert "when told" in str(caught.value.remote_traceback)
    assert_reaped(first.process, 1)
    assert_reaped(second.process, 128 + signal.SIGTERM)


# Leaving it to the caller --------------------------------------------------------------------


async def test_without_the_check_a_failure_is_left_to_the_caller() -> None:
    async with trio_ipc.open_child(children.fail, check=False) as child:
        assert await child.process.wait() == 1
        with pytest.raises(trio.BrokenResourceError):
            await child.receive()
        await trio.lowlevel.checkpoint()
    assert_reaped(child.process, 1)


async def test_without_the_check_a_failure_at_the_end_is_left_to_the_caller() -> None:
    async with trio_ipc.open_child(children.fail_at_the_end, check=False) as child:
        pass
    assert_reaped(child.process, 1)


# The body's own exception ------------------------------------------------------------------------


class Own(Exception):
    pass


async def test_the_bodys_own_exception_wins_over_the_failure() -> None:
    own = Own()
    with pytest.raises(Own) as caught:
        async with trio_ipc.open_child(children.fail) as child:
            with trio.CancelScope(shield=True):
                await child.process.wait()
                raise own
    assert caught.value is own
    assert failure_behind(own).returncode == 1


async def test_an_exception_of_the_cleaning_up_wins_and_nothing_is_lost() -> None:
    own = Own()
    with pytest.raises(Own) as caught:
        async with trio_ipc.open_child(children.fail):
            try:
                await trio.sleep_forever()
            finally:
                raise own
    assert caught.value is own
    assert failure_behind(own).returncode == 1
    assert any(isinstance(each, trio.Cancelled) for each in chain_of(own))


async def test_an_exception_with_a_cause_keeps_it() -> None:
    own, cause = Own(), ValueError()
    with pytest.raises(Own) as caught:
        async with trio_ipc.open_child(children.fail) as child:
            with trio.CancelScope(shield=True):
                await child.process.wait()
                raise own from cause
    assert caught.value is own
    assert own.__cause__ is cause


async def test_a_child_that_fails_while_it_is_ended_is_the_context() -> None:
    own = Own()
    with pytest.raises(Own) as caught:
        async with trio_ipc.open_child(children.fail_when_cancelled) as child:
            assert await child.receive() == "ready"
            raise own
    assert caught.value is own
    failure = failure_behind(own)
    assert "in its clean-up" in str(failure.remote_traceback)


async def test_a_child_that_we_have_ended_has_not_failed() -> None:
    own = Own()
    with pytest.raises(Own) as caught:
        async with trio_ipc.open_child(children.wait_for_kill) as child:
            assert await child.receive() == "ready"
            raise own
    assert list(chain_of(caught.value)) == [own]
    assert_reaped(child.process, 128 + signal.SIGTERM)


async def test_the_symptoms_of_a_failure_do_not_hide_it() -> None:
    async def send_to_the_end(child: Any) -> None:
        while True:
            await child.send("x")

    for body in (lambda child: child.receive(), send_to_the_end):
        with pytest.raises(trio_ipc.ChildFailed) as caught:
            async with trio_ipc.open_child(children.fail) as child:
                with trio.CancelScope(shield=True):
                    await body(child)
        assert caught.value.remote_traceback is not None


async def test_a_broken_resource_of_the_users_own_is_no_symptom() -> None:
    own = trio.BrokenResourceError("of something else")
    with pytest.raises(trio.BrokenResourceError) as caught:
        async with trio_ipc.open_child(children.fail) as child:
            with trio.CancelScope(shield=True):
                await child.process.wait()
                raise own
    assert caught.value is own


async def test_a_child_that_breaks_the_rules_is_told_from_one_that_fails(tmp_path: Path) -> None:
    source = """
        sock.sendall(b"this is no frame")
        sys.stdin.read()
        sys.exit(1)
    """
    with pytest.raises(trio_ipc.ProtocolError):
        async with open_child_aside(raw_script(tmp_path, source)) as (child, _):
            await child.receive()


@dataclasses.dataclass
class Unhashable(Exception):
    what: str


async def test_a_child_that_fails_because_we_cut_it_off_has_not_failed(tmp_path: Path) -> None:
    source = """
        sock.sendall(b"this is no frame")
        while sock.recv(1000):
            pass
        os._exit(1)
    """
    async with trio_ipc.open_child(raw_script(tmp_path, source)) as child:
        with pytest.raises(trio_ipc.ProtocolError):
            await child.receive()
        await child.process.wait()
    assert_reaped(child.process, 1)


GARBAGE_AND_3 = """
    sock.sendall(b"this is no frame")
    sys.exit(3)
"""


async def test_a_child_that_breaks_the_rules_and_fails_is_heard_of(tmp_path: Path) -> None:
    """Though nobody was in a call of the channel, who would have been told."""
    with pytest.raises(trio_ipc.ProtocolError):
        async with trio_ipc.open_child(raw_script(tmp_path, GARBAGE_AND_3)):
            await trio.sleep_forever()


async def test_a_child_that_breaks_the_rules_and_fails_is_heard_of_afterwards(
    tmp_path: Path,
) -> None:
    own = KeyError("the body's")
    with pytest.raises(KeyError) as caught:
        async with trio_ipc.open_child(raw_script(tmp_path, GARBAGE_AND_3)) as child:
            with trio.CancelScope(shield=True):
                await child.process.wait()
                raise own
    assert caught.value is own
    assert isinstance(own.__context__, trio_ipc.ProtocolError)


async def test_a_function_child_whose_channel_breaks_has_failed() -> None:
    """It ends by an error of its channel, but nobody has closed that."""
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with open_child_aside(children.echo, stderr=subprocess.PIPE) as (child, _):
            assert child.process.stderr is not None
            async with child.process.stderr as stderr:
                os.write(child.fileno(), b"this is no frame")
                with trio.CancelScope(shield=True):
                    said = b"".join([chunk async for chunk in stderr])
                await trio.sleep_forever()
    assert caught.value.returncode == 1
    assert b"trio_ipc.ProtocolError: " in said


async def test_exceptions_that_can_not_be_hashed_are_exceptions_too() -> None:
    own = Unhashable("the body's")
    with pytest.raises(Unhashable) as caught:
        async with trio_ipc.open_child(children.fail_unhashably) as child:
            with trio.CancelScope(shield=True):
                await child.process.wait()
                raise own
    assert caught.value is own
    assert "Unhashable" in str(failure_behind(own).remote_traceback)


# Exceptions come out bare --------------------------------------------------------------------

group = ExceptionGroup("the user's own", [ValueError()])
EXCEPTIONS = [
    Own(),
    KeyboardInterrupt(),
    SystemExit(),
    GeneratorExit(),
    StopIteration(),
    StopAsyncIteration(),
    trio.EndOfChannel(),
    trio.TooSlowError(),
    group,
    ExceptionGroup("nested", [ExceptionGroup("inner", [ValueError(), KeyError()])]),
    BaseExceptionGroup("with an interrupt", [KeyboardInterrupt(), ValueError()]),
]


@pytest.fixture(params=EXCEPTIONS, ids=lambda exc: type(exc).__name__)
def exception(request: pytest.FixtureRequest) -> BaseException:
    exc: BaseException = request.param
    exc.__traceback__ = exc.__context__ = exc.__cause__ = None
    return exc


async def test_what_the_body_raises_comes_out_as_it_is(exception: BaseException) -> None:
    caught = None
    try:
        async with trio_ipc.open_child(["cat"], stdin=subprocess.DEVNULL):
            raise exception
    except BaseException as exc:
        caught = exc
    assert caught is exception
    assert caught.__cause__ is None
    assert caught.__context__ is None
    assert not getattr(caught, "__notes__", [])


@pytest.mark.parametrize(
    "exception",
    ["ValueError()", "StopIteration()", "KeyboardInterrupt()", "Group('', [ValueError()])"],
)
async def test_what_a_script_raises_in_its_block_comes_out_as_it_is(
    exception: str, tmp_path: Path
) -> None:
    source = f"""
        import sys, trio, trio_ipc

        if sys.version_info >= (3, 11):
            Group = ExceptionGroup
        else:
            from exceptiongroup import ExceptionGroup as Group

        async def main():
            exc = {exception}
            caught = None
            try:
                async with trio_ipc.open_parent():
                    raise exc
            except BaseException as other:
                caught = other
            assert caught is exc, caught
            assert caught.__context__ is caught.__cause__ is None

        trio.run(main)
    """
    async with trio_ipc.open_child(script(tmp_path, source)) as child:
        with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
            await child.receive()
    assert child.process.returncode == 0


@pytest.mark.parametrize("how", ["raise RuntimeError('late')", "sys.exit(3)"])
async def test_a_script_that_fails_is_not_taken_for_one_that_is_done(
    how: str, tmp_path: Path
) -> None:
    """It says no goodbye: whoever waits in ``receive`` gets the failure, not the end."""
    source = f"""
        import sys, trio, trio_ipc

        async def main():
            async with trio_ipc.open_parent() as parent:
                await parent.send(1)
                {how}

        trio.run(main)
    """
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with trio_ipc.open_child(
            script(tmp_path, source), stderr=subprocess.DEVNULL
        ) as child:
            assert await child.receive() == 1
            await child.receive()
    assert caught.value.returncode == (3 if "exit" in how else 1)


async def test_without_the_check_the_traceback_is_the_cause_of_what_receive_raises() -> None:
    async with trio_ipc.open_child(children.fail, check=False) as child:
        with pytest.raises(trio.BrokenResourceError) as caught:
            while True:
                await child.receive()
    assert isinstance(caught.value.__cause__, trio_ipc.RemoteTraceback)
