"""The promises of a pair of channels, whoever makes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from trio.testing import assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

if TYPE_CHECKING:
    from collections.abc import Generator

    from .._channel import Channel, ReceiveChannel, SendChannel

__all__ = ["check_channel_pair"]

PairMaker = Callable[[], AbstractAsyncContextManager["tuple[Channel[Any, Any], Channel[Any, Any]]"]]
OneWayCheck = Callable[["SendChannel[Any]", "ReceiveChannel[Any]"], Awaitable[None]]
TwoWayCheck = Callable[["Channel[Any, Any]", "Channel[Any, Any]"], Awaitable[None]]
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
      maker (collections.abc.Callable): an async context manager without arguments for a pair of
          connected channels, new ones each time. They must carry ints, may be of any buffer size,
          and may be closed by the check.

    Raises:
      AssertionError: a promise was broken. Errors of the channels that come where they should not
          come out as they are.
    """
    for check in _ONE_WAY:
        await _run(maker, _one_way(check, backwards=False))
        await _run(maker, _one_way(check, backwards=True))
    await _run(maker, _check_halves_are_independent)
    await _run(maker, _check_whole_channel)


def _one_way(check: OneWayCheck, *, backwards: bool) -> TwoWayCheck:
    async def run(first: Channel[Any, Any], second: Channel[Any, Any]) -> None:
        if backwards:
            first, second = second, first
        await check(first.send_channel, second.receive_channel)

    return run


async def _run(maker: PairMaker, check: TwoWayCheck) -> None:
    async with maker() as (first, second):
        await check(first, second)
        # Nobody reads any more what is not written yet: don't let the maker wait for that.
        first.close()
        second.close()


@contextmanager
def _raises(kind: type[BaseException]) -> Generator[None, None, None]:
    # pytest.raises would make pytest a dependency.
    __tracebackhide__ = True
    caught: BaseException | None = None
    try:
        yield
    except kind as exc:
        caught = exc
    assert type(caught) is kind, f"expected {kind.__name__}, got {caught!r}"


@contextmanager
def _raises_at_checkpoint(kind: type[BaseException]) -> Generator[None, None, None]:
    """A call that fails is a checkpoint nevertheless: trying again must not starve the others."""
    __tracebackhide__ = True
    with assert_checkpoints():
        with _raises(kind):
            yield


@contextmanager
def _raises_at_once(kind: type[BaseException]) -> Generator[None, None, None]:
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
    with _raises(kind):
        while True:
            try:
                call()
            except trio.WouldBlock:
                pass
            await trio.lowlevel.checkpoint()


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
    other = receive.clone()
    async with trio.open_nursery() as nursery:
        for half in (receive, other):
            await _start(nursery, _Call(log, half.receive))
        send.close()
        await wait_all_tasks_blocked()
        assert not log, "the channel ended though a clone of the send half is open"
        clone.close()
    other.close()
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
    with _raises_at_checkpoint(trio.ClosedResourceError):
        await clone.send(-3)
    with _raises_at_checkpoint(trio.ClosedResourceError):
        await clone.drain()
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
