"""Bytes that no honest peer writes. All of them end the channel and none of them loses a handle."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from trio_ipc._errors import InvalidMessage, ProtocolError
from trio_ipc.wire import Limits
from trio_ipc.wire.native_frames import CALL, CALL_SIZE, FAILURE

from .harness import (
    LARGE,
    NOT_WHAT_IT_SAYS,
    Ledger,
    Thing,
    Token,
    batch,
    commit,
    feed,
    frame,
    hello,
    reference,
    settled,
    with_handle,
)

encode = msgspec.msgpack.encode


def array(*parts: bytes, count: int | None = None) -> bytes:
    """A MessagePack array in its 32-bit form."""
    return b"\xdd" + (len(parts) if count is None else count).to_bytes(4, "big") + b"".join(parts)


def header(kind: str, length: int, handles: int = 0) -> bytes:
    return bytes((ord(kind), handles, 0, 0)) + length.to_bytes(4, "big")


HANDLE = encode(reference())
PAIR = b"\x92\x01" + HANDLE


@dataclass
class Bad:
    """What arrives, with how many handles on its first byte; and what is said about it."""

    data: bytes
    text: str
    handles: int = 0
    more: list[tuple[bytes, int]] = field(default_factory=list)
    eof: bool = False
    options: dict[str, Any] = field(default_factory=dict)


GREETING = {"greeted": False}
CHILD = {"accepts": (CALL,)}
PARENT = {"accepts": (FAILURE,)}

BAD = {
    # Headers.
    "an unknown kind": Bad(header("x", 0), "unexpected frame of kind 'x'"),
    "a kind of zero bytes": Bad(bytes(8), "unexpected frame of kind"),
    "text": Bad(b"GET / HTTP/1.1\r\n\r\n", "the peer announced a frame of"),
    "JSON": Bad(b'{"cmd":"NODE_HANDLE"}\n', "unexpected frame of kind '{'"),
    "an unknown kind with handles": Bad(header("x", 0, 2), "unexpected frame of kind 'x'", 2),
    "messages over the limit": Bad(header("M", 65_542), "65542 bytes; 65541 are allowed"),
    "with over the limit": Bad(header("W", 65_542), "65542 bytes; 65541 are allowed"),
    "a pair over the limit": Bad(header("P", 1001, 1), "1001 bytes; 1000 are allowed", 1),
    "bytes over the limit": Bad(header("B", 1001), "1001 bytes; 1000 are allowed"),
    "a length of 32 bits": Bad(header("B", 0xFFFFFFFF), "4294967295 bytes; 1000 are allowed"),
    "a grant with a payload": Bad(frame("G", b"1"), "1 bytes; 0 are allowed"),
    "an end with a payload": Bad(frame("E", b"1"), "1 bytes; 0 are allowed"),
    "a stop with a payload": Bad(frame("S", b"1"), "1 bytes; 0 are allowed"),
    "a call over the limit": Bad(
        header("C", 1001 + CALL_SIZE), f"{1000 + CALL_SIZE} are allowed", options=CHILD
    ),
    "a failure over the limit": Bad(header("F", 65_537), "65536 are allowed", options=PARENT),
    "a greeting over the limit": Bad(header("H", 257), "256 are allowed", options=GREETING),
    # Kinds in the wrong state.
    "a call for a parent": Bad(frame("C", b"\x92\x01\x90"), "of kind 'C'"),
    "a second call": Bad(frame("C", b"\x92\x01\x90") * 2, "of kind 'C'", options=CHILD),
    "a call before the greeting": Bad(
        frame("C", b"\x92\x01\x90"), "of kind 'C'", options=GREETING | CHILD
    ),
    "a failure for a child": Bad(frame("F", b"x"), "of kind 'F'"),
    "a message before the greeting": Bad(batch(1), "of kind 'M'", options=GREETING),
    "a second greeting": Bad(hello() + hello(), "of kind 'H'", options=GREETING),
    "a greeting where none is due": Bad(hello(), "of kind 'H'"),
    "a greeting of another version": Bad(hello(version=2), "version 2", options=GREETING),
    "a greeting that is none": Bad(frame("H", b"\x01"), "makes no sense", options=GREETING),
    "a message after the end": Bad(frame("E") + batch(1), "of kind 'M'"),
    "a handle after the end": Bad(
        frame("E"), "of kind 'M'", more=[(with_handle([reference()]), 1)]
    ),
    "a second end": Bad(frame("E") + frame("E"), "of kind 'E'"),
    # Counts of handles.
    "handles with an end": Bad(frame("E", handles=1), "1 handles where they are not", 1),
    "handles with a stop": Bad(frame("S", handles=1), "1 handles where they are not", 1),
    "handles with a grant": Bad(frame("G", handles=3), "3 handles where they are not", 3),
    "handles with bytes": Bad(frame("B", b"b", handles=1), "1 handles where they are not", 1),
    "handles with a greeting": Bad(
        header("H", 5, 1), "1 handles where they are not", 1, options=GREETING
    ),
    "handles with a failure": Bad(
        frame("F", b"f", handles=1), "1 handles where they are not", 1, options=PARENT
    ),
    "more handles than allowed": Bad(
        with_handle([reference()], handles=5), "5 handles where they are not", 5
    ),
    "handles announced that are missing": Bad(
        with_handle([reference()]), "announced 1 handles and 0 arrived"
    ),
    "some of them missing": Bad(
        with_handle([reference(), reference(1)], handles=2), "2 handles and 1 arrived", 1
    ),
    "handles that come too late": Bad(
        with_handle([reference()])[:4],
        "announced 1 handles and 0 arrived",
        more=[(with_handle([reference()])[4:8], 0), (with_handle([reference()])[8:], 1)],
    ),
    "handles that nobody announced": Bad(batch(1), "handles that no frame announced", 1),
    "handles in the middle of a frame": Bad(
        batch(1, 2)[:10], "handles that no frame announced", more=[(batch(1, 2)[10:11], 1)]
    ),
    "handles at the end of a frame": Bad(
        batch(1, 2)[:-1], "handles that no frame announced", more=[(batch(1, 2)[-1:], 1)]
    ),
    "handles in the middle of a large frame": Bad(
        header("B", LARGE) + bytes(1000),
        "handles that no frame announced",
        more=[(bytes(1000), 2)],
        options={"limits": Limits()},
    ),
    "more handles than announced": Bad(
        with_handle([reference()]), "handles that no frame announced", 3
    ),
    # Where the handles are said to be.
    "a handle in a batch": Bad(batch(1, reference()), "announced a handle and sent none"),
    "a handle in a message without": Bad(batch([reference()]), "announced a handle and sent none"),
    "a handle in a pair without": Bad(frame("P", PAIR), "announced a handle and sent none"),
    "an index out of range": Bad(
        with_handle([reference(1)]), "announced a handle and sent none", 1
    ),
    "one index in and one out of range": Bad(
        with_handle([reference(), reference(200)]), "announced a handle and sent none", 1
    ),
    "a handle without an index": Bad(
        with_handle([msgspec.msgpack.Ext(-42, b"")]), "announced a handle and sent none", 1
    ),
    "a handle without a kind": Bad(
        with_handle([msgspec.msgpack.Ext(-42, b"\0")]), "announced a handle and sent none", 1
    ),
    "a handle that the message does not contain": Bad(
        with_handle(["no handle"]), "handles that its message does not contain", 1
    ),
    "one of two handles not in the message": Bad(
        with_handle([reference(1), reference(1)], handles=2),
        "handles that its message does not contain",
        2,
    ),
    "a handle that is not what it says": Bad(
        with_handle([reference(0), reference(1, NOT_WHAT_IT_SAYS)], handles=2),
        "a thing that is none",
        2,
    ),
    # Arrays.
    "a batch without a head": Bad(frame("M", b"\xdd\0\0\0"), "a batch that is no array"),
    "an empty batch": Bad(frame("M"), "a batch that is no array"),
    "a batch in a shorter form": Bad(frame("M", b"\x91\x01\x01\x01\x01\x01"), "that is no array"),
    "a batch that is a map": Bad(frame("M", b"\xdf\0\0\0\x01\x01\x01"), "that is no array"),
    "less messages than announced": Bad(frame("M", array(b"\x01", count=2)), "malformed batch"),
    "more messages than announced": Bad(
        frame("M", array(b"\x01", b"\x02", count=1)), "malformed batch"
    ),
    "handles with two messages": Bad(
        frame("M", array(HANDLE, b"\x01"), handles=1), "handles in a batch", 1
    ),
    "handles with no message": Bad(frame("M", array(), handles=1), "handles in a batch", 1),
    "handles with an empty payload": Bad(frame("M", handles=1), "handles in a batch", 1),
    "something behind a message with handles": Bad(
        frame("M", array(HANDLE, b"\x01", count=1), handles=1), "malformed", 1
    ),
    # Several messages with handles in one frame.
    "with no messages": Bad(frame("W", array()), "handles that its messages do not contain"),
    "with handles and no messages": Bad(
        frame("W", array(), handles=1), "that its messages do not contain", 1
    ),
    "with an odd number of parts": Bad(
        frame("W", array(b"\x01", HANDLE, b"\x01"), handles=1), "messages do not contain", 1
    ),
    "with a message that has no handles": Bad(
        frame("W", array(b"\x00", b"\x01", b"\x01", HANDLE), handles=1),
        "that its messages do not contain",
        1,
    ),
    "with less handles than announced": Bad(
        frame("W", array(b"\x02", HANDLE), handles=1), "that its messages do not contain", 1
    ),
    "with more handles than announced": Bad(
        frame("W", array(b"\x01", HANDLE, b"\x01", HANDLE), handles=3),
        "that its messages do not contain",
        3,
    ),
    "with a count that is none": Bad(
        frame("W", array(b"\xcd\x00\x01", HANDLE), handles=1), "messages do not contain", 1
    ),
    "with a message that takes another's handle": Bad(
        frame(
            "W", array(b"\x01", encode([reference(1)]), b"\x01", encode([reference()])), handles=2
        ),
        "announced a handle and sent none",
        2,
    ),
    "with a message that leaves its handle": Bad(
        frame("W", array(b"\x01", b"\x05", b"\x01", HANDLE), handles=2),
        "handles that its message does not contain",
        2,
    ),
    "with a message over the limit": Bad(
        frame("W", array(b"\x01", HANDLE, b"\x01", encode(["x" * 1000, reference()])), handles=2),
        "are allowed",
        2,
    ),
    "with something that is no MessagePack": Bad(
        frame("W", array(b"\x01", b"\xc1"), handles=1), "malformed", 1
    ),
    "with an empty payload": Bad(frame("W", handles=1), "malformed", 1),
    # Pairs.
    "an empty pair": Bad(frame("P"), "a pair that is none"),
    "a pair of one": Bad(frame("P", b"\x91" + HANDLE, handles=1), "a pair that is none", 1),
    "a pair of three": Bad(
        frame("P", b"\x93\x01\x02" + HANDLE, handles=1), "a pair that is none", 1
    ),
    "a pair that is a map": Bad(
        frame("P", b"\x81\x01" + HANDLE, handles=1), "a pair that is none", 1
    ),
    "a pair that is the handle": Bad(frame("P", HANDLE, handles=1), "a pair that is none", 1),
    "something behind a pair": Bad(frame("P", PAIR + b"\x01", handles=1), "malformed", 1),
    "a pair cut short": Bad(frame("P", PAIR[:-1], handles=1), "malformed", 1),
    # MessagePack.
    "an opcode that does not exist": Bad(frame("M", array(b"\xc1")), "malformed batch"),
    "the same beside good ones": Bad(
        frame("M", array(b"\x01", b"\xc1", b"\x02")), "malformed batch"
    ),
    "the same in a message with handles": Bad(
        frame("M", array(b"\x92\xc1" + HANDLE), handles=1), "malformed", 1
    ),
    "the same behind the handle": Bad(
        frame("M", array(b"\x92" + HANDLE + b"\xc1"), handles=1), "malformed", 1
    ),
    "a message cut short": Bad(frame("M", array(b"\xa5abc")), "malformed batch"),
    "a message with handles cut short": Bad(
        frame("M", array(b"\x92" + HANDLE), handles=1), "malformed", 1
    ),
    "text that is not UTF-8": Bad(frame("M", array(b"\xa1\xff")), "malformed message: 'utf-8'"),
    "the same in a message with a handle": Bad(
        frame("M", array(b"\x92\xa2\xc3\x28" + HANDLE), handles=1), "malformed message: 'utf-8'", 1
    ),
    "an array of more than there is": Bad(
        frame("M", array(b"\xdd\xff\xff\xff\xff\x01")), "malformed batch"
    ),
    # Limits.
    "more messages than credit": Bad(batch(*range(11)), "more messages than it had credit for"),
    "one message more than credit": Bad(
        batch(*range(10)), "more messages than it had credit for", more=[(batch(1), 0)]
    ),
    "a handle more than credit": Bad(
        batch(*range(10)), "than it had credit for", more=[(with_handle([reference()]), 1)]
    ),
    "messages with handles more than credit": Bad(
        batch(*range(9)),
        "than it had credit for",
        more=[(frame("W", array(b"\x01", HANDLE, b"\x01", HANDLE), handles=2), 2)],
    ),
    "bytes more than credit": Bad(
        batch(*range(10)), "than it had credit for", more=[(frame("B", b"b"), 0)]
    ),
    "a count of messages without end": Bad(
        frame("M", array(b"\x01", count=0xFFFFFFFF)), "than it had credit for"
    ),
    "a count without end, but credit": Bad(
        frame("M", array(b"\x01", count=0xFFFFFFFF)),
        "malformed batch",
        options={"limits": Limits(math.inf)},
    ),
    "a message without any credit": Bad(
        batch(1), "than it had credit for", options={"limits": Limits(0)}
    ),
    "a message over the limit in a batch": Bad(
        batch("x" * 997, "x" * 998), "a message of 1001 bytes; 1000 are allowed"
    ),
    "one alone": Bad(batch("x" * 998), "a message of 1001 bytes; 1000 are allowed"),
    "one with a handle": Bad(with_handle(["x" * 993, reference()]), "are allowed", 1),
    # The end of the stream.
    "the end in a header": Bad(batch(1)[:7], "frame's header: 7 of 8 bytes", eof=True),
    "the end in a header with handles": Bad(
        with_handle([reference()])[:3], "frame's header: 3 of 8 bytes", 1, eof=True
    ),
    "the end in a frame": Bad(batch(1)[:-1], "5 of 6 bytes of a frame of kind 'M'", eof=True),
    "the end in a frame with handles": Bad(
        with_handle([reference()])[:-2], "8 of 10 bytes of a frame of kind 'M'", 1, eof=True
    ),
    "the end in a large frame": Bad(
        header("B", LARGE) + bytes(10),
        f"10 of {LARGE} bytes of a frame of kind 'B'",
        eof=True,
        options={"limits": Limits()},
    ),
    # Calls.
    "a call of one": Bad(frame("C", b"\x91\x01"), "call makes no sense", options=CHILD),
    "a call without a list": Bad(frame("C", b"\x92\x01\x02"), "makes no sense", options=CHILD),
    "a call with a handle elsewhere": Bad(
        frame("C", b"\x92\x01" + HANDLE, handles=1), "call makes no sense", 1, options=CHILD
    ),
    "a call with a handle too many": Bad(
        frame("C", b"\x92\x01\x90", handles=1),
        "that its message does not contain",
        1,
        options=CHILD,
    ),
    "a call with a handle too few": Bad(
        frame("C", b"\x92\x01\x91" + HANDLE), "announced a handle and sent none", options=CHILD
    ),
    "a call that is no MessagePack": Bad(frame("C", b"\xc1"), "malformed", options=CHILD),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_frames(name: str) -> None:
    for most, message_type in itertools.product((1 << 30, 1), (Any, object)):
        with settled() as ledger:
            check_bad(ledger, BAD[name], most, message_type)


def check_bad(ledger: Ledger, bad: Bad, most: int, message_type: Any) -> None:
    options = {"limits": Limits(10, 1000, 4)} | bad.options
    wire = ledger.wire(message_type, **options)
    commit(ledger, wire, "a handle of ours under way", Thing("ours")) if wire.can_send(1) else None
    with pytest.raises(ProtocolError) as caught:
        feed(wire, bad.data, [Token(ledger, n) for n in range(bad.handles)], most)
        for data, handles in bad.more:
            feed(wire, data, [Token(ledger, f"more {n}") for n in range(handles)], most)
        while wire.unread:
            ledger.take(wire)
        if wire.call is not None:
            wire.take_call()
        if bad.eof:
            wire.received_eof()
    assert bad.text in str(caught.value)
    wire.close()
    assert ledger.open_tokens() == []
    ledger.check()


def test_there_are_enough_of_them() -> None:
    assert len(BAD) >= 100


@pytest.mark.parametrize("name", [name for name in BAD if not BAD[name].options])
def test_what_came_before_a_bad_frame_still_arrived(ledger: Ledger, name: str) -> None:
    bad = BAD[name]
    wire = ledger.wire(limits=Limits(12, 1000, 4))
    with pytest.raises(ProtocolError):
        feed(wire, batch("good"))
        feed(wire, with_handle([reference()]), [Token(ledger, "good")])
        assert ledger.take_all(wire) == ["good", [Thing("good")]]
        wire.grants_pending = 0
        feed(wire, bad.data, [Token(ledger, n) for n in range(bad.handles)])
        for data, handles in bad.more:
            feed(wire, data, [Token(ledger, f"more {n}") for n in range(handles)])
        while wire.unread:
            ledger.take(wire)
        if bad.eof:
            wire.received_eof()
    wire.close()
    ledger.check()


def test_what_is_wrong_for_the_type_alone_is_no_bad_frame(ledger: Ledger) -> None:
    wire = ledger.wire(int)
    feed(wire, batch("text", 1))
    with pytest.raises(InvalidMessage):
        wire.take()
    assert ledger.take(wire) == 1


def test_a_batch_of_nothing_is_nothing(ledger: Ledger) -> None:
    wire = ledger.wire(limits=Limits(0))
    feed(wire, frame("M", array()))
    assert not wire.unread
