"""Leaving ``open_child`` lets the child finish, makes it finish, and reaps it: bounded, whatever
the child does."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ipc

from . import meaning_children as children
from .meaning_helpers import (
    MANY_BYTES,
    aside_of,
    assert_reaped,
    fill,
    open_child_aside,
    open_driver,
    raw_script,
    script,
    stop,
)

TERMINATED = 128 + signal.SIGTERM  # what a function child exits with that was cancelled
# It would be waited for so long if it were not ended before.
NEVER = math.inf


class Log:
    """Where a child writes what happened to it, a line each."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def lines(self) -> list[str]:
        with open(self.path) as file:
            return file.read().splitlines()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


# Normally ------------------------------------------------------------------------------------


async def test_what_was_sent_is_written_before_the_end(log: Log) -> None:
    async with trio_ipc.open_child(
        children.log_sizes, log.path, max_buffer_size=100, grace_period=NEVER
    ) as child:
        await child.send(b"x" * MANY_BYTES)
        await child.send(b"")
        await child.send(b"x" * MANY_BYTES)
    assert log.lines() == [str(MANY_BYTES), "0", str(MANY_BYTES), "the end"]
    assert_reaped(child.process, 0)


async def test_a_child_has_time_to_finish_after_the_end(log: Log) -> None:
    async with trio_ipc.open_child(children.finish_slowly, log.path, grace_period=NEVER) as child:
        pass
    assert log.lines() == ["the end", "finished"]
    assert_reaped(child.process, 0)


@pytest.mark.parametrize("max_buffer_size", [0, 1, 1000])
async def test_a_child_that_still_sends_finishes_normally(log: Log, max_buffer_size: int) -> None:
    async with trio_ipc.open_child(
        children.send_much,
        log.path,
        max_buffer_size=max_buffer_size,
        grace_period=NEVER,
    ) as child:
        if max_buffer_size:
            await child.receive()
    assert log.lines() == ["sent everything"]
    assert_reaped(child.process, 0)


async def test_a_child_that_still_sends_finishes_normally_with_a_receiver_that_waits(
    log: Log,
) -> None:
    # A task that was in `receive` when the body ended gets what it waited for, or the end.
    got = []

    async def receive() -> None:
        try:
            while True:
                got.append(await child.receive())
        except (trio.EndOfChannel, trio.ClosedResourceError):
            got.append("the end")

    async with trio.open_nursery() as nursery:
        async with trio_ipc.open_child(children.send_much, log.path, grace_period=NEVER) as child:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
    assert got[-1] == "the end"
    assert log.lines() == ["sent everything"]


@pytest.mark.parametrize("what", ["close", "aclose", "close-send", "close-receive"])
async def test_what_is_closed_already_need_not_be_closed(what: str) -> None:
    async with trio_ipc.open_child(children.echo, grace_period=NEVER) as child:
        await child.send("x")
        assert await child.receive() == "x"
        if what == "close":
            child.close()
        elif what == "aclose":
            await child.aclose()
        elif what == "close-send":
            child.send_channel.close()
        else:
            child.receive_channel.close()
    assert_reaped(child.process, 0)


async def test_a_clone_does_not_keep_the_child() -> None:
    async with trio_ipc.open_child(children.echo, grace_period=NEVER) as child:
        clone = child.send_channel.clone()
    assert_reaped(child.process, 0)
    with pytest.raises(trio.ClosedResourceError):
        clone.send_nowait("x")
    with pytest.raises(trio.ClosedResourceError):
        await child.send("x")
    with pytest.raises(trio.ClosedResourceError):
        child.receive_nowait()


async def test_a_send_outside_of_the_block_does_not_wait_for_the_child_to_end() -> None:
    async def send(child: trio_ipc.ChildChannel[Any, Any]) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await child.send("there is no room")
        assert child.process.stdin is not None
        await child.process.stdin.aclose()  # by which alone it ends

    async with trio.open_nursery() as nursery:
        async with trio_ipc.open_child(["cat"], stdin=subprocess.PIPE, grace_period=NEVER) as child:
            fill(child)
            nursery.start_soon(send, child)
            await trio.testing.wait_all_tasks_blocked()
    assert_reaped(child.process, 0)


