"""What the kernel limits: descriptors, handles under way, and how much a peer can be sent."""

from __future__ import annotations

import math
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

import trio_ipc

from . import limit_workers
from .handle_kinds import channel_pair, shrink, typed_pair
from .meaning_helpers import fill
from .node_peers.raw import open_twins

# A full table -------------------------------------------------------------------------------------


@contextmanager
def free_descriptors(number: int) -> Iterator[None]:
    """Only so many more can be opened in this process."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    highest = max(map(int, os.listdir("/dev/fd"))) + 30
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, limits[1]))
    try:
        try:
            while True:
                taken.append(os.dup(2))
        except OSError:
            for _ in range(number):
                os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for each in taken:
            os.close(each)


@pytest.mark.parametrize("free", range(18))
async def test_all_the_handles_of_a_message_or_none(free: int) -> None:
    for count in range(17):
        files = [open(os.devnull, "rb", 0) for _ in range(count)]  # noqa: ASYNC230, SIM115
        with channel_pair() as (a, b):
            await a.send({"handles": files})
            before = len(os.listdir("/dev/fd"))
            with free_descriptors(free):
                if count > free:
                    with pytest.raises(trio_ipc.ProtocolError, match="descriptor table"):
                        await b.receive()
                else:
                    for file in (await b.receive())["handles"]:
                        file.close()
            # The end of a channel that is dead is closed.
            assert len(os.listdir("/dev/fd")) == before - (count > free)
        for file in files:
            file.close()


@pytest.mark.parametrize("free", [1, 2])
async def test_node_is_refused_what_finds_no_room(free: int) -> None:
    """One descriptor is the sender's, who is in this process, too."""
    near, far = socket.socketpair()
    near.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(near))
    arrived: list[trio_ipc.HandleMessage] = []

    async def receive(channel: trio_ipc.Channel[object, trio_ipc.HandleMessage]) -> None:
        arrived.append(await channel.receive())

    with far:
        async with open_twins() as (a, b), stream, trio.open_nursery() as nursery:
            nursery.start_soon(receive, b)
            with free_descriptors(free):
                if free == 1:
                    with pytest.raises(trio_ipc.HandleNotDelivered, match="refused 4 times"):
                        await a.send("a handle", stream)
                    assert stream.socket.fileno() >= 0
            await a.send("a handle", stream)  # as if nothing had happened
    [(message, handle)] = arrived
    assert message == "a handle"
    await handle.aclose()


# Handles under way --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "under_way"), [(3, 1), (40, 10), (4096, 256), (resource.RLIM_INFINITY, 256)]
)
async def test_a_quarter_of_the_table_may_be_under_way(
    most: int, under_way: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull, "rb", 0) as file:  # noqa: ASYNC230
        with monkeypatch.context() as patch:
            # Linux itself has none without a limit.
            patch.setattr(resource, "getrlimit", lambda _: (most, most))
            a, b = trio_ipc.open_channel_pair(math.inf)
        with a, b:
            assert fill(a, file) == under_way
            (await b.receive()).close()
            assert fill(a, file) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts the handles under way")
async def test_who_has_too_many_handles_under_way_waits_without_spinning() -> None:
    async with trio_ipc.open_child(limit_workers.send_without_room) as child:
        first = await child.receive()
        if isinstance(first, str):
            pytest.skip(first)
        text, handle = first
        with handle:
            assert text == "a handle"
        turns, unsent = await child.receive()
        await child.send("it is here")
    assert unsent > 0
    # The pauses grow to 64 ms; who spins goes round thousands of times.
    assert turns < 200


# Lingering ----------------------------------------------------------------------------------------


def bomb() -> tuple[socket.socket, socket.socket]:
    """A connection whose last close() waits for a minute, and who never reads from it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    near.setblocking(False)
    try:
        while True:
            near.send(bytes(65536))
    except BlockingIOError:
        pass
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    return near, far


@pytest.mark.parametrize(
    "fate", ["not even read", "closed unread", "half closed", "invalid", "sunk"]
)
async def test_a_handle_that_lingers_does_not_stop_the_loop(fate: str) -> None:
    near, far = bomb()
    begun = time.monotonic()
    with far, typed_pair(int) as (a, b):
        if fate == "not even read":
            await a.send([near])
            b.close()
        elif fate == "invalid":
            await a.send([near])
            with pytest.raises(trio_ipc.InvalidMessage):
                await b.receive()
        else:
            await a.send(1)
            await a.send([near])
            assert await b.receive() == 1
            if fate == "half closed":
                b.receive_channel.close()
            elif fate == "sunk":
                b._connection.sink()
            b.close()
    # A minute is what a wait would take, and there is none.
    assert time.monotonic() - begun < 30


# A peer that takes its time -----------------------------------------------------------------------


async def test_a_stopped_peer_stops_the_senders_and_gets_all_in_order() -> None:
    senders, messages, size = 20, 30, 20_000
    async with trio_ipc.open_child(limit_workers.collect) as child:
        assert await child.receive() == "ready"
        child.process.send_signal(signal.SIGSTOP)

        async def send(sender: int) -> None:
            for number in range(messages):
                await child.send((sender, number, bytes(size)))

        async with trio.open_nursery() as nursery:
            for sender in range(senders):
                nursery.start_soon(send, sender)
            while child.statistics().tasks_waiting_send < senders:
                await trio.lowlevel.checkpoint()
            # 256 KiB that the kernel has not taken, and the batch that went beyond it.
            assert child.statistics().bytes_unsent <= (256 + 64) * 1024 + size
            child.process.send_signal(signal.SIGCONT)
        await child.send_channel.aclose()
        order = await child.receive()
    assert len(order) == senders * messages
    for sender in range(senders):
        assert [number for who, number in order if who == sender] == list(range(messages))


async def test_the_smallest_buffers_and_the_largest_messages() -> None:
    """Both ways at once; each handle is told by the file that it is."""
    count, each = 12, 4

    async def send(channel: trio_ipc.Channel[object, object], name: str) -> None:
        for number in range(count):
            pipes = [os.pipe() for _ in range(each)]
            for index, (_, writer) in enumerate(pipes):
                os.write(writer, f"{name}{number}.{index}".encode())
                os.close(writer)
            streams = [trio.lowlevel.FdStream(reader) for reader, _ in pipes]
            await channel.send([number, bytes([number]) * 300_000, streams])
        await channel.send_channel.aclose()

    async def receive(channel: trio_ipc.Channel[object, list[object]], name: str) -> None:
        number = 0
        async for found, data, streams in channel:
            assert (found, data) == (number, bytes([number]) * 300_000)
            for index, stream in enumerate(streams):
                async with stream:
                    assert await stream.receive_some() == f"{name}{number}.{index}".encode()
            number += 1
        assert number == count

    with channel_pair(3) as (a, b):
        shrink(a)
        shrink(b)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, a, "a")
            nursery.start_soon(send, b, "b")
            nursery.start_soon(receive, a, "b")
            nursery.start_soon(receive, b, "a")


async def test_a_child_of_a_process_with_thousands_of_descriptors() -> None:
    """Its end of the channel has a number beyond what select() knows of."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < 2000:
        pytest.skip("so many are not to be had")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, limits[1]))
    taken: list[int] = []
    try:
        while not taken or taken[-1] < 1100:
            taken.append(os.dup(2))
        # A grandchild holds the end open, so the child is dead before the channel has ended.
        async with trio_ipc.open_child(["sh", "-c", "sleep 3 & exit 0"]) as child:
            await child.process.wait()
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
