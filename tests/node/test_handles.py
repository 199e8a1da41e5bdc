"""Handles to a Node child and from it.

Tests are named after those of Node itself that ask for the same, where there is one.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import open_stream_to_socket_listener

import trio_ipc

from ..handle_kinds import is_open
from .helpers import connection, open_node, open_node_aside, read_all

PAYLOAD = "a" * 800_004


async def test_recv_handle(node: str) -> None:
    async with open_node_aside(node, "handles.js", "recv_handle") as (child, aside):
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            assert await aside.hear() == "here"
            child.send_nowait("one")
            child.send_nowait("two", listener)
            child.send_nowait("three")
            await aside.say()
            assert await child.receive() == [["one", None], ["two", "net.Server"], ["three", None]]
            assert is_open(listener)


async def test_recv_handle_from_node(node: str) -> None:
    async with open_node(node, "handles.js", "send_three") as child:
        assert await child.receive() == "one"
        message, stream = await child.receive()
        assert message == "two"
        assert type(stream) is trio.SocketStream
        assert await child.receive() == "three"
        async with stream:
            await stream.send_all(b"two")
    assert child.process.returncode == 0


async def test_cluster_net_send(node: str) -> None:
    async with open_node(node, "handles.js", "net_send") as child:
        message, stream = await child.receive()
        assert message == "a connection"
        async with stream:
            assert await stream.receive_some() == b"from the child"
            await stream.send_all(b"from the parent")
            assert await read_all(stream) == b""
    assert child.process.returncode == 0


async def test_cluster_net_send_to_the_child(node: str) -> None:
    async with open_node(node, "handles.js", "serve_connection") as child:
        async with connection() as (stream, client):
            await child.send("a connection", stream)
            await client.send_all(b"from the client")
            assert await client.receive_some() == b"from the client"
            await client.send_eof()
            assert await read_all(client) == b"that was all"
    assert child.process.returncode == 0


async def test_cluster_send_handle_large_payload(node: str) -> None:
    async with open_node(node, "handles.js", "large_payload") as child:
        async with connection() as (stream, client):
            await child.send({"payload": PAYLOAD}, stream)
            message, returned = await child.receive()
            assert message == {"payload": PAYLOAD}
            async with returned:
                await returned.send_all(b"there and back")
            assert await read_all(client) == b"there and back"


async def test_fork_net_socket(node: str) -> None:
    async with open_node(node, "handles.js", "answer_client") as child:
        for word in ("echo", "echo again"):
            async with connection() as (stream, client):
                await child.send(word, stream)
                assert not is_open(stream)
                assert await read_all(client) == word.encode()


async def test_fork_net_socket_of_every_class(node: str) -> None:
    async with open_node(node, "handles.js", "answer_client") as child:
        for make in (
            lambda stream: stream.socket,
            lambda stream: socket.socket(fileno=os.dup(stream.socket.fileno())),
            trio_ipc.HandleMessage,
        ):
            async with connection() as (stream, client):
                if make is trio_ipc.HandleMessage:
                    await child.send(trio_ipc.HandleMessage("moved", stream))
                    handle: Any = stream
                else:
                    handle = make(stream)
                    await child.send("moved", handle)
                assert not is_open(handle)
                await stream.aclose()
                assert await read_all(client) == b"moved"


async def test_fork_net(node: str) -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with (
        listener,
        open_node(node, "handles.js", "fork_net") as first,
        open_node(node, "handles.js", "fork_net") as second,
        open_node(node, "handles.js", "fork_net") as third,
    ):
        children = [first, second, third]
        clients = []
        for number in range(12):
            clients.append(await open_stream_to_socket_listener(listener))
            stream = await listener.accept()
            what = "write" if number % 2 else "end"
            await children[number % 3].send(what, stream)
        for number, client in enumerate(clients):
            async with client:
                if number % 2:
                    await client.send_all(b"%d" % number)
                    assert await read_all(client) == b"heard %d" % number
                else:
                    assert await read_all(client) == b"ended"
        for child in children:
            assert sorted([await child.receive() for _ in range(4)])[0] == 0


async def test_fork_net_server(node: str) -> None:
    async with open_node(node, "handles.js", "serve") as child:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            await child.send("server", listener)
            assert await child.receive() == "listening"
            # Nobody accepts here, so it is the child's.
            async with await open_stream_to_socket_listener(listener) as client:
                assert await read_all(client) == b"child"
            await child.send("close")
            assert await child.receive() == "closed"
            async with await open_stream_to_socket_listener(listener) as client:
                async with await listener.accept() as stream:
                    await stream.send_all(b"parent")
                assert await read_all(client) == b"parent"


async def test_fork_net_server_that_the_parent_closes(node: str) -> None:
    async with open_node(node, "handles.js", "serve") as child:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        await child.send("server", listener, keep_open=False)
        assert not is_open(listener)
        assert await child.receive() == "listening"
        async with await trio.open_tcp_stream("127.0.0.1", port) as client:
            assert await read_all(client) == b"child"
        await child.send("close")
        assert await child.receive() == "closed"
        with pytest.raises(OSError, match=str(port)):
            await trio.open_tcp_stream("127.0.0.1", port)


async def test_net_listen_handle_in_cluster_1(node: str) -> None:
    # The message beside the handle is null.
    async with open_node(node, "handles.js", "describe") as child:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            await child.send(None, listener)
            assert await child.receive() == [None, "net.Server"]
    async with open_node(node, "handles.js", "send_server") as child:
        message, listener = await child.receive()
        assert message is None
        assert type(listener) is trio.SocketListener
        async with listener:
            async with await open_stream_to_socket_listener(listener) as client:
                assert await read_all(client) == b"child"
            await child.send("close")
            await child.process.wait()
            async with await open_stream_to_socket_listener(listener) as client:
                async with await listener.accept() as stream:
                    await stream.send_all(b"parent")
                assert await read_all(client) == b"parent"


async def test_a_server_on_a_path(node: str, tmp_path: Path) -> None:
    path = str(tmp_path / "a socket")
    async with open_node(node, "handles.js", "send_server", path) as child:
        message, listener = await child.receive()
        assert message == "a path"
        async with listener:
            assert listener.socket.getsockname() == path
            await child.send("close")
            await child.process.wait()
    path = str(tmp_path / "another")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        sock.setblocking(False)
        async with open_node(node, "handles.js", "serve") as child:
            await child.send("server", sock)
            assert await child.receive() == "listening"
            async with await trio.open_unix_socket(path) as client:
                assert await read_all(client) == b"child"
            await child.send("close")
            assert await child.receive() == "closed"


async def test_fork_dgram(node: str) -> None:
    async with open_node(node, "handles.js", "serve_dgram") as child:
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as shared:
            await shared.bind(("127.0.0.1", 0))
            with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as client:
                await client.bind(("127.0.0.1", 0))
                await child.send("a socket", shared)
                assert is_open(shared)
                assert await child.receive() == "listening"
                await client.sendto(b"one", shared.getsockname())
                assert await client.recvfrom(100) == (b"child heard one", shared.getsockname())
                # The child has closed its copy, which is not the end of ours.
                assert await child.receive() == "heard"
                await client.sendto(b"two", shared.getsockname())
                assert await shared.recvfrom(100) == (b"two", client.getsockname())
                await child.send("done")


@pytest.mark.parametrize("family", ["udp4", "udp6"])
async def test_fork_dgram_of_the_child(node: str, family: str) -> None:
    async with open_node(node, "handles.js", "send_dgram", family) as child:
        message, shared = await child.receive()
        assert message == "a socket"
        assert isinstance(shared, trio.socket.SocketType)
        with shared:
            assert shared.type == trio.socket.SOCK_DGRAM
            v6 = family == "udp6"
            assert shared.family == (trio.socket.AF_INET6 if v6 else trio.socket.AF_INET)
            host = "::1" if v6 else "127.0.0.1"
            with trio.socket.socket(shared.family, trio.socket.SOCK_DGRAM) as client:
                await client.bind((host, 0))
                await shared.sendto(b"from here", client.getsockname())
                data, sender = await client.recvfrom(100)
                assert (data, sender[1]) == (b"from here", shared.getsockname()[1])
                await child.send("your turn")
                await client.sendto(b"to the child", sender)
                # Both read from it, until one closes.
                assert await child.receive() == "to the child"


async def test_each_kind_to_the_child(node: str, tmp_path: Path) -> None:
    udp4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    pair = [trio.SocketStream(each) for each in trio.socket.socketpair()]
    async with open_node(node, "handles.js", "describe") as child, pair[0]:
        reader, writer = map(trio.lowlevel.FdStream, os.pipe())
        with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as tcp:
            unix.bind(str(tmp_path / "a socket"))
            unix.listen()
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp6:
                for handle, kind in [
                    (pair[1], "net.Socket"),
                    (reader, "net.Socket"),
                    (writer, "net.Socket"),
                    (tcp, "net.Server"),
                    (unix, "net.Server"),
                    (trio.SocketListener(trio.socket.from_stdlib_socket(tcp.dup())), "net.Server"),
                    (udp4, "dgram.Socket udp4"),
                    (udp6, "dgram.Socket udp6"),
                ]:
                    await child.send("this", handle, keep_open=False)
                    assert await child.receive() == ["this", kind]
                    assert not is_open(handle)
        assert await read_all(pair[0]) == b""


async def test_each_kind_from_the_child(node: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    async with trio.lowlevel.FdStream(writer) as pipe:
        try:
            opened = open_node(
                node,
                "handles.js",
                "send_each_kind",
                str(tmp_path / "a socket"),
                str(reader),
                pass_fds=[reader],
            )
            async with opened as child:
                os.close(reader)
                reader = -1
                await check_each_kind(child, pipe)
            assert child.process.returncode == 0
        finally:
            if reader >= 0:
                os.close(reader)


async def check_each_kind(
    child: trio_ipc.ChildChannel[Any, Any], pipe: trio.lowlevel.FdStream
) -> None:
    async def receive(name: str) -> Any:
        message, handle = await child.receive()
        assert message == name
        return handle

    async with await receive("net.Socket") as first:
        async with await receive("the other net.Socket") as second:
            await first.send_all(b"from one end to the other")
            assert await second.receive_some() == b"from one end to the other"
    async with await receive("Unix net.Socket") as unix:
        assert type(unix) is trio.SocketStream
        assert unix.socket.family == trio.socket.AF_UNIX
    async with await receive("raw TCP") as raw:
        assert type(raw) is trio.SocketStream
        assert raw.socket.family == trio.socket.AF_INET
    for name, family in [
        ("net.Server", trio.socket.AF_INET),
        ("Unix net.Server", trio.socket.AF_UNIX),
        ("raw server", trio.socket.AF_INET),
    ]:
        async with await receive(name) as listener:
            assert type(listener) is trio.SocketListener
            assert listener.socket.family == family
    for name in ("dgram.Socket", "udp6", "raw UDP"):
        with await receive(name) as udp:
            assert isinstance(udp, trio.socket.SocketType)
            assert udp.type == trio.socket.SOCK_DGRAM
    async with await receive("pipe") as end:
        assert type(end) is trio.lowlevel.FdStream
        await pipe.send_all(b"through the pipe")
        assert await end.receive_some() == b"through the pipe"
    assert await child.receive() == "the last"


async def test_send_keep_open(node: str) -> None:
    async with open_node(node, "handles.js", "send_keep_open") as child:
        async with connection() as (stream, client):
            await child.send("a connection", stream, keep_open=True)
            assert is_open(stream)
            assert await child.receive() == "written"
            await stream.send_all(b" and from the parent")
            await stream.aclose()
            await child.send_channel.aclose()
            assert await read_all(client) == b"from the child and from the parent"


async def test_send_keep_open_by_the_child(node: str) -> None:
    async with open_node(node, "handles.js", "keep_open") as child:
        _, stream = await child.receive()
        async with stream:
            await stream.send_all(b"from the parent")
        await child.send("your turn")
    assert child.process.returncode == 0


async def test_cluster_send_handle_twice(node: str) -> None:
    async with open_node(node, "handles.js", "answer_client") as child:
        async with connection() as (stream, client):
            await child.send("first", stream)
            with pytest.raises(trio_ipc.UnsupportedHandle, match="closed"):
                await child.send("second", stream)
            assert await read_all(client) == b"first"


async def test_cluster_send_handle_twice_by_the_child(node: str) -> None:
    # Node sends the second as the plain message.
    async with open_node(node, "handles.js", "handle_twice") as child:
        message, stream = await child.receive()
        assert message == "first"
        assert await child.receive() == "second"
        async with stream:
            await stream.send_all(b"from the parent")
    assert child.process.returncode == 0


async def test_listen_fd_server(node: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.fileno()
        async with open_node(
            node, "handles.js", "listen_fd", str(number), pass_fds=[number]
        ) as child:
            assert await child.receive() == "listening"
            port = server.getsockname()[1]
            server.close()
            async with await trio.open_tcp_stream("127.0.0.1", port) as client:
                assert await read_all(client) == b"child"
    assert child.process.returncode == 0


async def test_listen_fd_cluster(node: str) -> None:
    # Several children, and the parent, share the listener.
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.fileno()
        port = server.getsockname()[1]
        arguments = (node, "handles.js", "listen_fd", str(number))
        async with open_node(*arguments, pass_fds=[number]) as first:
            async with open_node(*arguments, pass_fds=[number]) as second:
                assert await first.receive() == await second.receive() == "listening"
                await first.send_channel.aclose()
                await first.process.wait()
                async with await trio.open_tcp_stream("127.0.0.1", port) as client:
                    assert await read_all(client) == b"child"
            assert (first.process.returncode, second.process.returncode) == (0, 0)


async def test_a_connection_that_was_reset_by_its_client(node: str) -> None:
    async with open_node(node, "handles.js", "send_reset") as child:
        message, stream = await child.receive()
        assert message == "a connection"
        async with stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()


async def test_connections_for_an_http_server(node: str) -> None:
    async with open_node(node, "handles.js", "http") as child:
        for path in ("one", "two"):
            async with connection() as (stream, client):
                await child.send("a connection", stream)
                await client.send_all(
                    b"GET /%s HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n" % path.encode()
                )
                response = await read_all(client)
                assert response.startswith(b"HTTP/1.1 200 OK\r\n")
                assert response.endswith(b"GET /%s" % path.encode())


# What it refuses ----------------------------------------------------------------------------------


async def test_what_node_can_not_take_is_refused(node: str, tmp_path: Path) -> None:
    refused: list[Any] = [
        (tmp_path / "file").open("wb"),
        (tmp_path / "file").open("rb", buffering=0),
        trio.lowlevel.FdStream(os.open("/dev/null", os.O_RDWR)),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        *socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET),
        *socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
        *trio_ipc.open_channel_pair(1),
    ]
    async with open_node(node, "handles.js", "answer_client") as child:
        for handle in refused:
            with pytest.raises(trio_ipc.UnsupportedHandle):
                await child.send("refused", handle)
            with pytest.raises(trio_ipc.UnsupportedHandle):
                child.send_nowait("refused", handle)
            assert is_open(handle)
            handle.close()
        async with connection() as (stream, client):
            for inside in (stream, [stream], {"a": {"b": stream}}, (1, [stream])):
                with pytest.raises(trio_ipc.UnsupportedHandle):
                    await child.send(inside)
                with pytest.raises(trio_ipc.UnsupportedHandle):
                    await child.send(inside, stream)
            await child.send("this one", stream)
            assert await read_all(client) == b"this one"
