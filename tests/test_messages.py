"""What is sent is what is received: which values travel, as what they arrive, what is refused."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import typing
import uuid
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Optional, Union

import attrs
import msgspec
import pytest
import trio

import trio_ipc

from . import handle_workers
from .handle_kinds import (
    KINDS,
    Kind,
    channel_pair,
    copies,
    is_open,
    pipe,
    stream_and_client,
    typed_pair,
)

UTC = datetime.timezone.utc
MOMENT = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, UTC)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True):
    side: float


class Row(msgspec.Struct, array_like=True):
    name: str
    count: int


@dataclasses.dataclass
class Job:
    name: str
    steps: list[int]


@attrs.define
class Host:
    name: str
    port: int


class Pair(NamedTuple):
    first: int
    second: str


class Options(typing.TypedDict):
    depth: int


class Delivery(msgspec.Struct):
    name: str
    stream: trio.SocketStream
    spare: trio.SocketStream | None = None


class Frozen(msgspec.Struct, frozen=True):
    number: int


class Even(msgspec.Struct):
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise LookupError("an odd one")


async def roundtrip(message: Any) -> Any:
    """What arrives, however the message is sent: alone, in a batch, or inside of another."""
    with channel_pair() as (a, b):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                await a.send(message)
                a.send_nowait("before")
                a.send_nowait(message)
                a.send_nowait([message])
                a.send_nowait("after")
                await a.drain()

            received = await b.receive()
            assert await b.receive() == "before"
            again = await b.receive()
            [nested] = await b.receive()
            assert await b.receive() == "after"
        for other in (again, nested):
            assert type(other) is type(received)
            assert msgspec.msgpack.encode(other) == msgspec.msgpack.encode(received)
        return received


# As they were sent ------------------------------------------------------------------------------

PLAIN = {
    "None": None,
    "True": True,
    "False": False,
    "zero": 0,
    "minus one": -1,
    "largest int": 2**64 - 1,
    "largest signed int": 2**63 - 1,
    "smallest int": -(2**63),
    "float": 1.5,
    "whole float": 1.0,
    "smallest float": 5e-324,
    "largest float": 1.7976931348623157e308,
    "inf": math.inf,
    "minus inf": -math.inf,
    "empty str": "",
    "ASCII": "text",
    "NUL": "a\0b",
    "Latin": "Grüße",
    "BMP": "漢字",
    "beyond the BMP": "😀🏴",
    "long str": "ß" * 20_000,
    "empty bytes": b"",
    "bytes": bytes(range(256)),
    "empty list": [],
    "list": [1, "two", b"three", None, [4.0, [True]]],
    "long list": list(range(20_000)),
    "empty dict": {},
    "dict": {"a": 1, "b": {"c": [None]}, "": "empty"},
    "dict with keys of several types": {1: "int", "1": "str", b"1": "bytes", 1.5: "float"},
    "dict with keys that are neither": {None: 0, True: 1},
    "datetime": MOMENT,
    "datetime before 1970": datetime.datetime(1901, 1, 1, tzinfo=UTC),
    "last datetime": datetime.datetime.max.replace(tzinfo=UTC),
    "deep": [[[[[[[[[[{"deep": [{}]}]]]]]]]]]],
}


@pytest.mark.parametrize("name", PLAIN)
async def test_it_arrives_as_it_was_sent(name: str) -> None:
    sent = PLAIN[name]
    received = await roundtrip(sent)
    assert type(received) is type(sent)
    assert received == sent
    assert repr(received) == repr(sent)  # which tells 1 from True, wherever it is


async def test_floats_that_equality_does_not_tell() -> None:
    assert math.isnan(await roundtrip(math.nan))
    assert math.copysign(1, await roundtrip(-0.0)) == -1


async def test_a_datetime_of_another_zone_is_the_same_moment() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    received = await roundtrip(MOMENT.astimezone(zone))
    assert received == MOMENT
    assert received.tzinfo is not None


@pytest.mark.parametrize(
    "size", [255, 256, 16383, 16384, 16385, 65535, 65536, 65537, 200_000, 3_000_000]
)
async def test_bytes_of_every_size(size: int) -> None:
    sent = bytes(range(251)) * (size // 251 + 1)
    sent = sent[:size]
    with channel_pair() as (a, b):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                for message in (sent, [sent], sent, "text", sent):
                    await a.send(message)
                await a.drain()

            for expected in (sent, [sent], sent, "text", sent):
                received = await b.receive()
                assert type(received) is type(expected)
                assert received == expected


async def test_everything_there_and_back_again() -> None:
    async with trio_ipc.open_child(handle_workers.return_all) as child:
        for name, message in PLAIN.items():
            await child.send([name, message])
            received = await child.receive()
            assert repr(received) == repr([name, message])
        big = bytes(5_000_000)
        await child.send(big)
        assert await child.receive() == big


async def test_the_receiver_has_its_own_copy() -> None:
    message: list[Any] = [{"a": [1]}]
    with channel_pair() as (a, b):
        await a.send(message)
        message[0]["a"].append(2)
        assert await b.receive() == [{"a": [1]}]


@pytest.mark.parametrize("code", [0, 1, 42, 127])
async def test_extension_values_of_the_user_pass_through(code: int) -> None:
    sent = msgspec.msgpack.Ext(code, b"\0payload")
    assert await roundtrip(sent) == sent
    with channel_pair() as (a, b), pipe() as (reader, _):
        await a.send([sent, reader])  # among handles, which are extension values, too
        received, handle = await b.receive()
        handle.close()
        assert received == sent


# As plain values --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ((1, "two", (3,)), [1, "two", [3]]),
        ({7}, [7]),
        (frozenset({"x"}), ["x"]),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"abc"), b"abc"),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (defaultdict(list, {"a": [1]}), {"a": [1]}),
        (Job("it", [1, 2]), {"name": "it", "steps": [1, 2]}),
        (Host("here", 80), {"name": "here", "port": 80}),
        (Point(1), {"x": 1, "y": 0}),
        (Circle(1.5), {"type": "Circle", "radius": 1.5}),
        (Row("a", 2), ["a", 2]),
        (Pair(1, "two"), [1, "two"]),
        (Options(depth=3), {"depth": 3}),
        (Colour.RED, "red"),
        (Level.HIGH, 2),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.10"), "1.10"),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (datetime.time(12, 30), "12:30:00"),
        (datetime.timedelta(days=1, seconds=1), "P1DT1S"),
        (datetime.datetime(2024, 2, 29), "2024-02-29T00:00:00"),
        ({Colour.BLUE: Point(1, 2)}, {"blue": {"x": 1, "y": 2}}),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_it_arrives_as_its_plain_value(sent: Any, arrives: Any) -> None:
    received = await roundtrip(sent)
    assert type(received) is type(arrives)
    assert received == arrives


async def test_keys_that_are_tuples_stay_hashable() -> None:
    message = {(1, (2, "three")): {(): None}}
    assert await roundtrip(message) == message


async def test_keys_that_cannot_be_keys_as_plain_values() -> None:
    with channel_pair() as (a, b), pipe() as (reader, _):
        before = copies(reader)
        for _ in range(2):
            await a.send({Frozen(1): "its plain value is a dict"})
            await a.send([reader, {Frozen(1): "with a handle"}], keep_open=True)
            await a.send({Frozen(1): "with a handle"}, reader, keep_open=True)
            a.send_nowait("in one batch")
            a.send_nowait({Frozen(1): "with others"})
            a.send_nowait("afterwards")
            for expected in (None, None, None, "in one batch", None, "afterwards"):
                if expected is None:
                    with pytest.raises(trio_ipc.InvalidMessage, match="hashable"):
                        await b.receive()
                else:
                    assert await b.receive() == expected
        assert copies(reader) == before
    with typed_pair(dict[Frozen, int]) as (a, b):
        await a.send({Frozen(1): 2})
        assert await b.receive() == {Frozen(1): 2}


async def test_attrs_classes_of_trio_go_by_their_public_fields() -> None:
    assert await roundtrip([trio.Event()]) == [{}]


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x92\x01", b"\x01\x02"])
async def test_raw_that_is_not_one_value_ends_the_channel(raw: bytes) -> None:
    with channel_pair() as (a, b):
        await a.send([msgspec.Raw(b"\x01")])
        assert await b.receive() == [1]
        await a.send(msgspec.Raw(raw))
        with pytest.raises(trio_ipc.ProtocolError):
            await b.receive()


async def test_nesting_too_deep_for_the_receiver_is_one_message_s_trouble() -> None:
    deep = msgspec.Raw(b"\x91" * 50_000 + b"\xc0")  # as a sender with a larger stack may send it
    with channel_pair() as (a, b):
        for message in ("one", deep, "three"):
            a.send_nowait(message)
        assert await b.receive() == "one"
        with pytest.raises(trio_ipc.InvalidMessage, match="recursion"):
            await b.receive()
        assert await b.receive() == "three"


async def test_a_handle_can_be_a_key() -> None:
    with channel_pair() as (a, b), stream_and_client() as (stream, _):
        await a.send({stream.socket: "a socket"})
        [(sock, text)] = (await b.receive()).items()
        with sock:
            assert text == "a socket"


# As the type asked for --------------------------------------------------------------------------

TYPED: list[tuple[Any, list[Any]]] = [
    (int, [1, -(2**63), 2**64 - 1]),
    (float, [1.5, math.inf]),
    (str, ["", "text"]),
    (bytes, [b"", b"abc", bytes(100_000)]),
    (None, [None]),
    (list[int], [[], [1, 2]]),
    (dict[int, str], [{1: "a"}]),
    (tuple[int, str], [(1, "a")]),
    (tuple[int, ...], [(1, 2, 3)]),
    (set[str], [{"a", "b"}]),
    (frozenset[int], [frozenset({1})]),
    (Point, [Point(1, 2)]),
    (list[Point], [[Point(1), Point(2)]]),
    (Circle | Square, [Circle(1.0), Square(2.0), Circle(3.0)]),
    (Union[Circle, Square, None], [None, Square(2.0)]),  # noqa: UP007
    (Row, [Row("a", 1)]),
    (Job, [Job("it", [1, 2])]),
    (Host, [Host("here", 80)]),
    (Pair, [Pair(1, "two")]),
    (Options, [{"depth": 1}]),
    (Colour, [Colour.RED]),
    (Level, [Level.HIGH]),
    (uuid.UUID, [uuid.UUID(int=7)]),
    (decimal.Decimal, [decimal.Decimal("1.10")]),
    (datetime.datetime, [MOMENT]),
    (datetime.date, [datetime.date(2024, 2, 29)]),
    (datetime.timedelta, [datetime.timedelta(days=1)]),
    (Literal["go", "stop", 3], ["go", "stop", 3]),
    (Annotated[int, msgspec.Meta(ge=0, lt=10)], [0, 9]),
    (msgspec.msgpack.Ext, [msgspec.msgpack.Ext(1, b"x")]),
    (bytes | int, [b"abc", 5, bytes(100_000)]),
    (trio_ipc.HandleMessage, [trio_ipc.HandleMessage("a", None)]),
]


@pytest.mark.parametrize(("kind", "messages"), TYPED, ids=lambda value: str(value)[:60])
async def test_it_arrives_as_the_type_asked_for(kind: Any, messages: list[Any]) -> None:
    with typed_pair(kind) as (a, b):
        for message in messages:  # each alone
            await a.send(message)
            received = await b.receive()
            assert type(received) is type(message)
            assert received == message
        for message in messages:  # and all in one batch
            a.send_nowait(message)
        assert [await b.receive() for _ in messages] == messages


async def test_a_struct_with_a_stream_in_it() -> None:
    with typed_pair(Delivery) as (a, b), stream_and_client() as (stream, client):
        await a.send(Delivery("it", stream))
        received = await b.receive()
        assert type(received) is Delivery
        assert received.name == "it"
        assert received.spare is None
        assert type(received.stream) is trio.SocketStream
        async with received.stream as arrived:
            client.sendall(b"through it")
            assert await arrived.receive_some() == b"through it"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_every_kind_of_handle_can_be_asked_for(kind: Kind) -> None:
    for wanted in (kind.arrives_as, Optional[kind.arrives_as]):  # noqa: UP045
        async with kind.make() as made:
            with typed_pair(dict[str, wanted]) as (a, b):  # type: ignore[valid-type]
                await a.send({"it": made.handle})
                received = (await b.receive())["it"]
                assert isinstance(received, kind.arrives_as)
                handle_workers.close(received)


async def test_a_message_with_a_handle_can_be_asked_for_as_one() -> None:
    with typed_pair(trio_ipc.HandleMessage) as (a, b), stream_and_client() as (stream, _):
        await a.send("for you", stream)
        received = await b.receive()
        assert type(received) is trio_ipc.HandleMessage
        async with received.handle:
            assert received.message == "for you"
    with typed_pair(tuple[str, trio.SocketStream]) as (a, b):
        with stream_and_client() as (stream, _):
            await a.send("for you", stream)
            text, handle = await b.receive()
            async with handle:
                assert text == "for you"


# Not the type asked for -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "good", "bad", "why"),
    [
        (int, 1, "text", "Expected `int`, got `str`"),
        (str, "a", None, "Expected `str`, got `(null|None)`"),
        (str, "a", b"a", "Expected `str`, got `bytes`"),
        (str, "a", bytes(20_000), "Expected `str`, got `bytes`"),
        (str, "a", ["a" * 100_000], "Expected `str`, got `array`"),
        (Point, Point(1), {"y": 1}, "missing required field `x`"),
        (Point, Point(1), {"x": "1"}, r"Expected `int`, got `str` - at `\$.x`"),
        (Circle | Square, Square(1.0), {"type": "Oval", "radius": 1.0}, "Invalid value 'Oval'"),
        (Annotated[int, msgspec.Meta(ge=0)], 0, -1, "Expected `int` >= 0"),
        (Colour, Colour.RED, "green", "Invalid enum value 'green'"),
        (Literal["go"], "go", "stop", "Invalid enum value 'stop'"),
        (Even, Even(2), {"number": 3}, "an odd one"),
        (Delivery, None, {"name": "it", "stream": "none"}, "Expected `SocketStream`, got `str`"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_message_of_another_type_is_invalid_and_the_next_one_arrives(
    kind: Any, good: Any, bad: Any, why: str
) -> None:
    with typed_pair(kind) as (a, b):
        for _ in range(2):
            await a.send(bad)
            with pytest.raises(trio_ipc.InvalidMessage, match=why):
                await b.receive()
            with pytest.raises(trio.WouldBlock):
                b.receive_nowait()
        if good is not None:
            for message in (good, bad, good, bad, bad, good):  # in one batch
                a.send_nowait(message)
            seen = []
            for _ in range(6):
                try:
                    seen.append(await b.receive())
                except trio_ipc.InvalidMessage as exc:
                    seen.append(type(exc))
            wrong = trio_ipc.InvalidMessage
            assert seen == [good, wrong, good, wrong, wrong, good]
        await b.send("the other way")
        assert await a.receive() == "the other way"


async def test_an_invalid_message_gives_its_room_back() -> None:
    with typed_pair(int, max_buffer_size=1) as (a, b):
        for number in range(5):
            a.send_nowait("not a number")
            with pytest.raises(trio.WouldBlock):
                a.send_nowait(0)
            with pytest.raises(trio_ipc.InvalidMessage):
                b.receive_nowait()
            a.send_nowait(number)
            assert b.receive_nowait() == number


@pytest.mark.parametrize("place", ["stream", "other field", "beside", "wrong kind"])
async def test_the_handles_of_an_invalid_message_are_closed(place: str) -> None:
    with typed_pair(Delivery) as (a, b), stream_and_client() as (stream, _), pipe() as (reader, _):
        messages: dict[str, Any] = {
            "stream": {"stream": stream},  # its name is missing
            "other field": {"name": stream, "stream": stream},
            "beside": [stream, stream.socket],
            "wrong kind": {"name": "it", "stream": reader},
        }
        before = copies(stream), copies(reader)
        await a.send(messages[place], keep_open=True)
        await a.send("it", stream, keep_open=True)  # no Delivery, either
        for _ in range(2):
            with pytest.raises(trio_ipc.InvalidMessage):
                await b.receive()
        assert (copies(stream), copies(reader)) == before
        await a.send(Delivery("it", stream))
        async with (await b.receive()).stream as received:
            assert is_open(received)


async def test_the_error_is_a_value_error() -> None:
    assert issubclass(trio_ipc.InvalidMessage, ValueError)
    assert issubclass(trio_ipc.MessageTooLarge, ValueError)
    assert issubclass(trio_ipc.UnsupportedMessage, TypeError)
    assert issubclass(trio_ipc.UnsupportedHandle, TypeError)


async def test_types_hold_in_a_real_child_and_its_parent() -> None:
    async with trio_ipc.open_child(
        handle_workers.return_all,
        message_type=Circle | Square,
    ) as child:
        await child.send(Circle(1.0))
        assert await child.receive() == Circle(1.0)
        await child.send("neither")
        await child.send({"type": "Square", "side": 2})
        with pytest.raises(trio_ipc.InvalidMessage):
            await child.receive()
        assert await child.receive() == Square(2.0)


# What can't be sent -----------------------------------------------------------------------------


def endless_list() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


class Hostile:
    """Not even its repr is to be trusted."""

    def __repr__(self) -> str:
        raise RuntimeError("never look at me")


UNSUPPORTED: dict[str, Callable[[], Any]] = {
    "object": object,
    "function": lambda: roundtrip,
    "class": lambda: int,
    "int of 65 bits": lambda: 2**64,
    "negative int of 65 bits": lambda: -(2**63) - 1,
    "lone surrogate": lambda: "\ud800",
    "lone surrogate in a key": lambda: {"a\udfff": 1},
    "complex": lambda: 1j,
    "deque": lambda: deque([1]),
    "exception": lambda: ValueError("x"),
    "generator": lambda: (x for x in ()),
    "key that is an object": lambda: {object(): 1},
    "a list in itself": endless_list,
    "dataclass with an object": lambda: Job("it", [object()]),  # type: ignore[list-item]
    "hostile": Hostile,
}


@pytest.mark.parametrize("name", UNSUPPORTED)
async def test_what_cannot_be_serialized_is_refused_and_nothing_happened(name: str) -> None:
    bad = UNSUPPORTED[name]()
    with channel_pair() as (a, b), stream_and_client() as (stream, client):
        for message in (bad, [1, bad], {"stream": stream, "bad": bad}, Job("it", bad)):
            with pytest.raises(trio_ipc.UnsupportedMessage):
                await a.send(message)
            with pytest.raises(trio_ipc.UnsupportedMessage):
                a.send_nowait(message, stream)
        with pytest.raises(trio.WouldBlock):
            b.receive_nowait()
        assert a.statistics().credit == 10
        # Handles that were found before the mistake are not sent with the next message.
        await a.send("the next one")
        assert await b.receive() == "the next one"
        await a.send([stream])
        [received] = await b.receive()
        async with received:
            client.sendall(b"it was yours")
            assert await received.receive_some() == b"it was yours"


async def test_the_reason_is_said() -> None:
    with channel_pair() as (a, _):
        with pytest.raises(trio_ipc.UnsupportedMessage, match="'complex' can't be serialized"):
            await a.send([1j])
        with pytest.raises(trio_ipc.UnsupportedMessage, match="surrogates not allowed"):
            await a.send("\ud800")


# Too large --------------------------------------------------------------------------------------


def text_of(size: int) -> str:
    """A text whose message has that many bytes."""
    header = len(msgspec.msgpack.encode("x" * (size - 5))) - (size - 5)
    return "x" * (size - header)


def list_of(size: int) -> list[Any]:
    return [text_of(size - 1)]


def bytes_of(size: int) -> bytes:
    return bytes(size) if size >= 16 * 1024 else bytes(size - 2 if size < 258 else size - 3)


@pytest.mark.parametrize("limit", [100, 1000, 16_384, 70_000])
@pytest.mark.parametrize("make", [text_of, list_of, bytes_of])
async def test_a_message_of_exactly_max_message_size_and_not_one_byte_more(
    limit: int, make: Callable[[int], Any]
) -> None:
    fits, too_large = make(limit), make(limit + 1)
    with channel_pair(max_message_size=limit) as (a, b):
        for send in (a.send_nowait, b.send_nowait):
            with pytest.raises(trio_ipc.MessageTooLarge, match=f"{limit}"):
                send(too_large)
        for _ in range(2):
            await a.send(fits)
            assert await b.receive() == fits
            with pytest.raises(trio_ipc.MessageTooLarge, match=f"max_message_size is {limit}"):
                await a.send(too_large)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                a.send_nowait(fits)
            nursery.start_soon(a.drain)
            assert [await b.receive() for _ in range(5)] == [fits] * 5


@pytest.mark.parametrize("limit", [1000, 70_000])
async def test_handles_count_as_part_of_the_message(limit: int) -> None:
    with channel_pair(max_message_size=limit) as (a, b), pipe() as (reader, writer):
        # A handle is four bytes, and a list of two is one more.
        for size in (limit - 4, limit):
            with pytest.raises(trio_ipc.MessageTooLarge):
                await a.send([reader, text_of(size)])
            with pytest.raises(trio_ipc.MessageTooLarge):
                await a.send(text_of(size), reader)
        assert is_open(reader)
        await a.send([reader, text_of(limit - 5)])
        received, text = await b.receive()
        assert text == text_of(limit - 5)
        await a.send(text_of(limit - 5), writer)
        message, handle = await b.receive()
        assert message == text_of(limit - 5)
        await handle.send_all(b"through it")
        assert await received.receive_some() == b"through it"
        received.close()
        handle.close()


async def test_a_small_limit_holds_among_small_messages() -> None:
    with channel_pair(100, max_message_size=10) as (a, b):
        for number in range(50):
            a.send_nowait(number)
            with pytest.raises(trio_ipc.MessageTooLarge):
                a.send_nowait("eleven bytes")
        assert [await b.receive() for _ in range(50)] == list(range(50))


async def test_the_default_limit_is_16_mebibytes() -> None:
    most = 16 * 1024 * 1024
    async with trio_ipc.open_child(handle_workers.return_all) as child:
        with pytest.raises(trio_ipc.MessageTooLarge):
            await child.send(bytes(most + 1))
        await child.send(bytes(most))
        assert len(await child.receive()) == most


# Messages with a handle -------------------------------------------------------------------------


async def test_a_handle_message_unpacks() -> None:
    with channel_pair() as (a, b), pipe() as (reader, _):
        await a.send({"the": "message"}, reader)
        received = await b.receive()
        message, handle = received
        assert message == received.message == {"the": "message"}
        assert handle is received.handle
        handle.close()


async def test_a_handle_message_can_be_passed_on() -> None:
    with channel_pair() as (a, b), pipe() as (reader, writer):
        await a.send("it", reader)
        for _ in range(2):
            received = await b.receive()
            assert type(received) is trio_ipc.HandleMessage
            await a.send(received)
            assert not is_open(received.handle)
        received = await b.receive()
        async with received.handle as handle:
            await writer.send_all(b"through it")
            assert await handle.receive_some() == b"through it"


async def test_a_handle_message_without_a_handle_is_a_tuple_like_any_other() -> None:
    assert await roundtrip(trio_ipc.HandleMessage("no handle", None)) == ["no handle", None]
