"""What an exception looks like that comes out of open_child, and that Ctrl-C at any moment leaves
nothing behind."""

from __future__ import annotations

import pickle
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_ipc

from . import scope_children as children

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

ROOT = Path(__file__).parent.parent


async def failure_of(target: Any, *args: Any, **options: Any) -> trio_ipc.ChildFailed:
    """What a block raises that waits for ever while its child fails."""
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with trio_ipc.open_child(target, *args, **options):
            await trio.sleep_forever()
    return caught.value


# The remote traceback ---------------------------------------------------------------------------


async def test_the_remote_traceback_is_an_attribute_the_cause_and_readable() -> None:
    failure = await failure_of(children.send_and_fail, "oae")
    text = failure.remote_traceback
    assert text is not None
    lines = text.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: oae"
    # From the user's function on: nothing of Trio's and ours stands before it.
    assert "scope_children.py" in lines[1]
    assert lines[1].endswith(", in send_and_fail")
    assert "raise ValueError(text)" in lines[2]
    assert isinstance(failure.__cause__, trio_ipc.RemoteTraceback)
    assert text in str(failure.__cause__)
    printed = "".join(traceback.format_exception(type(failure), failure, failure.__traceback__))
    assert text in printed
    assert "direct cause" in printed
    assert printed.rstrip().endswith(str(failure))
    assert "Cancelled" not in printed  # that is how the block was ended, and of no interest


async def test_a_failure_says_who_failed_and_how() -> None:
    failure = await failure_of(children.send_and_fail, "oae")
    assert failure.returncode == 1
    assert failure.cmd == "tests.scope_children:send_and_fail"
    assert str(failure) == (
        f"child {failure.pid}, tests.scope_children:send_and_fail, exited with status 1"
    )


async def test_a_command_that_fails_has_no_traceback_and_shows_no_cancellation() -> None:
    command = [sys.executable, "-S", "-c", "raise SystemExit(3)"]
    failure = await failure_of(command)
    assert failure.returncode == 3
    assert failure.cmd == command
    assert failure.remote_traceback is None
    assert failure.__cause__ is None
    printed = "".join(traceback.format_exception(type(failure), failure, failure.__traceback__))
    assert "Cancelled" not in printed


async def test_a_command_that_is_killed_says_by_what() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    failure = await failure_of([sys.executable, "-S", "-c", code])
    assert failure.returncode == -signal.SIGKILL
    assert "was killed by SIGKILL" in str(failure)


async def test_a_group_that_the_child_raises_is_shown_with_all_that_is_in_it() -> None:
    text = (await failure_of(children.fail_in_a_group)).remote_traceback
    assert text is not None
    for part in ("the child's group", "2 sub-exceptions", "ValueError: one", "KeyError: 'two'"):
        assert part in text


async def test_causes_are_shown() -> None:
    text = (await failure_of(children.fail_with_a_cause)).remote_traceback
    assert text is not None
    assert text.index("the first of them") < text.index("direct cause")
    assert text.index("direct cause") < text.index("ValueError: the second of them")


@pytest.mark.parametrize("letter", ["x", "é", "\N{SNAKE}"])
async def test_of_a_huge_traceback_the_end_is_kept(letter: str) -> None:
    size = 300_000
    text = (await failure_of(children.fail_at_length, letter, size)).remote_traceback
    assert text is not None
    assert text.rstrip().endswith(letter * 100 + "the very end")
    assert 10_000 < len(text.encode()) < size
    assert "\N{REPLACEMENT CHARACTER}" not in text[4:]  # the first letter may be cut in two


async def test_a_traceback_that_is_no_utf8_arrives() -> None:
    text = (await failure_of(children.fail_unprintably)).remote_traceback
    assert text is not None
    assert "ValueError: a lone surrogate" in text


async def test_an_exception_that_can_not_be_printed_is_named() -> None:
    text = (await failure_of(children.fail_with_a_bad_str)).remote_traceback
    assert text is not None
    assert "Bad" in text.splitlines()[-1]


async def test_a_keyboard_interrupt_that_the_child_raises_is_a_failure_like_any_other() -> None:
    failure = await failure_of(children.raise_keyboard_interrupt)
    assert failure.returncode == 1
    assert "KeyboardInterrupt" in str(failure.remote_traceback)


@pytest.mark.parametrize("status", [1, 3, 255, "a text"])
async def test_the_exit_status_that_the_child_chooses_is_kept(status: object) -> None:
    failure = await failure_of(
        children.leave_with, status, **({"stderr": -3} if status == "a text" else {})
    )
    assert failure.returncode == (status if isinstance(status, int) else 1)
    assert failure.remote_traceback is None


@pytest.mark.parametrize("status", [None, 0])
async def test_leaving_early_is_no_failure(status: object) -> None:
    async with trio_ipc.open_child(children.leave_with, status) as child:
        with pytest.raises(trio.EndOfChannel):
            await child.receive()
    assert child.process.returncode == 0


async def test_an_exit_inside_of_a_group_is_shown_as_one() -> None:
    failure = await failure_of(children.leave_in_a_task_with, 0)
    assert failure.returncode == 1
    assert "SystemExit: 0" in str(failure.remote_traceback)


async def test_a_failure_can_be_pickled() -> None:
    failure = await failure_of(children.send_and_fail, "oae")
    copy = pickle.loads(pickle.dumps(failure))
    assert str(copy) == str(failure)
    assert copy.remote_traceback == failure.remote_traceback
    assert str(copy.__cause__) == str(failure.__cause__)


# Whose exception comes out ----------------------------------------------------------------------


async def receive(child: Any) -> None:
    async for _ in child:
        pass


