"""The checks in trio_ipc.testing: they find what is wrong, and only that."""

from __future__ import annotations

import gc
import math
import os
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import trio_ipc
from trio_ipc.testing import _check_leaks, check_channel_pair, check_no_leaks

from .both_ends import open_both_ends

if TYPE_CHECKING:
    from typing_extensions import Self

# Leaks ------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For leaks that will not go by themselves."""
    monkeypatch.setattr(_check_leaks, "PATIENCE", 0)


def test_a_block_that_closes_what_it_opens_leaves_nothing() -> None:
    with check_no_leaks():
        read, write = os.pipe()
        os.close(read)
        os.close(write)
        subprocess.run([sys.executable, "-S", "-c", ""], check=True)
        thread = threading.Thread(target=gc.collect)
        thread.start()
        thread.join()


@pytest.mark.usefixtures("impatient")
def test_a_leaked_descriptor_is_found_and_named() -> None:
    pipe: tuple[int, int] | None = None
    with pytest.raises(AssertionError) as caught:
        with check_no_leaks():
            pipe = os.pipe()
    assert pipe is not None
    for number in pipe:
        assert f"descriptor {number}: {os.readlink(f'/dev/fd/{number}')}" in str(caught.value)
        os.close(number)


@pytest.mark.usefixtures("impatient")
def test_a_leaked_socket_is_named_by_its_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        client: socket.socket | None = None
        with pytest.raises(AssertionError) as caught:
            with check_no_leaks():
                client = socket.create_connection(address)
        assert client is not None
        with client:
            text = f"(AF_INET, SOCK_STREAM, at {client.getsockname()!r}, to {address!r})"
            assert text in str(caught.value)


@pytest.mark.usefixtures("impatient")
def test_a_number_that_is_something_else_by_now_is_found() -> None:
    read, write = os.pipe()
    with pytest.raises(AssertionError, match=f"descriptor {read}: /dev/null"):
        with check_no_leaks():
            with open(os.devnull, "rb") as null:
                os.dup2(null.fileno(), read)
    os.close(read)
    os.close(write)


@pytest.mark.usefixtures("impatient")
@pytest.mark.skipif(sys.platform != "linux", reason="epoll and eventfd are Linux's")
def test_a_number_that_is_something_else_without_an_inode_is_found() -> None:
    import select

    with select.epoll() as poll, select.epoll() as other:
        number = poll.fileno()
        pid = os.pidfd_open(os.getpid())
        with pytest.raises(AssertionError, match=f"descriptor {number}: anon_inode:"):
            with check_no_leaks():
                os.dup2(pid, number)
        os.dup2(other.fileno(), number)
        os.close(pid)


@pytest.mark.usefixtures("impatient")
def test_a_file_that_is_renamed_or_deleted_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb"):
        with check_no_leaks():
            path = path.rename(tmp_path / "log.1")
        with check_no_leaks():
            path.unlink()


@pytest.mark.usefixtures("impatient")
def test_a_descriptor_closed_behind_its_owners_back_is_found() -> None:
    read, write = os.pipe()
    with pytest.raises(AssertionError, match=rf"descriptor {read}: pipe:.* was closed, but not"):
        with check_no_leaks():
            os.close(read)
    os.close(write)


@pytest.mark.usefixtures("impatient")
def test_a_leaked_child_is_found_and_killed() -> None:
    child: subprocess.Popen[bytes] | None = None
    with pytest.raises(AssertionError, match=r"child \d+: .*sleep_for_ever"):
        with check_no_leaks():
            child = subprocess.Popen(
                [sys.executable, "-S", "-c", "import time; time.sleep(600)  # sleep_for_ever"]
            )
    assert child is not None
    assert child.wait() == 0  # what subprocess makes of a child that somebody else has reaped
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


@pytest.mark.usefixtures("impatient")
def test_a_child_that_nobody_has_waited_for_is_found() -> None:
    with pytest.raises(AssertionError, match=r"child \d+: exited, but nobody has waited for it"):
        with check_no_leaks():
            read, write = os.pipe()
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-S", "-c", ""],
                {},
                file_actions=[(os.POSIX_SPAWN_CLOSE, read)],
            )
            os.close(write)
            os.read(read, 1)  # the other end closes when the child exits
            os.close(read)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.usefixtures("impatient")
def test_a_leaked_thread_is_found() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="left behind")
    with pytest.raises(AssertionError, match=r"thread .*left behind"):
        with check_no_leaks():
            thread.start()
    stop.set()
    thread.join()


def test_a_thread_that_is_about_to_end_is_waited_for() -> None:
    begun = threading.Event()
    ended = threading.Event()

    def work() -> None:
        read, write = os.pipe()
        begun.set()
        ended.wait(0.1)
        os.close(read)
        os.close(write)

    with check_no_leaks():
        threading.Thread(target=work).start()
        begun.wait()


