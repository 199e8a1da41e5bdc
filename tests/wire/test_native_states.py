"""What may arrive in which state, and what each end does once somebody said END or STOP."""

from __future__ import annotations

import pytest

from trio_ipc._errors import ProtocolError
from trio_ipc.wire import Limits
from trio_ipc.wire.native import NativeWire
from trio_ipc.wire.native_frames import CALL, FAILURE

from .harness import (
    LARGE,
    READ_SIZE,
    ConnectionPair,
    Ledger,
    Thing,
    Token,
    batch,
    commit,
    feed,
    frame,
    frames_in,
    hello,
    output,
    reference,
    with_handle,
)

# Each kind of frame, in a form that is valid wherever the kind is.
VALID = {
    "H": hello(),
    "M": batch("m"),
    "P": frame("P", b"\x92\x01\x02"),
    "B": frame("B", b"bytes"),
    "G": frame("G", grant=1),
    "E": frame("E"),
    "S": frame("S"),
    "C": frame("C", b"\x92\x01\x90"),
    "F": frame("F", b"text"),
}

# How to get into each state, what may arrive then. The rest of `VALID` may not.
STATES = {
    "greeting": ({"greeted": False}, [], "H"),
    "a child's greeting": ({"greeted": False, "accepts": (CALL,)}, [], "H"),
    "talking": ({}, [], "MPBGES"),
    "greeted": ({"greeted": False}, ["H"], "MPBGES"),
    "the peer stopped": ({}, ["S"], "MPBGES"),
    "the peer ended": ({}, ["E"], "GS"),
    "the peer ended and stopped": ({}, ["E", "S"], "GS"),
    "a child that waits for its call": ({"accepts": (CALL,)}, [], "MPBGESC"),
    "a child that was called": ({"accepts": (CALL,)}, ["C"], "MPBGES"),
    "a child whose parent ended": ({"accepts": (CALL,)}, ["C", "E"], "GS"),
    "a parent": ({"accepts": (FAILURE,)}, [], "MPBGESF"),
    "a parent whose child ended": ({"accepts": (FAILURE,)}, ["E"], "GSF"),
    "a parent whose child ended and stopped": ({"accepts": (FAILURE,)}, ["E", "S"], "GSF"),
    "a parent whose child failed": ({"accepts": (FAILURE,)}, ["F"], "MPBGESF"),
}


def enter(ledger: Ledger, state: str) -> NativeWire:
    options, way, _ = STATES[state]
    wire = ledger.wire(**options)
    for kind in way:
        feed(wire, VALID[kind])
    return wire


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", VALID)
def test_what_may_arrive_in_which_state(ledger: Ledger, state: str, kind: str) -> None:
    wire = enter(ledger, state)
    if kind in STATES[state][2]:
        feed(wire, VALID[kind])
    else:
        with pytest.raises(ProtocolError, match=f"unexpected frame of kind '{kind}'"):
            feed(wire, VALID[kind])


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", ["\0", "A", "h", "\xff"])
def test_an_unknown_kind_is_refused_in_every_state(ledger: Ledger, state: str, kind: str) -> None:
    wire = enter(ledger, state)
    data = bytes((ord(kind),)) + bytes(7)
    with pytest.raises(ProtocolError, match="unexpected frame of kind"):
        feed(wire, data)


# END --------------------------------------------------------------------------------------------


def test_what_was_sent_arrives_before_the_end(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger)
    pair.send(1)
    pair.send(Thing("a"))
    pair.left.end()
    pair.move()
    assert pair.right.peer_ended
    assert not pair.right.peer_stopped
    assert ledger.take_all(pair.right) == [1, Thing("a")]


def test_the_other_direction_goes_on_after_an_end(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(2))
    pair.left.end()
    pair.move()
    for number in range(6):
        commit(ledger, pair.right, number)
        pair.move()
        assert ledger.take(pair.left) == number
        pair.left.flush_grants()  # which is allowed after END
        pair.move()
    assert pair.right.credit_left() == 2


def test_an_end_after_which_there_is_only_the_end_of_the_stream(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger)
    pair.left.end()
    pair.move()
    pair.right.received_eof()


def test_ended_can_be_seen(ledger: Ledger) -> None:
    wire = ledger.wire()
    assert not wire.ended
    wire.end()
    assert wire.ended


# STOP -------------------------------------------------------------------------------------------


def test_stop_closes_what_waits_and_what_still_comes(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger)
    pair.send(1)
    pair.send([Thing("a"), Thing("b")])
    pair.send(2, Thing("c"))
    pair.move()
    assert len(ledger.open_tokens()) == 3
    pair.right.stop()
    assert ledger.open_tokens() == []
    pair.send([Thing("d")])
    pair.send("e", Thing("e"))
    pair.send([Thing("f")])
    pair.send([Thing("g")])
    pair.send("many")
    pair.send(b"b" * 20_000)
    pair.send("x" * LARGE)
    pair.move()
    assert not pair.right.unread
    assert ledger.open_tokens() == []
    assert ledger.objects == []


