"""A program that is checked beside the stubs of trio-typing, with its plugin: they hide Trio's own
types, but not ours. See `trio-typing` in tox.ini; it must pass without them, too."""

from __future__ import annotations

import trio
from typing_extensions import assert_type

import trio_ipc

from .programs import Job, Reply, Stop, worker, worker_with_arguments


async def serve(listener: trio.SocketListener) -> None:
    async with trio_ipc.open_child(worker) as child:
        assert_type(child, trio_ipc.ChildChannel[Job | Stop, Reply])
        assert_type(child.send_channel, trio_ipc.SendChannel[Job | Stop])
        await child.send(Job(1))
        assert_type(await child.receive(), Reply)
        assert_type(child.receive_nowait(), Reply)
        async for reply in child:
            assert_type(reply, Reply)
        async with child.receive_channel.clone() as clone:
            assert_type(clone, trio_ipc.ReceiveChannel[Reply])
        assert_type(child.process, trio.Process)
        assert_type(child.statistics(), trio_ipc.ChannelStatistics)
        await child.send(Reply("hi"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        job: Job = await child.receive()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        print(job)
    async with trio_ipc.open_child(worker_with_arguments, listener, {"a": 1}) as busy:
        assert_type(busy, trio_ipc.ChildChannel[Job, Reply])
    trio_ipc.open_child(worker_with_arguments, listener)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child(worker, max_bufer_size=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def read(jobs: trio.abc.ReceiveChannel[Job | Stop]) -> None: ...


async def accept(stream: trio.SocketStream, child: trio_ipc.ChildChannel[Job, Reply]) -> None:
    await child.send(Job(1), stream)


async def main(
    parent: trio_ipc.Channel[Reply, Job],
    child: trio_ipc.ChildChannel[Job, Reply],
    stream: trio.SocketStream,
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, parent)
        nursery.start_soon(accept, stream, child)
        nursery.start_soon(read, child)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        nursery.start_soon(accept, child, stream)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ends: tuple[trio_ipc.Channel[Job, Reply], trio_ipc.Channel[Reply, Job]]
    ends = trio_ipc.open_channel_pair(1)
    assert_type(ends[0], trio_ipc.Channel[Job, Reply])


async def by_message_type() -> None:
    async with trio_ipc.open_parent(message_type=Job | Stop) as parent:
        # The mypy that the plugin runs under does not know TypeForm: it takes this for Any.
        message: Job | Stop = await parent.receive()
        print(message)