async def test_a_child_that_has_gone_already_is_reaped() -> None:
    async with trio_ipc.open_child(["true"]) as child:
        await child.process.wait()
    assert_reaped(child.process, 0)


async def test_children_may_be_nested() -> None:
    async with trio_ipc.open_child(children.echo, grace_period=NEVER) as first:
        async with trio_ipc.open_child(children.echo, grace_period=NEVER) as second:
            await first.send(1)
            await second.send(await first.receive() + 1)
            assert await second.receive() == 2
        assert_reaped(second.process, 0)
        await first.send(3)
        assert await first.receive() == 3
    assert_reaped(first.process, 0)


async def test_nobody_receives_what_comes_after_messages_that_were_dropped(tmp_path: Path) -> None:
    # A task outside of the block is not to take it for all that there was.
    source = """
        for number in range(5):
            sock.sendall(frame(b"B", b"%d" % number))
        while read_frame()[0] != b"E":
            pass
        for number in range(5, 10):
            sock.sendall(frame(b"B", b"%d" % number))
        sock.sendall(frame(b"E"))
    """
    async with trio.open_nursery() as nursery:
        async with trio_ipc.open_child(raw_script(tmp_path, source)) as child:
            assert await child.receive() == b"0"
            while child.statistics().current_buffer_used < 4:
                await trio.lowlevel.checkpoint()

            @nursery.start_soon
            async def receive() -> None:
                while child.statistics().current_buffer_used:
                    await trio.lowlevel.checkpoint()
                with pytest.raises(trio.ClosedResourceError):
                    await child.receive()
                with pytest.raises(trio.ClosedResourceError):
                    child.receive_nowait()


# Children that do not finish -------------------------------------------------------------------


async def test_a_child_that_ignores_the_end_gets_sigterm(log: Log) -> None:
    async with trio_ipc.open_child(children.ignore_the_end, log.path, grace_period=1) as child:
        assert await child.receive() == "ready"
    assert log.lines() == ["Cancelled"]
    assert_reaped(child.process, TERMINATED)


async def test_a_child_that_ignores_the_end_has_its_time_before_sigterm(log: Log) -> None:
    # The end comes first, and while the child does something about it nothing else comes.
    async with trio_ipc.open_child(children.finish_slowly, log.path, grace_period=60) as child:
        pass
    assert log.lines() == ["the end", "finished"]
    assert_reaped(child.process, 0)


async def test_a_child_that_ignores_sigterm_gets_sigkill(log: Log, tmp_path: Path) -> None:
    source = f"""
        def note(*_):
            with open({log.path!r}, "a") as file:
                print("SIGTERM", file=file)
        signal.signal(signal.SIGTERM, note)
        sock.sendall(frame(b"M", ONE))
        while True:
            time.sleep(100)
    """
    async with trio_ipc.open_child(raw_script(tmp_path, source), grace_period=1) as child:
        assert await child.receive() == 1
    assert log.lines() == ["SIGTERM"]
    assert_reaped(child.process, -signal.SIGKILL)


@pytest.mark.parametrize("how", ["shield", "block"])
async def test_a_function_child_that_can_not_be_cancelled_gets_sigkill(how: str) -> None:
    async with trio_ipc.open_child(children.never_end, how, grace_period=0.1) as child:
        assert await child.receive() == "ready"
    assert_reaped(child.process, -signal.SIGKILL)


async def test_a_child_that_is_stopped_gets_sigkill() -> None:
    async with trio_ipc.open_child(children.echo, grace_period=0.1) as child:
        await child.send("x")
        assert await child.receive() == "x"
        await stop(child.process)
    assert_reaped(child.process, -signal.SIGKILL)


async def test_a_child_that_never_reads_is_not_waited_for_with_what_was_sent(
    tmp_path: Path,
) -> None:
    source = """
        sock.sendall(frame(b"M", ONE))
        time.sleep(1000)
    """
    async with trio_ipc.open_child(raw_script(tmp_path, source), grace_period=0.1) as child:
        assert await child.receive() == 1
        await child.send(b"x" * MANY_BYTES)
        assert child.statistics().bytes_unsent
    assert_reaped(child.process, -signal.SIGTERM)


