"""Each public coroutine, cancelled at each of its steps: it happened or it did not, and nothing
is left of it either way."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
import trio
import trio.testing

import trio_ipc

from .meaning_helpers import MANY_BYTES, open_pair
from .sweep import cancel_sweep


def tcp_stream() -> tuple[trio.SocketStream, socket.socket]:
    """A connection, and who is at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    near.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(near)), far


def is_open(stream: trio.SocketStream) -> bool:
    return stream.socket.fileno() >= 0


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


# send ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_buffer_size", [0, 1])
async def test_send_with_a_handle(max_buffer_size: int) -> None:
    """Either it returned and the handle arrives, once, or it was cancelled and the handle is
    still ours: there is no third state."""
    with open_pair(max_buffer_size) as (a, b):
        stream, far = tcp_stream()
        received: list[Any] = []

        async def operation() -> None:
            nonlocal stream, far
            stream, far = tcp_stream()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take_one)
                await trio.testing.wait_all_tasks_blocked()
                try:
                    await a.send(["first", stream])
                finally:
                    nursery.cancel_scope.cancel()

        async def take_one() -> None:
            received.append(await b.receive())

        async def check(cancelled: bool) -> None:
            while True:
                try:
                    received.append(b.receive_nowait())
                except trio.WouldBlock:
                    break
            if is_open(stream):
                assert cancelled
                assert received == []
                await stream.aclose()
            else:
                [[text, arrived]] = received
                assert text == "first"
                await arrived.send_all(b"alive")
                assert far.recv(5) == b"alive"
                await arrived.aclose()
            received.clear()
            far.close()

        stream.socket.close()
        far.close()
        assert await cancel_sweep(operation, check) > 2


async def test_send_that_waits_for_room() -> None:
    with open_pair(1) as (a, b):
        sent = arrived = 0

        async def operation() -> None:
            nonlocal sent
            async with trio.open_nursery() as nursery:
                nursery.start_soon(drain_later)
                await a.send(sent)
                sent += 1

        async def drain_later() -> None:
            nonlocal arrived
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            assert await b.receive() == arrived
            arrived += 1

        async def check(cancelled: bool) -> None:
            nonlocal arrived
            while True:
                try:
                    assert b.receive_nowait() == arrived
                except trio.WouldBlock:
                    break
                arrived += 1
            assert arrived - sent in (0, 1)  # sent, and cancelled afterwards in the nursery
            sent_before = a.statistics().credit
            assert sent_before in (0, 1)
            resync()

        def resync() -> None:
            nonlocal sent
            sent = arrived

        a.send_nowait(0)
        sent = 1
        await cancel_sweep(operation, check)


async def test_send_of_a_message_that_no_kernel_takes_at_once() -> None:
    """A cancelled send never cuts a frame: what arrives is whole."""
    with open_pair(100) as (a, b):
        returned = 0

        async def operation() -> None:
            nonlocal returned
            await a.send(b"x" * MANY_BYTES)
            returned += 1

        arrived = 0

        async def check(cancelled: bool) -> None:
            nonlocal arrived
            while arrived < returned:
                assert await b.receive() == b"x" * MANY_BYTES
                arrived += 1
            with pytest.raises(trio.WouldBlock):
                b.receive_nowait()

        await cancel_sweep(operation, check)
        assert arrived == returned >= 1


# receive ---------------------------------------------------------------------------------------


async def test_receive_of_a_handle() -> None:
    """A cancelled receive leaves the message, with its handle, for the next one."""
    with open_pair(10) as (a, b):
        got: list[Any] = []
        fars: list[socket.socket] = []

        async def operation() -> None:
            stream, far = tcp_stream()
            fars.append(far)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_later, stream)
                got.append(await b.receive())

        async def send_later(stream: trio.SocketStream) -> None:
            with trio.CancelScope(shield=True):
                for _ in range(2):
                    await trio.lowlevel.checkpoint()
                await a.send(stream)

        async def check(cancelled: bool) -> None:
            if not got:
                assert cancelled
                got.append(await b.receive())
            with pytest.raises(trio.WouldBlock):
                b.receive_nowait()
            [stream] = got
            await stream.send_all(b"alive")
            [far] = fars
            assert far.recv(5) == b"alive"
            await stream.aclose()
            far.close()
            got.clear()
            fars.clear()

        assert await cancel_sweep(operation, check) > 2


