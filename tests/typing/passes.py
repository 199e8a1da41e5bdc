"""What must pass, and with which types."""

from __future__ import annotations

import io
import math
import os
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import trio
from typing_extensions import assert_type

import trio_ipc
import trio_ipc.testing
from trio_ipc import Channel, ChildChannel, HandleMessage, ReceiveChannel, SendChannel

from .programs import (
    Job,
    Reply,
    Stop,
    worker,
    worker_of_anything,
    worker_that_only_reads,
    worker_with_any_number,
    worker_with_arguments,
    worker_without_types,
)


async def a_function_childs_annotations_say_what_travels(listener: trio.SocketListener) -> None:
    async with trio_ipc.open_child(worker) as child:
        assert_type(child, ChildChannel[Job | Stop, Reply])
        await child.send(Job(1))
        child.send_nowait(Stop())
        assert_type(await child.receive(), Reply)
        assert_type(child.receive_nowait(), Reply)
        async for reply in child:
            assert_type(reply, Reply)

    async with trio_ipc.open_child(worker_with_any_number) as child_of_none:
        assert_type(child_of_none, ChildChannel[bytes, str])
    async with trio_ipc.open_child(worker_with_any_number, 1, 2) as child_of_two:
        assert_type(child_of_two, ChildChannel[bytes, str])
    async with trio_ipc.open_child(worker_that_only_reads) as reader:
        assert_type(reader, ChildChannel[Job, Any])


async def arguments_are_those_of_the_function(listener: trio.SocketListener) -> None:
    async with trio_ipc.open_child(worker_with_arguments, listener, {"a": 1}) as child:
        assert_type(child, ChildChannel[Job, Reply])
    async with trio_ipc.open_child(
        worker_with_arguments, listener, {"a": 1}, "good evening", check=False
    ) as polite_child:
        assert_type(polite_child, ChildChannel[Job, Reply])


async def who_says_nothing_gets_anything() -> None:
    async with trio_ipc.open_child(worker_without_types) as child:
        assert_type(child, ChildChannel[Any, Any])
        assert_type(child, ChildChannel)
    async with trio_ipc.open_child(worker_of_anything, 1) as other_child:
        assert_type(other_child, ChildChannel[Any, Any])
    async with trio_ipc.open_child("worker.py") as script:
        assert_type(script, ChildChannel[Any, Any])
    async with trio_ipc.open_parent() as parent:
        assert_type(parent, Channel[Any, Any])


async def message_type_says_what_is_received() -> None:
    async with trio_ipc.open_child("worker.js", message_type=Job) as child:
        assert_type(child, ChildChannel[Any, Job])
        assert_type(await child.receive(), Job)
    async with trio_ipc.open_child(["worker"], message_type=Job | Stop) as command:
        assert_type(command, ChildChannel[Any, Job | Stop])
        assert_type(await command.receive(), Job | Stop)
    async with trio_ipc.open_parent(message_type=Job | Stop) as parent:
        assert_type(parent, Channel[Any, Job | Stop])
        async for message in parent:
            assert_type(message, Job | Stop)
    async with trio_ipc.open_child(worker_without_types, message_type=Job | Stop) as untyped:
        assert_type(untyped, ChildChannel[Any, Job | Stop])
    async with trio_ipc.open_child(worker, message_type=Reply) as typed:
        assert_type(typed, ChildChannel[Job | Stop, Reply])


async def child_message_type_says_what_is_sent() -> None:
    async with trio_ipc.open_child(worker_without_types, child_message_type=Job | Stop) as child:
        assert_type(child, ChildChannel[Job | Stop, Any])
    async with trio_ipc.open_child(
        worker, message_type=Reply, child_message_type=Job | Stop
    ) as typed:
        assert_type(typed, ChildChannel[Job | Stop, Reply])


class Pair(NamedTuple):
    left: int
    right: trio.SocketStream


JobOrStop = Job | Stop
SmallNumber = Annotated[int, msgspec.Meta(lt=10)]


async def message_type_has_all_forms_of_types() -> None:
    async with trio_ipc.open_parent(message_type=int) as number:
        assert_type(number, Channel[Any, int])
    async with trio_ipc.open_parent(message_type=list[Job]) as several:
        assert_type(several, Channel[Any, list[Job]])
    async with trio_ipc.open_parent(message_type=dict[str, int | None]) as counts:
        assert_type(counts, Channel[Any, dict[str, int | None]])
    async with trio_ipc.open_parent(message_type=Literal["go", "stop"]) as word:
        assert_type(word, Channel[Any, Literal["go", "stop"]])
    async with trio_ipc.open_parent(message_type=Annotated[int, msgspec.Meta(lt=10)]) as digit:
        assert_type(digit, Channel[Any, int])
    async with trio_ipc.open_parent(message_type=SmallNumber) as small:
        assert_type(small, Channel[Any, int])
    async with trio_ipc.open_parent(message_type=JobOrStop) as alias:
        assert_type(alias, Channel[Any, Job | Stop])
    async with trio_ipc.open_parent(message_type=None) as nothing:
        assert_type(nothing, Channel[Any, None])
    async with trio_ipc.open_parent(message_type=Job | None) as perhaps:
        assert_type(perhaps, Channel[Any, Job | None])
    async with trio_ipc.open_parent(message_type=Any) as anything:
        assert_type(anything, Channel[Any, Any])
    async with trio_ipc.open_parent(message_type=Pair) as pair:
        assert_type((await pair.receive()).right, trio.SocketStream)
    async with trio_ipc.open_parent(message_type=trio.SocketStream | Channel) as handle:
        assert_type(handle, Channel[Any, trio.SocketStream | Channel])
    async with trio_ipc.open_parent(message_type=HandleMessage) as two:
        message, its_handle = await two.receive()
        assert_type(message, Any)
        assert_type(its_handle, Any)


