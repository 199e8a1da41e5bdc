"""Checks for the tests of programs that use channels, and for our own.

`trio_ipc` does not import this module: say ``import trio_ipc.testing``.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import trio
from trio.testing import assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

if TYPE_CHECKING:
    from ._channel import Channel, ReceiveChannel, SendChannel

__all__ = ["check_channel_pair", "check_no_leaks"]

# Leaks ------------------------------------------------------------------------------------------

# Seconds that threads have to end, and to close what they have open. Nobody waits for long who
# leaves nothing behind.
PATIENCE = 2.0


class _Stock(NamedTuple):
    """What this process has: what tells each thing, and how to call it in a complaint."""

    descriptors: dict[tuple[int, str], str]
    children: dict[int, str]
    threads: dict[int, str]


@contextmanager
def check_no_leaks() -> Iterator[None]:
    """Check that a block leaves nothing behind: no open descriptor, child process or thread.

    Around `trio.run`, or in a synchronous fixture around each test::

        @pytest.fixture(autouse=True)
        def no_leaks():
            with trio_ipc.testing.check_no_leaks():
                yield

    Inside of a run it works too, where no other task opens or closes anything meanwhile; it is no
    checkpoint.

    Idle worker threads, which Trio keeps for a while, are no leaks. A descriptor that was open
    before and is closed afterwards is reported as well: it was closed behind its owner's back.
    Child processes that are left are killed and reaped, so that the next check is not theirs. A
    block that raises is not checked.

    Raises:
      AssertionError: with a line for each thing that was left behind, and for each
          `ResourceWarning` that collecting the garbage of the block brought to light.
    """
    __tracebackhide__ = True
    gc.collect()
    before = _take_stock()
    yield
    complaints = _collect_garbage()
    deadline = time.monotonic() + PATIENCE
    while (leaks := _compare(before, _take_stock())) and time.monotonic() < deadline:
        time.sleep(0.01)
    if leaks:
        _end_children(set(_take_stock().children) - set(before.children))
    complaints += leaks
    if complaints:
        raise AssertionError("\n  ".join(["left behind:", *complaints]))


def _collect_garbage() -> list[str]:
    """Collect it, and turn resource warnings into complaints."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        while gc.collect():  # a finalizer may have made more of it
            pass
    complaints: list[str] = []
    for warning in caught:
        if issubclass(warning.category, ResourceWarning):
            complaints.append(f"ResourceWarning: {warning.message}")
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return complaints


def _take_stock() -> _Stock:
    return _Stock(_list_descriptors(), _list_children(), _list_threads())


def _compare(before: _Stock, after: _Stock) -> list[str]:
    kinds = zip(("descriptor", "child", "thread"), before, after)
    complaints = [
        f"{kind} {text}"
        for kind, earlier, later in kinds
        for key, text in later.items()
        if key not in earlier
    ]
    numbers = {number for number, _ in after.descriptors}
    return complaints + [
        f"descriptor {text} was closed, but not opened here"
        for (number, link), text in before.descriptors.items()
        if number not in numbers
    ]


def _list_descriptors() -> dict[tuple[int, str], str]:
    found: dict[tuple[int, str], str] = {}
    for name in os.listdir("/dev/fd"):
        try:
            link = os.readlink(f"/dev/fd/{name}")
        except OSError:
            continue  # it was the one that the directory was read with
        found[int(name), link] = f"{name}: {link}{_describe_socket(int(name), link)}"
    return found


def _describe_socket(number: int, link: str) -> str:
    if not link.startswith("socket:"):
        return ""
    try:
        with socket.socket(fileno=os.dup(number)) as sock:
            family = getattr(sock.family, "name", sock.family)
            text = f" ({family}, {getattr(sock.type, 'name', sock.type)}"
            for way, name in (("at", sock.getsockname), ("to", sock.getpeername)):
                try:
                    text += f", {way} {name()!r}" if name() else ""
                except OSError:
                    pass
    except OSError:
        return ""
    return text + ")"


