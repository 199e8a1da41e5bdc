"""Cancelled at each step of whatever task there is, with both scopes of a channel in one process.

test_cancel_sweep cancels between the steps of the caller; here it comes between those of the
background tasks, too.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from .both_ends import open_both_ends
from .sweep import cancel_sweep

LARGE = bytes(10_000_000)  # no kernel takes it at once


class Thing:
    """A handle, with a peer that tells whether a copy of it is open anywhere."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.far.setblocking(False)

    @property
    def is_here(self) -> bool:
        return self.near.fileno() >= 0

    def close(self) -> None:
        """All copies that are known are closed: there is no other one."""
        self.near.close()
        try:
            assert self.far.recv(1) == b""
        except BlockingIOError:
            raise AssertionError("somebody still holds a copy") from None
        finally:
            self.far.close()


@pytest.mark.parametrize("text", ["small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("max_buffer_size", [0, 1, 10])
@pytest.mark.parametrize("upwards", [False, True], ids=["to-the-child", "to-the-parent"])
async def test_a_message_with_its_handle_is_sent_or_it_is_not(
    upwards: bool, max_buffer_size: int, text: Any
) -> None:
    """And received once, if it is: by the receive that is cancelled beside it or by the next."""
    things: list[Thing] = []
    sent: list[Any] = []
    arrived: list[Any] = []

    async with open_both_ends(max_buffer_size) as (child, parent):
        sender, receiver = (parent, child) if upwards else (child, parent)

        async def send() -> None:
            await sender.send([text, things[0].near], keep_open=False)
            sent.append(text)

        async def receive(count: int) -> None:
            for _ in range(count):
                arrived.append(await receiver.receive())

        async def operation() -> None:
            things.append(Thing())
            try:
                for number in range(max_buffer_size):  # so that the send has to wait
                    sender.send_nowait(number)
                    sent.append(number)
            except trio.WouldBlock:
                pass  # all the better
            count = len(sent) + 1
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                await wait_all_tasks_blocked()
                nursery.start_soon(receive, count)

        async def receive_the_rest() -> None:
            while (message := await receiver.receive()) != "the end":
                arrived.append(message)

        async def check(cancelled: bool) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive_the_rest)
                await sender.send("the end")
            thing = things.pop()
            handles = [message.pop() for message in arrived if isinstance(message, list)]
            assert [each[0] if isinstance(each, list) else each for each in arrived] == sent
            assert len(handles) == sent.count(text)
            assert thing.is_here == (not handles)
            for handle in handles:
                handle.close()
            thing.close()
            sent.clear()
            arrived.clear()

        assert await cancel_sweep(operation, check, all_tasks=True) > 10


async def test_tasks_that_are_cancelled_leave_the_others_their_messages() -> None:
    """Some of those that wait are cancelled, whoever of them does the reading."""
    sent: list[int] = []
    arrived: list[int] = []

    async with open_both_ends(3) as (child, parent):

        async def receive() -> None:
            arrived.append(await parent.receive())

        async def operation() -> None:
            async with trio.open_nursery() as cancelled:
                cancelled.start_soon(receive)
                await wait_all_tasks_blocked()
                with trio.CancelScope(shield=True):
                    async with trio.open_nursery() as kept:
                        kept.start_soon(receive)
                        await wait_all_tasks_blocked()
                        cancelled.start_soon(receive)
                        for number in range(3):
                            await child.send(number)
                            sent.append(number)

        async def check(cancelled: bool) -> None:
            while len(arrived) < len(sent):
                await receive()
            assert sorted(arrived) == sent
            with pytest.raises(trio.WouldBlock):
                parent.receive_nowait()
            sent.clear()
            arrived.clear()

        assert await cancel_sweep(operation, check, all_tasks=True) > 3


async def test_two_scopes_from_the_beginning_to_the_end() -> None:
    things: list[Thing] = []
    before = sorted(os.listdir("/dev/fd"))

    async def operation() -> None:
        things[:] = [Thing(), Thing()]
        async with open_both_ends(2) as (child, parent):
            for thing, sender, receiver in zip(
                things, (child, parent), (parent, child), strict=True
            ):
                await sender.send("a message", thing.near, keep_open=False)
                message, handle = await receiver.receive()
                with handle:
                    assert message == "a message"
                sender.send_nowait(LARGE)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(sender.drain)
                    assert await receiver.receive() == LARGE

    async def check(cancelled: bool) -> None:
        for thing in things:
            thing.close()
        assert sorted(os.listdir("/dev/fd")) == before
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)  # noqa: ASYNC222

    assert await cancel_sweep(operation, check, all_tasks=True) > 20
