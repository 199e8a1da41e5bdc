"""What arrives is checked against ``message_type``: InvalidMessage in its place, and on it goes."""

from __future__ import annotations

import itertools
import tracemalloc
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import pytest
from hypothesis import given, strategies as st

from trio_ipc._errors import InvalidMessage, ProtocolError
from trio_ipc.wire import HandleMessage, Limits
from trio_ipc.wire.splitting import split_array

from .harness import (
    LARGE,
    NO_ROOM,
    ConnectionPair,
    Ledger,
    Received,
    Thing,
    Token,
    batch,
    examples,
    feed,
    frame,
    frames_in,
    reference,
    with_handle,
)
from .messages import plain


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Get(msgspec.Struct, tag="get"):
    key: str


class Put(msgspec.Struct, tag="put"):
    key: str
    value: Any


@dataclass
class Job:
    name: str
    connection: Received


class Other:
    pass


T = TypeVar("T")


class Generic_(Received, Generic[T]):
    pass


RAISED: dict[str, Exception] = {
    "ValueError": ValueError("no"),
    "TypeError": TypeError("no"),
    "KeyError": KeyError("no"),
    "OSError": OSError(5, "no"),
    "RuntimeError": RuntimeError("no"),
    "StopIteration": StopIteration("no"),
    "MemoryError": MemoryError("no"),
    "RecursionError": RecursionError("no"),
    "AssertionError": AssertionError("no"),
    "ValidationError": msgspec.ValidationError("no"),
    "DecodeError": msgspec.DecodeError("no"),
    "UnicodeDecodeError": UnicodeDecodeError("utf-8", b"", 0, 1, "no"),
    "Exception": Exception("no"),
}


class Fussy(msgspec.Struct):
    raised: str | None
    handle: Any = None

    def __post_init__(self) -> None:
        if self.raised is not None:
            raise RAISED[self.raised]


def take_each(ledger: Ledger, pair: ConnectionPair) -> list[Any]:
    results: list[Any] = []
    while pair.right.unread:
        try:
            results.append(pair.receive())
        except InvalidMessage as exc:
            results.append(exc)
    return results


def check_results(results: list[Any], expected: list[Any]) -> None:
    """``expected`` has a text in the place of each `InvalidMessage`."""
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected, strict=True):
        if isinstance(result, InvalidMessage):
            assert isinstance(wanted, str)
            assert wanted in str(result)
        else:
            assert result == wanted


@pytest.mark.parametrize("form", ["in one batch", "in batches of one", "with handles"])
def test_what_does_not_match_is_refused_in_its_place(ledger: Ledger, form: str) -> None:
    pair = ConnectionPair(ledger, types=(Any, Point if form != "with handles" else list[Any]))
    if form == "with handles":
        sent = [[Thing(1)], {"x": Thing(2)}, [Thing(3)], Thing(4), [Thing(5)]]
        expected = [[Thing(1)], "Expected `array`", [Thing(3)], "Expected `array`", [Thing(5)]]
    else:
        sent = [{"x": 1}, {"x": "1"}, {"x": 2, "y": 3}, 4, {}, {"x": 5}]
        expected = [Point(1), "`$.x`", Point(2, 3), "got `int`", "missing required", Point(5)]
    for message in sent:
        pair.send(message)
        if form == "in batches of one":
            pair.move()
    pair.move()
    results = take_each(ledger, pair)
    check_results(results, expected)
    # Refused or not, they were taken: the sender gets its credit back.
    pair.grant()
    assert pair.left.credit_left() == 1000


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("form", ["in one batch", "alone", "with a handle"])
def test_whatever_a_type_raises(ledger: Ledger, raised: str, form: str) -> None:
    pair = ConnectionPair(ledger, types=(Any, Fussy))
    if form == "in one batch":
        messages: list[Any] = [{"raised": None}, {"raised": raised}, {"raised": None}]
    elif form == "alone":
        messages = [{"raised": raised}]
    else:
        messages = [{"raised": raised, "handle": Thing("a")}]
    for message in messages:
        pair.send(message)
    pair.move()
    results = take_each(ledger, pair)
    assert [type(result) for result in results] == [
        InvalidMessage if message["raised"] else Fussy for message in messages
    ]
    [error] = [result for result in results if isinstance(result, InvalidMessage)]
    assert "no" in str(error)
    assert isinstance(error.__cause__, Exception)
    pair.send({"raised": None})
    pair.move()
    assert pair.receive() == Fussy(None)


