"""The advanced serialization: frames, what they hold, and what a hostile peer can't do."""

from __future__ import annotations

import enum
import json
import struct
import uuid
from collections import OrderedDict
from datetime import datetime, timezone
from typing import Any

import attrs
import msgspec
import pytest

pytest.importorskip("v8serialize")

from trio_ipc import javascript as js
from trio_ipc._errors import (
    InvalidMessage,
    MessageTooLarge,
    ProtocolError,
    UnsupportedHandle,
    UnsupportedMessage,
)
from trio_ipc.wire import HandleMessage
from trio_ipc.wire.node_advanced import AdvancedCodec
from trio_ipc.wire.node_json import JsonCodec
from trio_ipc.wire.node_values import ENVELOPE, Internal, Rejected

LIMIT = 100_000


class Handle:
    pass


@attrs.define
class HandleOfAttrs:
    number: int


def is_handle(obj: Any) -> bool:
    return isinstance(obj, (Handle, HandleOfAttrs))


def make(message_type: Any = Any, limit: int = LIMIT) -> AdvancedCodec:
    return AdvancedCodec(message_type, limit, is_handle)


def framed(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def read(frame: bytes, message_type: Any = Any) -> Any:
    values, plain = make(message_type).feed(memoryview(frame))
    [value] = values
    assert plain == (not isinstance(value, (Internal, Rejected)))
    return value


def value_of(payload: str) -> Any:
    """Of the hexadecimal digits behind the version."""
    return read(framed(bytes.fromhex("ff0f" + payload)))


# As Node 20 and 24 write them, read off the socket.
CAPTURED: list[tuple[str, Any]] = [
    ("30", None),
    ("5f", js.undefined),
    ("54", True),
    ("4902", 1),
    ("49feffffff0f", 2**31 - 1),
    ("49ffffffff0f", -(2**31)),
    ("4e000000000000e041", 2**31),
    ("4e000000000000f83f", 1.5),
    ("2201e9", "\xe9"),
    ("6304e5652c67", "\u65e5\u672c"),
    ("630200d8", "\ud800"),
    ("4103490e490e490e240003", [7, 7, 7]),
    ("6f22017541002400007b01", {"u": []}),
    ("6f0063046b00e56549027b01", {"k\u65e5": 1}),
    ("61034900490249044906400203", js.Array({0: 1, 2: 3}, length=3)),
    ("5c000a026869", b"hi"),
    ("42020102", js.ArrayBuffer(b"\1\2")),
    ("5c0009020102", js.DataView(b"\1\2")),
    ("5c00030401000200", js.Int16Array([1, 2])),
    ("5c000d02003e", js.Float16Array([1.5])),
    ("440000000000001440", datetime(1970, 1, 1, 0, 0, 0, 5000, timezone.utc)),
    ("44000000000000f87f", js.Date(float("nan"))),
    ("3b490222016122016249043a04", js.Map({1: "a", "b": 2})),
    ("275c000a01615c000a01612c02", js.Set([b"a"])),
    ("522202612b03", js.RegExp("a+", "gi")),
    ("41036e000000000000144073220173792400 03", [js.Boxed(5), js.Boxed("s"), js.Boxed(True)]),
]


@pytest.mark.parametrize(("payload", "value"), CAPTURED)
def test_node_s_own_bytes(payload: str, value: Any) -> None:
    got = value_of(payload)
    if payload.startswith("27"):
        assert list(got) == [b"a", b"a"]  # two buffers, which are one to a Python set
        return
    assert got == value
    assert type(got) is type(value)
    assert make().encode(got) == framed(bytes.fromhex("ff0f" + payload))


@pytest.mark.parametrize("fields", ["633073220273 74", "7322027374 6330"])
def test_error_fields_in_either_order(fields: str) -> None:
    # Node 20 writes the first, 24 the second, and both read the second.
    error = value_of("72526d220178" + fields + "2e")
    assert (error.name, error.message, error.stack) == ("RangeError", "x", "st")
    assert (error.has_cause, error.cause) == (True, None)
    written = bytes.fromhex("ff0f72526d220178732202737463302e")
    assert make().encode(error) == framed(written)


@pytest.mark.parametrize(
    ("number", "arrives"),
    [
        (2**53 - 1, int),
        (2**53, js.BigInt),
        (-(2**53) + 1, int),
        (-(2**53), js.BigInt),
        (js.BigInt(0), js.BigInt),
        (5.0, int),
        (-0.0, float),
        (2.0**53, float),
        (float("inf"), float),
    ],
)
def test_numbers(number: float, arrives: type) -> None:
    got = read(make().encode(number))
    assert type(got) is arrives
    assert got == number
    assert str(got) == str(number) or number == 5.0


@pytest.mark.parametrize(("payload", "number"), [("5500", 0), ("55ffffffff0f", 2**32 - 1)])
def test_unsigned_numbers_are_read_though_v8_writes_none(payload: str, number: int) -> None:
    assert value_of(payload) == number


# Framing -------------------------------------------------------------------------------------


def test_split_at_every_byte() -> None:
    frames = make().encode({"a": [1]}) + make().encode("x") + make().encode(b"y" * 40000)
    wanted = [{"a": [1]}, "x", b"y" * 40000]
    codec, got = make(), []
    for byte in frames:
        values, plain = codec.feed(memoryview(bytes([byte])))
        got += values
        assert plain
    assert got == wanted
    assert codec.incomplete() is None
    for cut in [*range(60), 50, 20000, len(frames) - 1]:
        codec = make()
        first, _ = codec.feed(memoryview(frames[:cut]))
        assert first + codec.feed(memoryview(frames[cut:]))[0] == wanted


def test_what_is_read_can_be_overwritten() -> None:
    codec = make()
    for size in (10, 50000):
        buffer = bytearray(codec.encode([b"x" * size, js.Uint8Array(b"x"), js.ArrayBuffer(b"xy")]))
        [value], _ = codec.feed(memoryview(buffer))
        buffer[:] = bytes(len(buffer))
        assert value == [b"x" * size, js.Uint8Array(b"x"), b"xy"]


def test_incomplete() -> None:
    codec = make()
    assert codec.incomplete() is None
    codec.feed(memoryview(b"\0\0"))
    assert codec.incomplete() == "2 of 4 bytes of a message's length"
    codec.feed(memoryview(b"\1\0\xff\x0f\x22"))
    assert codec.incomplete() == "3 of 256 bytes of a message"


@pytest.mark.parametrize("version", [13, 14, 15, 16])
def test_versions(version: int) -> None:
    payload = bytes([0xFF, version]) + bytes.fromhex("41015c000a026869240001")
    assert read(framed(payload)) == [b"hi"]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (struct.pack(">I", 0), "0 bytes"),
        (struct.pack(">I", 1), "1 bytes"),
        (struct.pack(">I", LIMIT + ENVELOPE + 1), "101025 bytes; max_message_size is 100000"),
        (struct.pack(">I", 2**31), "2147483648 bytes"),
        (struct.pack(">I", 2**32 - 1), "4294967295 bytes"),
        (struct.pack(">I", 1000) + b"\xff\x0c", "begins with ff 0c"),
        (struct.pack(">I", 1000) + b"\xff\x11", "begins with ff 11"),
        (struct.pack(">I", 1000) + b"{}", "begins with 7b 7d"),
        (struct.pack(">I", 1000) + b"\x01", "Bun.*serialization='json'"),
        (b"\x01\x01\x00\x00\x00\x02\x10\x00\x00\x00", "Bun.*serialization='json'"),
        (b"\x01\x02\x00\x00\x00\x02\x10\x00\x00\x00", "Bun.*serialization='json'"),
        (framed(b"\xff\x0f"), "malformed"),
        (framed(b"\xff\x0f0" + b"0"), "there is more after its end"),
    ],
)
def test_refused_at_once(data: bytes, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        make().feed(memoryview(data))


def test_bun_is_recognised_under_a_large_limit() -> None:
    codec = make(limit=1 << 26)
    with pytest.raises(ProtocolError, match="Bun"):
        codec.feed(memoryview(b"\x01\x01\x00\x00\x00\x02"))
    assert make(limit=1 << 26).feed(memoryview(b"\x01\x01\x00\x00\xff\x0f")) == ([], True)


def test_the_limit_is_for_messages_and_not_for_node_s_own() -> None:
    codec = make(limit=50)
    assert len(codec.encode("x" * 46)) == 4 + 50
    with pytest.raises(MessageTooLarge, match="51 bytes, and max_message_size is 50"):
        codec.encode("x" * 47)
    larger = make().encode("x" * 47)
    with pytest.raises(ProtocolError, match="51 bytes; max_message_size is 50"):
        make(limit=50).feed(memoryview(larger))
    internal = codec.encode_internal({"cmd": "NODE_SOCKET_GET_COUNT", "key": "k" * 500})
    [value], plain = codec.feed(memoryview(internal))
    assert not plain
    assert value.members == {"cmd": "NODE_SOCKET_GET_COUNT", "key": "k" * 500}


# Internal messages and handles -------------------------------------------------------------------


def test_a_handle_s_frame() -> None:
    codec = make()
    frame = codec.encode_handle({"type": "dgram.Socket", "dgramType": "udp4"}, [1])
    value = read(frame)
    assert isinstance(value, Internal)
    assert value.members == {
        "cmd": "NODE_HANDLE",
        "type": "dgram.Socket",
        "dgramType": "udp4",
        "msg": [1],
    }
    assert codec.convert([1], "handle") == HandleMessage([1], "handle")


class Command(msgspec.Struct):
    cmd: str


@pytest.mark.parametrize(
    "message",
    [
        {"cmd": "NODE_X"},
        OrderedDict(cmd="NODE_HANDLE_ACK"),
        Command("NODE_HANDLE"),
        {"x": 1, "cmd": "NODE_\u65e5"},
        js.Array({0: 1, "cmd": "NODE_X"}),
    ],
)
def test_reserved_messages_can_t_be_sent(message: Any) -> None:
    with pytest.raises(UnsupportedMessage, match="reserved"):
        make().encode(message)
    with pytest.raises(UnsupportedMessage, match="reserved"):
        make().encode_handle({"type": "net.Socket"}, message)
    assert not isinstance(read(make().encode([message])), Internal)


@pytest.mark.parametrize(
    "message",
    [
        {"cmd": "NODE_"},
        {"cmd": "fooNODE_"},
        js.Map({"cmd": "NODE_X"}),
        js.Array({"cmd": "NODE_"}),
        [js.Array({"cmd": "NODE_X"})],
    ],
)
def test_messages_that_only_look_reserved(message: Any) -> None:
    assert read(make().encode(message)) == message


class Holder(msgspec.Struct):
    held: Any


class Color(enum.Enum):
    RED = "red"
    ONE = 1


def test_properties_are_named_as_in_json() -> None:
    message = {
        Color.RED: 1,
        Color.ONE: 2,
        7: 3,
        uuid.UUID(int=5): 4,
        datetime(2020, 1, 1, tzinfo=timezone.utc): 5,
    }
    line = JsonCodec(Any, LIMIT, is_handle).encode(message)
    assert read(make().encode(message)) == json.loads(line)


def boxed(value: Any) -> js.Boxed:
    """Of any value, which the constructor would refuse."""
    made = js.Boxed(0)
    made.value = value
    return made


def resizable(data: bytes, most: int) -> js.ArrayBuffer:
    buffer = js.ArrayBuffer(data)
    buffer.max_byte_length = most
    return buffer


@pytest.mark.parametrize("handle", [Handle(), HandleOfAttrs(1)])
def test_handles_inside_of_a_message_are_refused(handle: Any) -> None:
    messages: list[Any] = [handle, [handle], {"a": (handle,)}, js.Map([(1, handle)])]
    for message in messages:
        with pytest.raises(UnsupportedHandle, match=r"send\(message, handle\)"):
            make().encode(message)
    with pytest.raises(UnsupportedHandle):
        make().encode(Holder(Handle()))


@pytest.mark.parametrize(
    "message",
    [
        object(),
        Holder(object()),
        {None: 1},
        {(1, 2): 1},
        {True: 1},
        iter([]),
        js.Array({5: 1}, length=3),
        js.Array({0: 1, "length": 2}),
        resizable(b"abc", 2),
        resizable(b"abc", 1 << 32),
        memoryview(b"\1").cast("?"),
        js.Float16Array([1e30]),
        boxed(None),
    ],
    ids=repr,
)
def test_what_can_t_be_sent(message: Any) -> None:
    with pytest.raises(UnsupportedMessage, match=r"^can't send '\w+': ."):
        make().encode([message])


def test_what_is_nested_too_deeply_can_t_be_sent() -> None:
    message: list[Any] = []
    for _ in range(5000):
        message = [message]
    with pytest.raises(UnsupportedMessage, match="recursion"):
        make().encode(message)


def test_an_error_in_its_own_cause_can_t_be_sent() -> None:
    error = js.Error("x", cause=[])
    error.cause.append(error)
    with pytest.raises(UnsupportedMessage, match="cause"):
        make().encode(error)


# Message types -----------------------------------------------------------------------------------


class Typed(msgspec.Struct):
    data: bytes
    view: js.Uint8Array
    tags: set[str]
    number: js.BigInt
    items: js.Map[Any, Any]
    floats: list[float]
    left_out: int = 3
    names: dict[int, str] = {}


def test_a_message_type_gets_what_it_asks_for() -> None:
    message = {
        "data": js.ArrayBuffer(b"xy"),
        "view": js.Uint8Array(b"xy"),
        "tags": {"a"},
        "number": js.BigInt(5),
        "items": js.Map([([], 1)]),
        "floats": js.Float32Array([0.5]),
        "left_out": js.undefined,
        "names": {1: "x"},
    }
    value = read(make().encode(message), Typed)
    assert value == Typed(
        b"xy",
        js.Uint8Array(b"xy"),
        {"a"},
        js.BigInt(5),
        js.Map([([], 1)]),
        [0.5],
        3,
        {1: "x"},
    )
    assert type(value.view) is js.Uint8Array
    assert type(value.number) is js.BigInt


@pytest.mark.parametrize(
    ("message_type", "message", "value"),
    [
        (int, js.BigInt(5), 5),
        (dict[int, str], js.Map({1: "a"}), {1: "a"}),
        (dict[str, Any], {"a": {1}}, {"a": {1}}),
        (list[int], js.Set([1]), [1]),
        (list[int], js.Int32Array([1, 2]), [1, 2]),
        (bytes, js.DataView(b"x"), b"x"),
        (bool, js.Boxed(True), True),
        (list[int | None], [js.undefined], [None]),
        (
            datetime,
            datetime(2020, 1, 1, tzinfo=timezone.utc),
            datetime(2020, 1, 1, tzinfo=timezone.utc),
        ),
        (js.Error, js.Error("x"), None),
    ],
)
def test_message_types(message_type: Any, message: Any, value: Any) -> None:
    got = read(make().encode(message), message_type)
    assert got == value or isinstance(got, js.Error)


@pytest.mark.parametrize(
    ("message_type", "message"),
    [
        (int, "x"),
        (js.BigInt, 5),
        (js.Uint8Array, js.ArrayBuffer(b"")),
        (datetime, js.Date(float("nan"))),
        (list[int], js.Array({0: 1}, length=2)),
    ],
)
def test_a_message_of_another_type_is_rejected(message_type: Any, message: Any) -> None:
    codec = make(message_type)
    values, plain = codec.feed(memoryview(codec.encode(message)))
    assert not plain
    assert isinstance(values[0].error, InvalidMessage)


def test_a_message_type_with_a_handle() -> None:
    handle = Handle()
    codec = make(HandleMessage)
    assert codec.convert([1], handle) == HandleMessage([1], handle)
    with pytest.raises(InvalidMessage):
        make(int).convert(1, handle)
    with pytest.raises(TypeError, match="message_type"):
        make("nonsense")