def test_the_idle_workers_of_trio_are_no_leaks() -> None:
    with check_no_leaks():
        trio.run(trio.to_thread.run_sync, gc.collect)
    assert any(thread.name.startswith("Trio thread") for thread in threading.enumerate())


def test_an_unclosed_channel_is_found_as_garbage() -> None:
    async def forget() -> None:
        ends = trio_ipc.open_channel_pair(1)
        ends[0].cycle = ends  # type: ignore[attr-defined]
        ends[1].close()

    with pytest.raises(AssertionError, match="ResourceWarning: unclosed channel to its peer"):
        with check_no_leaks():
            trio.run(forget)


@pytest.mark.usefixtures("impatient")
async def test_an_unclosed_channel_that_is_held_is_found_by_its_descriptor() -> None:
    kept: list[Any] = []
    with pytest.raises(AssertionError, match=r"descriptor \d+: socket:\[\d+\] \(AF_UNIX"):
        with check_no_leaks():
            kept += trio_ipc.open_channel_pair(1)
    for channel in kept:
        channel.close()


def test_other_warnings_of_the_garbage_stay_warnings() -> None:
    class Noisy:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            warnings.warn("noise", UserWarning, stacklevel=1)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with check_no_leaks():
            Noisy()
    assert [str(warning.message) for warning in caught] == ["noise"]


def test_a_block_that_raises_is_not_checked() -> None:
    read = write = -1
    with pytest.raises(KeyError):
        with check_no_leaks():
            read, write = os.pipe()
            raise KeyError
    os.close(read)
    os.close(write)


async def test_it_works_in_a_run_and_is_no_checkpoint() -> None:
    with trio.testing.assert_no_checkpoints():
        with check_no_leaks():
            first, second = trio_ipc.open_channel_pair(1)
            first.close()
            second.close()


LEAKY_TESTS = """
import gc, os, subprocess, sys, trio, trio_ipc

keep = []

def test_fd():
    os.pipe()

async def test_channel():
    channel, peer = trio_ipc.open_channel_pair(1)
    channel.cycle = channel
    peer.close()

async def test_child():
    keep.append(await trio.lowlevel.open_process([sys.executable, "-S", "-c", "input()"],
                                                 stdin=subprocess.PIPE))

async def test_clean():
    channel, peer = trio_ipc.open_channel_pair(1)
    async with channel, peer:
        await channel.send(1)
        assert await peer.receive() == 1
"""


async def test_every_test_is_checked(tmp_path: Path) -> None:
    conftest = Path(__file__).with_name("conftest.py").read_text()
    impatient = "from trio_ipc.testing import _check_leaks\n_check_leaks.PATIENCE = 0\n"
    (tmp_path / "conftest.py").write_text(conftest + impatient)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    (tmp_path / "test_leaky.py").write_text(LEAKY_TESTS)
    done = await trio.run_process(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", str(tmp_path)],
        capture_stdout=True,
        check=False,
    )
    report = done.stdout.decode()
    found = {
        line.split("::")[1].split(" ")[0] for line in report.splitlines() if line[:5] == "ERROR"
    }
    assert found == {"test_fd", "test_channel", "test_child"}, report
    assert "4 passed, 3 errors" in report


# Channels ---------------------------------------------------------------------------------------

SIZES = [0, 1, 3, 1000, math.inf]


@pytest.mark.parametrize("size", SIZES)
async def test_channel_pairs_keep_the_promises(size: float) -> None:
    @asynccontextmanager
    async def maker() -> AsyncIterator[Any]:
        first, second = trio_ipc.open_channel_pair(size)
        async with first, second:
            yield first, second

    await check_channel_pair(maker)


@pytest.mark.parametrize("size", SIZES)
async def test_channels_that_have_travelled_keep_the_promises(size: float) -> None:
    @asynccontextmanager
    async def maker() -> AsyncIterator[Any]:
        carrier = trio_ipc.open_channel_pair(1)
        first, second = trio_ipc.open_channel_pair(size)
        async with carrier[0], carrier[1], first, second:
            await carrier[0].send(first)
            async with await carrier[1].receive() as moved:
                yield moved, second

    await check_channel_pair(maker)


@pytest.mark.parametrize("size", SIZES)
async def test_channels_in_scopes_keep_the_promises(size: float) -> None:
    await check_channel_pair(partial(open_both_ends, size))


