"""Functions that run as children, and what they receive."""

from __future__ import annotations

import dataclasses
import enum
import functools
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, NewType, TypeVar

import msgspec
import trio

import trio_ipc

Parent = trio_ipc.Channel[Any, Any]
T = TypeVar("T")


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True):
    side: float


class Box(msgspec.Struct, Generic[T]):
    content: T


class Outer:
    class Inner(msgspec.Struct):
        number: int

    @staticmethod
    async def echo(parent: Parent) -> None:
        await echo(parent)

    @classmethod
    async def on_class(cls, parent: Parent) -> None: ...

    async def method(self, parent: Parent) -> None: ...


@dataclasses.dataclass
class Job:
    name: str


class Colour(enum.Enum):
    RED = "red"


UserId = NewType("UserId", int)


async def echo(parent: Parent) -> None:
    async for message in parent:
        await parent.send(message)


async def say_types(parent: Parent) -> None:
    """The type of what is received, and the value; or that it is invalid."""
    while True:
        try:
            message = await parent.receive()
        except trio_ipc.InvalidMessage as exc:
            await parent.send(["invalid", str(exc)])
        except trio.EndOfChannel:
            break
        else:
            await parent.send([type(message).__name__, message])


async def return_args(parent: Parent, *args: Any) -> None:
    await parent.send(args)


async def describe_process(parent: Parent) -> None:
    await parent.send(
        {
            "argv": sys.argv,
            "path": sys.path,
            "warnoptions": sys.warnoptions,
            "xoptions": sys._xoptions,
            "optimize": sys.flags.optimize,
            "executable": sys.executable,
            "cwd": os.getcwd(),
            "env": dict(os.environ),
            "ppid": os.getppid(),
            "session": os.getsid(0),
        }
    )


async def print_lines(parent: Parent, *lines: str) -> None:
    for line in lines:
        print(line)
    print("to stderr", file=sys.stderr)


async def read_stdin(parent: Parent) -> None:
    await parent.send(await trio.to_thread.run_sync(sys.stdin.read))


async def read_descriptor(parent: Parent, number: int) -> None:
    with os.fdopen(number, "rb") as file:
        await parent.send(file.read())


LIST_WHAT_IT_INHERITED = """
import json, os
descriptors = []
for number in range(256):
    try:
        descriptors.append(list(os.fstat(number)[1:3]))
    except OSError:
        pass
print(json.dumps([sorted(os.environ), descriptors]))
"""


async def spawn_without_channel(parent: Parent) -> None:
    """What a process inherits that this one starts, closing nothing itself."""
    done = await trio.run_process(
        [sys.executable, "-I", "-S", "-c", LIST_WHAT_IT_INHERITED],
        capture_stdout=True,
        close_fds=False,
    )
    variables, descriptors = msgspec.json.decode(done.stdout)
    status = os.fstat(parent.fileno())
    await parent.send([variables, [status.st_ino, status.st_dev] in descriptors])


async def open_parent_again(parent: Parent) -> None:
    try:
        async with trio_ipc.open_parent():
            pass
    except trio_ipc.NoParent as exc:
        await parent.send(str(exc))


async def open_grandchild(parent: Parent, depth: int) -> None:
    """Pass messages on to the end of a line of processes, and back."""
    if not depth:
        return await echo(parent)
    async with trio_ipc.open_child(open_grandchild, depth - 1) as child:
        async for message in parent:
            await child.send([os.getpid(), message])
            await parent.send(await child.receive())


async def open_child_there(parent: Parent) -> None:
    """A function and a stream that came from the parent, in a child of this one."""
    async for stream in parent:
        async with trio_ipc.open_child(write_to, stream) as child:
            await parent.send(await child.receive())


async def write_to(parent: Parent, stream: trio.SocketStream) -> None:
    async with stream:
        await stream.send_all(b"from a grandchild")
    await parent.send("written")


def counted(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(function)
    async def wrapper(parent: Parent) -> None:
        await parent.send("decorated")
        await function(parent)

    return wrapper


@counted
async def decorated(parent: Parent) -> None:
    await parent.send("the function")


# Things that are no function children.


def not_async(parent: Parent) -> None: ...


async def generator(parent: Parent) -> AsyncIterator[None]:
    yield


class Callable_:
    async def __call__(self, parent: Parent) -> None: ...
