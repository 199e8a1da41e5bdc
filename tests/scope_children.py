"""What the children of the tests of scopes and exceptions do.

In a module of its own, because a child that would import pytest takes twice as long to start.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import trio

import trio_ipc

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

Parent = trio_ipc.Channel[Any, Any]


async def count(parent: Parent, limit: int) -> None:
    for number in range(limit):
        await parent.send(number)


async def count_for_ever(parent: Parent) -> None:
    number = 0
    while True:
        await parent.send(number)
        number += 1


async def listen(parent: Parent) -> None:
    async for _ in parent:
        pass


async def send_when_told(parent: Parent) -> None:
    for number in range(await parent.receive()):
        await parent.send(number)


async def send_and_fail(parent: Parent, text: str) -> None:
    await parent.send(1)
    raise ValueError(text)


async def fail_when_cancelled(parent: Parent, text: str) -> None:
    await parent.send("ready")
    try:
        await trio.sleep_forever()
    finally:
        raise ValueError(text)


async def note_the_cancellation(parent: Parent, log: str) -> None:
    await parent.send("ready")
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        with open(log, "a") as file:  # noqa: ASYNC230
            print("child cancel", file=file)
        raise


async def swallow_a_cancellation_of_its_own(parent: Parent) -> None:
    await parent.send(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await parent.send(2)


async def fail_in_a_group(parent: Parent) -> None:
    raise ExceptionGroup("the child's group", [ValueError("one"), KeyError("two")])


async def fail_with_a_cause(parent: Parent) -> None:
    try:
        raise KeyError("the first of them")
    except KeyError as exc:
        raise ValueError("the second of them") from exc


async def fail_at_length(parent: Parent, letter: str, size: int) -> None:
    raise ValueError("beginning" + letter * size + "the very end")


async def fail_unprintably(parent: Parent) -> None:
    raise ValueError("a lone surrogate \udcff and a \0")


async def fail_with_a_bad_str(parent: Parent) -> None:
    class Bad(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text for you")

    raise Bad


async def raise_keyboard_interrupt(parent: Parent) -> None:
    raise KeyboardInterrupt


async def leave_with(parent: Parent, status: Any) -> None:
    raise SystemExit(status)


async def leave_in_a_task_with(parent: Parent, status: Any) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave_with, parent, status)


async def die_when_told(parent: Parent) -> None:
    await parent.receive()
    os._exit(7)


async def fail_when_told(parent: Parent) -> None:
    await parent.receive()
    raise ValueError("when told")


async def echo(parent: Parent) -> None:
    async for message in parent:
        await parent.send(message)
        if isinstance(message, trio_ipc.HandleMessage):
            message.handle.close()


async def receive_once(parent: trio_ipc.Channel[Any, Any]) -> None:
    await parent.receive()
