"""JSON as `JSON.stringify` writes it and as `JSON.parse` reads it, and what types make of it."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
import uuid
from decimal import Decimal
from typing import Any

import attrs
import msgspec
import pytest
import trio
from hypothesis import given, strategies as st

from trio_ipc import javascript
from trio_ipc._errors import InvalidMessage, UnsupportedMessage
from trio_ipc.wire import HandleMessage, Limits
from trio_ipc.wire.node_json import JsonCodec
from trio_ipc.wire.node_values import Internal, Rejected

from .harness import Ledger, Thing, examples
from .node_harness import ACK, deliver, handle_frame, line, node_wire, output


def codec(message_type: Any = Any, limit: int = 1 << 20) -> JsonCodec:
    return JsonCodec(message_type, limit, lambda obj: isinstance(obj, Thing))


def feed(codec: JsonCodec, data: bytes) -> list[Any]:
    return codec.feed(memoryview(data))[0]


# Out --------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Point:
    x: float
    y: float = math.nan


@attrs.define
class Place:
    name: str


class Color(enum.Enum):
    RED = "red"


class Struct(msgspec.Struct):
    a: Any
    b: Any = msgspec.UNSET


WRITTEN: dict[str, tuple[Any, bytes]] = {
    "not a number": (math.nan, b"null"),
    "infinities": ([math.inf, -math.inf], b"[null,null]"),
    "infinity beside a lone surrogate": ([math.inf, "\ud800"], b'[null,"\\ud800"]'),
    "lone surrogates": ({"\udfff": "a\ud800"}, b'{"\\udfff":"a\\ud800"}'),
    "surrogates in the wrong order": ("\udc00\ud800", b'"\\udc00\\ud800"'),
    "a pair beside a lone one": ("😀\ud800", b'"\\ud83d\\ude00\\ud800"'),
    "a lone surrogate in an object": (Struct("\ud800"), b'{"a":"\\ud800"}'),
    "in a tuple, with bytes and a number for a key": (
        ("\ud800", b"x", {1: 2}),
        b'["\\ud800","eA==",{"1":2}]',
    ),
    "control characters": ("\0\x1f\x7f", b'"\\u0000\\u001f\x7f"'),
    "a number beyond 53 bits": (2**53 + 1, b"9007199254740993"),
    "one of any size": (10**30, b"1" + b"0" * 30),
    "bytes": (b"x", b'"eA=="'),
    "a tuple": ((1, 2), b"[1,2]"),
    "a set": ({3}, b"[3]"),
    "numbers for keys": ({1: 2, 1.5: 3}, b'{"1":2,"1.5":3}'),
    "a dataclass": (Point(1), b'{"x":1,"y":null}'),
    "an attrs class": (Place("x"), b'{"name":"x"}'),
    "a Struct, and what is not set": (Struct(1), b'{"a":1}'),
    "an enum": (Color.RED, b'"red"'),
    "a UUID": (uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
    "a decimal number": (Decimal("1.50"), b'"1.50"'),
    "a date": (
        datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc),
        b'"2000-01-01T00:00:00Z"',
    ),
    "a raw value": (msgspec.Raw(b'{"a":1}'), b'{"a":1}'),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_written_as(name: str) -> None:
    message, text = WRITTEN[name]
    assert codec().encode(message) == text + b"\n"
    frame = codec().encode_handle({"type": "net.Socket"}, message)
    assert frame == b'{"cmd":"NODE_HANDLE","type":"net.Socket","msg":%b}\n' % text
    json.loads(frame, parse_constant=pytest.fail)


def cycle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


UNWRITABLE: dict[str, Any] = {
    "an object": object(),
    "one inside": {"a": [object()]},
    "one beside a lone surrogate": ["\ud800", object()],
    "None for a key": {None: 1},
    "a cycle": cycle(),
    "a cycle with a lone surrogate": ["\ud800", cycle()],
    "a number of 5000 digits": 10**5000,
    "a complex number": 1j,
    "a function": len,
    "a raw value of two lines": msgspec.Raw(b"1\n2"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_can_not_be_written(name: str) -> None:
    with pytest.raises(UnsupportedMessage):
        codec().encode(UNWRITABLE[name])
    with pytest.raises(UnsupportedMessage):
        codec().encode_handle({"type": "net.Socket"}, UNWRITABLE[name])


def test_types_of_javascript_need_the_other_serialization() -> None:
    with pytest.raises(UnsupportedMessage, match="serialization='advanced' knows them"):
        codec().encode({"a": javascript.undefined})
    with pytest.raises(UnsupportedMessage) as caught:
        codec().encode({"a": object()})
    assert "advanced" not in str(caught.value)


@dataclasses.dataclass
class Command:
    cmd: str


class TaggedCommand(msgspec.Struct, tag_field="cmd", tag="NODE_CLUSTER"):
    pass


class CommandStruct(msgspec.Struct):
    cmd: str
    rest: str = ""


class CommandEnum(str, enum.Enum):
    ACK = "NODE_HANDLE_ACK"


@attrs.define
class CommandAttrs:
    cmd: str


RESERVED: dict[str, Any] = {
    "a dict": {"cmd": "NODE_HANDLE"},
    "one with more in it": {"a": 1, "cmd": "NODE_HANDLE_ACK", "b": {}},
    "one that nobody knows": {"cmd": "NODE_x"},
    "the shortest": {"cmd": "NODE_1"},
    "a dataclass": Command("NODE_HANDLE"),
    "a Struct": CommandStruct("NODE_HANDLE"),
    "a Struct with a tag": TaggedCommand(),
    "an attrs class": CommandAttrs("NODE_x"),
    "an enum": {"cmd": CommandEnum.ACK},
    "beside a lone surrogate": {"cmd": "NODE_x", "a": "\ud800"},
    "a Struct beside a lone surrogate": CommandStruct("NODE_x", "\ud800"),
    "a lone surrogate itself": {"cmd": "NODE_\ud800"},
    "raw": msgspec.Raw(b'{"cmd":"NODE_x"}'),
    "raw and escaped": msgspec.Raw(b'{"\\u0063md":"\\u004eODE_x"}'),
}


@pytest.mark.parametrize("name", RESERVED)
def test_reserved_for_node(name: str) -> None:
    with pytest.raises(UnsupportedMessage, match="reserved"):
        codec().encode(RESERVED[name])
    with pytest.raises(UnsupportedMessage, match="reserved"):
        codec().encode_handle({"type": "net.Socket"}, RESERVED[name])


ORDINARY: dict[str, Any] = {
    "the bare prefix": {"cmd": "NODE_"},
    "another prefix": {"cmd": "fooNODE_x"},
    "small letters": {"cmd": "node_x"},
    "another member": {"command": "NODE_x"},
    "a list": ["cmd", "NODE_x"],
    "a text": "NODE_x",
    "inside": {"a": {"cmd": "NODE_x"}},
    "a number": {"cmd": 1, "a": "NODE_"},
    "a list for a command": {"cmd": ["NODE_x"]},
    "beside a lone surrogate": {"cmd": "x", "a": ["NODE_x", "\ud800"]},
    "a lone surrogate alone": ["NODE_", "\ud800"],
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_messages(ledger: Ledger, name: str) -> None:
    message = ORDINARY[name]
    for message_type in (Any, object):
        wire = node_wire(ledger, message_type)
        deliver(ledger, wire, codec().encode(message))
        deliver(ledger, wire, codec().encode_handle({"type": "net.Socket"}, message), "h")
        assert ledger.take(wire) == message  # type: ignore[arg-type]
        if message_type is Any:
            assert ledger.take(wire) == (message, Thing("h"))  # type: ignore[arg-type]
        else:
            assert ledger.take(wire) == [message, Thing("h")]  # type: ignore[arg-type]
        assert output(wire) == ACK


# In ---------------------------------------------------------------------------------------------

READ: dict[str, tuple[bytes, Any]] = {
    "numbers": (b"[0,-1,1.5,1e3,-2E-2]", [0, -1, 1.5, 1000.0, -0.02]),
    "more than 53 bits": (b"9007199254740993", 9007199254740993),
    "more than 64 bits": (b"123456789012345678901234567890", 123456789012345678901234567890),
    "the largest number of JavaScript": (b"1.7976931348623157e+308", 1.7976931348623157e308),
    "the smallest": (b"5e-324", 5e-324),
    "what counts is the last": (b'{"a":1,"a":2}', {"a": 2}),
    "no name": (b'{"":1}', {"": 1}),
    "a lone surrogate": (b'"\\ud800"', "\ud800"),
    "one in a name": (b'{"\\udc00":1}', {"\udc00": 1}),
    "a pair": (b'"\\ud83d\\ude00"', "😀"),
    "a pair in two escapes beside a lone one": (b'["\\ud83d\\ude00","\\udc00"]', ["😀", "\udc00"]),
    "two that are no pair": (b'"\\ud83d\\ud83d"', "\ud83d\ud83d"),
    "a lone one before a pair": (b'"\\ud83d\\ud83d\\ude00"', "\ud83d😀"),
    "a lone one beside bytes of UTF-8": ('["\\ud800","é😀"]'.encode(), ["\ud800", "é😀"]),
    "escapes": (b'"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000"', '"\\/\b\f\n\r\t\0'),
    "a backslash before a u": (b'"\\\\ud800"', "\\ud800"),
    "no characters at all": (b'"\xef\xbf\xbe\xef\xbf\xbf"', "\ufffe\uffff"),
    "spaces everywhere": (b'\t{ "a" :\r[ 1 , 2 ] }  ', {"a": [1, 2]}),
    "five hundred deep": (b"[" * 500 + b"]" * 500, None),
}


@pytest.mark.parametrize("name", READ)
def test_read_as(name: str) -> None:
    text, value = READ[name]
    if value is None:
        value = json.loads(text)
    for message_type in (Any, object):
        assert feed(codec(message_type), text + b"\n") == [value]
        assert feed(codec(message_type), b'1\n"\\u0020"\n' + text + b"\n") == [1, " ", value]


REASONLESS: dict[str, bytes] = {
    "a number beyond all": b"[1e999]",
    "a number of 5000 digits": b"1" * 5000,
    "one beside a lone surrogate": b'["\\u0020",' + b"1" * 5000 + b"]",
    "100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "100,000 deep, with an escape": b'["\\ud800",' + b"[" * 100_000 + b"]" * 100_000 + b"]",
}


@pytest.mark.parametrize("name", REASONLESS)
def test_json_beyond_reason_is_one_invalid_message(ledger: Ledger, name: str) -> None:
    """It would be no news to Node, and it is no reason to end the channel."""
    wire = node_wire(ledger)
    deliver(ledger, wire, b'"before"\n' + REASONLESS[name] + b'\n"after"\n')
    assert wire.take() == "before"
    with pytest.raises(InvalidMessage):
        wire.take()
    assert wire.take() == "after"


def join_pairs(text: str) -> str:
    """To JavaScript, two halves that meet are one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