async def test_receive_by_many_tasks_on_one_end() -> None:
    """Who is cancelled may be the one who reads for all: the others get their messages."""
    with open_pair(10) as (a, b):
        got: list[int] = []
        number = 0

        async def operation() -> None:
            nonlocal number
            async with trio.open_nursery() as nursery:
                nursery.start_soon(others)
                await trio.testing.wait_all_tasks_blocked()
                number += 3
                got.append(await b.receive())

        async def others() -> None:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    for _ in range(2):
                        nursery.start_soon(receive)
                    await trio.testing.wait_all_tasks_blocked()
                    for each in range(3):
                        await a.send(each)

        async def receive() -> None:
            got.append(await b.receive())

        async def check(cancelled: bool) -> None:
            while len(got) < 3:
                got.append(await b.receive())
            assert sorted(got) == [0, 1, 2]
            got.clear()

        await cancel_sweep(operation, check)


# drain, aclose ---------------------------------------------------------------------------------


async def test_drain() -> None:
    with open_pair(100) as (a, b):

        async def operation() -> None:
            a.send_nowait(b"x" * MANY_BYTES)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await a.drain()

        async def receive() -> None:
            with trio.CancelScope(shield=True):
                assert await b.receive() == b"x" * MANY_BYTES

        async def check(cancelled: bool) -> None:
            while True:
                try:
                    assert b.receive_nowait() == b"x" * MANY_BYTES
                except trio.WouldBlock:
                    break
            await a.drain()

        # The send waits until the sweep is in its stride: with the task that receives shielded,
        # what the operation began is over when it is.
        await cancel_sweep(operation, check)


async def test_aclose() -> None:
    """Cancelled at whatever step, it is closed."""
    channels: list[trio_ipc.Channel[Any, Any]] = []

    async def operation() -> None:
        a, b = trio_ipc.open_channel_pair(10)
        channels[:] = a, b
        a.send_nowait(b"x" * MANY_BYTES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_all, b)
            await a.aclose()

    async def read_all(b: trio_ipc.Channel[Any, Any]) -> None:
        with trio.CancelScope(shield=True):
            try:
                async for message in b:
                    assert message == b"x" * MANY_BYTES
            except trio_ipc.ProtocolError as error:
                assert "in the middle of a frame" in str(error)  # noqa: PT017
            except trio.BrokenResourceError:
                pass

    async def check(cancelled: bool) -> None:
        a, b = channels
        if cancelled and a.fileno() >= 0:
            a.close()  # it was cancelled before aclose() was called
        with pytest.raises(trio.ClosedResourceError):
            a.send_nowait(1)
        assert a.fileno() == -1
        b.close()

    before = descriptors()
    await cancel_sweep(operation, check)
    assert descriptors() == before


# open_child ------------------------------------------------------------------------------------


async def echo_one(parent: trio_ipc.Channel[Any, Any], stream: trio.SocketStream) -> None:
    async with stream:
        await parent.send(await parent.receive())


async def test_open_child_from_the_spawn_to_the_reap() -> None:
    """With a handle as argument, a message each way, and the exit of the block."""
    streams: list[trio.SocketStream] = []
    fars: list[socket.socket] = []
    processes: list[trio.Process] = []
    before = descriptors()

    async def operation() -> None:
        stream, far = tcp_stream()
        streams.append(stream)
        fars.append(far)
        async with trio_ipc.open_child(echo_one, stream, grace_period=30) as child:
            processes.append(child.process)
            await child.send("there")
            assert await child.receive() == "there"

    async def check(cancelled: bool) -> None:
        for process in processes:
            assert process.returncode is not None
        processes.clear()
        for stream in streams:
            stream.socket.close()  # it is ours still if it was cancelled before the child was
        streams.clear()
        for far in fars:
            assert far.recv(1) == b""  # the child had the only other copy, and is gone
            far.close()
        fars.clear()
        assert descriptors() == before

    assert await cancel_sweep(operation, check) > 10
