"""What can be sent, what it becomes on the way, and that a refusal has no effect at all."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import math
import uuid
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import attrs
import msgspec
import pytest

from trio_ipc._errors import MessageTooLarge, UnsupportedHandle, UnsupportedMessage
from trio_ipc.wire import HandleMessage, Limits, Outbound
from trio_ipc.wire.native import NativeWire

from .harness import (
    LARGE,
    READ_SIZE,
    SHUT,
    ConnectionPair,
    Ledger,
    Thing,
    Token,
    commit,
    frames_in,
    output,
)


class Point(msgspec.Struct):
    x: int
    y: int


@dataclasses.dataclass
class DataPoint:
    x: int
    y: int


@attrs.define
class AttrsPoint:
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


NOW = datetime(2024, 2, 29, 12, 30, 15, 123456, timezone(timedelta(hours=5)))


@pytest.mark.parametrize(
    "message",
    [
        None,
        True,
        False,
        0,
        -1,
        127,
        128,
        -32,
        -33,
        65_536,
        (1 << 64) - 1,
        -(1 << 63),
        0.0,
        -1.5,
        1e300,
        math.inf,
        -math.inf,
        "",
        "text",
        "\N{SNOWMAN}\0\U0001f600",
        b"",
        b"\x00\xff",
        [],
        [1, [2, [3]]],
        {},
        {"a": {"b": [None]}},
        {1: "one", None: 2, "three": 3, 1.5: 4, False: 5},
        {(1, 2): "a tuple for a key"},
        NOW,
        [NOW, {"when": NOW}],
        datetime(1, 1, 1, tzinfo=timezone.utc),
        datetime(1950, 1, 1, tzinfo=timezone.utc),
        msgspec.msgpack.Ext(5, b"an application's own"),
        msgspec.msgpack.Ext(127, b""),
        "x" * LARGE,
        b"x" * 16_383,
        b"x" * 16_384,
        b"x" * LARGE,
        ["x" * LARGE],
        Thing("a"),
        [Thing("a", 2, b"extra"), {"b": Thing("b")}],
        {"a" * LARGE: Thing("a")},
    ],
    ids=lambda message: repr(message)[:40],
)
def test_what_arrives_as_it_was_sent(ledger: Ledger, message: Any) -> None:
    pair = ConnectionPair(ledger)
    pair.send(message)
    pair.move()
    received = pair.receive()
    assert received == message
    assert type(received) is type(message) or isinstance(message, Thing)


def test_not_a_number_arrives(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger)
    pair.send(math.nan)
    pair.move()
    assert math.isnan(pair.receive())


@pytest.mark.parametrize(
    ("message", "received"),
    [
        ((1, 2), [1, 2]),
        ({3}, [3]),
        (frozenset([3]), [3]),
        (bytearray(b"ab"), b"ab"),
        (bytearray(20_000), bytes(20_000)),
        (memoryview(b"ab"), b"ab"),
        (Point(1, 2), {"x": 1, "y": 2}),
        (DataPoint(1, 2), {"x": 1, "y": 2}),
        (AttrsPoint(1, 2), {"x": 1, "y": 2}),
        (Colour.RED, "red"),
        (Number.ONE, 1),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.50"), "1.50"),
        (date(2024, 2, 29), "2024-02-29"),
        (time(12, 30), "12:30:00"),
        (datetime(2024, 2, 29, 12), "2024-02-29T12:00:00"),
        (HandleMessage(1, None), [1, None]),
        (msgspec.Raw(b"\x05"), 5),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_arrives_as_its_plain_value(ledger: Ledger, message: Any, received: Any) -> None:
    pair = ConnectionPair(ledger)
    pair.send(message)
    pair.move()
    assert pair.receive() == received


def test_the_same_object_twice_is_one_descriptor(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger)
    thing, other = Thing("it"), Thing("other")
    payload = pair.left.encode([thing, other, {"again": thing}])
    assert isinstance(payload, Outbound)
    assert [known.obj for known in payload.handles] == [thing, other]
    pair.send([thing, other, {"again": thing}])
    pair.send(thing, thing)
    pair.move()
    first, _, third = pair.receive()
    assert first is third["again"]
    message, handle = pair.receive()
    assert message is handle
    assert [each.name for each in ledger.objects] == ["it", "other", "it"]


def test_equal_objects_are_two_descriptors(ledger: Ledger) -> None:
    class Equal(Thing):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    payload = ledger.wire().encode([Equal(1), Equal(2)])
    assert isinstance(payload, Outbound)
    assert len(payload.handles) == 2


# Refusals ---------------------------------------------------------------------------------------


def deep(depth: int = 100_000) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


class Unhelpful(Exception):
    pass


class Raising(Thing):
    """Can't even be looked at."""

    @property
    def code(self) -> int:
        raise self.error

    @code.setter
    def code(self, value: int) -> None:
        pass

    def __init__(self, error: BaseException) -> None:
        super().__init__("raising")
        self.error = error


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "an object": (object(), UnsupportedMessage, "can't send 'object': objects of type 'object'"),
    "an object inside": ([{"a": object()}], UnsupportedMessage, "can't send 'list': objects of"),
    "a function": (len, UnsupportedMessage, "'builtin_function_or_method' can't be serialized"),
    "an integer of 65 bits": (1 << 64, UnsupportedMessage, "can't send 'int': "),
    "a negative one": (-(1 << 63) - 1, UnsupportedMessage, "can't send 'int': "),
    "a complex number": (1j, UnsupportedMessage, "objects of type 'complex'"),
    "a lone surrogate": ("\ud800", UnsupportedMessage, "surrogates not allowed"),
    "nested too deeply": (deep(), UnsupportedMessage, "recursion"),
    "an exception without words": (
        Raising(Unhelpful()),
        UnsupportedMessage,
        "'Raising': Unhelpful",
    ),
    "no room for it": (Raising(OSError(24, "too many")), UnsupportedMessage, "too many"),
    "a closed handle": (Thing("x", SHUT), UnsupportedHandle, "it is closed"),
    "a closed handle inside": ([Thing(1), Thing("x", SHUT)], UnsupportedHandle, "it is closed"),
    "too large": ("x" * 998, MessageTooLarge, "a message of 1001 bytes; max_message_size is 1000"),
    "too large with handles": (
        [Thing(1), "x" * 995],
        MessageTooLarge,
        r"1\d\d\d bytes; max_message_size is 1000",
    ),
    "too large bytes": (bytes(998), MessageTooLarge, "1001 bytes; max_message_size is 1000"),
    "too large bare bytes": (bytes(16_384), MessageTooLarge, "16384 bytes"),
    "too many handles": (
        [Thing(1), Thing(2), Thing(3)],
        MessageTooLarge,
        "3 handles; max_handles is 2",
    ),
    "far too many handles": (
        [Thing(number) for number in range(254)],
        MessageTooLarge,
        "more than 253 handles in one message",
    ),
}