texts = st.one_of(
    st.text(), st.text(st.sampled_from('\ud800\udbff\udc00\udfff😀aNODE_\\u"\n\x02'))
).map(join_pairs)

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        texts,
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


@examples
@given(st.lists(json_values, max_size=5), st.integers(1, 50), st.sampled_from([Any, object]))
def test_what_is_sent_arrives(messages: list[Any], most: int, message_type: Any) -> None:
    sender, receiver = codec(), codec(message_type)
    data = b"".join(map(sender.encode, messages))
    received = []
    for start in range(0, len(data), most):
        received += feed(receiver, data[start : start + most])
    assert received == messages
    assert receiver.incomplete() is None
    # Node reads it, too: strict JSON, a line each.
    strict = [json.loads(each, parse_constant=pytest.fail) for each in data.split(b"\n")[:-1]]
    assert strict == messages


@examples
@given(json_values)
def test_what_json_stringify_writes_arrives(message: Any) -> None:
    for ensure_ascii in (False, True):
        try:
            text = json.dumps(message, ensure_ascii=ensure_ascii).encode()
        except UnicodeEncodeError:
            continue
        found = feed(codec(), text + b"\n")
        assert found == [message] or (
            isinstance(found[0], Internal) and message["cmd"].startswith("NODE_")
        )


