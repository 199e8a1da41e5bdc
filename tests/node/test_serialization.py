"""The advanced serialization, with real Nodes on either side.

Tests are named after those of Node itself that ask for the same, where there is one. Which value
becomes which is tested with the codec; here is what a whole channel adds.
"""

from __future__ import annotations

import base64
import struct
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import trio_ipc
from trio_ipc import javascript as js

from .helpers import connection, open_node, read_all, run_parent
from .scripts.holding import hold_for

pytest.importorskip("v8serialize")

ADVANCED: dict[str, Any] = {"serialization": "advanced"}


async def test_advanced_serialization(node: str) -> None:
    async with open_node(node, "serialization.js", "round_trip", **ADVANCED) as child:
        async for message in child:
            await child.send(message)
    assert child.process.returncode == 0


async def test_advanced_serialization_as_child(node: str) -> None:
    await run_parent(node, "serialization", "round_trip", serialization="advanced")


async def test_advanced_serialization_on_stdin(node: str) -> None:
    await run_parent(node, "serialization", "stdin_ipc")


async def test_values_of_ours(node: str) -> None:
    noon = datetime(2020, 1, 2, 12, tzinfo=timezone.utc)
    async with open_node(node, "serialization.js", "echo", **ADVANCED) as child:
        for value in [
            None,
            "a string with a lone \ud800 surrogate",
            {"a": [1, -1, 2**52, 1.5, float("inf"), True, None], "ß": {}},
            b"bytes \0\xff",
            {"when": noon, "what": b""},
            js.BigInt(3),
            js.undefined,
            js.Map({1: "one", "two": 2}),
            js.Set([1, "two"]),
        ]:
            await child.send({"value": value})
            returned = (await child.receive())["value"]
            assert returned == value
            assert type(returned) is type(value)
        await child.send([2**64, (1, 2), {3}])
        assert await child.receive() == [2**64, [1, 2], js.Set([3])]


async def test_advanced_serialization_largebuffer(node: str) -> None:
    async with open_node(node, "serialization.js", "large_buffers", **ADVANCED) as child:
        for number in range(4):
            message = await child.receive()
            assert message["i"] == number
            assert type(message["data"]) is js.Uint8Array
            assert bytes(message["data"]) == bytes([number]) * (8 << 20)
        for number in range(4):
            await child.send({"data": bytes([number]) * (8 << 20)})
    assert child.process.returncode == 0


async def test_advanced_serialization_largebuffer_as_child(node: str) -> None:
    await run_parent(node, "serialization", "large_buffers", serialization="advanced")


async def test_advanced_serialization_splitted_length_field(node: str) -> None:
    async with open_node(node, "serialization.js", "split_length_fields", **ADVANCED) as child:
        assert [message async for message in child] == [b"x" * 65521] * 10
    assert child.process.returncode == 0


async def test_advanced_serialization_splitted_length_field_as_child(node: str) -> None:
    await run_parent(node, "serialization", "split_length_fields", serialization="advanced")


@pytest.mark.parametrize("length", [0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1])
async def test_fork_advanced_header_serialization(node: str, length: int) -> None:
    async with open_node(node, "serialization.js", "echo", **ADVANCED) as other:
        async with open_node(
            node, "serialization.js", "raw_header", str(length), **ADVANCED
        ) as child:
            with pytest.raises(trio_ipc.ProtocolError):
                await child.receive()
        await other.send("unharmed")
        assert await other.receive() == "unharmed"


@pytest.mark.parametrize(
    "frame",
    [
        b"\0\0\0\x03\xff\x0c_",  # a version that is too old
        b"\0\0\0\x03\xff\x11_",  # and too new
        b"\0\0\0\x03\xff\x0f\x01",  # no such tag
        b"\0\0\0\x04\xff\x0f__",  # one byte too many
        b"\0\0\0\x05\xff\x0f\x22\x09x",  # a string that is longer than the frame
        b"\x01\0\0\0\x02\0\0\0\x01\x02",  # as Bun begins
        b'{"json": true}\n',
    ],
)
async def test_garbage_from_a_node_child(node: str, frame: bytes) -> None:
    text = base64.b64encode(frame).decode()
    async with open_node(node, "serialization.js", "raw_frame", text, **ADVANCED) as child:
        await child.send("now")
        with pytest.raises(trio_ipc.ProtocolError):
            await child.receive()
        with pytest.raises(trio_ipc.ProtocolError):
            await child.send("anything")


@pytest.mark.parametrize("version", [13, 14, 15, 16])
async def test_versions_that_are_read(node: str, version: int) -> None:
    frame = struct.pack("!IBB", 5, 0xFF, version) + b'"\x01x'
    text = base64.b64encode(frame).decode()
    async with open_node(node, "serialization.js", "raw_frame", text, **ADVANCED) as child:
        await child.send("now")
        assert await child.receive() == "x"


async def test_internal(node: str) -> None:
    async with open_node(node, "serialization.js", "internal", **ADVANCED) as child:
        assert await child.receive() == js.Map({"cmd": "NODE_bar"})
        assert await child.receive() == {"cmd": "NODE_"}
        assert await child.receive() == "the last"
        with pytest.raises(trio_ipc.UnsupportedMessage):
            await child.send({"cmd": "NODE_bar"})


async def test_a_message_that_is_too_large(node: str) -> None:
    async with open_node(
        node, "serialization.js", "echo", max_message_size=1000, **ADVANCED
    ) as child:
        with pytest.raises(trio_ipc.MessageTooLarge):
            await child.send(b"x" * 1000)
        await child.send(b"x" * 900)
        assert await child.receive() == b"x" * 900


async def test_an_end_in_the_middle_of_a_message(node: str) -> None:
    async with open_node(node, "ends.js", "big_then_exit", **ADVANCED) as child:
        assert await child.receive() == "one"
        assert await child.receive() == {"two": 2}
        with pytest.raises(trio_ipc.ProtocolError, match="of 10000007 bytes"):
            await child.receive()


async def test_handles(node: str) -> None:
    async with open_node(node, "handles.js", "answer_client", **ADVANCED) as child:
        async with connection() as (stream, client):
            await child.send("echo", stream)
            assert await read_all(client) == b"echo"
    async with open_node(node, "handles.js", "send_three", **ADVANCED) as child:
        assert await child.receive() == "one"
        message, stream = await child.receive()
        assert message == "two"
        async with stream:
            assert await child.receive() == "three"
            await stream.send_all(b"two")
    assert child.process.returncode == 0


async def test_accounting(node: str) -> None:
    async with open_node(node, "accounting.js", "get_connections", **ADVANCED) as child:
        await hold_for(child)
    assert child.process.returncode == 0


# A selection of what is tested with JSON.
@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("messages", "fork"),
        ("messages", "internal"),
        ("messages", "flood"),
        ("ends", "truncated"),
        ("handles", "recv_handle"),
        ("handles", "recv_handle_from_the_child"),
        ("handles", "large_payload"),
        ("handles", "deadlock"),
    ],
)
async def test_as_child(node: str, name: str, role: str, tmp_path: Path) -> None:
    await run_parent(node, name, role, serialization="advanced")