def state_of(wire: NativeWire) -> list[Any]:
    return [
        wire.credit_left(),
        wire.bytes_unsent(),
        wire.has_output(),
        wire.can_send(),
        wire.can_send(2),
        wire.grants_pending,
        wire.credit_state(),
    ]


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a handle"])
def test_a_refused_message_has_no_effect(ledger: Ledger, case: str, beside: bool) -> None:
    message, error, text = REFUSED[case]
    wire = ledger.wire(limits=Limits(10, 1000, 2))
    commit(ledger, wire, "before")
    before = state_of(wire)
    with pytest.raises(error, match=text if not beside else None):
        wire.encode([Thing("lost"), message] if beside else message)
    assert state_of(wire) == before
    # Above all its handles do not go out with the next message, whatever that is.
    for harmless in ("after", b"after", b"a" * 900, ["after"]):
        assert isinstance(wire.encode(harmless), bytes)
    payload = wire.encode(["after", Thing("mine")])
    assert isinstance(payload, Outbound)
    assert [known.obj.name for known in payload.handles] == ["mine"]
    commit(ledger, wire, "after")
    assert frames_in(output(wire)) == [("M", 0, 0, b"\xdd\0\0\0\x02\xa6before\xa5after")]


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_message_of_the_two_argument_form_has_no_effect(
    ledger: Ledger, case: str
) -> None:
    message, error, _ = REFUSED[case]
    wire = ledger.wire(limits=Limits(10, 1000, 2))
    before = state_of(wire)
    with pytest.raises(error):
        wire.encode(message, Thing("lost"))
    assert state_of(wire) == before
    assert wire.encode("after") == b"\xa5after"
    payload = wire.encode("after", Thing("mine"))
    assert isinstance(payload, Outbound)
    assert [known.obj.name for known in payload.handles] == ["mine"]


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_call_has_no_effect(ledger: Ledger, case: str) -> None:
    message, error, _ = REFUSED[case]
    wire = ledger.wire(limits=Limits(10, 1000, 2))
    with pytest.raises(error):
        wire.encode_call("function", [Thing("lost"), message])
    payload = wire.encode_call("function", [Thing("mine")])
    assert [known.obj.name for known in payload.handles] == ["mine"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_an_interrupted_message_has_no_effect(ledger: Ledger, error: BaseException) -> None:
    wire = ledger.wire()
    for interrupted in (
        lambda: wire.encode([Thing("lost"), Raising(error)]),
        lambda: wire.encode([Thing("lost"), Raising(error)], Thing("lost, too")),
        lambda: wire.encode_call("function", [Thing("lost"), Raising(error)]),
    ):
        with pytest.raises(type(error)):
            interrupted()
        assert wire.encode("after") == b"\xa5after"


@pytest.mark.parametrize("handle", [1, "text", [], {}, True, 0.5, object(), 1 << 70])
def test_a_handle_that_is_none_is_refused(ledger: Ledger, handle: Any) -> None:
    wire = ledger.wire()
    with pytest.raises(UnsupportedHandle, match=f"'{type(handle).__name__}' objects are no handle"):
        wire.encode("message", handle)
    with pytest.raises(UnsupportedHandle, match="are no handles"):
        wire.encode(Thing("lost"), handle)
    with pytest.raises(UnsupportedHandle, match="are no handles"):
        wire.encode(object(), handle)
    with pytest.raises(UnsupportedHandle, match="are no handles"):
        wire.encode("message", [Thing("inside of a list")])
    with pytest.raises(UnsupportedMessage, match="can't send 'object'"):
        wire.encode(object(), Thing("that is one"))
    assert wire.encode("after") == b"\xa5after"


def test_the_cause_of_a_refusal_is_kept(ledger: Ledger) -> None:
    error = Unhelpful("because")
    with pytest.raises(UnsupportedMessage) as caught:
        ledger.wire().encode(Raising(error))
    assert caught.value.__cause__ is error


# Sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit", [0, 1, 100, 65_531, 65_536, 65_537, READ_SIZE - 5, READ_SIZE, READ_SIZE + 1]
)
def test_a_message_of_exactly_the_limit_arrives(ledger: Ledger, limit: int) -> None:
    pair = ConnectionPair(ledger, Limits(10, limit))
    overhead = 1 if limit < 33 else 2 if limit < 258 else 3 if limit < 65_539 else 5
    if limit == 0:
        with pytest.raises(MessageTooLarge):
            pair.left.encode(None)
        return
    message = "x" * (limit - overhead)
    assert len(msgspec.msgpack.encode(message)) == limit
    pair.send(message)
    pair.move()
    assert pair.receive() == message
    with pytest.raises(MessageTooLarge):
        pair.left.encode(message + "x")


