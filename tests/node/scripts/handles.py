from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from common import receive_plain, run, say

import trio_ipc

PAYLOAD = "a" * 800_004


@asynccontextmanager
async def connection() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream(*listener.socket.getsockname())
        accepted = await listener.accept()
    async with accepted, client:
        yield accepted, client


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


def name_of(handle: Any) -> str:
    return type(handle).__name__


async def close(handle: Any) -> None:
    if isinstance(handle, trio.abc.AsyncResource):
        await handle.aclose()
    else:
        handle.close()


async def describe() -> None:
    async with trio_ipc.open_parent() as parent:
        async for message in parent:
            if isinstance(message, trio_ipc.HandleMessage):
                await parent.send([message.message, name_of(message.handle)])
                await close(message.handle)
            else:
                await parent.send([message, None])


async def recv_handle() -> None:
    async with trio_ipc.open_parent() as parent:
        one = await receive_plain(parent)
        two, listener = await parent.receive()
        await close(listener)
        three = await receive_plain(parent)
        await parent.send([[one, None], [two, name_of(listener)], [three, None]])
        async for _ in parent:
            raise AssertionError("there was a fourth")


async def send_three() -> None:
    async with trio_ipc.open_parent() as parent, connection() as (stream, client):
        await parent.send("one")
        await parent.send("two", stream)
        await parent.send("three")
        assert await read_all(client) == b"two"


async def pass_fd() -> None:
    async with trio_ipc.open_parent() as parent, connection() as (stream, client):
        await parent.send("handle", stream)
        assert await receive_plain(parent) == "got"
        await client.send_all(b"hello?")


async def net_send() -> None:
    async with trio_ipc.open_parent() as parent, connection() as (stream, client):
        await parent.send("a connection", stream)
        assert stream.socket.fileno() == -1
        await client.send_all(b"from the child")
        assert await client.receive_some() == b"from the parent"


async def large_payload() -> None:
    async with trio_ipc.open_parent() as parent:
        message, stream = await parent.receive()
        assert message == {"payload": PAYLOAD}
        assert type(stream) is trio.SocketStream
        await parent.send(message, stream)


async def answer_client() -> None:
    async with trio_ipc.open_parent() as parent:
        async for message, stream in parent:
            async with stream:
                await stream.send_all(message.encode())


async def fork_net() -> None:
    async def attend(message: str, stream: trio.SocketStream) -> None:
        async with stream:
            if message == "end":
                await stream.send_all(b"ended")
            else:
                await stream.send_all(b"heard " + await stream.receive_some())

    async with trio_ipc.open_parent() as parent, trio.open_nursery() as nursery:
        async for message, stream in parent:
            nursery.start_soon(attend, message, stream)


async def serve() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(b"child")

    async with trio_ipc.open_parent() as parent:
        _, listener = await parent.receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, answer, [listener])
            await parent.send("listening")
            assert await receive_plain(parent) == "close"
            nursery.cancel_scope.cancel()
        await listener.aclose()
        await parent.send("closed")


async def send_server() -> None:
    async with trio_ipc.open_parent() as parent:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            await parent.send(None, listener)
            assert await receive_plain(parent) == "close"


async def serve_dgram() -> None:
    async with trio_ipc.open_parent() as parent:
        _, sock = await parent.receive()
        with sock:
            await parent.send("listening")
            data, sender = await sock.recvfrom(100)
            await sock.sendto(b"child heard " + data, sender)
        await parent.send("heard")
        assert await receive_plain(parent) == "done"


async def send_dgram() -> None:
    async with trio_ipc.open_parent() as parent:
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
            await sock.bind(("127.0.0.1", 0))
            await parent.send("a socket", sock)
            assert await receive_plain(parent) == "your turn"
            data, _ = await sock.recvfrom(100)
            await parent.send(data.decode())


async def send_keep_open() -> None:
    async with trio_ipc.open_parent() as parent:
        _, stream = await parent.receive()
        async with stream:
            await stream.send_all(b"from the child")
            await parent.send("written")
            async for _ in parent:
                raise AssertionError("there was one more")


async def keep_open() -> None:
    async with trio_ipc.open_parent() as parent, connection() as (stream, client):
        await parent.send("a connection", stream, keep_open=True)
        assert await client.receive_some() == b"from the parent"
        assert await receive_plain(parent) == "your turn"
        await stream.send_all(b"from the child")
        await stream.aclose()
        assert await read_all(client) == b"from the child"


async def exit_at_first_handle() -> None:
    async with trio_ipc.open_parent() as parent:
        _, stream = await parent.receive()
        await stream.aclose()


async def deadlock(count: str) -> None:
    async def answer(parent: Any) -> None:
        for number in range(int(count)):
            message, stream = await parent.receive()
            assert message == [number, PAYLOAD[:100_000]]
            async with stream:
                await stream.send_all(b"%d" % number)

    async with trio_ipc.open_parent() as parent:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, parent)
            for number in range(int(count)):
                async with connection() as (stream, client):
                    await parent.send([number, PAYLOAD[:100_000]], stream)
                    assert await read_all(client) == b"%d" % number


async def handle_twice() -> None:
    async with trio_ipc.open_parent() as parent, connection() as (stream, client):
        await parent.send("first", stream)
        try:
            await parent.send("second", stream)
        except trio_ipc.UnsupportedHandle:
            pass
        else:
            raise AssertionError("it was sent twice")
        assert await read_all(client) == b"from the parent"


async def listen_fd(number: str) -> None:
    async with trio_ipc.open_parent() as parent:
        sock = trio.socket.from_stdlib_socket(socket.socket(fileno=int(number)))
        async with trio.SocketListener(sock) as listener:
            await parent.send("listening")
            async with await listener.accept() as stream:
                await stream.send_all(b"child")
        async for _ in parent:
            pass


async def close_receive_half() -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.receive_channel.aclose()
        say("closed")
        # The end can't be received any more, but a send tells of it.
        try:
            while True:
                await parent.send("are you there?")
                await trio.sleep(0.01)
        except trio.BrokenResourceError:
            pass


async def leave_unread() -> None:
    async with trio_ipc.open_parent() as parent:
        while parent.statistics().current_buffer_used < 4:
            await trio.lowlevel.checkpoint()
        say(str(parent.statistics().current_buffer_used))


async def refuse() -> None:
    files: list[Any] = [
        open(__file__, "rb"),  # noqa: ASYNC230, SIM115
        trio.lowlevel.FdStream(os.open("/dev/null", os.O_RDWR)),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        *socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET),
    ]
    async with trio_ipc.open_parent() as parent:
        for handle in files:
            try:
                await parent.send("refused", handle)
            except trio_ipc.UnsupportedHandle:
                handle.close()
            else:
                raise AssertionError(f"{handle!r} was sent")


if __name__ == "__main__":
    run(
        describe,
        recv_handle,
        send_three,
        pass_fd,
        net_send,
        large_payload,
        answer_client,
        fork_net,
        serve,
        send_server,
        serve_dgram,
        send_dgram,
        send_keep_open,
        keep_open,
        exit_at_first_handle,
        deadlock,
        handle_twice,
        listen_fd,
        close_receive_half,
        leave_unread,
        refuse,
    )