def test_stop_does_not_excuse_a_sender_from_its_credit(ledger: Ledger) -> None:
    wire = ledger.wire(limits=Limits(2))
    wire.stop()
    feed(wire, batch(1, 2))
    with pytest.raises(ProtocolError, match="more messages than it had credit for"):
        feed(wire, batch(3))


def test_stop_does_not_excuse_a_sender_from_the_format(ledger: Ledger) -> None:
    wire = ledger.wire()
    wire.stop()
    with pytest.raises(ProtocolError, match="handles in a batch"):
        feed(wire, frame("M", b"\xdd\0\0\0\x02\x01\x02", handles=1), [Token(ledger, "a")])


def test_our_own_messages_go_on_after_stop(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger)
    pair.left.stop()
    pair.send(1)
    pair.left.end()
    data = output(pair.left)
    assert [kind for kind, *_ in frames_in(data)] == ["S", "M", "E"]


def test_the_peers_stop_is_noted(ledger: Ledger) -> None:
    wire = ledger.wire()
    feed(wire, frame("S"))
    assert wire.peer_stopped
    assert not wire.peer_ended


# CALL and FAILURE -------------------------------------------------------------------------------


def test_a_call_and_its_handles(ledger: Ledger) -> None:
    parent = ledger.wire()
    thing = Thing("a")
    payload = parent.encode_call({"function": "f"}, [1, [thing, thing], "two"])
    assert payload.handles[0].obj is thing
    assert len(payload.handles) == 1
    child = ledger.wire(accepts=(CALL,))
    feed(child, frame("C", payload.data, handles=1), [Token(ledger, "a")])
    called, arguments = child.take_call()
    ledger.hand_out(arguments)
    assert called == {"function": "f"}
    assert arguments == [1, [Thing("a"), Thing("a")], "two"]
    assert arguments[1][0] is arguments[1][1]
    assert child.call is None


def test_a_call_needs_no_credit(ledger: Ledger) -> None:
    wire = ledger.wire(limits=Limits(0))
    wire.commit(wire.encode_call("f", []))
    assert [kind for kind, *_ in frames_in(output(wire))] == ["C"]


def test_a_call_is_no_message_of_message_type(ledger: Ledger) -> None:
    child = ledger.wire(int, accepts=(CALL,))
    feed(child, frame("C", b"\x92\xa1f\x91\xa1x"))
    assert child.take_call() == ("f", ["x"])


def test_a_call_that_nobody_takes_is_closed(ledger: Ledger) -> None:
    child = ledger.wire(accepts=(CALL,))
    feed(child, frame("C", b"\x92\x01\x91\xd5\xd6\x00\x01", handles=1), [Token(ledger, "a")])
    child.close()
    assert child.call is None
    assert ledger.open_tokens() == []
    child.close()


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\x01", id="no array"),
        pytest.param(b"\x91\x01", id="no arguments"),
        pytest.param(b"\x92\x01\x02", id="arguments that are no list"),
        pytest.param(b"\x93\x01\x90\x01", id="too long"),
        pytest.param(b"\x82\x01\x90\x02\x90", id="a map"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1", id="no MessagePack"),
        pytest.param(b"\x92\x01\x90\x01", id="something behind it"),
    ],
)
def test_a_call_that_makes_no_sense(ledger: Ledger, payload: bytes) -> None:
    child = ledger.wire(accepts=(CALL,))
    feed(child, frame("C", payload))
    with pytest.raises(ProtocolError):
        child.take_call()


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\xd5\xd6\x00\x01", id="the handle itself"),
        pytest.param(b"\x91\xd5\xd6\x00\x01", id="no arguments"),
        pytest.param(b"\x92\xd5\xd6\x00\x01\x05", id="arguments that are no list"),
        pytest.param(b"\x92\x05\xd5\xd6\x00\x01", id="the handle for arguments"),
        pytest.param(b"\x93\x05\x90\xd5\xd6\x00\x01", id="too long"),
        pytest.param(b"\x92\x05\x90", id="surplus"),
    ],
)
def test_the_handles_of_a_call_that_makes_no_sense_are_closed(
    ledger: Ledger, payload: bytes
) -> None:
    child = ledger.wire(accepts=(CALL,))
    feed(child, frame("C", payload, handles=1), [Token(ledger, "a")])
    with pytest.raises(ProtocolError):
        child.take_call()