def test_the_handles_of_a_refused_message_are_closed(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, types=(Any, list[Received]))
    pair.send([Thing(1), Thing(2), "no handle", Thing(3)])
    pair.send([Thing(4)])
    pair.move()
    with pytest.raises(InvalidMessage):
        pair.receive()
    assert [each.closed for each in ledger.objects] == [1, 1]
    assert [token.name for token in ledger.open_tokens()] == [4]
    assert pair.receive() == [Thing(4)]


@pytest.mark.parametrize(
    ("message_type", "message"),
    [
        (Received, Thing("a")),
        (list[Received], [Thing("a")]),
        (dict[str, Received], {"a": Thing("a")}),
        (tuple[str, Received], ["text", Thing("a")]),
        (object, Thing("a")),
        (Any, Thing("a")),
    ],
)
def test_types_with_handles_in_them(ledger: Ledger, message_type: Any, message: Any) -> None:
    pair = ConnectionPair(ledger, types=(Any, message_type))
    pair.send(message)
    pair.move()
    received = pair.receive()
    assert (list(received) if isinstance(received, tuple) else received) == message


def test_a_dataclass_with_a_handle(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, types=(Any, Job))
    pair.send({"name": "job", "connection": Thing("a")})
    pair.send({"name": "job", "connection": 5})
    pair.move()
    assert pair.receive() == Job("job", Thing("a"))
    with pytest.raises(
        InvalidMessage, match=r"Expected `Received`, got `int` - at `\$.connection`"
    ):
        pair.receive()


def test_a_handle_of_another_type(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, types=(Any, Other))
    pair.send(Thing("a"))
    pair.send("none at all")
    pair.move()
    with pytest.raises(InvalidMessage, match="Expected `Other`, got `Received`"):
        pair.receive()
    with pytest.raises(InvalidMessage, match="Expected `Other`, got `str`"):
        pair.receive()