# Types ------------------------------------------------------------------------------------------


class Cat(msgspec.Struct, tag=True):
    name: str


class Dog(msgspec.Struct, tag=True):
    name: str
    collar: Any = None


class Picky:
    pass


@dataclasses.dataclass
class Touchy:
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise RuntimeError("not negative")


TYPES: dict[str, tuple[Any, bytes, Any]] = {
    "a union of Structs": (Cat | Dog, b'{"type":"Dog","name":"x"}', Dog("x")),
    "a union of plain types": (int | str, b'"x"', "x"),
    "bytes": (bytes, b'"eA=="', b"x"),
    "a time": (
        datetime.datetime,
        b'"2000-01-01T00:00:00.000Z"',
        datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc),
    ),
    "numbers for keys": (dict[int, str], b'{"1":"x"}', {1: "x"}),
    "a dataclass": (Touchy, b'{"n":1}', Touchy(1)),
    "a tuple": (tuple[int, str], b'[1,"x"]', (1, "x")),
    "a lone surrogate": (Cat, b'{"type":"Cat","name":"\\ud800"}', Cat("\ud800")),
    "a lone surrogate and a number for a key": (
        dict[int, str],
        b'{"1":"\\ud800"}',
        {1: "\ud800"},
    ),
    "a command of the user's": (CommandStruct, b'{"cmd":"x"}', CommandStruct("x")),
    "a pair that is a list": (HandleMessage, b"[1,null]", HandleMessage(1, None)),
    "raw": (msgspec.Raw, b'{"a":[1]}', msgspec.Raw(b'{"a":[1]}')),
}


