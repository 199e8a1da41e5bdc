"""What must not pass."""

# What follows from an error is not looked at.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import trio

import trio_ipc
from trio_ipc import Channel, ChildChannel

from .programs import (
    Job,
    Reply,
    Stop,
    no_worker,
    worker,
    worker_of_something_else,
    worker_that_is_not_async,
    worker_with_any_number,
    worker_with_arguments,
    worker_without_types,
)


async def messages_of_the_wrong_type(listener: trio.SocketListener) -> None:
    async with trio_ipc.open_child(worker) as child:
        await child.send(Reply("hi"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        child.send_nowait("hi")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        job: Job = await child.receive()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        stop: Stop = child.receive_nowait()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        async for reply in child:
            print(reply.number)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        await child.send(Job(1), listener, keep_open="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await child.send()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        print(job, stop)


async def the_wrong_arguments(listener: trio.SocketListener) -> None:
    trio_ipc.open_child(worker, "too many")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child(worker_with_arguments, listener)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child(worker_with_arguments, listener, {"a": "not a number"})  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child(worker_with_arguments, listener, {"a": 1}, greeting="by name")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    trio_ipc.open_child(worker_with_any_number, 1, "2")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child("worker.py", 1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def the_wrong_targets() -> None:
    trio_ipc.open_child(no_worker)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child(worker_of_something_else)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child(worker_that_is_not_async)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child(b"worker.py")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child(["worker", 1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child(None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def the_wrong_types() -> None:
    trio_ipc.open_child(worker, message_type=Stop)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child(worker, child_message_type=Reply)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType]
    trio_ipc.open_child(worker, child_message_type=Job | Stop | Reply)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType]
    trio_ipc.open_child("worker.py", child_message_type=Job)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    trio_ipc.open_child("worker.py", message_type=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_parent(message_type=Job(1))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    trio_ipc.open_parent(child_message_type=Job)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def the_wrong_options() -> None:
    trio_ipc.open_child(worker, max_bufer_size=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    trio_ipc.open_child(worker, close_fds=False)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    trio_ipc.open_child(worker, max_buffer_size="1")  # type: ignore[call-arg, call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child(worker, protocol="deno")  # type: ignore[call-arg, call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child(worker, serialization="pickle")  # type: ignore[call-arg, call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child(worker, check=None)  # type: ignore[call-arg, call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child(worker, shell=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    trio_ipc.open_child(worker, cwd=1)  # type: ignore[call-arg, call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    trio_ipc.open_child(worker_without_types, text=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    trio_ipc.open_parent(grace_period=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    trio_ipc.open_channel_pair()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def it_is_no_plain_context_manager() -> None:
    with trio_ipc.open_child(worker):  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass
    child = trio_ipc.open_child(worker)
    await child.receive()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


async def variance(parent: Channel[Job, Job | Stop]) -> None:
    wider: Channel[Job | Stop, Job | Stop] = parent  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    narrower: Channel[Job, Job] = parent  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    child: ChildChannel[Job, Job | Stop] = parent  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    reader: trio.abc.ReceiveChannel[Job] = parent  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(wider, narrower, child, reader)


def no_names_that_there_are_not(child: ChildChannel[Job, Reply]) -> None:
    print(child.connected)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    child.disconnect()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    print(trio_ipc.fork)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