async def test_a_child_that_never_stops_sending_is_not_waited_for(tmp_path: Path) -> None:
    source = """
        import trio, trio_ipc

        async def main():
            async with trio_ipc.open_parent() as parent:
                while True:
                    await parent.send("x" * 1000)

        trio.run(main)
    """
    async with trio_ipc.open_child(script(tmp_path, source), grace_period=0.1) as child:
        await child.receive()
    assert_reaped(child.process, -signal.SIGTERM)


async def test_a_child_that_does_not_know_of_the_channel_is_ended() -> None:
    async with trio_ipc.open_child(["sleep", "1000"], grace_period=0.1) as child:
        pass
    assert_reaped(child.process, -signal.SIGTERM)


async def test_without_a_grace_period_the_child_is_ended_at_once() -> None:
    async with trio_ipc.open_child(children.never_end, "shield", grace_period=0) as child:
        assert await child.receive() == "ready"
    assert child.process.returncode in (TERMINATED, -signal.SIGKILL)
    assert_reaped(child.process, child.process.returncode)


# With an exception, or cancelled --------------------------------------------------------------


@pytest.mark.parametrize("how", [ValueError, KeyboardInterrupt, SystemExit, "cancel"])
async def test_leaving_by_an_exception_is_sigterm_at_once(
    log: Log, how: type[BaseException] | str
) -> None:
    with trio.CancelScope() as scope:
        with nullcontext() if isinstance(how, str) else pytest.raises(how):
            async with trio_ipc.open_child(
                children.ignore_the_end, log.path, grace_period=NEVER
            ) as child:
                assert await child.receive() == "ready"
                if not isinstance(how, str):
                    raise how
                scope.cancel()
                await trio.sleep_forever()
    assert scope.cancelled_caught == (how == "cancel")
    assert log.lines() == ["Cancelled"]
    assert_reaped(child.process, TERMINATED)


async def test_leaving_by_an_exception_is_sigkill_for_a_child_that_ignores_sigterm() -> None:
    with pytest.raises(ValueError, match="on purpose"):
        async with trio_ipc.open_child(children.never_end, "shield", grace_period=0.1) as child:
            assert await child.receive() == "ready"
            raise ValueError("on purpose")
    assert_reaped(child.process, -signal.SIGKILL)


async def test_a_child_may_clean_up_after_sigterm(log: Log) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        async with trio_ipc.open_child(
            children.clean_up_slowly, log.path, grace_period=NEVER
        ) as child:
            assert await child.receive() == "ready"
            raise ValueError("on purpose")
    assert log.lines() == ["cleaned up"]
    assert_reaped(child.process, TERMINATED)


async def test_leaving_can_not_be_cancelled() -> None:
    async with trio.open_nursery() as nursery:
        async with trio_ipc.open_child(
            children.finish_when_told,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            grace_period=NEVER,
        ) as child:
            nursery.start_soon(cancel_while_leaving, child.process, nursery.cancel_scope)
    assert nursery.cancel_scope.cancelled_caught
    assert_reaped(child.process, 0)


async def cancel_while_leaving(process: trio.Process, scope: trio.CancelScope) -> None:
    with trio.CancelScope(shield=True):
        async with aside_of(process) as aside:
            assert await aside.hear() == "the end"
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert process.returncode is None
            await aside.say()
            assert await aside.hear() == "finished"


async def test_ctrl_c_hastens_the_leaving(tmp_path: Path) -> None:
    source = """
        import math, trio, trio_ipc
        from tests import meaning_children as children

        async def main():
            async with trio_ipc.open_child(children.say_how_it_ends, grace_period=math.inf):
                pass

        try:
            trio.run(main)
        except KeyboardInterrupt:
            print("interrupted")
    """
    async with open_driver(source, tmp_path) as (driver, aside):
        assert await aside.hear() == "the end"
        driver.send_signal(signal.SIGINT)
        assert await aside.hear_all() == ["Cancelled", "interrupted"]
        assert await driver.wait() == 0