@pytest.mark.parametrize("name", TYPES)
def test_decoded_to_a_type(ledger: Ledger, name: str) -> None:
    message_type, text, value = TYPES[name]
    wire = node_wire(ledger, message_type)
    deliver(ledger, wire, text + b"\n" + text + b"\n" + ACK + text + b"\n")
    taken = ledger.take_all(wire)  # type: ignore[arg-type]
    assert taken == [value] * 3
    assert type(taken[0]) is type(value)


MISFITS: dict[str, tuple[Any, bytes]] = {
    "another type": (int, b'"x"'),
    "another Struct": (Cat | Dog, b'{"type":"Cow","name":"x"}'),
    "a missing member": (Cat, b'{"type":"Cat"}'),
    "a type that is picky": (Touchy, b'{"n":-1}'),
    "a lone surrogate": (int, b'"\\ud800"'),
    "a picky type and a lone surrogate": (Touchy, b'{"n":-1,"x":"\\ud800"}'),
    "no handle for a handle": (tuple[str, Thing], b'["x",1]'),
    "a message without its handle": (HandleMessage, b'"x"'),
    "a number beyond all": (float, b"1e999"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_not_of_the_type(ledger: Ledger, name: str) -> None:
    """It leaves the channel alive, and what is before and behind it in place."""
    message_type, text = MISFITS[name]
    good = {int: b"7", float: b"7"}.get(message_type)
    wire = node_wire(ledger, message_type)
    around = b"" if good is None else good + b"\n"
    deliver(ledger, wire, around + text + b"\n" + NACK_AND_MORE + around)
    if good is not None:
        assert wire.take() == 7
    with pytest.raises(InvalidMessage):
        wire.take()
    assert len(wire.unread) == (good is not None)
    assert wire.can_send(1)


NACK_AND_MORE = b'{"cmd":"NODE_HANDLE_NACK"}\n{"cmd":"NODE_NEWS"}\n'

BESIDE_HANDLES: dict[str, tuple[Any, Any, Any]] = {
    "any": (Any, {"a": 1}, HandleMessage({"a": 1}, Thing("h"))),
    "a pair": (HandleMessage, {"a": 1}, HandleMessage({"a": 1}, Thing("h"))),
    "a union with a pair": (str | HandleMessage, 1, HandleMessage(1, Thing("h"))),
    "a tuple": (tuple[Cat, Any], {"type": "Cat", "name": "x"}, (Cat("x"), Thing("h"))),
    "a lone surrogate": (tuple[str, Any], "\ud800", ("\ud800", Thing("h"))),
    "numbers for keys": (tuple[dict[int, int], Any], {"1": 2}, ({1: 2}, Thing("h"))),
}


@pytest.mark.parametrize("name", BESIDE_HANDLES)
def test_a_type_for_a_message_with_a_handle(ledger: Ledger, name: str) -> None:
    message_type, message, value = BESIDE_HANDLES[name]
    wire = node_wire(ledger, message_type)
    for frame in (codec().encode_handle({"type": "net.Socket"}, message), handle_frame(1)):
        deliver(ledger, wire, frame, "h")
    taken = ledger.take(wire)  # type: ignore[arg-type]
    assert taken == value
    assert type(taken) is type(value)
    assert output(wire) == ACK + ACK


@pytest.mark.parametrize("message_type", [int, str, Cat, tuple[int, int], tuple[str, Picky]])
def test_a_handle_that_does_not_fit_the_type_is_closed(ledger: Ledger, message_type: Any) -> None:
    wire = node_wire(ledger, message_type)
    deliver(ledger, wire, handle_frame("x", key="k"), "h")
    assert output(wire) == ACK  # it has arrived
    with pytest.raises(InvalidMessage):
        wire.take()
    [obj] = ledger.objects
    assert obj.closed == 1
    assert wire.accounts.count("k") == 0


def test_a_handle_type_is_compared_with_what_arrived(ledger: Ledger) -> None:
    wire = node_wire(ledger, tuple[str, trio.SocketStream])
    deliver(ledger, wire, handle_frame("x"), "h")
    with pytest.raises(InvalidMessage, match="SocketStream"):
        wire.take()


def test_a_type_that_nobody_can_decode_to() -> None:
    with pytest.raises(TypeError, match="message_type"):
        codec(Cat | dict)


def test_internal_messages_are_known_whatever_the_type(ledger: Ledger) -> None:
    for message_type in (int, CommandStruct, dict[str, str], msgspec.Raw):
        found, plain = codec(message_type).feed(memoryview(line({"cmd": "NODE_NEWS", "n": 1})))
        assert not plain
        [internal] = found
        assert internal.members == {"cmd": "NODE_NEWS", "n": 1}


def test_rejected_messages_are_not_plain() -> None:
    found, plain = codec(int).feed(memoryview(b'1\n"x"\n2\n'))
    assert not plain
    assert found[0] == 1
    assert found[1].__class__ is Rejected
    assert found[2] == 2


def test_what_a_type_raises_is_the_cause(ledger: Ledger) -> None:
    wire = node_wire(ledger, Touchy, Limits(1))
    for data in (b'{"n":-1}\n', b'{"n":-1,"\\u0041":0}\n'):
        deliver(ledger, wire, data)
        with pytest.raises(InvalidMessage) as caught:
            wire.take()
        assert isinstance(caught.value.__cause__, RuntimeError)