async def send(child: Any) -> None:
    while True:
        await child.send("x")


async def send_large(child: Any) -> None:
    while True:
        await child.send(bytes(1_000_000))


@pytest.mark.parametrize("shielded", [False, True], ids=["cancelled", "shielded"])
@pytest.mark.parametrize("nursery", [False, True], ids=["bare", "in-a-nursery"])
@pytest.mark.parametrize("target", [children.die_when_told, children.fail_when_told])
@pytest.mark.parametrize("call", [receive, send, send_large])
async def test_what_the_death_of_the_child_breaks_comes_out_as_its_failure(
    call: Any, target: Any, nursery: bool, shielded: bool
) -> None:
    """Whether a call is cancelled first, or sees the broken channel first, is of no interest."""
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with trio_ipc.open_child(target) as child:
            await child.send("now")
            with trio.CancelScope(shield=shielded):
                if nursery:
                    async with trio.open_nursery() as tasks:
                        tasks.start_soon(call, child)
                        tasks.start_soon(receive, child)
                else:
                    await call(child)
    assert caught.value.returncode == (7 if target is children.die_when_told else 1)


async def test_an_error_of_the_users_beside_broken_calls_is_the_users() -> None:
    error = ValueError("the user's")

    async def fail(child: Any) -> None:
        try:
            await child.receive()
        finally:
            raise error

    with pytest.raises(ExceptionGroup) as caught:
        async with trio_ipc.open_child(children.die_when_told) as child:
            await child.send("now")
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(fail, child)
                    nursery.start_soon(receive, child)
    assert error in caught.value.exceptions


async def test_an_error_that_wraps_a_broken_call_is_the_users() -> None:
    with pytest.raises(LookupError) as caught:
        async with trio_ipc.open_child(children.die_when_told) as child:
            await child.send("now")
            with trio.CancelScope(shield=True):
                try:
                    await child.receive()
                except trio.BrokenResourceError as exc:
                    raise LookupError("no answer") from exc
    cause = caught.value.__cause__
    assert isinstance(cause, trio.BrokenResourceError)
    assert "exited with status 7" in str(cause)


async def test_without_check_calls_break_and_nothing_else_happens() -> None:
    async with trio_ipc.open_child(children.die_when_told, check=False) as child:
        await child.send("now")
        with pytest.raises(trio.BrokenResourceError, match="exited with status 7"):
            await child.receive()
        with pytest.raises(trio.BrokenResourceError, match="exited with status 7"):
            await child.send("x")
        await trio.lowlevel.checkpoint()  # the block is not cancelled
    assert child.process.returncode == 7


async def test_without_check_a_broken_call_that_leaves_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(trio.BrokenResourceError, match="exited with status 7") as caught:
        async with trio_ipc.open_child(children.die_when_told, check=False) as child:
            await child.send("now")
            await child.receive()
    assert type(caught.value) is trio.BrokenResourceError


async def test_a_cancellation_from_outside_comes_out_as_such() -> None:
    with trio.CancelScope() as scope:
        async with trio_ipc.open_child(children.listen) as child:
            scope.cancel()
            await child.receive()
    assert scope.cancelled_caught
    assert child.process.returncode is not None


async def test_a_deadline_around_the_block_is_the_deadlines() -> None:
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(0):
            async with trio_ipc.open_child(children.listen) as child:
                await child.receive()


async def test_a_cancel_scope_inside_of_the_block_is_the_users() -> None:
    async with trio_ipc.open_child(children.listen) as child:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive, child)
                await wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
    assert child.process.returncode == 0


async def test_what_can_not_be_started_comes_out_bare() -> None:
    with pytest.raises(FileNotFoundError):
        async with trio_ipc.open_child(["/nowhere/at/all"]):
            raise AssertionError("not to be reached")


async def test_an_interrupt_beside_other_errors_stays_in_the_users_group() -> None:
    group = BaseExceptionGroup("the user's", [KeyboardInterrupt(), ValueError()])
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio_ipc.open_child(children.listen):
            raise group
    assert caught.value is group


# Ctrl-C -----------------------------------------------------------------------------------------


async def interrupts(*args: str) -> int:
    """Run the driver, which has nothing to complain about; how many interrupts there were."""
    done = await trio.run_process(
        [sys.executable, "-m", "tests.interrupt_driver", *args],
        cwd=ROOT,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 1, "\n".join([*lines, done.stderr.decode()])
    assert done.returncode == 0
    return int(lines[0].removesuffix(" interrupts"))


@pytest.mark.parametrize("part", ["0", "1", "2"])
async def test_ctrl_c_before_any_line_of_the_package_leaves_nothing_behind(part: str) -> None:
    assert await interrupts("lines", part, "3") > 200


async def test_ctrl_c_before_any_step_of_any_task_leaves_nothing_behind() -> None:
    assert await interrupts("steps") > 20


async def test_ctrl_c_at_any_time_leaves_nothing_behind() -> None:
    """With a real child, and handles under way."""
    assert await interrupts("times", "1", "15") == 15


async def test_the_end_of_a_child_that_failed_is_a_symptom() -> None:
    # In Node's protocol there is no goodbye, so that the end comes before anything is known of why.
    failing = [sys.executable, "-c", "import os; os._exit(3)"]
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with trio_ipc.open_child(failing, protocol="node") as child:
            with pytest.raises(trio.EndOfChannel):
                await child.receive()
            await child.receive()
    assert caught.value.returncode == 3


async def test_a_child_that_does_not_expect_the_end_has_failed() -> None:
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with trio_ipc.open_child(children.receive_once):
            pass
    assert "EndOfChannel" in str(caught.value.remote_traceback)
