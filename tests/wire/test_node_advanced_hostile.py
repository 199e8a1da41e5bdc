"""The advanced serialization: what a hostile peer can't do."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

pytest.importorskip("v8serialize")

from trio_ipc import javascript as js
from trio_ipc._errors import InvalidMessage, ProtocolError
from trio_ipc.wire.node_advanced import AdvancedCodec
from trio_ipc.wire.node_values import Rejected

from .test_node_advanced import CAPTURED, framed, make, read, value_of


@pytest.mark.parametrize(
    "payload",
    [
        "41ffffffff0f",  # an array of 2**32 - 1
        "41ffffffff0f" * 100,
        "5c000affffffff0f00",  # a Buffer
        "42ffffffff0f00",
        "7e01ffffffff0f",
        "5affffffff07",  # a BigInt
        "22ffffffff0f61",
        "63ffffffff0f6161",
        "41" + "ff" * 50000,  # a length without an end
        "49" + "ff" * 5 + "01",
        "49ffffffff1f",  # a number of 33 bits
        "61ffffffffff0140" + "00" + "ffffffffff01",  # longer than an array can be
        "6103490a30400103",  # an index beyond the length
        "5e00",  # a reference to nothing
        "4101 5e05 24 0001",
        "5c02",
        "5c00 0e 00",
        "5c00 03 01 00",  # half an Int16
        "61ffffffff1f40" + "00" + "ffffffff1f",
        "7e020100000000",  # a buffer that is longer than it can be
        "2d",  # a hole where there is no array
        "6f2201612d7b01",
        "6f5a02057b01",  # a name that is a BigInt
        "6f4e000000000000f83f307b01",
        "6f2201614902",
        "6f2201613000",
        "3b30307b02",
        "52220161ff7f",  # unknown flags
        "522201619002",  # flags that exclude each other
        "7258",
        "726d30",
        "7500",
        "7400",
        "7000",
        "3f00",
        "ff0f30",
        "00",
        "56420000",  # a view of nothing
        "420200005642050100",  # a view that is beyond its buffer
    ],
)
def test_garbage_is_a_protocol_error(payload: str) -> None:
    data = memoryview(framed(bytes.fromhex("ff0f" + payload)))
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError) as caught:
            make().feed(data)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 300


@settings(max_examples=300)
@given(st.binary(max_size=60), st.sampled_from([13, 14, 15, 16]))
def test_nothing_but_protocol_errors_comes_of_garbage(payload: bytes, version: int) -> None:
    try:
        make().feed(memoryview(framed(bytes([0xFF, version]) + payload)))
    except ProtocolError:
        pass


@settings(max_examples=300)
@given(st.sampled_from(CAPTURED), st.integers(0, 40), st.integers(0, 255))
def test_nor_of_damage(captured: tuple[str, Any], index: int, byte: int) -> None:
    payload = bytearray.fromhex(captured[0])
    payload[index % len(payload)] = byte
    try:
        make().feed(memoryview(framed(b"\xff\x0f" + payload)))
    except ProtocolError:
        pass


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        ("4101" * 3000 + "4100240000" + "240001" * 3000, "nested too deeply"),
        ("61025e00" + "4900" + "400102", None),
        ("6102" + "4900" + "5e00" + "400102", "contains itself"),
        ("4101" + "5e00" + "220178" + "30" + "240101", "contains itself"),
        ("6f2201617700" + "7b01", "WebAssembly"),
    ],
)
def test_well_formed_but_not_to_be_received(payload: str, complaint: str | None) -> None:
    if complaint is None:
        with pytest.raises(ProtocolError):
            value_of(payload)
        return
    value = value_of(payload)
    assert isinstance(value, Rejected)
    assert isinstance(value.error, InvalidMessage)
    assert complaint in str(value.error)


def test_many_views_of_one_buffer_take_no_more_than_a_message_may() -> None:
    # Such as V8 writes without Node: a buffer, and views behind references to it.
    buffer = bytes.fromhex("42a01f") + bytes(4000) + bytes.fromhex("564200a01f00")
    view = bytes.fromhex("5e01564200a01f00")
    few = framed(b"\xff\x0f\x41\x0b" + buffer + view * 10 + b"\x24\x00\x0b")
    assert read(few) == [js.Uint8Array(bytes(4000))] * 11
    many = framed(b"\xff\x0f\x41\x65" + buffer + view * 100 + b"\x24\x00\x65")
    assert "views" in str(read(many).error)


def test_keys_of_one_hash_are_quickly_told_apart() -> None:
    count = 20_000
    message = js.Map((js.BigInt(index * (2**61 - 1)), None) for index in range(count))
    frame = make(limit=1 << 24).encode(message)
    [got], _ = make(limit=1 << 24).feed(memoryview(frame))
    assert len(got) == count


class Pair(msgspec.Struct):
    a: Pair | None = None
    b: Pair | None = None


def spread(kind: str, levels: int) -> tuple[Any, Any]:
    """A message of which each level has the one below twice, and a type to convert it to."""
    value: Any = [1] if kind == "lists" else {"a": None}
    below: list[Any] = [value]
    for _ in range(levels):
        value = [value, value] if kind == "lists" else {"a": value, "b": value}
        below.append(value)
    if kind == "lists":
        return below, dict[str, int]
    return below, list[Pair]


@pytest.mark.parametrize("levels", [20, 40, 1000])
@pytest.mark.parametrize("kind", ["lists", "structs"])
def test_what_is_shared_is_not_written_out_without_end(kind: str, levels: int) -> None:
    message, message_type = spread(kind, levels)
    codec = AdvancedCodec(message_type, 100_000, lambda obj: False)
    [got], _ = codec.feed(memoryview(make().encode(message)))
    assert isinstance(got, Rejected)
    assert "written out" in str(got.error)
    with pytest.raises(InvalidMessage, match="written out"):
        codec.convert(message, None)


def test_what_is_shared_as_it_should_be_arrives() -> None:
    message, message_type = spread("structs", 3)
    got = read(make().encode(message), message_type)
    assert got[1] == Pair(Pair(), Pair())
    boxed = js.Boxed("text")
    sent = {"a": [boxed, boxed], "b": js.Map({1: message})}
    assert read(make().encode(sent), dict[str, Any])["a"][0].value == "text"


def test_what_contains_itself_does_not_spread() -> None:
    circle: dict[str, Any] = {}
    circle["a"] = circle
    got = read(make().encode(circle), dict[str, Any])
    assert got["a"]["a"] is got["a"]
    bomb, _ = spread("lists", 12)
    circle["b"] = bomb
    codec = AdvancedCodec(dict[str, Any], 1000, lambda obj: False)
    [got], _ = codec.feed(memoryview(make().encode(circle)))
    assert isinstance(got, Rejected)


def test_what_is_too_deep_by_references_is_rejected() -> None:
    value: Any = None
    for _ in range(5000):
        value = [value]
    with pytest.raises(InvalidMessage):
        make(list[Any]).convert(value, None)