def test_the_last_failure_counts(ledger: Ledger) -> None:
    wire = ledger.wire(accepts=(FAILURE,))
    assert wire.failure_text is None
    feed(wire, frame("F", b"one") + frame("F", b"two"))
    assert wire.failure_text == "two"


def test_an_empty_failure_is_a_failure(ledger: Ledger) -> None:
    wire = ledger.wire(accepts=(FAILURE,))
    feed(wire, frame("F"))
    assert wire.failure_text == ""


# Closing ----------------------------------------------------------------------------------------


def test_close_closes_what_is_not_written(ledger: Ledger) -> None:
    wire = ledger.wire()
    for number in range(3):
        commit(ledger, wire, [Thing(number), "x" * 20_000])
        commit(ledger, wire, Thing(-number))
    wire.close()
    assert ledger.open_tokens() == []
    assert not wire.has_output()
    assert wire.next_write() is None
    assert wire.bytes_unsent() == 0


@pytest.mark.parametrize("count", [1, 15, 16])
def test_close_closes_what_is_written_in_part(ledger: Ledger, count: int) -> None:
    wire = ledger.wire()
    for number in range(3):
        commit(ledger, wire, "xx", Thing(number))  # 16 bytes each
    wire.next_write()
    wire.written(count)
    assert [token.name for token in ledger.open_tokens()] == [1, 2]
    wire.close()
    assert ledger.open_tokens() == []


def test_close_closes_what_is_unread_and_what_is_incomplete(ledger: Ledger) -> None:
    wire = ledger.wire()
    feed(wire, with_handle([reference()]), [Token(ledger, "unread")])
    feed(wire, with_handle([reference()])[:-1], [Token(ledger, "in its frame")])
    wire.close()
    assert ledger.open_tokens() == []
    wire = ledger.wire()
    feed(wire, with_handle([reference()])[:5], [Token(ledger, "before its header")])
    wire.close()
    assert ledger.open_tokens() == []
    wire = ledger.wire()
    feed(wire, with_handle(["x" * LARGE, reference()])[:READ_SIZE], [Token(ledger, "large")])
    wire.close()
    assert ledger.open_tokens() == []


def test_abandoned_output_leaves_the_input_alone(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger)
    pair.send(Thing("a"))
    pair.move()
    commit(ledger, pair.right, Thing("b"))
    pair.right.abandon_output()
    assert not pair.right.has_output()
    assert pair.receive() == Thing("a")


def test_abandoned_input_leaves_complete_messages_alone(ledger: Ledger) -> None:
    wire = ledger.wire()
    feed(wire, with_handle([reference()]), [Token(ledger, "a")])
    feed(wire, with_handle([reference()])[:-1], [Token(ledger, "b")])
    wire.abandon_input()
    assert ledger.take_all(wire) == [[Thing("a")]]
    assert ledger.open_tokens() == []


# The end of the stream --------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", batch("whole")], ids=["at once", "after a frame"])
@pytest.mark.parametrize("count", range(1, 8))
def test_the_stream_ends_in_a_header(ledger: Ledger, before: bytes, count: int) -> None:
    wire = ledger.wire()
    feed(wire, before + with_handle(reference())[:count], [Token(ledger, "a")])
    with pytest.raises(
        ProtocolError, match=f"in the middle of a frame's header: {count} of 8 bytes"
    ):
        wire.received_eof()


@pytest.mark.parametrize("before", [b"", batch("whole")], ids=["at once", "after a frame"])
@pytest.mark.parametrize("count", [0, 1, 8])
def test_the_stream_ends_in_a_frame(ledger: Ledger, before: bytes, count: int) -> None:
    wire = ledger.wire()
    feed(wire, before + with_handle(reference())[: 8 + count], [Token(ledger, "a")])
    with pytest.raises(ProtocolError, match=f"{count} of 9 bytes of a frame of kind 'M'"):
        wire.received_eof()


@pytest.mark.parametrize("count", [0, 1, READ_SIZE - 8, READ_SIZE, LARGE - 1])
def test_the_stream_ends_in_a_large_frame(ledger: Ledger, count: int) -> None:
    wire = ledger.wire()
    feed(wire, frame("B", bytes(LARGE))[: 8 + count])
    with pytest.raises(ProtocolError, match=f"{count} of {LARGE} bytes of a frame of kind 'B'"):
        wire.received_eof()


def test_the_stream_ends_in_the_greeting(ledger: Ledger) -> None:
    wire = ledger.wire(greeted=False)
    feed(wire, hello()[:9])
    with pytest.raises(ProtocolError, match=r"1 of \d+ bytes of a frame of kind 'H'"):
        wire.received_eof()


def test_the_stream_ends_between_frames(ledger: Ledger) -> None:
    wire = ledger.wire()
    wire.received_eof()
    feed(wire, batch("m"))
    wire.received_eof()
    assert ledger.take(wire) == "m"
