"""Awaited sends of handles in a stream share writes, and none of them waits for a next one that
does not come."""

from __future__ import annotations

import gc
import socket
import weakref
from typing import Any

import pytest
import trio
import trio.testing

import trio_ipc
from trio_ipc import _idle, _writing
from trio_ipc.wire import native_frames

MANY = _writing.LONG_STREAK + _writing.SENDS_PER_WRITE // 2


async def name_each(parent: trio_ipc.Channel) -> None:
    """Tell what each stream says, until the channel ends."""
    async for stream in parent:
        async with stream:
            await parent.send((await stream.receive_some(100)).decode())


async def take_many(parent: trio_ipc.Channel, aside: trio.SocketStream) -> None:
    """Say so aside, once `MANY` streams have come."""
    for _ in range(MANY):
        await (await parent.receive()).aclose()
    await aside.send_all(b"all")


def connection(text: bytes = b"") -> trio.SocketStream:
    """A stream from which one can read ``text``."""
    here, there = socket.socketpair()
    with here:
        here.sendall(text)
    return trio.SocketStream(trio.socket.from_stdlib_socket(there))


async def test_a_stream_of_handles_ends_without_another_message() -> None:
    with trio.fail_after(60):
        async with trio_ipc.open_child(name_each) as child:
            for number in range(MANY):
                await child.send(connection(str(number).encode()))
            assert [await child.receive() for _ in range(MANY)] == [*map(str, range(MANY))]


async def spin() -> None:
    while True:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("others", [[], [spin]], ids=["idle", "never idle"])
async def test_it_ends_while_nobody_receives_here(others: list[Any]) -> None:
    here, there = socket.socketpair()
    with here:
        here.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(there))
        with trio.fail_after(60):
            async with (
                trio_ipc.open_child(take_many, stream) as child,
                trio.open_nursery() as nursery,
            ):
                for other in others:
                    nursery.start_soon(other)
                for _ in range(MANY):
                    await child.send(connection())
                await trio.lowlevel.wait_readable(here)
                nursery.cancel_scope.cancel()
        assert here.recv(10) == b"all"


async def test_what_moves_needs_no_descriptor_more() -> None:
    with trio.fail_after(60):
        async with trio_ipc.open_child(name_each) as child:
            stream = connection(b"moved")
            number = stream.socket.fileno()
            await child.send(stream)
            assert stream.socket.fileno() == -1
            # The number is free again, and what gets it now is not the one that has left.
            here, there = socket.socketpair()
            with here, there:
                assert number in (here.fileno(), there.fileno())
            assert await child.receive() == "moved"


async def test_a_task_that_waits_in_a_stream_which_moves_is_told() -> None:
    async def wait() -> None:
        try:
            await stream.receive_some(1)
        except trio.ClosedResourceError:
            told.set()

    with trio.fail_after(60):
        async with trio_ipc.open_child(name_each) as child, trio.open_nursery() as nursery:
            here, there = socket.socketpair()
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(there))
            told = trio.Event()
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await child.send(stream)
            await told.wait()
            with here:
                here.sendall(b"there")
                assert await child.receive() == "there"


async def read_all(parent: trio_ipc.Channel) -> None:
    async for _ in parent:
        pass


async def test_a_large_message_does_not_wait_for_the_next_one() -> None:
    with trio.fail_after(60):
        async with trio_ipc.open_child(read_all) as child:
            for _ in range(MANY):
                await child.send(bytes(native_frames.BARE_BYTES))
                assert not child._connection.wire.has_output()
                await child.drain()


# Idle --------------------------------------------------------------------------------------------


async def test_idle_calls_once_when_no_task_can_run() -> None:
    async def work() -> None:
        for _ in range(10):
            await trio.lowlevel.checkpoint()
            assert not called
        done.set()

    def call() -> None:
        called.append(done.is_set())
        noticed.set()

    called: list[bool] = []
    done, noticed = trio.Event(), trio.Event()
    idle = _idle.Idle.of_this_run()
    assert idle is _idle.Idle.of_this_run()
    idle.enter()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            idle.call(call)
            idle.call(call)
            await noticed.wait()
    await trio.testing.wait_all_tasks_blocked()
    idle.leave(call)
    assert called == [True]


async def test_idle_forgets_who_leaves() -> None:
    class Owner:
        def call(self) -> None:
            raise AssertionError("it has left")

    owner = Owner()
    gone = weakref.ref(owner)
    idle = _idle.Idle.of_this_run()
    idle.enter()
    idle.call(owner.call)
    idle.leave(owner.call)
    del owner
    gc.collect()
    assert gone() is None
    await trio.testing.wait_all_tasks_blocked()


async def test_no_instrument_stays_behind() -> None:
    with trio.fail_after(60):
        async with trio_ipc.open_child(name_each) as child:
            for number in range(MANY):
                await child.send(connection(str(number).encode()))
            await child.receive()
    with pytest.raises(KeyError):
        trio.lowlevel.remove_instrument(_idle.Idle.of_this_run())
