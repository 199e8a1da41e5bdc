"""Calls that are cancelled at each of their steps: they happened or they did not, and nothing is
left of them either way.

Here is what needs more than one call or a real child; each public coroutine alone, and ended in
other ways, too, is in `test_every_coroutine`."""

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
