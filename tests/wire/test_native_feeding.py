"""However the bytes are cut on their way, the same messages come out, each with its own handles."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, strategies as st

from trio_ipc._errors import ProtocolError
from trio_ipc.wire import HandleMessage, Limits
from trio_ipc.wire.native_frames import CALL

from .harness import (
    LARGE,
    READ_SIZE,
    ConnectionPair,
    Ledger,
    Pipe,
    Thing,
    Token,
    batch,
    examples,
    feed,
    frame,
    hello,
    output,
    read_all,
    read_some,
    reference,
    settled,
    with_handle,
    write_some,
)
from .messages import expand, messages, plain, things_in

TEXT = "x" * (READ_SIZE + 500)

CONVERSATION: list[tuple[Any, Any]] = [
    (1, None),
    ("two", None),
    ([Thing("a"), {"b": Thing("b", 2, b"extra")}], None),
    ("pair", Thing("c", 7)),
    (3, None),
    ([TEXT, Thing("d")], None),
    ([Thing("e"), Thing("f")], None),
    (b"z" * 20_000, None),
    (TEXT, None),
    (b"z" * LARGE, None),
    ("last", None),
    (Thing("g"), None),
]


def expect(message: Any, handle: Any) -> Any:
    return message if handle is None else HandleMessage(message, handle)


WHOLE = 1 << 30


@pytest.mark.parametrize(
    ("write", "read"),
    [
        *[(1, read) for read in (1, 3, 7)],
        *[(write, read) for write in (8, WHOLE) for read in (1, 2, 3, 7, 8, 9, 17)],
        *[(write, read) for write in (5000, WHOLE) for read in (4096, READ_SIZE)],
        (8, WHOLE),
        (1, WHOLE),
    ],
)
def test_the_size_of_reads_and_writes_does_not_matter(
    ledger: Ledger, write: int, read: int
) -> None:
    # In small pieces, large messages take long: then there is one only of them.
    conversation = CONVERSATION if min(read, write) > 1000 else CONVERSATION[:7]
    if max(read, write) < 8:
        conversation = CONVERSATION[:5]
    pair = ConnectionPair(ledger)
    for message, handle in conversation:
        while not pair.left.can_send(2):
            write_some(pair.left, pair.rightward, write)
        pair.send(message, handle)
    while write_some(pair.left, pair.rightward, write):
        pass
    read_all(pair.right, pair.rightward, read)
    assert ledger.take_all(pair.right) == [expect(*each) for each in conversation]
    pair.right.received_eof()


def test_reading_byte_by_byte_while_it_is_written_byte_by_byte(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger)
    for message, handle in CONVERSATION[:5]:
        pair.send(message, handle)
    while write_some(pair.left, pair.rightward, 1):
        assert read_some(pair.right, pair.rightward) == 1
    assert ledger.take_all(pair.right) == [expect(*each) for each in CONVERSATION[:5]]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(with_handle(["text", reference()]), id="MESSAGES"),
        pytest.param(
            frame("P", b"\x92\xa4text\xd5\xd6\x00\x01", handles=1),
            id="PAIR",
        ),
    ],
)
def test_every_two_cuts_of_a_frame_with_a_handle(data: bytes) -> None:
    before, after = batch("before"), batch("after")
    for first, second in itertools.combinations(range(1, len(data)), 2):
        with settled() as ledger:
            wire = ledger.wire()
            feed(wire, before)
            feed(wire, data[:first], [Token(ledger, "it")])
            feed(wire, data[first:second])
            feed(wire, data[second:] + after)
            values = ledger.take_all(wire)
            assert values[0] == "before"
            assert list(values[1]) == ["text", Thing("it")]
            assert values[2] == "after"


def test_every_cut_before_a_frame_with_a_handle() -> None:
    # A read may begin with older plain bytes: its descriptors belong to what comes after them.
    before = batch("b1") + batch("b2")
    data = with_handle([reference()])
    for first, second in itertools.product(range(len(before)), range(1, len(data))):
        with settled() as ledger:
            wire = ledger.wire()
            feed(wire, before[:first])
            feed(wire, before[first:] + data[:second], [Token(ledger, "it")])
            feed(wire, data[second:])
            assert ledger.take_all(wire) == ["b1", "b2", [Thing("it")]]


LARGE_FRAMES = [
    pytest.param(batch(TEXT), (), TEXT, id="MESSAGES"),
    pytest.param(frame("B", TEXT.encode()), (), TEXT.encode(), id="BYTES"),
    pytest.param(
        with_handle([TEXT, reference()]), ("it",), [TEXT, Thing("it")], id="with a handle"
    ),
]


@pytest.mark.parametrize(("data", "names", "message"), LARGE_FRAMES)
@pytest.mark.parametrize("before", [b"", batch("before"), batch("before")[:-1]])
def test_every_cut_at_the_edges_of_a_frame_larger_than_a_read(
    data: bytes, names: tuple[str, ...], message: Any, before: bytes
) -> None:
    after = batch("after")
    end = len(data)
    for cut in [*range(1, 20), *range(READ_SIZE - 10, READ_SIZE + 20), *range(end - 10, end + 1)]:
        with settled() as ledger:
            wire = ledger.wire()
            expected = [message, "after"]
            if before:
                expected.insert(0, "before")
                whole = batch("before")
                feed(wire, before)
                feed(wire, whole[len(before) :] + data[:cut], [Token(ledger, n) for n in names])
            else:
                feed(wire, data[:cut], [Token(ledger, name) for name in names])
            feed(wire, data[cut:] + after)
            assert ledger.take_all(wire) == expected


@pytest.mark.parametrize("gap", range(12))
def test_a_large_frame_whose_header_ends_a_read(ledger: Ledger, gap: int) -> None:
    # Reads are as large as the buffer: fill it so that it ends around the large frame's header.
    wire = ledger.wire()
    filler = "f" * (READ_SIZE - len(batch("f" * 70_000)) + 70_000 - gap)
    pipe = Pipe(ledger)
    pipe.write(batch(filler) + frame("B", b"b" * LARGE) + batch("after"))
    read_all(wire, pipe)
    assert ledger.take_all(wire) == [filler, b"b" * LARGE, "after"]


def test_a_large_message_is_not_copied_again(ledger: Ledger) -> None:
    wire = ledger.wire()
    feed(wire, frame("B", bytes(LARGE))[:100])
    [view] = wire.buffers
    assert len(view) == LARGE - 92
    view[-1:] = b"!"
    wire.received(len(view))
    assert ledger.take(wire)[-2:] == b"\0!"


@given(st.lists(messages, max_size=6), st.data())
@examples
def test_any_messages_in_any_pieces(drawn: list[Any], data: st.DataObject) -> None:
    sent = [expand(message) for message in drawn]
    sizes = st.one_of(
        st.integers(1, 30), st.integers(1, LARGE), st.sampled_from([8, 65_536, 1 << 30])
    )
    # The first pieces are of any size, and the rest, which can be long, is whole.
    writes = itertools.chain(data.draw(st.lists(sizes, max_size=40)), itertools.repeat(1 << 30))
    reads = itertools.chain(data.draw(st.lists(sizes, max_size=40)), itertools.repeat(1 << 30))
    pauses = itertools.chain(
        data.draw(st.lists(st.booleans(), max_size=20)), itertools.repeat(False)
    )
    with settled() as ledger:
        pair = ConnectionPair(ledger)
        received = []
        for message in sent:
            while next(pauses) or not pair.left.can_send(len(things_in(message))):
                write_some(pair.left, pair.rightward, next(writes))
                read_some(pair.right, pair.rightward, next(reads))
                received += ledger.take_all(pair.right)
            pair.send(message)
        while write_some(pair.left, pair.rightward, next(writes)):
            read_some(pair.right, pair.rightward, next(reads))
        while read_some(pair.right, pair.rightward, next(reads)):
            pass
        received += ledger.take_all(pair.right)
        assert received == sent
        pair.right.received_eof()
        assert len(ledger.objects) == sum(len(things_in(message)) for message in sent)


@given(st.lists(plain, min_size=1, max_size=50))
@examples
def test_messages_of_one_batch_arrive_as_those_of_many(sent: list[Any]) -> None:
    with settled() as ledger:
        together, single = ConnectionPair(ledger), ConnectionPair(ledger)
        for message in sent:
            together.send(message)
            single.send(message)
            single.move()
        together.move()
        assert ledger.take_all(together.right) == ledger.take_all(single.right) == sent


@given(st.binary(max_size=400), st.integers(0, 4), st.booleans())
@examples
def test_any_bytes_at_all_are_survived(garbage: bytes, handles: int, greeted: bool) -> None:
    # Whatever comes: a message, or ProtocolError, and no token is lost.
    with settled() as ledger:
        wire = ledger.wire(limits=Limits(10, 1000, 2), greeted=greeted, accepts=(CALL,))
        try:
            feed(wire, garbage, [Token(ledger, n) for n in range(handles)] if garbage else [])
            ledger.take_all(wire)
            if wire.call is not None:
                ledger.hand_out(wire.take_call())
            wire.received_eof()
        except ProtocolError:
            pass


@given(st.data())
@examples
def test_any_byte_may_be_wrong(data: st.DataObject) -> None:
    # Nearly right is harder than garbage.
    stream = bytearray(batch(1, "two", [3.0]) + with_handle([reference(), reference(1)], handles=2))
    split = len(stream) - len(with_handle([reference(), reference(1)]))
    stream += frame("P", b"\x92\x01\xd5\xd6\x00\x01", handles=1)
    for index in data.draw(st.lists(st.integers(0, len(stream) - 1), min_size=1, max_size=3)):
        stream[index] = data.draw(st.integers(0, 255))
    with settled() as ledger:
        wire = ledger.wire(limits=Limits(10, 1000, 2))
        try:
            feed(wire, bytes(stream[:split]))
            feed(wire, bytes(stream[split:-14]), [Token(ledger, "a"), Token(ledger, "b")])
            feed(wire, bytes(stream[-14:]), [Token(ledger, "c")])
            while wire.unread:
                try:
                    ledger.take(wire)
                except ValueError:  # InvalidMessage: the channel goes on
                    pass
            wire.received_eof()
        except ProtocolError:
            pass


def test_before_the_greeting_is_understood_nothing_more_is_read(ledger: Ledger) -> None:
    wire = ledger.wire(greeted=False)
    pipe = Pipe(ledger)
    rest = batch("more")
    pipe.write(hello() + rest)
    while not wire.greeted:
        read_some(wire, pipe)
    assert len(pipe) == len(rest)
    read_all(wire, pipe)
    assert ledger.take_all(wire) == ["more"]


@pytest.mark.parametrize("size", [10, READ_SIZE - 30, READ_SIZE, LARGE])
@pytest.mark.parametrize("step", [1000, 1 << 30])
def test_before_the_call_is_understood_nothing_more_is_read(
    ledger: Ledger, size: int, step: int
) -> None:
    parent = ledger.wire()
    parent.commit(parent.encode_call("f", ["x" * size, Thing("a")]), [Token(ledger, "a")])
    child = ledger.wire(greeted=False, accepts=(CALL,))
    pipe = Pipe(ledger)
    pipe.write(hello())
    while write_some(parent, pipe):
        pass
    rest = batch("more")
    pipe.write(rest)
    while child.call is None:
        read_some(child, pipe, step)
    assert len(pipe) == len(rest)
    called, arguments = child.take_call()
    ledger.hand_out(arguments)
    assert (called, arguments) == ("f", ["x" * size, Thing("a")])
    read_all(child, pipe)
    assert ledger.take_all(child) == ["more"]


def test_what_is_read_later_does_not_change_what_was_read(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger)
    pair.send([b"first", "first"])
    pair.move()
    first = pair.receive()
    pair.send([b"other", "other"])
    pair.move()
    assert first == [b"first", "first"]
    assert pair.receive() == [b"other", "other"]
    assert output(pair.left) == b""