@pytest.mark.parametrize("limit", [16_384, 65_536, 65_537, READ_SIZE, READ_SIZE + 1])
def test_bare_bytes_of_exactly_the_limit_arrive(ledger: Ledger, limit: int) -> None:
    pair = ConnectionPair(ledger, Limits(10, limit))
    pair.send(bytes(limit))
    pair.move()
    assert len(pair.receive()) == limit
    with pytest.raises(MessageTooLarge):
        pair.left.encode(bytes(limit + 1))


@pytest.mark.parametrize("limit", [100, 65_536, READ_SIZE - 5, READ_SIZE, LARGE])
@pytest.mark.parametrize("form", ["inside", "beside", "call"])
def test_a_message_with_handles_of_exactly_the_limit_arrives(
    ledger: Ledger, limit: int, form: str
) -> None:
    pair = ConnectionPair(ledger, Limits(10, limit))

    def encode(text: str) -> bytes | Outbound:
        if form == "inside":
            return pair.left.encode([text, Thing("a")])
        if form == "beside":
            return pair.left.encode(text, Thing("a"))
        return pair.left.encode_call("f", [text, Thing("a")])

    payload = None
    size = limit - 12
    while True:
        try:
            payload = encode("x" * size)
        except MessageTooLarge:
            break
        size += 1
    assert isinstance(payload, Outbound)
    assert len(payload.data) == limit + {"inside": 5, "beside": 0, "call": 2}[form]
    if form != "call":
        pair.left.commit(payload, [Token(ledger, "a")])
        pair.move()
        text, thing = pair.receive()
        assert (text, thing) == ("x" * (size - 1), Thing("a"))


@pytest.mark.parametrize("count", [0, 1, 16, 253])
def test_exactly_so_many_handles(ledger: Ledger, count: int) -> None:
    pair = ConnectionPair(ledger, Limits(10, 100_000, count))
    things = [Thing(number) for number in range(count)]
    pair.send(things)
    pair.move()
    assert pair.receive() == things
    with pytest.raises(MessageTooLarge):
        pair.left.encode([*things, Thing("one more")])


def test_a_batch_may_be_larger_than_a_message(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(1000, 100))
    sent = [f"{number:90}" for number in range(600)]
    for message in sent:
        pair.send(message)
    data = output(pair.left)
    assert [kind for kind, *_ in frames_in(data)] == ["M"]
    assert len(data) > 50_000
    pair.rightward.write(data)
    pair.move()
    assert ledger.take_all(pair.right) == sent


