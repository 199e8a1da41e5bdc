"""What whoever receives a handle does with it, and the children that receive some.

Children import this file: nothing stands at its top that they don't need.
"""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import trio

import trio_ipc

QUESTION = b"is it you?"
ANSWER = b"it is"


# The roles: what the receiver of a handle does, so that whoever holds the other end sees it work.


async def converse(received: Any) -> None:
    """Ask over a connection, whatever type it has."""
    stream = as_stream(received)
    async with stream:
        await stream.send_all(QUESTION)
        assert await read_exactly(stream, len(ANSWER)) == ANSWER


async def accept(received: Any) -> None:
    """Take one connection off a listener, and ask over that."""
    listener = received
    if not isinstance(received, trio.SocketListener):
        listener = trio.SocketListener(as_trio_socket(received))
    async with listener:
        await converse(await listener.accept())


async def answer_datagram(received: Any) -> None:
    with as_trio_socket(received) as sock:
        data, sender = await sock.recvfrom(100)
        assert data == QUESTION
        await sock.sendto(ANSWER, sender)


async def ask_datagram(received: Any) -> None:
    """The same between two sockets that have no names, and are connected."""
    with as_trio_socket(received) as sock:
        await sock.send(QUESTION)
        assert await sock.recv(100) == ANSWER


async def read_pipe(received: trio.lowlevel.FdStream) -> None:
    async with received:
        assert await read_exactly(received, len(ANSWER)) == ANSWER


async def write_pipe(received: trio.lowlevel.FdStream) -> None:
    async with received:
        await received.send_all(QUESTION)


async def read_file(received: io.FileIO) -> None:
    with received:
        assert received.read() == ANSWER
        assert not received.writable()


async def write_file(received: io.FileIO) -> None:
    with received:
        received.write(QUESTION)
        assert not received.readable()


async def rewrite_file(received: io.FileIO) -> None:
    with received:
        assert received.read() == ANSWER
        received.write(QUESTION)


async def talk(received: trio_ipc.Channel[Any, Any]) -> None:
    async with received:
        await received.send(QUESTION)
        assert await received.receive() == ANSWER


ROLES: dict[str, Callable[[Any], Awaitable[None]]] = {
    role.__name__: role
    for role in (
        converse,
        accept,
        answer_datagram,
        ask_datagram,
        read_pipe,
        write_pipe,
        read_file,
        write_file,
        rewrite_file,
        talk,
    )
}


def as_trio_socket(sock: Any) -> trio.socket.SocketType:
    if isinstance(sock, socket.socket):
        return trio.socket.from_stdlib_socket(sock)
    assert isinstance(sock, trio.socket.SocketType)
    return sock


def as_stream(sock: Any) -> trio.SocketStream:
    if isinstance(sock, trio.SocketStream):
        return sock
    return trio.SocketStream(as_trio_socket(sock))


async def read_exactly(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = await stream.receive_some(count - len(data))
        assert chunk, f"the end came after {data!r}"
        data += chunk
    return data


def descriptor_of(obj: Any) -> int:
    """The number of whatever kind of handle."""
    number: int = getattr(obj, "socket", obj).fileno()
    return number


def close(obj: Any) -> None:
    """Close whatever kind of handle, without a checkpoint."""
    getattr(obj, "socket", obj).close()


def flags_of(obj: Any) -> tuple[bool, bool]:
    """(close-on-exec, non-blocking)"""
    number = descriptor_of(obj)
    return not os.get_inheritable(number), not os.get_blocking(number)


# The children.


async def play_roles(parent: trio_ipc.Channel[Any, Any]) -> None:
    async for role, handle in parent:
        await parent.send([type(handle).__name__, *flags_of(handle)])
        await ROLES[role](handle)
        await parent.send("done")


async def play_one_role(parent: trio_ipc.Channel[Any, Any], role: str, handle: Any) -> None:
    await parent.send([type(handle).__name__, *flags_of(handle)])
    await ROLES[role](handle)


async def serve_from_config(
    parent: trio_ipc.Channel[Any, Any], config: dict[str, Any], *rest: Any
) -> None:
    """A listener and a log file, somewhere inside its arguments."""
    [listener] = config["listeners"]
    await accept(listener)
    with config["log"] as log:
        log.write(b"accepted one")
    await parent.send(list(rest))


async def receive_nothing(
    parent: trio_ipc.Channel[Any, Any], until_closed: trio.lowlevel.FdStream
) -> None:
    """End when the pipe does, whatever has come from the parent."""
    async with until_closed:
        await until_closed.receive_some()


async def return_at_once(parent: trio_ipc.Channel[Any, Any], *args: Any) -> None:
    pass


async def measure(parent: trio_ipc.Channel[Any, Any]) -> None:
    """A payload and a handle: tell how much it was, and answer through the handle."""
    async for payload, stream in parent:
        await parent.send(len(payload))
        await converse(stream)


async def return_all(parent: trio_ipc.Channel[Any, Any]) -> None:
    async for message in parent:
        await parent.send(message)


async def forward_to(parent: trio_ipc.Channel[Any, Any], other: trio_ipc.Channel[Any, Any]) -> None:
    """Pass on what comes from the parent, to a process that is not a relative."""
    async with other:
        async for message in parent:
            await other.send(message)


async def accept_from(
    parent: trio_ipc.Channel[Any, Any], other: trio_ipc.Channel[Any, Any]
) -> None:
    async with other:
        async for message in other:
            if isinstance(message, trio_ipc.HandleMessage):
                assert message.message == "as a pair"
                message = message.handle
            await accept(message)
            await parent.send("accepted")


async def count_up(parent: trio_ipc.Channel[Any, Any], other: trio_ipc.Channel[Any, Any]) -> None:
    async with other:
        number = await parent.receive()
        for _ in range(100):
            await other.send(number + 1)
            number = await other.receive()
    await parent.send(number)


async def count_along(
    parent: trio_ipc.Channel[Any, Any], other: trio_ipc.Channel[Any, Any]
) -> None:
    async with other:
        async for number in other:
            await other.send(number + 1)


async def offer_own_end(parent: trio_ipc.Channel[Any, Any]) -> None:
    """Try to send the parent its own channel, in each disguise, and tell what came of it."""
    with socket.socket(fileno=os.dup(parent.fileno())) as copy:
        for disguise in (parent, copy):
            try:
                await parent.send(disguise)
            except trio_ipc.UnsupportedHandle as exc:
                await parent.send(str(exc))


async def wait_for_end(parent: trio_ipc.Channel[Any, Any]) -> None:
    async for _ in parent:
        pass


async def send_all_and_wait(parent: trio_ipc.Channel[Any, Any], handles: list[Any]) -> None:
    for handle in handles:
        await parent.send(handle)
    await parent.send("all sent")
    await wait_for_end(parent)