def test_a_handle_of_a_generic_type(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = ledger.wire(Generic_[int])
    monkeypatch.setattr(
        wire.codec._kinds,  # type: ignore[attr-defined]
        "build",
        lambda code, extra, token: Generic_(ledger, code, extra, token),
    )
    feed(wire, with_handle(reference()), [Token(ledger, "a")])
    assert ledger.take(wire) == Thing("a")
    feed(wire, batch("none"))
    with pytest.raises(InvalidMessage, match="Expected `Generic_`, got `str`"):
        wire.take()


def test_a_union_of_tagged_structs(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, types=(Any, Get | Put))
    for message in (Get("a"), Put("b", [1]), Point(1), Put("c", Thing("it"))):
        pair.send(message)
    pair.move()
    check_results(take_each(ledger, pair), [Get("a"), Put("b", [1]), "type", Put("c", Thing("it"))])


def test_the_two_argument_form_with_a_type(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, types=(Any, tuple[int, Received]))
    pair.send(1, Thing("a"))
    pair.send("one", Thing("b"))
    pair.send(2, Thing("c"))
    pair.move()
    check_results(take_each(ledger, pair), [(1, Thing("a")), "Expected `int`", (2, Thing("c"))])


def test_the_two_argument_form_without_a_type(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger)
    pair.send([1, Thing("b")], Thing("a"))
    pair.move()
    received = pair.receive()
    assert type(received) is HandleMessage
    message, handle = received
    assert message == [1, Thing("b")]
    assert handle == Thing("a")


def test_one_that_is_passed_on_is_a_pair_again(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger)
    pair.send(HandleMessage("m", Thing("a")))
    pair.move()
    assert pair.receive() == HandleMessage("m", Thing("a"))


# Bare bytes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 20_000, LARGE])
@pytest.mark.parametrize("kind", [Any, bytes, bytes | None, int | bytes, object])
def test_bytes_where_bytes_may_be(ledger: Ledger, size: int, kind: Any) -> None:
    pair = ConnectionPair(ledger, types=(Any, kind))
    pair.send(bytes(size))
    pair.move()
    assert pair.receive() == bytes(size)


@pytest.mark.parametrize("size", [100, 20_000, LARGE])
@pytest.mark.parametrize(
    "kind", [str, int, list[int], Point, Received, Annotated[bytes, msgspec.Meta(max_length=5)]]
)
def test_bytes_where_none_may_be(ledger: Ledger, size: int, kind: Any) -> None:
    pair = ConnectionPair(ledger, types=(Any, kind))
    pair.send(bytes(size))
    pair.move()
    with pytest.raises(InvalidMessage):
        pair.receive()


@pytest.mark.parametrize("size", [100, 20_000, LARGE])
def test_bytes_as_another_kind_of_bytes(ledger: Ledger, size: int) -> None:
    pair = ConnectionPair(ledger, types=(Any, bytearray))
    pair.send(bytes(size))
    pair.move()
    received = pair.receive()
    assert type(received) is bytearray
    assert received == bytes(size)


@pytest.mark.parametrize("size", [100, 20_000, LARGE])
def test_bytes_that_stay_serialized(ledger: Ledger, size: int) -> None:
    pair = ConnectionPair(ledger, types=(Any, msgspec.Raw))
    pair.send(bytes(size))
    pair.move()
    assert msgspec.msgpack.decode(pair.receive()) == bytes(size)


# Views ------------------------------------------------------------------------------------------


class Envelope(msgspec.Struct):
    body: msgspec.Raw


class ViewEnvelope(msgspec.Struct):
    body: memoryview


@pytest.mark.parametrize("size", [5, 20_000, LARGE])
def test_what_refers_to_the_bytes_received_stays_as_it_is(ledger: Ledger, size: int) -> None:
    pair = ConnectionPair(ledger, types=(Any, ViewEnvelope))
    pair.send({"body": b"1" * size})
    pair.move()
    first = pair.receive()
    pair.send({"body": b"2" * size})
    pair.move()
    assert bytes(first.body) == b"1" * size
    assert bytes(pair.receive().body) == b"2" * size


def test_raw_parts_stay_as_they_are(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, types=(Any, Envelope))
    for number in range(3):
        pair.send({"body": [number]})
    pair.move()
    received = ledger.take_all(pair.right)
    pair.send({"body": ["something else", "and longer"] * 5})
    pair.move()
    assert [msgspec.msgpack.decode(each.body) for each in received] == [[0], [1], [2]]


# Handles ----------------------------------------------------------------------------------------


def test_a_handle_that_can_not_be_made_into_an_object(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger)
    pair.send([Thing("fine"), Thing("no room", NO_ROOM)])
    pair.send("after")
    pair.move()
    with pytest.raises(InvalidMessage, match="OSError: no room"):
        pair.receive()
    assert ledger.open_tokens() == []
    assert pair.receive() == "after"


def test_one_handle_in_two_places_is_one_object(ledger: Ledger) -> None:
    wire = ledger.wire()
    feed(wire, with_handle([reference(), {"b": reference()}]), [Token(ledger, "a")])
    first, second = ledger.take(wire)
    assert first is second["b"]


def test_handles_are_told_apart_by_their_index(ledger: Ledger) -> None:
    wire = ledger.wire()
    data = with_handle([reference(2), reference(0), reference(1)], handles=3)
    feed(wire, data, [Token(ledger, name) for name in "abc"])
    assert [each.name for each in ledger.take(wire)] == ["c", "a", "b"]


def test_messages_with_handles_that_gathered_keep_their_own(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(max_handles=5))
    sent = [
        [Thing(1), Thing(2)],
        {"a": Thing(3)},
        [Thing(4), Thing(5), Thing(6)],
        Thing(7),
        [Thing(number) for number in range(8, 13)],
    ]
    for message in sent:
        pair.send(message)
    writes = 0
    while (chunk := pair.left.next_write()) is not None:
        data = b"".join(map(bytes, chunk[0]))
        pair.rightward.write(data, [token.name for token in chunk[1]])
        assert len(chunk[1]) <= 5
        pair.left.written(len(data))
        writes += 1
    assert writes < len(sent)
    pair.move()
    assert ledger.take_all(pair.right) == sent


@pytest.mark.parametrize("size", [10, 1000, 15_000, 16_383, 16_384, 19_000])
def test_messages_with_handles_gather_no_more_than_a_batch_holds(ledger: Ledger, size: int) -> None:
    pair = ConnectionPair(ledger, Limits(1000, 20_000, 200))
    sent = [["x" * size, Thing(number)] for number in range(13)]
    for message in sent:
        unsent = pair.left.bytes_unsent()
        pair.send(message)
        assert pair.left.bytes_unsent() >= unsent + size
    sizes = []
    while (chunk := pair.left.next_write()) is not None:
        data = b"".join(map(bytes, chunk[0]))
        sizes += [len(payload) for *_, payload in frames_in(data)]
        pair.rightward.write(data, [token.name for token in chunk[1]])
        pair.left.written(len(data))
    assert max(sizes) <= 65_536 + 5
    assert pair.left.bytes_unsent() == 0
    pair.move()
    assert ledger.take_all(pair.right) == sent


def test_more_handles_than_a_number_of_seven_bits(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(max_handles=253))
    sent = [[Thing((first, number)) for number in range(first)] for first in (100, 27, 1, 128)]
    for message in sent:
        pair.send(message)
    pair.move()
    assert ledger.take_all(pair.right) == sent


def test_one_gathered_message_may_be_refused(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, types=(Any, list[Received]))
    for message in ([Thing(1)], {"a": Thing(2)}, [Thing(3)]):
        pair.send(message)
    pair.move()
    check_results(take_each(ledger, pair), [[Thing(1)], "Expected `array`", [Thing(3)]])


# Resources --------------------------------------------------------------------------------------


def peak_of(wire: Any, data: bytes) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            feed(wire, data)
            wire.take()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", "MWPBCFHGES")
@pytest.mark.parametrize("length", [0xFFFFFFFF, 64 * 1024 * 1024])
def test_a_length_is_checked_before_anything_is_allocated(
    ledger: Ledger, kind: str, length: int
) -> None:
    wire = ledger.wire(limits=Limits(10, 1024 * 1024))
    header = frame(kind)[:4] + length.to_bytes(4, "big")
    assert peak_of(wire, header) < 200_000


@pytest.mark.parametrize("count", [0xFFFFFFFF, 100_000_000])
@pytest.mark.parametrize("size", [float("inf"), 10])
def test_a_count_of_messages_allocates_nothing(ledger: Ledger, count: int, size: float) -> None:
    wire = ledger.wire(limits=Limits(size))
    assert peak_of(wire, frame("M", b"\xdd" + count.to_bytes(4, "big") + b"\x01")) < 200_000


@pytest.mark.parametrize("tag", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
def test_a_length_inside_of_a_message_allocates_nothing(ledger: Ledger, tag: bytes) -> None:
    wire = ledger.wire()
    body = tag + b"\xff\xff\xff\xff\xff\x01"
    assert peak_of(wire, frame("M", b"\xdd\0\0\0\x01" + body)) < 200_000


PIT = b"\x91" * 20_000 + b"\xc0"


def test_nesting_as_deep_as_nobody_can_follow(ledger: Ledger) -> None:
    wire = ledger.wire()
    feed(wire, frame("P", b"\x92\xd5\xd6\x00\x01" + PIT, handles=1), [Token(ledger, "a")])
    feed(wire, batch("after"))
    with pytest.raises(InvalidMessage, match="recursion"):
        wire.take()
    assert ledger.take(wire) == "after"


@pytest.mark.parametrize("message_type", [Any, int])
def test_nesting_in_a_batch_is_one_message_s_trouble(ledger: Ledger, message_type: Any) -> None:
    wire = ledger.wire(message_type)
    feed(wire, frame("M", b"\xdd\0\0\0\x04\x01" + PIT + b"\x03" + PIT))
    for expected in (1, None, 3, None):
        if expected is not None:
            assert wire.take() == expected
        else:
            with pytest.raises(InvalidMessage):
                wire.take()
    feed(wire, batch(5))
    assert wire.take() == 5


def test_nesting_in_a_large_message(ledger: Ledger) -> None:
    """Which is not looked through, so that its trouble is always only its own."""
    wire = ledger.wire()
    for depth in (b"\x91" * 200_000, b"\x91" * 200_000 + b"\xc0"):
        feed(wire, frame("M", b"\xdd\0\0\0\x01" + depth))
        with pytest.raises(InvalidMessage):
            wire.take()
    feed(wire, batch("after"))
    assert wire.take() == "after"


def test_nesting_beside_handles_is_one_message_s_trouble(ledger: Ledger) -> None:
    wire = ledger.wire()
    handle = msgspec.msgpack.encode(reference())
    parcels = b"\xdd\0\0\0\x06" + b"\x01" + handle + b"\x01\x92" + handle + PIT + b"\x01" + handle
    feed(wire, frame("W", parcels, handles=3), [Token(ledger, name) for name in "abc"])
    assert ledger.take(wire).name == "a"
    with pytest.raises(InvalidMessage, match="recursion"):
        wire.take()
    assert ledger.take(wire).name == "c"


# Where the decoder gives up before it has seen all, it is for us to see that this is no array.
MALFORMED = {
    "cut off": b"\xdd\0\0\0\x01" + b"\x91" * 20_000,
    "cut off in a length": b"\xdd\0\0\0\x02" + PIT + b"\xdb\0\0",
    "cut off in a string": b"\xdd\0\0\0\x02" + PIT + b"\xa5abc",
    "a byte that begins nothing": b"\xdd\0\0\0\x02" + PIT + b"\xc1",
    "one too many": b"\xdd\0\0\0\x01" + PIT + b"\x01",
    "one too few": b"\xdd\0\0\0\x02" + PIT,
    "several that are larger than a batch": b"\xdd\0\0\0\x02" + PIT + b"\x91" * 150_000 + b"\xc0",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_nesting_excuses_nothing(ledger: Ledger, name: str) -> None:
    wire = ledger.wire()
    with pytest.raises(ProtocolError, match="malformed batch"):
        feed(wire, frame("M", MALFORMED[name]))


def test_nesting_in_an_array_of_another_form(ledger: Ledger) -> None:
    wire = ledger.wire()
    with pytest.raises(ProtocolError, match="malformed batch"):
        feed(wire, frame("W", b"\x92\x01" + PIT, handles=1), [Token(ledger, "a")])


@examples
@given(st.lists(plain | st.binary(max_size=300).map(lambda data: msgspec.msgpack.Ext(5, data))))
def test_values_end_where_msgspec_says(values: list[Any]) -> None:
    data = batch(*values)[8:]
    assert split_array(data) == list(
        map(bytes, msgspec.msgpack.decode(data, type=list[msgspec.Raw]))
    )


def test_each_first_byte_means_what_it_does_to_msgspec() -> None:
    whole = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
    for first, zeros, ones in itertools.product(range(256), range(8), range(40)):
        # Lengths of 1, of each size.
        data = b"\xdd\0\0\0\x01" + bytes((first,)) + bytes(zeros) + b"\x01" * ones
        try:
            expected: list[bytes] | None = list(map(bytes, whole(data)))
        except msgspec.DecodeError:
            expected = None
        try:
            found: list[bytes] | None = split_array(data)
        except ValueError:
            found = None
        assert found == expected, data


def test_a_type_that_can_not_be_decoded_to(ledger: Ledger) -> None:
    with pytest.raises(TypeError, match="message_type can't be decoded to"):
        ledger.wire(dict[str, int] | dict[str, str])