# Orphans --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["normally", "by an exception"])
async def test_an_orphan_that_holds_the_channel_does_not_keep_us(how: str, tmp_path: Path) -> None:
    # The child of the child, which has its end of the channel open and lives on until the other
    # end of its standard input is closed.
    source = """
        import subprocess
        orphan = subprocess.Popen(["cat"], pass_fds=[sock.fileno()], stdout=subprocess.DEVNULL)
        print(orphan.pid, flush=True)
        sock.sendall(frame(b"M", ONE))
        os._exit(0)
    """
    read, write = os.pipe()
    try:
        with trio.CancelScope() as scope:
            async with trio_ipc.open_child(
                raw_script(tmp_path, source),
                stdin=read,
                stdout=subprocess.PIPE,
                grace_period=NEVER,
            ) as child:
                assert child.process.stdout is not None
                async with child.process.stdout:
                    orphan = int(await child.process.stdout.receive_some())
                assert await child.receive() == 1
                await child.process.wait()
                if how == "by an exception":
                    scope.cancel()
                    await trio.sleep_forever()
        os.kill(orphan, 0)  # it lives
        assert_reaped(child.process, 0)
    finally:
        os.close(read)
        os.close(write)


async def test_a_receiver_does_not_wait_for_an_orphan_that_holds_the_channel(
    tmp_path: Path,
) -> None:
    source = """
        import subprocess
        subprocess.Popen(["cat"], pass_fds=[sock.fileno()], stdout=subprocess.DEVNULL)
        sock.sendall(frame(b"M", ONE))
        os._exit(0)
    """
    async with open_child_aside(raw_script(tmp_path, source)) as (child, _):
        assert await child.receive() == 1
        with pytest.raises(trio.BrokenResourceError, match=str(child.pid)):
            await child.receive()


# A child that is not ours to stop ----------------------------------------------------------------


def refuse(process: trio.Process, number: int) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("how", ["cancelled", "in a group"])
async def test_a_child_that_may_not_be_signalled_is_heard_of_by_who_cancels(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(1000)"]
    with trio.CancelScope() as scope, pytest.raises(PermissionError):
        async with trio_ipc.open_child(command, grace_period=0) as child:
            monkeypatch.setattr(trio.Process, "send_signal", refuse)
            scope.cancel()
            if how == "cancelled":
                await trio.sleep_forever()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
    monkeypatch.undo()
    child.process.kill()
    with trio.CancelScope(shield=True):
        await child.process.wait()


async def test_a_signal_that_was_refused_has_ended_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that fails by itself, later, has failed."""
    source = """
        while read_frame()[0] != b"E":
            pass
        sys.exit(3)
    """
    with pytest.raises(KeyError) as caught:
        async with trio_ipc.open_child(raw_script(tmp_path, source), grace_period=NEVER):
            monkeypatch.setattr(trio.Process, "send_signal", refuse)
            raise KeyError("the body's")
    failure = caught.value.__context__
    assert isinstance(failure, trio_ipc.ChildFailed)
    assert failure.returncode == 3


@pytest.mark.parametrize("own", [None, KeyError("the body's")])
async def test_a_child_that_may_not_be_signalled(
    own: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kill(2) has it for a child that runs as another user by then: nothing hangs, and nothing
    but the process is left."""
    command = [sys.executable, "-c", "import time; time.sleep(1000)"]
    with pytest.raises(PermissionError if own is None else KeyError) as caught:
        async with trio_ipc.open_child(command, grace_period=0) as child:
            monkeypatch.setattr(trio.Process, "send_signal", refuse)
            if own is not None:
                raise own
    refused = caught.value if own is None else caught.value.__context__
    assert isinstance(refused, PermissionError)
    assert f"child {child.pid} can't be stopped" in str(refused)
    assert child.fileno() == -1
    monkeypatch.undo()
    assert child.process.returncode is None
    child.process.kill()
    await child.process.wait()
