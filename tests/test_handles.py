"""Handles of every kind travel: alone, together, deep inside a message, moved or shared."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

import trio_ipc
from trio_ipc import _connection

from . import handle_workers
from .handle_kinds import (
    BY_NAME,
    KINDS,
    Kind,
    Made,
    answer,
    channel_pair,
    connect_and_answer,
    connection,
    copies,
    is_open,
    pipe,
    stream_and_client,
)
from .handle_workers import ANSWER, QUESTION, ROLES, as_trio_socket, close, flags_of

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


async def play(kind: Kind, received: Any, made: Made) -> None:
    """Let the receiver do with it what one does with such a thing, and see that it works."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.attend)
        nursery.start_soon(ROLES[kind.role], received)
    made.check()


# Alone ----------------------------------------------------------------------------------------


@every_kind
async def test_a_handle_arrives_as_its_type_and_works(kind: Kind) -> None:
    async with kind.make() as made:
        with channel_pair() as (a, b):
            await a.send(made.handle)
            received = await b.receive()
            assert isinstance(received, kind.arrives_as)
            assert received is not made.handle
            await play(kind, received, made)


@every_kind
async def test_a_handle_works_in_a_child(kind: Kind) -> None:
    async with kind.make() as made:
        sent_type = kind.arrives_as if isinstance(made.handle, io.IOBase) else type(made.handle)
        async with trio_ipc.open_child(handle_workers.play_roles) as child:
            await child.send([kind.role, made.handle])
            name, is_close_on_exec, is_non_blocking = await child.receive()
            assert name == sent_type.__name__
            assert is_close_on_exec
            # The mode of a file is none of our business: reading it never waits.
            assert is_non_blocking or kind.arrives_as is io.FileIO
            await made.attend()
            assert await child.receive() == "done"
            made.check()


@every_kind
async def test_what_arrives_is_close_on_exec_and_does_not_block(kind: Kind) -> None:
    async with kind.make() as made:
        with channel_pair() as (a, b):
            await a.send(made.handle)
            received = await b.receive()
            is_close_on_exec, is_non_blocking = flags_of(received)
            close(received)
            assert is_close_on_exec
            assert is_non_blocking or kind.arrives_as is io.FileIO