def test_batches_end_where_they_are_full(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger)
    sent = [f"{number:1000}" for number in range(200)]
    for message in sent:
        pair.send(message)
    data = output(pair.left)
    sizes = [len(payload) for *_, payload in frames_in(data)]
    assert len(sizes) == 4
    assert max(sizes) <= 65_536
    pair.rightward.write(data)
    pair.move()
    assert ledger.take_all(pair.right) == sent


@pytest.mark.parametrize("size", range(65_536 - 30, 65_536 + 8))
def test_messages_around_the_size_of_a_batch(ledger: Ledger, size: int) -> None:
    pair = ConnectionPair(ledger)
    for message in ("before", "x" * size, "after"):
        pair.send(message)
    pair.move()
    assert ledger.take_all(pair.right) == ["before", "x" * size, "after"]


# One message at a time --------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(17))
def test_a_single_message_may_skip_the_queue(ledger: Ledger, count: int) -> None:
    pair = ConnectionPair(ledger)
    data = pair.left.commit_single(pair.left.encode("hi"))
    assert data == b"M\x00\x00\x00\x00\x00\x00\x08\xdd\x00\x00\x00\x01\xa2hi"
    assert not pair.left.has_output()
    assert pair.left.credit_left() == 999
    if count:
        pair.rightward.write(data[:count])
    if count < len(data):
        pair.left.unwritten(data, count)
        assert pair.left.bytes_unsent() == len(data) - count
    pair.send("ho")
    pair.move()
    assert ledger.take_all(pair.right) == ["hi", "ho"]
    assert pair.left.bytes_unsent() == 0


def test_a_single_message_takes_credit_along(ledger: Ledger) -> None:
    wire = ledger.wire(limits=Limits(5))
    wire.grants_pending = 2
    data = wire.commit_single(wire.encode("hi"))
    assert data is not None
    assert frames_in(data)[0][:3] == ("M", 0, 2)
    assert wire.grants_pending == 0


@pytest.mark.parametrize(
    ("reason", "prepare"),
    [
        ("an open batch", lambda ledger, wire: commit(ledger, wire, 1)),
        ("handles under way", lambda ledger, wire: commit(ledger, wire, [Thing(1)])),
        ("something queued", lambda ledger, wire: wire.fail("")),
        ("no credit", lambda ledger, wire: setattr(wire, "credit", 0)),
        (
            "congestion",
            lambda ledger, wire: (
                [commit(ledger, wire, bytes(1 << 20)) for _ in range(16)],
                output(wire),
            ),
        ),
    ],
)
def test_a_single_message_does_not_overtake(ledger: Ledger, reason: str, prepare: Any) -> None:
    wire = ledger.wire()
    wire.can_send = lambda handles=0: True  # type: ignore[method-assign]
    prepare(ledger, wire)
    before = (wire.credit_left(), wire.bytes_unsent())
    assert wire.commit_single(b"\x01") is None
    assert (wire.credit_left(), wire.bytes_unsent()) == before


@pytest.mark.parametrize("message", ["x" * LARGE, b"x" * 20_000, Thing(1)])
def test_only_a_small_message_may_skip_the_queue(ledger: Ledger, message: Any) -> None:
    wire = ledger.wire()
    assert wire.commit_single(wire.encode(message)) is None
    assert not wire.has_output()


@pytest.mark.parametrize("size", [10, 20_000, 60_000])
def test_single_messages_are_held_back_like_others(ledger: Ledger, size: int) -> None:
    pair = ConnectionPair(ledger, Limits(100, 70_000))
    sent = 0
    while (data := pair.left.commit_single(pair.left.encode("x" * size))) is not None:
        pair.rightward.write(data)
        pair.move()
        sent += 1
    assert sent == min(100, -(-1024 * 1024 // (size + 10)))
    assert not pair.left.can_send()
    for _ in range(3):
        pair.receive()
        pair.grant()
        while (data := pair.left.commit_single(pair.left.encode("x" * size))) is not None:
            pair.rightward.write(data)
            pair.move()
        assert len(pair.right.unread) == sent
        assert pair.left.credit_left() == 100 - sent


# Gathering --------------------------------------------------------------------------------------


def test_what_gathers_can_be_left_to_gather(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger)
    pair.send(1)
    assert pair.left.next_write(full_only=True) is None
    assert pair.left.has_output()
    pair.send([Thing("a")])  # which closes the batch before
    buffers, tokens = pair.left.next_write(full_only=True)
    assert [kind for kind, *_ in frames_in(b"".join(map(bytes, buffers)))] == ["M"]
    assert tokens == []
    pair.move()
    assert ledger.take_all(pair.right) == [1, [Thing("a")]]