def _list_children() -> dict[int, str]:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return {}  # the usual case, and a quick one
    found: dict[int, str] = {}
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
            if int(parent) == os.getpid():
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    command = file.read().replace(b"\0", b" ").decode(errors="replace")
                how = "exited, but nobody has waited for it" if state == b"Z" else command
                found[int(name)] = f"{name}: {how}"
        except (OSError, ValueError):
            continue  # no process, or one that has just gone
    return found


def _end_children(pids: set[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def _list_threads() -> dict[int, str]:
    return {
        id(thread): repr(thread)
        for thread in threading.enumerate()
        # So Trio calls its workers while they have nothing to do.
        if not thread.name.startswith("Trio thread ")
    }


# Channels ---------------------------------------------------------------------------------------

PairMaker = Callable[[], AbstractAsyncContextManager["tuple[Channel[Any, Any], Channel[Any, Any]]"]]
OneWayCheck = Callable[["SendChannel[Any]", "ReceiveChannel[Any]"], Awaitable[None]]
T = TypeVar("T")

# More messages than this are not sent to find out how many go in.
MOST = 2500


async def check_channel_pair(maker: PairMaker) -> None:
    """Check that two connected channels keep the promises of channels, in both directions.

    ::

        @asynccontextmanager
        async def maker():
            first, second = trio_ipc.open_channel_pair(3)
            async with first, second:
                yield first, second

        await trio_ipc.testing.check_channel_pair(maker)

    What is checked: which calls are checkpoints; order; ``WouldBlock``; that a cancelled call has
    done nothing; that tasks are served first come, first served, and not overtaken by a
    ``_nowait`` call; clones; and who gets which error after a half was closed, and until then
    which messages. It takes a while, and nothing here has a limit in time: see `trio.fail_after`.

    Args:
      maker: an async context manager without arguments for a pair of connected channels, new ones
          each time. They must carry ints, may be of any buffer size, and may be closed by the
          check.

    Raises:
      AssertionError: a promise was broken.
    """
    for check in _ONE_WAY:
        async with maker() as (first, second):
            await check(first.send_channel, second.receive_channel)
        async with maker() as (first, second):
            await check(second.send_channel, first.receive_channel)
    async with maker() as (first, second):
        await _check_halves_are_independent(first, second)
    async with maker() as (first, second):
        await _check_whole_channel(first, second)


@contextmanager
def _raises(kind: type[BaseException]) -> Iterator[None]:
    # pytest.raises would make pytest a dependency.
    __tracebackhide__ = True
    try:
        yield
    except kind as exc:
        assert type(exc) is kind, f"expected {kind.__name__}, got {exc!r}"
    else:
        raise AssertionError(f"expected {kind.__name__}")


@contextmanager
def _raises_at_checkpoint(kind: type[BaseException]) -> Iterator[None]:
    """A call that fails is a checkpoint nevertheless: trying again must not starve the others."""
    __tracebackhide__ = True
    with assert_checkpoints():
        with _raises(kind):
            yield


@contextmanager
def _raises_at_once(kind: type[BaseException]) -> Iterator[None]:
    __tracebackhide__ = True
    with assert_no_checkpoints():
        with _raises(kind):
            yield


async def _await(call: Callable[..., Awaitable[T]], *args: Any) -> T:
    with assert_checkpoints():
        return await call(*args)


def _at_once(call: Callable[..., T], *args: Any) -> T:
    with assert_no_checkpoints():
        return call(*args)


async def _eventually(kind: type[BaseException], call: Callable[[], object]) -> None:
    """``call`` raises, as soon as it is known here what the peer has done."""
    while True:
        try:
            call()
        except trio.WouldBlock:
            pass
        except BaseException as exc:
            assert type(exc) is kind, f"expected {kind.__name__}, got {exc!r}"
            return
        await trio.sleep(0)


def _fill(send: SendChannel[Any]) -> list[int]:
    """Send until no more goes in; what was sent. It may leave only while a call waits."""
    for number in range(MOST):
        try:
            _at_once(send.send_nowait, number)
        except trio.WouldBlock:
            return list(range(number))
    return list(range(MOST))


async def _receive(send: SendChannel[Any], receive: ReceiveChannel[Any], count: int) -> list[Any]:
    """Receive while it is written."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.drain)
        return [await _await(receive.receive) for _ in range(count)]
    raise AssertionError("not reached")


class _Call:
    """An async call in a task of its own; what it returned or raised is in ``outcome``."""

    def __init__(self, log: list[Any], call: Callable[..., Awaitable[Any]], *args: Any) -> None:
        self.scope = trio.CancelScope()
        self._log = log
        self._call = call
        self._args = args

    async def __call__(self) -> None:
        with self.scope:
            try:
                self._log.append(await _await(self._call, *self._args))
            except trio.Cancelled:
                raise
            except Exception as exc:
                self._log.append(type(exc))


async def _start(nursery: trio.Nursery, call: _Call) -> _Call:
    """Start it, and let it get as far as it can: those that start later stand behind it."""
    nursery.start_soon(call)
    await wait_all_tasks_blocked()
    return call


async def _check_checkpoints(send: SendChannel[Any], receive: ReceiveChannel[Any]) -> None:
    for call in (send.statistics, receive.statistics, send.__repr__, receive.__repr__):
        _at_once(call)
    with _raises_at_once(trio.WouldBlock):
        receive.receive_nowait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_await, send.send, 0)
        assert await _await(receive.receive) == 0
    await _await(send.drain)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_await, receive.receive)
        await _await(send.send, 1)
    _at_once(_at_once(send.clone).close)
    _at_once(_at_once(receive.clone).close)
    await _await(send.clone().aclose)
    await _await(receive.clone().aclose)
    await _await(send.aclose)
    await _await(send.aclose)
    await _await(receive.aclose)
    await _await(receive.aclose)


async def _check_order(send: SendChannel[Any], receive: ReceiveChannel[Any]) -> None:
    count = 500

    async def send_all() -> None:
        for number in range(count):
            if number % 3:
                try:
                    send.send_nowait(number)
                    continue
                except trio.WouldBlock:
                    pass
            await send.send(number)
        await send.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all)
        arrived = [message async for message in receive]
    assert arrived == list(range(count)), "messages were lost, doubled or reordered"


async def _check_would_block(send: SendChannel[Any], receive: ReceiveChannel[Any]) -> None:
    for _ in range(2):
        sent = _fill(send)
        if len(sent) < MOST:
            with _raises_at_once(trio.WouldBlock):
                send.send_nowait(-1)
        assert await _receive(send, receive, len(sent)) == sent
        with _raises_at_once(trio.WouldBlock):
            receive.receive_nowait()


async def _check_cancelled_beforehand(send: SendChannel[Any], receive: ReceiveChannel[Any]) -> None:
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: send.send(-1),
        send.drain,
        receive.receive,
        send.clone().aclose,
        receive.clone().aclose,
    ]
    for call in calls:
        with trio.CancelScope() as scope:
            scope.cancel()
            await call()
        assert scope.cancelled_caught, f"{call} is not cancelled"
    log: list[Any] = []
    async with trio.open_nursery() as nursery:
        await _start(nursery, _Call(log, receive.receive))
        await send.send(0)
    assert log == [0], "a cancelled send has sent"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.send, 1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await receive.receive()
        assert await receive.receive() == 1, "a cancelled receive has received"


async def _check_cancelled_receive(send: SendChannel[Any], receive: ReceiveChannel[Any]) -> None:
    log: list[Any] = []
    async with trio.open_nursery() as nursery:
        calls = [await _start(nursery, _Call(log, receive.receive)) for _ in range(3)]
        calls[0].scope.cancel()
        calls[2].scope.cancel()
        await wait_all_tasks_blocked()
        await send.send(0)
    assert log == [0], "a message went to a receive that was cancelled before"
    for wait in (False, True):  # the message is under way, or there, when the cancellation comes
        log = []
        async with trio.open_nursery() as nursery:
            call = await _start(nursery, _Call(log, receive.receive))
            await send.send(1)
            if wait:
                await send.drain()
            call.scope.cancel()
            await wait_all_tasks_blocked()
            if not log:
                log.append(await receive.receive())
        assert log == [1], "a cancelled receive has lost a message, or doubled it"


async def _check_cancelled_send(send: SendChannel[Any], receive: ReceiveChannel[Any]) -> None:
    sent = _fill(send)
    if len(sent) == MOST:
        return
    log: list[Any] = []
    async with trio.open_nursery() as nursery:
        calls = [await _start(nursery, _Call(log, send.send, number)) for number in (-1, -2, -3)]
        calls[0].scope.cancel()
        calls[2].scope.cancel()
        await wait_all_tasks_blocked()
        assert not log, "send returned though nothing was received"
        assert await _receive(send, receive, len(sent) + 1) == [*sent, -2]
    assert log == [None]
    with _raises_at_once(trio.WouldBlock):
        receive.receive_nowait()


async def _check_receivers_are_served_in_turn(
    send: SendChannel[Any], receive: ReceiveChannel[Any]
) -> None:
    log: list[Any] = []

    async def receive_as(number: int) -> tuple[int, Any]:
        return number, await receive.receive()

    async with trio.open_nursery() as nursery:
        for number in range(5):
            await _start(nursery, _Call(log, receive_as, number))
        for number in range(5):
            try:
                send.send_nowait(number)
            except trio.WouldBlock:
                await send.send(number)
            with _raises_at_once(trio.WouldBlock):
                receive.receive_nowait()  # it is not ours
    assert sorted(log) == [(number, number) for number in range(5)]


async def _check_senders_are_served_in_turn(
    send: SendChannel[Any], receive: ReceiveChannel[Any]
) -> None:
    sent = _fill(send)
    if len(sent) == MOST:
        return
    overtaking: list[int] = []
    log: list[Any] = []
    async with trio.open_nursery() as nursery:
        for number in (-1, -2, -3):
            await _start(nursery, _Call(log, send.send, number))
        nursery.start_soon(send.drain)
        arrived: list[int] = []
        while len(arrived) < len(sent) + 3 + len(overtaking):
            arrived.append(await receive.receive())
            if not overtaking:
                try:
                    send.send_nowait(-4)
                except trio.WouldBlock:
                    continue
                overtaking.append(-4)
    assert arrived == [*sent, -1, -2, -3, *overtaking]


async def _check_end(send: SendChannel[Any], receive: ReceiveChannel[Any]) -> None:
    clone = receive.clone()
    sent = _fill(send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.aclose)
        assert [message async for message in receive] == sent
    for half in (receive, clone, receive):
        with _raises_at_checkpoint(trio.EndOfChannel):
            await half.receive()
        with _raises_at_once(trio.EndOfChannel):
            half.receive_nowait()
    clone.close()
    with _raises_at_checkpoint(trio.ClosedResourceError):
        await clone.receive()


async def _check_end_comes_to_waiters(send: SendChannel[Any], receive: ReceiveChannel[Any]) -> None:
    log: list[Any] = []
    clone = send.clone()
    async with trio.open_nursery() as nursery:
        for half in (receive, receive.clone()):
            await _start(nursery, _Call(log, half.receive))
        send.close()
        await wait_all_tasks_blocked()
        assert not log, "the channel ended though a clone of the send half is open"
        clone.close()
    assert log == [trio.EndOfChannel] * 2


async def _check_broken(send: SendChannel[Any], receive: ReceiveChannel[Any]) -> None:
    clone = receive.clone()
    log: list[Any] = []
    sent = _fill(send)
    async with trio.open_nursery() as nursery:
        if len(sent) < MOST:
            await _start(nursery, _Call(log, send.send, -1))
        receive.close()
        await wait_all_tasks_blocked()
        assert not log, "send returned though nothing was received"
        clone.close()
    assert log == [trio.BrokenResourceError] * (len(sent) < MOST)
    await _eventually(trio.BrokenResourceError, lambda: send.send_nowait(-1))
    other = send.clone()
    for half in (send, other, send):
        with _raises_at_once(trio.BrokenResourceError):
            half.send_nowait(-1)
        with _raises_at_checkpoint(trio.BrokenResourceError):
            await half.send(-1)
    other.close()
    with _raises_at_checkpoint(trio.ClosedResourceError):
        await other.send(-1)


async def _check_closed_send(send: SendChannel[Any], receive: ReceiveChannel[Any]) -> None:
    clone = send.clone()
    sent = _fill(send)
    log: list[Any] = []
    if len(sent) < MOST:
        async with trio.open_nursery() as nursery:
            await _start(nursery, _Call(log, clone.send, -1))
            await _start(nursery, _Call(log, send.send, -2))
            _at_once(clone.close)
            await wait_all_tasks_blocked()
            assert log == [trio.ClosedResourceError], "closing a clone concerns its own tasks"
            arrived = await _receive(send, receive, len(sent) + 1)
        assert arrived == [*sent, -2]
        assert log[1:] == [None]
    clone.close()
    for call in (lambda: clone.send(-3), clone.drain):
        with _raises_at_checkpoint(trio.ClosedResourceError):
            await call()
    for attempt in (lambda: clone.send_nowait(-3), clone.clone):
        with _raises_at_once(trio.ClosedResourceError):
            attempt()


async def _check_closed_receive(send: SendChannel[Any], receive: ReceiveChannel[Any]) -> None:
    clone = receive.clone()
    log: list[Any] = []
    async with trio.open_nursery() as nursery:
        await _start(nursery, _Call(log, clone.receive))
        await _start(nursery, _Call(log, receive.receive))
        _at_once(clone.close)
        await wait_all_tasks_blocked()
        assert log == [trio.ClosedResourceError], "closing a clone concerns its own tasks"
        await send.send(0)
    assert log[1:] == [0]
    with _raises_at_checkpoint(trio.ClosedResourceError):
        await clone.receive()
    with _raises_at_checkpoint(trio.ClosedResourceError):
        async for _ in clone:
            raise AssertionError("a closed half has received")
    for attempt in (clone.receive_nowait, clone.clone):
        with _raises_at_once(trio.ClosedResourceError):
            attempt()


async def _check_ways_to_close(send: SendChannel[Any], receive: ReceiveChannel[Any]) -> None:
    for half in (send, receive):
        clones = [half.clone() for _ in range(3)]
        with clones[0] as entered:
            assert entered is clones[0]
        async with clones[1] as entered_async:
            assert entered_async is clones[1]
        with trio.CancelScope() as scope:
            scope.cancel()
            await clones[2].aclose()
        assert scope.cancelled_caught
        for clone in clones:
            with _raises_at_once(trio.ClosedResourceError):
                clone.clone()
        half.clone().close()  # the half itself is open


_ONE_WAY: list[OneWayCheck] = [
    _check_checkpoints,
    _check_order,
    _check_would_block,
    _check_cancelled_beforehand,
    _check_cancelled_receive,
    _check_cancelled_send,
    _check_receivers_are_served_in_turn,
    _check_senders_are_served_in_turn,
    _check_end,
    _check_end_comes_to_waiters,
    _check_broken,
    _check_closed_send,
    _check_closed_receive,
    _check_ways_to_close,
]


async def _check_halves_are_independent(
    first: Channel[Any, Any], second: Channel[Any, Any]
) -> None:
    first.send_channel.close()
    with _raises(trio.EndOfChannel):
        await second.receive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(second.send, 0)
        assert await first.receive() == 0
    first.receive_channel.close()
    await _eventually(trio.BrokenResourceError, lambda: second.send_nowait(-1))


async def _check_whole_channel(first: Channel[Any, Any], second: Channel[Any, Any]) -> None:
    async def echo() -> None:
        async for message in second:
            await _await(second.send, message)
        await _await(second.aclose)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo)
        for number in range(20):
            await _await(first.send, number)
            assert await _await(first.receive) == number
        first.send_channel.close()
        with _raises(trio.EndOfChannel):
            await first.receive()
    await _await(first.aclose)
    with _raises_at_checkpoint(trio.ClosedResourceError):
        await first.send(-1)
    with _raises_at_checkpoint(trio.ClosedResourceError):
        await first.receive()
