"""A handle that is passed on is closed through Trio, and never behind its back.

Closed behind its back, while its description lives on in the child, epoll keeps the old entry under
the old number. When the number is used again, whoever waits for the new thing is woken for the old
one. If that is a child's pidfd, `trio.Process.wait` goes on into a blocking wait, and the whole
event loop stands still.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from .meaning_helpers import open_pair

Waits = Callable[[], Awaitable[object]]


def socket_stream() -> tuple[Any, Waits, socket.socket]:
    near, far = socket.socketpair()
    near.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(near))
    return stream, stream.receive_some, far


def trio_socket() -> tuple[Any, Waits, socket.socket]:
    near, far = socket.socketpair()
    near.setblocking(False)
    sock = trio.socket.from_stdlib_socket(near)
    return sock, lambda: sock.recv(1), far


def stdlib_socket() -> tuple[Any, Waits, socket.socket]:
    near, far = socket.socketpair()
    near.setblocking(False)
    return near, partial(trio.lowlevel.wait_readable, near), far


def fd_stream() -> tuple[Any, Waits, socket.socket]:
    near, far = socket.socketpair()
    stream = trio.lowlevel.FdStream(near.detach())
    return stream, stream.receive_some, far


KINDS = [socket_stream, trio_socket, stdlib_socket, fd_stream]


def number_of(handle: Any) -> int:
    number: int = handle.socket.fileno() if hasattr(handle, "socket") else handle.fileno()
    return number


async def close(handle: Any) -> None:
    if hasattr(handle, "aclose"):
        await handle.aclose()
    else:
        handle.close()


@pytest.mark.parametrize("make", KINDS)
async def test_a_task_that_waits_on_a_handle_that_moves_away_is_told(
    make: Callable[[], tuple[Any, Waits, socket.socket]],
) -> None:
    handle, wait, far = make()
    with open_pair() as (a, b), far:
        async with trio.open_nursery() as nursery:

            async def expect_closed() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await wait()

            nursery.start_soon(expect_closed)
            await trio.testing.wait_all_tasks_blocked()
            await a.send(handle)
        await close(await b.receive())


@pytest.mark.parametrize("make", KINDS)
async def test_the_number_of_a_handle_that_moved_away_can_be_a_childs_pidfd(
    make: Callable[[], tuple[Any, Waits, socket.socket]],
) -> None:
    """Who waits for a child on the number that was used before is not woken by what happens to
    the description that moved away."""
    async with open_process_that_waits() as process:
        handle, _, far = make()
        with open_pair() as (a, b), far:
            number = number_of(handle)
            await park_once(number)  # epoll knows the number from now on
            await a.send(handle)
            with pidfd_with_number(process, number):
                assert not await is_woken(number, far.close)
            await close(await b.receive())


async def test_the_trap_is_real() -> None:
    """The same, closed behind Trio's back: what the tests above rule out does happen."""
    async with open_process_that_waits() as process:
        near, far = socket.socketpair()
        near.setblocking(False)
        number = near.detach()
        await park_once(number)
        with far, socket.socket(fileno=os.dup(number)):
            os.close(number)
            with pidfd_with_number(process, number):
                assert await is_woken(number, far.close)


async def park_once(number: int) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.wait_readable, number)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_process_that_waits() -> AsyncIterator[trio.Process]:
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(trio.run_process, ["cat"], stdin=subprocess.PIPE)
        )
        yield process
        assert process.stdin is not None
        await process.stdin.aclose()


@contextmanager
def pidfd_with_number(process: trio.Process, number: int) -> Iterator[None]:
    pidfd = os.pidfd_open(process.pid)
    if pidfd != number:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)  # or this would close something of somebody else's
        os.dup2(pidfd, number, inheritable=False)
        os.close(pidfd)
    try:
        yield
    finally:
        trio.lowlevel.notify_closing(number)
        os.close(number)


async def is_woken(number: int, happen: Callable[[], object]) -> bool:
    """Whether a task that waits for ``number`` is woken by something."""
    woken = trio.Event()

    async def wait() -> None:
        await trio.lowlevel.wait_readable(number)
        woken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        happen()
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    return woken.is_set()


async def test_a_pipe_that_moves_away_stays_non_blocking() -> None:
    """`FdStream.close` puts back the blocking mode that it once found, and that flag belongs to
    the description, which the receiver shares: its next read would stop its event loop."""
    read_end, write_end = os.pipe()
    assert os.get_blocking(read_end)
    stream = trio.lowlevel.FdStream(read_end)
    with open_pair() as (a, b), os.fdopen(write_end, "wb", buffering=0) as writer:
        await a.send(stream)
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()
        arrived: trio.lowlevel.FdStream = await b.receive()
        async with arrived:
            assert not os.get_blocking(arrived.fileno())
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    assert await arrived.receive_some() == b"at last"

                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()  # and not stopped in read()
                writer.write(b"at last")
