"""Nothing is closed behind Trio's back: a number that is used again wakes nobody by mistake.

Once a task has waited for a descriptor, epoll knows the number. If it is closed without telling
Trio while the same socket lives on in another process, its next event is taken for one of whatever
has the number by then. The other rules about handles have their tests in ``test_handles*.py``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

import trio_ipc

from . import meaning_children as children
from .meaning_helpers import open_pair, settle, waiting


async def wait_once(wait: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """Have epoll know it."""
    async with waiting(wait, *args) as call:
        await call.cancel()


@asynccontextmanager
async def nobody_wakes(number: int) -> AsyncIterator[None]:
    """Let something else have this number, and a task wait for it, without anything to happen."""
    ours, theirs = socket.socketpair()
    if theirs.fileno() == number:
        ours, theirs = theirs, ours
    with ours, theirs:
        if ours.fileno() != number:
            os.dup2(ours.fileno(), number, inheritable=False)
        try:
            async with waiting(trio.lowlevel.wait_readable, number) as waits:
                yield
                await settle(0.05)
                assert not waits.finished.is_set()
                theirs.send(b"x")  # and it does wake up when it should
                await waits.outcome()
        finally:
            trio.lowlevel.notify_closing(number)
            if ours.fileno() != number:
                os.close(number)


async def test_a_channel_that_moves_is_closed_with_trios_knowledge() -> None:
    async with trio_ipc.open_child(children.echo_on) as child:
        a, b = trio_ipc.open_channel_pair(10)
        with a, b:
            await wait_once(b.receive)
            number = b.fileno()
            await child.send(b)
            assert b.fileno() == -1
            async with nobody_wakes(number):
                await a.send("to the other process")
                assert await a.receive() == "to the other process"
                a.close()
                assert await child.receive() == "seen the end"


async def test_a_stream_that_moves_is_closed_with_trios_knowledge() -> None:
    near, far = trio.socket.socketpair()
    async with trio_ipc.open_child(children.echo_on) as child:
        async with trio.SocketStream(near) as ours, trio.SocketStream(far) as theirs:
            await wait_once(theirs.receive_some)
            number = theirs.socket.fileno()
            await child.send(theirs)
            async with nobody_wakes(number):
                await ours.send_all(b"to the other process")
                assert await ours.receive_some() == b"to the other process"
                await ours.aclose()
                assert await child.receive() == "seen the end"


async def test_a_pipe_that_moves_is_closed_with_trios_knowledge() -> None:
    near, far = socket.socketpair()
    async with trio_ipc.open_child(children.echo_on) as child:
        async with (
            trio.lowlevel.FdStream(near.detach()) as ours,
            trio.lowlevel.FdStream(far.detach()) as theirs,
        ):
            await wait_once(theirs.receive_some)
            number = theirs.fileno()
            await child.send(theirs)
            async with nobody_wakes(number):
                await ours.send_all(b"to the other process")
                assert await ours.receive_some() == b"to the other process"
                await ours.aclose()
                assert await child.receive() == "seen the end"


@pytest.mark.parametrize("how", ["close", "aclose", "garbage"])
async def test_a_channel_is_closed_with_trios_knowledge(how: str) -> None:
    with open_pair() as (a, b):
        with socket.socket(fileno=os.dup(b.fileno())):  # as if it lived on in another process
            await wait_once(b.receive)
            number = b.fileno()
            if how == "close":
                b.close()
            elif how == "aclose":
                await b.aclose()
            else:
                with socket.socket(fileno=os.dup(a.fileno())) as raw:
                    raw.sendall(b"garbage, garbage")
                with pytest.raises(trio_ipc.ProtocolError):
                    await b.receive()
            assert b.fileno() == -1
            async with nobody_wakes(number):
                a.close()