async def targets(path: Path, environment: dict[str, str], log: io.FileIO) -> None:
    async with trio_ipc.open_child("worker.py", "--verbose", path) as named:
        assert_type(named.process, trio.Process)
        assert_type(named.pid, int)
    async with (
        trio_ipc.open_child(path, protocol="node", serialization="advanced"),
        trio_ipc.open_child([path, "-x"], message_type=Job),
        trio_ipc.open_child(("worker", "-x")),
    ):
        pass
    async with trio_ipc.open_child(
        worker,
        max_buffer_size=math.inf,
        max_message_size=1000,
        max_handles=0,
        grace_period=math.inf,
        check=False,
        trusted=False,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=None,
        cwd=path,
        env=environment,
        user="nobody",
        group=100,
        extra_groups=[],
        umask=0o77,
        pass_fds=(3,),
        start_new_session=True,
    ) as child:
        assert_type(child, ChildChannel[Job | Stop, Reply])


async def handles_and_how_they_are_sent(
    child: ChildChannel[str, HandleMessage], stream: trio.SocketStream
) -> None:
    await child.send("for you", stream, keep_open=True)
    child.send_nowait("for you", stream)
    assert_type((await child.receive()).handle, Any)


async def halves(channel: Channel[Job, Reply]) -> None:
    assert_type(channel.send_channel, SendChannel[Job])
    assert_type(channel.receive_channel, ReceiveChannel[Reply])
    with channel.send_channel.clone() as send, channel.receive_channel.clone() as receive:
        assert_type(send, SendChannel[Job])
        assert_type(receive, ReceiveChannel[Reply])
        await send.drain()
    async with channel as same:
        assert_type(same, Channel[Job, Reply])
    assert_type(channel.statistics().credit, int | float)
    assert_type(channel.statistics(), trio_ipc.ChannelStatistics)


async def read(channel: trio.abc.ReceiveChannel[Job | Stop]) -> None: ...


async def write(channel: trio.abc.SendChannel[Job]) -> None: ...


async def they_are_trios_channels(
    parent: Channel[Job | Stop, Job], child: ChildChannel[object, Stop]
) -> None:
    async with trio.open_nursery() as nursery:
        # Who takes both takes this one, and who gives this one gives one of both.
        nursery.start_soon(read, parent)
        nursery.start_soon(write, parent)
        nursery.start_soon(read, child.receive_channel)
        nursery.start_soon(write, child.send_channel)
        nursery.start_soon(worker, child_to_channel(child))


def child_to_channel(child: ChildChannel[object, Stop]) -> Channel[Reply, Job | Stop]:
    return child


def pairs() -> tuple[Channel[Reply, Job], Channel[Job, Reply]]:
    ends: tuple[Channel[Reply, Job], Channel[Job, Reply]] = trio_ipc.open_channel_pair(10)
    left, right = ends
    assert_type(left, Channel[Reply, Job])
    assert_type(right, Channel[Job, Reply])
    untyped, _ = trio_ipc.open_channel_pair(math.inf, max_handles=1)
    assert_type(untyped, Channel[Any, Any])
    return trio_ipc.open_channel_pair(0)


async def what_the_block_returns_is_returned() -> Reply:
    # An exception that the scope swallowed would lead past the end of this function.
    async with trio_ipc.open_child(worker) as child:
        return await child.receive()


async def errors() -> None:
    try:
        await what_the_block_returns_is_returned()
    except trio_ipc.ChildFailed as failed:
        assert_type(failed.returncode, int)
        assert_type(failed.pid, int)
        assert_type(failed.remote_traceback, str | None)
        calls: subprocess.CalledProcessError = failed
        print(calls)
    except trio_ipc.ProtocolError as broken:
        resource: trio.BrokenResourceError = broken
        print(resource)
    except trio_ipc.HandleNotDelivered as lost:
        system: OSError = lost
        print(system, os.strerror(system.errno or 0))


@asynccontextmanager
async def connect() -> AsyncGenerator[tuple[Channel[Any, Any], Channel[Any, Any]], None]:
    left, right = trio_ipc.open_channel_pair(1)
    async with left, right:
        yield left, right


async def tests_of_ones_own() -> None:
    with trio_ipc.testing.check_no_leaks():
        await trio_ipc.testing.check_channel_pair(connect)
