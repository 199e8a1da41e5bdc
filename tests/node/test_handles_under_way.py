"""Handles that are under way to a Node child and from it: order, ends, both ways at once.

Tests are named after those of Node itself that ask for the same, where there is one.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

import trio_ipc

from ..handle_kinds import is_open
from ..meaning_helpers import waiting
from .helpers import connection, open_node, open_node_aside, read_all


async def test_pass_fd(node: str) -> None:
    # As many at a time as a machine can bear; Node's own test starts 80 at once.
    limit = trio.CapacityLimiter(8)
    done = 0

    async def converse() -> None:
        nonlocal done
        async with limit, open_node(node, "handles.js", "pass_fd") as child:
            message, stream = await child.receive()
            assert message == "handle"
            await child.send("got")
            async with stream:
                assert await read_all(stream) == b"hello?"
            done += 1
        assert child.process.returncode == 0

    async with trio.open_nursery() as nursery:
        for _ in range(24):
            nursery.start_soon(converse)
    assert done == 24


async def test_fork_closed_channel_segfault(node: str) -> None:
    async with open_node(node, "handles.js", "exit_at_first_handle") as child:
        async with connection() as (first, client), connection() as (second, _):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.send, "the first", first)
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(trio.BrokenResourceError):
                    await child.send("the second", second)
            assert not is_open(first)
            assert is_open(second)
            assert await read_all(client) == b""  # it went down with the child
    assert child.process.returncode == 0


@pytest.mark.parametrize("size", [0, 100_000])
async def test_cluster_send_deadlock(node: str, size: int) -> None:
    count, payload = 30, "x" * size

    async def send(child: trio_ipc.ChildChannel[Any, Any]) -> None:
        for number in range(count):
            async with connection() as (stream, client):
                await child.send([number, payload], stream)
                assert await read_all(client) == b"%d" % number

    async with open_node(node, "handles.js", "deadlock", str(count), str(size)) as child:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, child)
            await receive_in_order(child, count, payload)
    assert child.process.returncode == 0


@pytest.mark.parametrize("size", [0, 100_000])
async def test_cluster_send_deadlock_of_one_who_does_not_receive_meanwhile(
    node: str, size: int
) -> None:
    # The buffer is full, and nevertheless the acknowledgements have to be read.
    count, payload = 30, "x" * size
    async with open_node(
        node, "handles.js", "deadlock", str(count), str(size), max_buffer_size=1
    ) as child:
        for number in range(count):
            async with connection() as (stream, client):
                await child.send([number, payload], stream)
                assert await read_all(client) == b"%d" % number
        await receive_in_order(child, count, payload)
    assert child.process.returncode == 0


async def receive_in_order(
    child: trio_ipc.ChildChannel[Any, Any], count: int, payload: str
) -> None:
    for number in range(count):
        message, stream = await child.receive()
        assert message == [number, payload]
        async with stream:
            await stream.send_all(b"%d" % number)


async def test_handles_from_one_child_to_another(node: str) -> None:
    async with open_node(node, "handles.js", "send_three") as first:
        async with open_node(node, "handles.js", "answer_client") as second:
            assert await first.receive() == "one"
            message, stream = await first.receive()
            assert await first.receive() == "three"
            await second.send(message, stream)
            # The other end, which the first has kept, hears from the second.
            await first.process.wait()
    assert (first.process.returncode, second.process.returncode) == (0, 0)


@pytest.mark.parametrize(
    ("serialization", "max_buffer_size"), [("json", 1), ("json", 1000), ("advanced", 10)]
)
async def test_messages_and_handles_of_all_sizes_both_ways(
    node: str, serialization: str, max_buffer_size: int
) -> None:
    if serialization == "advanced":
        pytest.importorskip("v8serialize")
    count = 200
    sizes = [0, 10, 1000, 30_000, 65_480, 65_536, 100_000, 7, 300_000, 20, 66_000]

    async def send(child: trio_ipc.ChildChannel[Any, Any]) -> None:
        for number in range(count):
            payload = "x" * sizes[number % len(sizes)]
            if number % 5:
                await child.send([number, payload, False])
            else:
                async with connection() as (stream, client):
                    await client.send_all(b"%d" % number)
                    await client.send_eof()
                    await child.send([number, payload, True], stream)

    async def receive(child: trio_ipc.ChildChannel[Any, Any]) -> None:
        for number in range(count):
            message = await child.receive()
            stream = None
            if isinstance(message, trio_ipc.HandleMessage):
                message, stream = message
                async with stream:
                    assert await read_all(stream) == b"%d" % number
            assert message == [number, "x" * sizes[number % len(sizes)], stream is not None]

    words = [str(count), *map(str, sizes)]
    async with open_node(
        node,
        "handles.js",
        "storm",
        *words,
        serialization=serialization,
        max_buffer_size=max_buffer_size,
    ) as child:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, child)
            nursery.start_soon(receive, child)
    assert child.process.returncode == 0


async def test_cluster_send_handle_twice_while_the_first_is_on_its_way(node: str) -> None:
    async with open_node(node, "handles.js", "answer_client") as child:
        async with connection() as (stream, client):
            child.send_nowait("first", stream)
            with pytest.raises(trio_ipc.UnsupportedHandle, match="closed"):
                child.send_nowait("second", stream)
            assert await read_all(client) == b"first"


async def test_dgram_cluster_close_during_bind(node: str) -> None:
    # A handle that arrives after its receiver has closed is closed.
    async with open_node_aside(node, "handles.js", "send_and_watch") as (child, aside):
        await child.receive_channel.aclose()
        assert await aside.hear() == "closed"
    assert child.process.returncode == 0


async def test_a_handle_that_nobody_receives_is_closed(node: str) -> None:
    async with open_node_aside(node, "handles.js", "send_and_watch") as (child, aside):
        while child.statistics().current_buffer_used < 2:
            await trio.lowlevel.checkpoint()
        await child.receive_channel.aclose()
        assert await aside.hear() == "closed"


async def test_a_child_that_exits_before_its_handle_is_acknowledged(node: str) -> None:
    async with open_node(node, "handles.js", "send_and_exit", "0") as child:
        await child.process.wait()
        assert await child.receive() == "one"
        message, stream = await child.receive()
        assert message == "two"
        with pytest.raises(trio.EndOfChannel):
            await child.receive()
        async with stream:
            assert stream.socket.getsockname()[0] == "127.0.0.1"


async def test_the_handles_of_a_child_that_fails_are_closed(node: str) -> None:
    with pytest.raises(trio_ipc.ChildFailed, match="exited with status 7"):
        async with open_node(node, "handles.js", "send_and_exit", "7"):
            await trio.sleep_forever()


async def test_a_disconnect_behind_handles(node: str) -> None:
    async with open_node(node, "handles.js", "disconnect_behind_handles", "5") as child:
        count = 0
        async for message, stream in child:
            assert message == count
            async with stream:
                await stream.send_all(b"%d" % message)
            count += 1
        assert count == 5
    assert child.process.returncode == 0


async def test_closing_behind_a_handle(node: str) -> None:
    async with open_node_aside(node, "handles.js", "record") as (child, aside):
        async with connection() as (stream, client):
            child.send_nowait("one", stream)
            child.send_nowait("two")
            child.send_nowait("three")
            child.close()
            assert await read_all(client) == b""
        said = json.loads(await aside.hear())
        assert said == [["one", "net.Socket"], ["two", None], ["three", None]]
    assert child.process.returncode == 0


async def test_leaving_behind_a_handle(node: str) -> None:
    async def read_and_close() -> None:
        async with client:
            assert await read_all(client) == b"before the end"

    async with connection() as (stream, client), trio.open_nursery() as nursery:
        nursery.start_soon(read_and_close)
        async with open_node(node, "handles.js", "answer_client") as child:
            child.send_nowait("before the end", stream)
    assert child.process.returncode == 0


async def test_handles_that_nobody_receives_are_closed_on_leaving(node: str) -> None:
    async with open_node(node, "handles.js", "send_many", "20", grace_period=0.1) as child:
        _, stream = await child.receive()
        await stream.aclose()


async def test_node_keeps_no_descriptor(node: str) -> None:
    async with open_node(node, "handles.js", "descriptors_after", "20") as child:
        for number in range(20):
            async with connection() as (stream, _):
                await child.send(number, stream)
        assert await child.receive() == 0


async def test_one_handle_is_on_its_way_at_a_time(node: str) -> None:
    async with open_node_aside(node, "handles.js", "recv_handle") as (child, aside):
        assert await aside.hear() == "here"
        async with connection() as (first, _), connection() as (second, _):
            async with waiting(child.send, "one", first) as call:
                with pytest.raises(trio.WouldBlock):
                    child.send_nowait("three", second)
                await child.send("two")
                async with waiting(child.send, "three", second) as next_call:
                    await aside.say()
                    await call.outcome()
                    await next_call.outcome()
            assert await child.receive() == [
                ["one", "net.Socket"],
                ["two", None],
                ["three", "net.Socket"],
            ]


async def test_a_send_that_is_cancelled_while_its_answer_is_awaited(node: str) -> None:
    async with open_node_aside(node, "handles.js", "recv_handle") as (child, aside):
        assert await aside.hear() == "here"
        async with connection() as (first, _):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(child.send, "one", first)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            await child.send("two")
            await child.send("three")
            await aside.say()
            assert (await child.receive())[0] == ["one", "net.Socket"]
            assert not is_open(first)
