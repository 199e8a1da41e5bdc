"""What travels between us and a Node child: the messages of JSON, in both directions.

Tests are named after those of Node itself that ask for the same, where there is one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ipc

from ..meaning_helpers import settle
from .helpers import PROGRAMS, command, open_node, open_node_aside, open_script

AWKWARD = ["foo", "bar baz", "", "ünï", "--option"]


async def test_fork(node: str) -> None:
    async with open_node(node, "messages.js", "fork", *AWKWARD) as child:
        assert await child.receive() == {"args": AWKWARD}
        for bad in (object(), {1, object()}, test_fork):
            with pytest.raises(trio_ipc.UnsupportedMessage):
                await child.send(bad)
        await child.send({"hello": "world"})
        assert await child.receive() == {"foo": "bar"}
        with pytest.raises(trio.EndOfChannel):
            await child.receive()
    assert child.process.returncode == 0


async def test_fork_of_a_script_that_is_spoken_to_as_to_a_node_program() -> None:
    async with open_script("messages.py", "fork", *AWKWARD) as child:
        assert await child.receive() == {"args": AWKWARD}
        await child.send({"hello": "world"})
        assert await child.receive() == {"foo": "bar"}
        with pytest.raises(trio.EndOfChannel):
            await child.receive()
    assert child.process.returncode == 0


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node on the path")
@pytest.mark.parametrize("as_path", [True, False])
async def test_fork_of_a_path(as_path: bool) -> None:
    path = PROGRAMS / "messages.js"
    async with trio_ipc.open_child(path if as_path else str(path), "fork", *AWKWARD) as child:
        assert await child.receive() == {"args": AWKWARD}
        await child.send({"hello": "world"})
        assert await child.receive() == {"foo": "bar"}


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node on the path")
async def test_fork_of_a_path_of_an_es_module() -> None:
    async with trio_ipc.open_child(PROGRAMS / "echo.mjs") as child:
        await child.send("here")
        assert await child.receive() == "here"


async def test_fork_exec_path(node: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "an interpreter"
    elsewhere.symlink_to(node)
    async with trio_ipc.open_child(
        command(str(elsewhere), "messages.js", "echo"), protocol="node"
    ) as child:
        await child.send("here")
        assert await child.receive() == "here"


async def test_esm_fork_main(node: str) -> None:
    async with trio_ipc.open_child([node, PROGRAMS / "echo.mjs"], protocol="node") as child:
        await child.send({"from": "CommonJS"})
        assert await child.receive() == {"from": "CommonJS"}
        await child.send_channel.aclose()
        with pytest.raises(trio.EndOfChannel):
            await child.receive()
    assert child.process.returncode == 0


async def test_send_cb(node: str) -> None:
    async with open_node(node, "messages.js", "send_callback") as child:
        await child.send("anything")
        await child.send_channel.drain()
        assert await child.receive() == "ok"


async def test_send_type_error(node: str) -> None:
    async with open_node(node, "messages.js", "echo") as child:
        for wrong in (object(), "a string", 3, {"a": "dict"}, [], pytest):
            with pytest.raises(trio_ipc.UnsupportedHandle):
                await child.send("refused", wrong)
            with pytest.raises(trio_ipc.UnsupportedHandle):
                child.send_nowait("refused", wrong)
        await child.send("the first to arrive")
        assert await child.receive() == "the first to arrive"


async def test_send_utf8(node: str) -> None:
    message = "ßßßß" * 100_000
    async with open_node(node, "messages.js", "echo") as child:
        await child.send(message)
        assert await child.receive() == message


async def test_internal(node: str) -> None:
    async with open_node(node, "messages.js", "internal") as child:
        assert await child.receive() == {"cmd": "fooNODE_"}
        assert await child.receive() == {"cmd": "NODE_"}
        assert await child.receive() == {"cmd": ["NODE_bar"]}
        assert await child.receive() == "the last"
        for reserved in ("NODE_bar", "NODE_HANDLE", "NODE_HANDLE_ACK", "NODE_CLUSTER"):
            with pytest.raises(trio_ipc.UnsupportedMessage, match="reserved"):
                await child.send({"cmd": reserved})
            with pytest.raises(trio_ipc.UnsupportedMessage, match="reserved"):
                child.send_nowait({"other": "members", "cmd": reserved})
        for ordinary in ({"cmd": "fooNODE_"}, {"cmd": "NODE_"}, {"in": {"cmd": "NODE_bar"}}):
            await child.send(ordinary)
            assert await child.receive() == ordinary


async def test_cluster_invalid_message(node: str) -> None:
    async with open_node(node, "messages.js", "cluster_invalid_message") as child:
        assert await child.receive() == "after an acknowledgement of nothing"
        await child.send("still here")
        assert await child.receive() == "still here"


async def test_what_json_makes_of_our_values(node: str) -> None:
    sent: list[tuple[Any, str]] = [
        ([float("nan"), float("inf"), -float("inf")], "[null,null,null]"),
        ([None, True, 0, -1, 1.5, 1e300, 2**53], "[null,true,0,-1,1.5,1e+300,9007199254740992]"),
        (["\ud800", "\udc00x", "\u2028"], '["\\ud800","\\udc00x","\u2028"]'),
        (
            ["\U0001f600", "\0\r\n", "\ufeff", '"\\'],
            '["\U0001f600","\\u0000\\r\\n","\ufeff","\\"\\\\"]',
        ),
        ({"a": (1, 2), "b": {}, "ß": ""}, '{"a":[1,2],"b":{},"ß":""}'),
        ({1: "one"}, '{"1":"one"}'),
        ("", '""'),
        (None, "null"),
    ]
    async with open_node(node, "messages.js", "compare", str(len(sent))) as child:
        for message, stringified in sent:
            await child.send([stringified, message])
            assert await child.receive() is None


async def test_what_we_make_of_json_values(node: str) -> None:
    async with open_node(node, "messages.js", "json_values") as child:
        assert await child.receive() == [None, None, None, 0, 1e300, 2**53]
        assert await child.receive() == {"list": [None, None, [1, None, 3]]}
        assert await child.receive() == [
            "1970-01-01T00:00:00.000Z",
            {"type": "Buffer", "data": [104, 105]},
            {},
            {},
        ]
        assert await child.receive() == [
            "\ud800",
            "\udc00\ud800",
            "\u2028\u2029",
            "\r\n\0",
            "\U0001f600",
            "\ufeff",
        ]
        for top in (None, True, 0, "", [], {}):
            received = await child.receive()
            assert (received, type(received)) == (top, type(top))
        with pytest.raises(trio.EndOfChannel):
            await child.receive()


async def test_messages_of_many_sizes_arrive_whole(node: str) -> None:
    sizes = [0, 1, 65533, 65534, 65535, 65536, 131072, 219264, 1_000_000, 1, 4_000_000, 2]
    words = list(map(str, sizes))
    async with open_node(node, "messages.js", "sizes", *words) as child:
        assert [len(await child.receive()) for _ in sizes] == sizes
    async with open_node(node, "messages.js", "sum_of_sizes", str(len(sizes))) as child:
        for size in sizes:
            await child.send("x" * size)
        assert await child.receive() == sizes


async def test_a_message_of_another_type_is_invalid(node: str) -> None:
    async with open_node(node, "messages.js", "echo", message_type=int) as child:
        await child.send("no number")
        await child.send(1)
        with pytest.raises(trio_ipc.InvalidMessage):
            await child.receive()
        assert await child.receive() == 1


async def test_a_message_that_is_too_large_here(node: str) -> None:
    async with open_node(node, "messages.js", "echo", max_message_size=1000) as child:
        with pytest.raises(trio_ipc.MessageTooLarge):
            await child.send("x" * 1000)
        await child.send("x" * 900)
        assert await child.receive() == "x" * 900


async def test_a_message_from_node_that_is_too_large(node: str) -> None:
    async with open_node(
        node, "messages.js", "sizes_when_told", "999", max_message_size=1000
    ) as child:
        await child.send("now")
        with pytest.raises(trio_ipc.ProtocolError, match="1000"):
            await child.receive()


# How much of it there may be ----------------------------------------------------------------------


def send_until_it_blocks(child: trio_ipc.ChildChannel[Any, Any], number: int, text: str) -> int:
    """Send messages with this number and the next ones; the first that did not go in."""
    while True:
        try:
            child.send_nowait([number, text])
        except trio.WouldBlock:
            return number
        number += 1


async def test_a_peer_that_reads_nothing_stops_the_sender_at_128_kib(node: str) -> None:
    text = "x" * 1000
    async with open_node_aside(node, "messages.js", "count") as (child, aside):
        assert await aside.hear() == "here"
        count = 0
        while (more := send_until_it_blocks(child, count, text)) > count:
            count = more
            await settle()  # the kernel takes some of it
        with pytest.raises(trio.WouldBlock):
            child.send_nowait([count, text])
        unsent = child.statistics().bytes_unsent
        assert 128 * 1024 <= unsent <= 128 * 1024 + len(json.dumps([count, text]))
        with trio.move_on_after(0) as scope:
            await child.send([count, text])
        assert scope.cancelled_caught
        await aside.say()
        await child.send("end")
        assert await child.receive() == count


async def read_ahead(child: trio_ipc.ChildChannel[Any, Any]) -> None:
    """Let the background reader, which begins when nobody else has read for a moment, read what it
    will."""
    while not child.statistics().current_buffer_used:
        await settle()
    for _ in range(100):
        await settle()


async def test_a_peer_that_floods_is_read_only_as_fast_as_we_receive(node: str) -> None:
    count, bound = 2000, 10
    async with open_node_aside(node, "messages.js", "flood", str(count), max_buffer_size=bound) as (
        child,
        aside,
    ):
        assert await aside.hear() == "send() returned false"
        await read_ahead(child)
        # What one read of 64 KiB brings at once is kept.
        assert 0 < child.statistics().current_buffer_used <= bound + 66
        for number in range(count):
            assert (await child.receive())[0] == number
            assert child.statistics().current_buffer_used <= bound + 66
        assert await aside.hear() == "written"
        with pytest.raises(trio.EndOfChannel):
            await child.receive()


async def test_a_flood_of_bytes_is_bounded_by_their_number(node: str) -> None:
    count = 4000
    async with open_node_aside(node, "messages.js", "flood", str(count), max_message_size=2000) as (
        child,
        aside,
    ):
        assert await aside.hear() == "send() returned false"
        await read_ahead(child)
        # 1 MiB, what one read brings, and a message; each is one of 1 kB.
        assert 0 < child.statistics().current_buffer_used <= (1024 * 1024 + 2 * 65536) // 1000
        for number in range(count):
            assert (await child.receive())[0] == number
        assert await aside.hear() == "written"