async def test_it_is_close_on_exec_where_only_linux_would_make_it_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on macOS, whose kernel knows no MSG_CMSG_CLOEXEC."""
    monkeypatch.setattr(_connection, "_RECEIVE_FLAGS", int(socket.MSG_DONTWAIT))
    with stream_and_client() as (stream, _):
        with channel_pair() as (a, b):
            monkeypatch.setattr(_connection, "_SETS_CLOEXEC", False)
            await a.send([stream, stream.socket])
            for received in await b.receive():
                is_close_on_exec, _ = flags_of(received)
                close(received)
                assert is_close_on_exec


def inherited() -> set[int]:
    """What a child would inherit that is started now, by whomever."""
    found = set()
    for number in map(int, os.listdir("/dev/fd")):
        try:
            if os.get_inheritable(number):
                found.add(number)
        except OSError:
            pass  # it was that of the list
    return found


@every_kind
async def test_what_waits_to_be_written_is_close_on_exec(kind: Kind) -> None:
    before = inherited()
    keep_open = None if kind.arrives_as is trio_ipc.Channel else True
    async with kind.make() as made:
        a, b = trio_ipc.open_channel_pair(100)
        with a, b:
            while not a.statistics().bytes_unsent:
                a.send_nowait("x" * 100_000)
            a.send_nowait(made.handle, keep_open=keep_open)
            assert inherited() == before
            while isinstance(received := await b.receive(), str):
                pass
            close(received)


@every_kind
async def test_a_handle_as_the_second_argument_arrives_as_a_handle_message(kind: Kind) -> None:
    async with kind.make() as made:
        with channel_pair() as (a, b):
            await a.send({"for": "you"}, made.handle)
            received = await b.receive()
            assert type(received) is trio_ipc.HandleMessage
            message, handle = received
            assert message == {"for": "you"}
            assert isinstance(handle, kind.arrives_as)
            await play(kind, handle, made)


# Moved or shared ------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("as_handle", [False, True], ids=["in the message", "as handle="])
async def test_each_kind_moves_or_stays_by_its_own_rule(kind: Kind, as_handle: bool) -> None:
    async with kind.make() as made:
        with channel_pair() as (a, b):
            await (a.send(None, made.handle) if as_handle else a.send(made.handle))
            assert is_open(made.handle) is not kind.moves
            received = await b.receive()
            await play(kind, received.handle if as_handle else received, made)


@every_kind
async def test_where_the_system_does_not_tell_what_listens(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = socket.socket.getsockopt

    def getsockopt(sock: socket.socket, level: int, option: int, *more: int) -> Any:
        if option == socket.SO_ACCEPTCONN:
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")
        return ask(sock, level, option, *more)

    async with kind.make() as made:
        with channel_pair() as (a, b), monkeypatch.context() as patch:
            patch.setattr(socket.socket, "getsockopt", getsockopt)
            await a.send(made.handle)
            assert is_open(made.handle) is not kind.moves
            received = await b.receive()
            assert isinstance(received, kind.arrives_as)
            await play(kind, received, made)


@every_kind
async def test_keep_open_false_moves_what_would_be_shared(kind: Kind) -> None:
    async with kind.make() as made:
        with channel_pair() as (a, b):
            await a.send(made.handle, keep_open=False)
            assert not is_open(made.handle)
            await play(kind, await b.receive(), made)


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.name != "channel"], ids=lambda kind: kind.name
)
async def test_keep_open_true_shares_what_would_move(kind: Kind) -> None:
    async with kind.make() as made:
        with channel_pair() as (a, b):
            a.send_nowait(made.handle, keep_open=True)
            received = await b.receive()
            if kind.arrives_as is not io.FileIO:  # which would go on where the other one stopped
                await play(kind, received, made)
            close(received)
            assert is_open(made.handle)
            # The sender's own copy works after the receiver has closed its own.
            handle = made.handle
            if isinstance(handle, io.BufferedIOBase):
                handle = handle.detach()
            await play(kind, handle, made)


async def test_keep_open_holds_for_every_handle_of_a_message() -> None:
    async with BY_NAME["socket TCP listening"].make() as listening:
        with stream_and_client() as (stream, _), channel_pair() as (a, b):
            for keep_open in (True, False):
                await a.send([stream, listening.handle], keep_open=keep_open)
                assert is_open(stream) is is_open(listening.handle) is keep_open
                for received in await b.receive():
                    close(received)


async def test_a_task_that_waits_in_what_moves_away_is_told() -> None:
    async with trio.open_nursery() as nursery:

        async def wait(call: Callable[..., Awaitable[Any]], *args: Any) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await call(*args)

        with channel_pair() as (a, b), pipe() as (reader, _), stream_and_client() as (stream, _):
            with connection() as (ours, _), stream_and_client() as (other, _):
                [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
                sock = trio.socket.from_stdlib_socket(ours)
                nursery.start_soon(wait, reader.receive_some)
                nursery.start_soon(wait, stream.receive_some)
                nursery.start_soon(wait, listener.accept)
                nursery.start_soon(wait, sock.recv, 1)
                nursery.start_soon(wait, trio.lowlevel.wait_readable, other.socket)
                await trio.testing.wait_all_tasks_blocked()
                await a.send([reader, stream, listener, sock, other], keep_open=False)
                for received in await b.receive():
                    close(received)


async def test_a_file_is_shared_with_its_position(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file, channel_pair() as (a, b):
        assert file.read(3) == b"012"  # the buffer has read on, and its reader has not
        await a.send(file)
        with await b.receive() as received:
            assert received.tell() == 3
            assert received.read(2) == b"34"
        assert file.tell() == 5
        assert file.read() == b"56789"


@pytest.mark.parametrize("buffering", [0, -1], ids=["raw", "buffered"])
async def test_a_file_to_append_is_shared_with_its_position(buffering: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("a+b", buffering) as file, channel_pair() as (a, b):
        file.seek(3)
        await a.send(file)
        with await b.receive() as received:
            assert received.read(2) == b"34"
            assert file.read(2) == b"56"
            received.write(b"A")
        assert path.read_bytes() == b"0123456789A"


async def test_a_file_to_append_whose_position_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seek = os.lseek

    def lseek(fd: int, place: int, whence: int) -> int:
        if whence == os.SEEK_SET:
            raise OSError(errno.EIO, "Input/output error")
        return seek(fd, place, whence)

    with (tmp_path / "file").open("ab", 0) as file, channel_pair() as (a, b):
        await a.send(file)
        monkeypatch.setattr(os, "lseek", lseek)
        with pytest.raises(trio_ipc.ProtocolError, match="Input/output error"):
            await b.receive()
        assert copies(file.fileno()) == 1


async def test_a_pipe_to_append_is_a_file_without_a_position() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_APPEND)  # as of a standard output, by >> in a shell
    with io.FileIO(reader) as far, io.FileIO(writer, "w") as file, channel_pair() as (a, b):
        await a.send(file)
        with await b.receive() as received:
            assert received.mode == "ab"
            received.write(b"x")
        assert far.read(1) == b"x"


async def test_what_a_writer_has_buffered_is_written_before_the_receiver_writes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file, channel_pair() as (a, b):
        file.write(b"first, ")
        assert path.read_bytes() == b""
        await a.send(file)
        with await b.receive() as received:
            assert received.write(b"second, ")
        file.write(b"third")
        file.flush()
        assert path.read_bytes() == b"first, second, third"


async def test_a_file_that_is_read_and_written_keeps_its_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("r+b") as file, channel_pair() as (a, b):
        assert file.read(1) == b"0"
        file.write(b"AB")
        await a.send(file)
        with await b.receive() as received:
            assert received.mode == "rb+"
            assert received.read(2) == b"34"
            received.write(b"C")
        assert path.read_bytes() == b"0AB34C6789"


@pytest.mark.parametrize(
    ("mode", "arrives"),
    [("rb", "rb"), ("wb", "wb"), ("xb", "wb"), ("ab", "ab"), ("r+b", "rb+"), ("a+b", "ab+")],
)
async def test_a_file_arrives_with_its_mode(mode: str, arrives: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if mode != "xb":
        path.touch()
    with path.open(mode) as file, channel_pair() as (a, b):
        await a.send(file)
        with await b.receive() as received:
            assert type(received) is io.FileIO
            assert received.mode == arrives


async def test_the_buffer_of_a_text_file_travels(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(ANSWER)
    with path.open(encoding="utf-8") as file, channel_pair() as (a, b):
        await a.send(file.buffer)
        with await b.receive() as received:
            assert received.read() == ANSWER


# Together -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kinds",
    [(KINDS[index - 1], KINDS[index]) for index in range(len(KINDS))],
    ids=lambda kinds: " and ".join(kind.name for kind in kinds),
)
async def test_two_kinds_in_one_message_keep_their_order(kinds: tuple[Kind, Kind]) -> None:
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(kind.make()) for kind in kinds]
        a, b = stack.enter_context(channel_pair())
        await a.send([each.handle for each in made])
        received = await b.receive()
        for kind, handle, one in zip(kinds, received, made, strict=True):
            assert isinstance(handle, kind.arrives_as)
            await play(kind, handle, one)


async def test_every_kind_in_one_message() -> None:
    async with AsyncExitStack() as stack:
        made = {kind.name: await stack.enter_async_context(kind.make()) for kind in KINDS}
        a, b = stack.enter_context(channel_pair(max_handles=len(KINDS)))
        await a.send({name: {"it": each.handle} for name, each in made.items()})
        received = await b.receive()
        assert list(received) == list(made)
        for name, holder in received.items():
            await play(BY_NAME[name], holder["it"], made[name])


class Route(msgspec.Struct):
    name: str
    listener: Any
    logs: list[Any]


async def test_handles_deep_inside_lists_dicts_and_structs() -> None:
    async with AsyncExitStack() as stack:
        kinds = [BY_NAME[name] for name in ("listener TCP listening", "file wb raw", "stream TCP")]
        made = [await stack.enter_async_context(kind.make()) for kind in kinds]
        listener, log, stream = [each.handle for each in made]
        a, b = stack.enter_context(channel_pair())
        await a.send([{"routes": {7: Route("main", listener, [None, log])}}, ("x", (stream,))])
        received = await b.receive()
        listener, log = (
            received[0]["routes"][7]["listener"],
            received[0]["routes"][7]["logs"][1],
        )
        [stream] = received[1][1]
        assert received == [
            {"routes": {7: {"name": "main", "listener": listener, "logs": [None, log]}}},
            ["x", [stream]],
        ]
        for kind, handle, one in zip(kinds, (listener, log, stream), made, strict=True):
            assert isinstance(handle, kind.arrives_as)
            await play(kind, handle, one)


async def test_handles_beside_handle_are_counted_on() -> None:
    with channel_pair() as (a, b), stream_and_client() as (stream, client), pipe() as (reader, _):
        await a.send({"pipe": reader}, stream)
        message, handle = await b.receive()
        assert isinstance(message["pipe"], trio.lowlevel.FdStream)
        message["pipe"].close()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, client)
            nursery.start_soon(handle_workers.converse, handle)


async def test_the_same_handle_twice_is_one_object_on_both_sides() -> None:
    with channel_pair(max_handles=1) as (a, b), stream_and_client() as (stream, client):
        await a.send([stream, {"again": stream}], stream)
        [[first, second], third] = await b.receive()
        assert first is second["again"] is third
        with first.socket:
            assert copies(first) == 1
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, client)
                nursery.start_soon(handle_workers.converse, first)


async def test_two_objects_of_one_socket_are_two_handles() -> None:
    with channel_pair() as (a, b), stream_and_client() as (stream, _):
        await a.send([stream, stream.socket])
        assert not is_open(stream)
        first, second = await b.receive()
        with first.socket, second:
            assert isinstance(first, trio.SocketStream)
            assert isinstance(second, trio.socket.SocketType)
            assert first.socket.getpeername() == second.getpeername()
            assert first.socket.fileno() != second.fileno()


async def test_a_shared_handle_can_be_sent_again_and_again() -> None:
    async with BY_NAME["listener TCP listening"].make() as made:
        with channel_pair() as (a, b):
            for _ in range(3):
                await a.send(made.handle)
                await play(BY_NAME["listener TCP listening"], await b.receive(), made)


# How many -------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 16, 253])
async def test_as_many_handles_as_max_handles_and_not_one_more(most: int) -> None:
    limits = {} if most == 16 else {"max_handles": most}  # 16 is the default
    with channel_pair(**limits) as (a, b), ExitStack() as stack:
        sockets = []
        for _ in range(most + 1):
            ours, theirs = map(stack.enter_context, socket.socketpair())
            ours.send(len(sockets).to_bytes(2, "big"))
            sockets.append(theirs)
        with pytest.raises(trio_ipc.MessageTooLarge, match=f"{most}"):
            await a.send(sockets)
        assert all(map(is_open, sockets))
        await a.send(sockets[:-1])
        assert [is_open(sock) for sock in sockets] == [False] * most + [True]
        received = [stack.enter_context(sock) for sock in await b.receive()]
        numbers = [int.from_bytes(sock.recv(2), "big") for sock in received]
        assert numbers == list(range(most))


async def test_the_same_handle_counts_once() -> None:
    with channel_pair(max_handles=2) as (a, b), pipe() as (reader, writer):
        await a.send([reader, writer, reader, writer])
        first, second, *again = await b.receive()
        assert again == [first, second]
        first.close()
        second.close()


async def test_no_handles_where_none_are_allowed() -> None:
    with channel_pair(max_handles=0) as (a, b), stream_and_client() as (stream, client):
        with pytest.raises(trio_ipc.MessageTooLarge):
            await a.send(stream)
        await a.send("no handle")
        assert await b.receive() == "no handle"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, client)
            nursery.start_soon(handle_workers.converse, stream)


async def test_many_messages_with_handles_in_few_reads() -> None:
    with channel_pair(100) as (a, b), ExitStack() as stack:
        for number in range(50):
            ours, theirs = map(stack.enter_context, socket.socketpair())
            ours.send(bytes([number]))
            if number % 3 == 0:
                await a.send("between")
            await a.send([number, theirs])
        seen = []
        while len(seen) < 50:
            message = await b.receive()
            if message != "between":
                number, sock = message
                with sock:
                    assert sock.recv(1) == bytes([number])
                seen.append(number)
        assert seen == list(range(50))


# With a large message -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [40_000, 300_000, 3_000_000])
async def test_a_handle_goes_with_its_large_message(size: int) -> None:
    payload = os.urandom(size)
    with channel_pair() as (a, b), ExitStack() as stack:
        clients = []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                for _ in range(3):
                    stream, client = stack.enter_context(stream_and_client())
                    clients.append(client)
                    await a.send("small")
                    await a.send({"payload": payload, "stream": stream})
                await a.drain()

            for number in range(3):
                assert await b.receive() == "small"
                message = await b.receive()
                assert message["payload"] == payload
                nursery.start_soon(answer, clients[number])
                await handle_workers.converse(message["stream"])


async def test_a_handle_goes_with_its_large_message_to_a_child() -> None:
    async with trio_ipc.open_child(handle_workers.measure) as child:
        for size in (50_000, 2_000_000, 10):
            with stream_and_client() as (stream, client):
                await child.send("x" * size, stream)
                assert await child.receive() == size
                await answer(client)


# Usable ---------------------------------------------------------------------------------------


async def pass_through(*handles: Any) -> list[Any]:
    with channel_pair() as (a, b):
        await a.send(list(handles))
        received: list[Any] = await b.receive()
        return received


async def received_streams() -> tuple[trio.SocketStream, trio.SocketStream]:
    first, second = await pass_through(*map(stream_of, socket.socketpair()))
    return first, second


async def clogged_received_streams() -> tuple[trio.SocketStream, trio.SocketStream]:
    first, second = await received_streams()
    clog(first.socket.fileno())
    clog(second.socket.fileno())
    return first, second


def clog(number: int) -> None:
    try:
        while True:
            os.write(number, b"x" * 65536)
    except BlockingIOError:
        pass


def stream_of(sock: socket.socket) -> trio.SocketStream:
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


async def test_received_streams_are_two_way_streams() -> None:
    await trio.testing.check_two_way_stream(received_streams, clogged_received_streams)


async def test_received_streams_can_be_half_closed() -> None:
    await trio.testing.check_half_closeable_stream(received_streams, clogged_received_streams)


async def received_pipe() -> tuple[trio.lowlevel.FdStream, trio.lowlevel.FdStream]:
    reader, writer = await pass_through(*map(trio.lowlevel.FdStream, os.pipe()))
    return writer, reader


async def clogged_received_pipe() -> tuple[trio.lowlevel.FdStream, trio.lowlevel.FdStream]:
    writer, reader = await received_pipe()
    clog(writer.fileno())
    return writer, reader


async def test_received_pipes_are_one_way_streams() -> None:
    await trio.testing.check_one_way_stream(received_pipe, clogged_received_pipe)


async def test_a_received_listener_serves_real_clients() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        [received] = await pass_through(listener)
        address = received.socket.getsockname()
        assert address == listener.socket.getsockname()
        served = 0
        all_served = trio.Event()

        async def serve_one(stream: trio.SocketStream) -> None:
            nonlocal served
            await handle_workers.converse(stream)
            served += 1
            if served == 5:
                all_served.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve_one, [received])
            for _ in range(5):
                nursery.start_soon(connect_and_answer, socket.AF_INET, address)
            await all_served.wait()
            nursery.cancel_scope.cancel()


async def test_a_connection_goes_on_where_it_was() -> None:
    with stream_and_client() as (stream, client):
        client.sendall(b"before, ")
        assert await handle_workers.read_exactly(stream, 4) == b"befo"
        client.sendall(b"meanwhile, ")
        [received] = await pass_through(stream)
        client.sendall(b"after")
        expected = b"re, meanwhile, after"
        assert await handle_workers.read_exactly(received, len(expected)) == expected
        client.shutdown(socket.SHUT_WR)
        assert await received.receive_some() == b""
        await received.send_all(QUESTION)
        await received.aclose()
        assert client.recv(100, socket.MSG_WAITALL) == QUESTION


async def test_socket_options_travel_with_the_socket() -> None:
    with stream_and_client() as (stream, _):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
        [received] = await pass_through(stream)
        async with received:
            assert received.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


# As arguments of a function child ----------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "listener TCP listening",
        "stream TCP",
        "socket UDP",
        "pipe to write",
        "file ab raw",
        "channel",
    ],
)
async def test_a_function_child_takes_handles_as_arguments(name: str) -> None:
    kind = BY_NAME[name]
    async with kind.make() as made:
        async with trio_ipc.open_child(
            handle_workers.play_one_role, kind.role, made.handle
        ) as child:
            assert is_open(made.handle) is not kind.moves
            received_type, *_ = await child.receive()
            assert received_type == kind.arrives_as.__name__.replace("SocketType", "_SocketType")
            await made.attend()
        made.check()


async def test_arguments_may_have_handles_inside(tmp_path: Path) -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        address = listener.socket.getsockname()
        with (tmp_path / "log").open("wb") as log:
            config = {"listeners": [listener], "log": log}
            async with trio_ipc.open_child(
                handle_workers.serve_from_config, config, 1, "two", None
            ) as child:
                await connect_and_answer(socket.AF_INET, address)
                assert await child.receive() == [1, "two", None]
    assert (tmp_path / "log").read_bytes() == b"accepted one"


async def test_several_children_share_one_listener() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        address = listener.socket.getsockname()
        worker = handle_workers.play_one_role
        async with (
            trio_ipc.open_child(worker, "accept", listener) as first,
            trio_ipc.open_child(worker, "accept", listener) as second,
        ):
            for child in (first, second):
                assert (await child.receive())[0] == "SocketListener"
            await listener.aclose()  # the children have their own
            # Each accepts exactly one, so that two clients are served only by both.
            for _ in range(2):
                await connect_and_answer(socket.AF_INET, address)


async def test_arguments_that_cannot_be_sent_start_nothing() -> None:
    with stream_and_client() as (stream, client):
        for refused, error in (
            (object(), trio_ipc.UnsupportedMessage),
            (io.BytesIO(), trio_ipc.UnsupportedHandle),
            ([stream, 1 << 70], trio_ipc.UnsupportedMessage),
        ):
            with pytest.raises(error):
                async with trio_ipc.open_child(handle_workers.return_at_once, stream, refused):
                    pytest.fail("a child was started")
            assert is_open(stream)
        with pytest.raises(trio_ipc.MessageTooLarge):
            async with trio_ipc.open_child(handle_workers.return_at_once, stream, max_handles=0):
                pytest.fail("a child was started")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, client)
            nursery.start_soon(handle_workers.converse, stream)


async def test_a_child_sends_handles_to_its_parent() -> None:
    with connection() as (ours, client):
        async with trio_ipc.open_child(handle_workers.return_all) as child:
            await child.send({"it": as_trio_socket(ours)})
            received = await child.receive()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, client)
                nursery.start_soon(handle_workers.converse, received["it"])
