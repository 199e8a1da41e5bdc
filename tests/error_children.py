"""What the children of the tests of error texts do, and what is no child at all."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import trio_ipc

Parent = trio_ipc.Channel[Any, Any]


async def do_nothing(parent: Parent) -> None: ...


async def receive_all(parent: Parent) -> None:
    async for _ in parent:
        pass


async def fail(parent: Parent) -> None:
    raise ValueError("no such colour")


async def open_it_again(parent: Parent) -> None:
    async with trio_ipc.open_parent():
        raise AssertionError("not to be reached")


async def end_by(parent: Parent, number: int) -> None:
    os.kill(os.getpid(), signal.Signals(number))
    await parent.receive()


async def leave(parent: Parent) -> None:
    os._exit(0)


def not_async(parent: Parent) -> None: ...


def generator(parent: Parent) -> Iterator[int]:
    yield 1


async def async_generator(parent: Parent) -> AsyncIterator[int]:
    yield 1


class Holder:
    async def method(self, parent: Parent) -> None: ...