class MemoryHalf:
    """A half of Trio's own memory channel, with what ours have in addition."""

    def __init__(self, half: Any) -> None:
        self.half = half

    def __getattr__(self, name: str) -> Any:
        return getattr(self.half, name)

    async def call(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        try:
            return await function(*args)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel):
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise

    async def send(self, message: object) -> None:
        await self.call(self.half.send, message)

    async def receive(self) -> object:
        return await self.call(self.half.receive)

    async def drain(self) -> None:
        await trio.lowlevel.checkpoint()
        self.half.clone().close()  # or the error that it raises

    def clone(self) -> MemoryHalf:
        return type(self)(self.half.clone())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.half.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *args: object) -> None:
        await self.half.aclose()

    def __aiter__(self) -> MemoryHalf:
        return self

    async def __anext__(self) -> object:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None


class MemoryChannel:
    def __init__(self, send_channel: MemoryHalf, receive_channel: MemoryHalf) -> None:
        self.send_channel = send_channel
        self.receive_channel = receive_channel
        self.send = send_channel.send
        self.send_nowait = send_channel.send_nowait
        self.receive = receive_channel.receive

    def __aiter__(self) -> MemoryHalf:
        return self.receive_channel

    def close(self) -> None:
        self.send_channel.close()
        self.receive_channel.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


def memory_channels(size: float, half: type[MemoryHalf] = MemoryHalf) -> Callable[[], Any]:
    @asynccontextmanager
    async def maker() -> AsyncIterator[Any]:
        there = [half(each) for each in trio.open_memory_channel[Any](size)]
        back = [half(each) for each in trio.open_memory_channel[Any](size)]
        yield MemoryChannel(there[0], back[1]), MemoryChannel(back[0], there[1])

    return maker


@pytest.mark.parametrize("size", SIZES)
async def test_the_memory_channels_of_trio_keep_the_promises(size: float) -> None:
    await check_channel_pair(memory_channels(size))


class SilentReceive(MemoryHalf):
    async def receive(self) -> object:
        try:
            return self.half.receive_nowait()
        except trio.WouldBlock:
            return await super().receive()


class LosesWhatIsCancelled(MemoryHalf):
    async def receive(self) -> object:
        message = await super().receive()
        await trio.lowlevel.checkpoint()
        return message


class SendsWhatIsCancelled(MemoryHalf):
    async def send(self, message: object) -> None:
        try:
            await super().send(message)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await super().send(message)
            raise


class Overtakes(MemoryHalf):
    def receive_nowait(self) -> object:
        state = self.half._state
        if state.receive_tasks and state.data:
            return state.data.popleft()
        return self.half.receive_nowait()

    def send_nowait(self, message: object) -> None:
        state = self.half._state
        if state.receive_tasks:
            state.data.append(message)
            return
        self.half.send_nowait(message)


class EndsEarly(MemoryHalf):
    async def receive(self) -> object:
        if not self.half._state.open_send_channels:
            raise trio.EndOfChannel
        return await super().receive()


class NeverBreaks(MemoryHalf):
    async def send(self, message: object) -> None:
        try:
            await super().send(message)
        except trio.BrokenResourceError:
            await trio.lowlevel.checkpoint()


class ClosesAll(MemoryHalf):
    def clone(self) -> MemoryHalf:
        return type(self)(self.half)


class UnfairToSenders(MemoryHalf):
    async def receive(self) -> object:
        tasks = self.half._state.send_tasks
        if len(tasks) > 1:
            tasks.move_to_end(next(iter(tasks)))
        return await super().receive()


class UnfairToReceivers(MemoryHalf):
    def send_nowait(self, message: object) -> None:
        tasks = self.half._state.receive_tasks
        if len(tasks) > 1:
            tasks.move_to_end(next(iter(tasks)))
        self.half.send_nowait(message)


class Reorders(MemoryHalf):
    async def receive(self) -> object:
        data = self.half._state.data
        if len(data) > 1:
            data.rotate()
        return await super().receive()


class SlowToClose(MemoryHalf):
    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.half.close()


class SchedulesInNowait(MemoryHalf):
    def send_nowait(self, message: object) -> None:
        trio.lowlevel.current_task()._schedule_points += 1
        self.half.send_nowait(message)


@pytest.mark.parametrize("fault", MemoryHalf.__subclasses__(), ids=lambda fault: fault.__name__)
async def test_a_broken_promise_is_found(
    fault: type[MemoryHalf], autojump_clock: trio.testing.MockClock
) -> None:
    """By an assertion, by an error of the channels, or because something that should come never
    comes: with this clock, the time is over as soon as everybody waits."""
    with pytest.RaisesGroup(
        pytest.RaisesExc(
            (
                AssertionError,
                trio.TooSlowError,
                trio.ClosedResourceError,
                trio.BrokenResourceError,
                trio.EndOfChannel,
            )
        ),
        allow_unwrapped=True,
        flatten_subgroups=True,
    ):
        with trio.fail_after(1):
            await check_channel_pair(memory_channels(2, fault))
