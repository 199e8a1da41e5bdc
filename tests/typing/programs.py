"""Children and messages of which the examples speak."""

from __future__ import annotations

from typing import Any

import msgspec
import trio

import trio_ipc


class Job(msgspec.Struct, tag=True):
    number: int


class Stop(msgspec.Struct, tag=True):
    pass


class Reply(msgspec.Struct, tag=True):
    text: str


async def worker(parent: trio_ipc.Channel[Reply, Job | Stop]) -> None:
    async for message in parent:
        if isinstance(message, Stop):
            break
        await parent.send(Reply(str(message.number)))


async def worker_with_arguments(
    parent: trio_ipc.Channel[Reply, Job],
    listener: trio.SocketListener,
    names: dict[str, int],
    greeting: str = "hello",
) -> int:
    return len(names)


async def worker_with_any_number(parent: trio_ipc.Channel[str, bytes], *numbers: int) -> None: ...


async def worker_without_types(parent: trio_ipc.Channel) -> None: ...


async def worker_of_anything(parent: Any, number: int) -> None: ...


async def worker_that_only_reads(parent: trio.abc.ReceiveChannel[Job]) -> None: ...


async def no_worker() -> None: ...


async def worker_of_something_else(parent: trio.SocketStream) -> None: ...


def worker_that_is_not_async(parent: trio_ipc.Channel[Reply, Job]) -> None: ...
