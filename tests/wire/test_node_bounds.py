"""What is bounded without credit: what is unread, what is unsent, what is answered; and the end."""

from __future__ import annotations

import math
from typing import Any

import pytest

from trio_ipc._errors import ProtocolError
from trio_ipc.wire import Limits
from trio_ipc.wire.node import NodeWire
from trio_ipc.wire.node_receiving import MOST_ANSWERS, READ_SIZE, STRETCH
from trio_ipc.wire.node_sending import BATCH_SIZE, HIGH_WATER
from trio_ipc.wire.node_values import ENVELOPE

from .harness import Ledger, Thing
from .node_harness import (
    ACK,
    NACK,
    commit,
    count,
    deliver,
    get_count,
    handle_frame,
    line,
    node_wire,
    output,
    settle_answers,
)

MIB = 1024 * 1024


def read_until_sated(ledger: Ledger, wire: NodeWire, data: bytes, most: int = 10_000) -> int:
    for number in range(most):
        if wire.sated:
            return number
        deliver(ledger, wire, data)
    raise AssertionError("it is never sated")


# Unread -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 10, 1000])
def test_messages_unread_are_bounded(ledger: Ledger, size: int) -> None:
    wire = node_wire(ledger, limits=Limits(size))
    assert not wire.sated
    assert read_until_sated(ledger, wire, b"1\n") == max(1, size)
    while wire.sated:
        wire.take()
    half = (max(1, size) - 1) // 2
    assert len(wire.unread) == half
    assert read_until_sated(ledger, wire, b"1\n") == max(1, size) - half


def test_what_one_read_brought_is_kept(ledger: Ledger) -> None:
    wire = node_wire(ledger, limits=Limits(1))
    deliver(ledger, wire, b"1\n" * 1000)
    assert wire.sated
    assert [wire.take() for _ in range(999)] == [1] * 999
    assert wire.sated
    assert wire.take() == 1
    assert not wire.sated


def test_bytes_unread_are_bounded(ledger: Ledger) -> None:
    wire = node_wire(ledger, limits=Limits(math.inf, max_message_size=READ_SIZE))
    message = line("x" * (READ_SIZE - 3))
    assert len(message) == READ_SIZE
    assert read_until_sated(ledger, wire, message) == MIB // READ_SIZE
    taken = 0
    while wire.sated:
        wire.take()
        taken += 1
    assert taken == MIB // READ_SIZE // 2 + 1
    assert read_until_sated(ledger, wire, message) == taken


def test_one_message_of_the_largest_size_always_gets_through(ledger: Ledger) -> None:
    size = 2 * MIB
    wire = node_wire(ledger, limits=Limits(math.inf, max_message_size=size))
    message = line("x" * (size - 2))
    for start in range(0, len(message), READ_SIZE):
        assert not wire.sated
        deliver(ledger, wire, message[start : start + READ_SIZE])
    assert wire.sated
    assert wire.take() == "x" * (size - 2)
    assert not wire.sated


def test_two_of_the_largest_size(ledger: Ledger) -> None:
    """What has come of the second does not count, or nobody would ever read the rest."""
    size = 2 * MIB
    wire = node_wire(ledger, limits=Limits(math.inf, max_message_size=size))
    data = 2 * line("x" * (size - 2))
    taken = start = 0
    while taken < 2:
        if wire.unread and wire.sated:
            wire.take()
            taken += 1
        assert not (wire.sated and not wire.unread), "nobody will ever read again"
        if start < len(data) and not wire.sated:
            deliver(ledger, wire, data[start : start + READ_SIZE])
            start += READ_SIZE
        elif start >= len(data) and wire.unread:
            wire.take()
            taken += 1
    assert not wire.sated


def test_large_messages_count_with_all_their_bytes(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    message = line("x" * (8 * MIB))
    for _ in range(2):
        deliver(ledger, wire, message)
    assert wire.sated  # with 16 MiB, and far from 1000 messages
    wire.take()
    assert wire.sated  # still more than half of that
    wire.take()
    assert not wire.sated


@pytest.mark.parametrize("data", [ACK, NACK, b'{"cmd":"NODE_NEWS"}\n', b"\x02\n", get_count("k")])
def test_what_is_not_for_the_user_does_not_count(ledger: Ledger, data: bytes) -> None:
    wire = node_wire(ledger, limits=Limits(1, max_message_size=1000))
    for _ in range(100):
        deliver(ledger, wire, data * 1000)
        output(wire)
    assert not wire.sated
    deliver(ledger, wire, b"1\n")
    assert wire.sated
    wire.take()
    assert not wire.sated


def test_what_is_skipped_makes_room(ledger: Ledger) -> None:
    wire = node_wire(ledger, limits=Limits(10))
    read_until_sated(ledger, wire, b"1\n")
    wire.skip_unread()
    assert not wire.sated
    wire.stop()
    for _ in range(100):
        deliver(ledger, wire, b"1\n" * 100 + handle_frame(1), "h")
        assert output(wire)
    assert not wire.sated
    assert not wire.unread


def test_of_a_dead_peer_all_is_read(ledger: Ledger) -> None:
    wire = node_wire(ledger, limits=Limits(1))
    deliver(ledger, wire, b"1\n")
    assert wire.sated
    wire.take_all()
    assert not wire.sated
    deliver(ledger, wire, b"1\n" * 100)
    assert not wire.sated
    assert len(wire.unread) == 101


# While an answer is awaited ---------------------------------------------------------------------


def test_who_waits_for_an_answer_reads_on(ledger: Ledger) -> None:
    """Or two that send handles to each other would wait for ever."""
    wire = node_wire(ledger, limits=Limits(10))
    read_until_sated(ledger, wire, b"1\n")
    commit(ledger, wire, "m", Thing("h"))
    assert not wire.sated
    output(wire)
    for _ in range(100):
        deliver(ledger, wire, b"1\n")
    assert not wire.sated
    deliver(ledger, wire, ACK)
    settle_answers(wire)
    assert wire.sated
    while wire.sated:
        wire.take()
    assert len(wire.unread) == 4


def test_but_not_without_end(ledger: Ledger) -> None:
    wire = node_wire(ledger, limits=Limits(10, max_message_size=READ_SIZE))
    commit(ledger, wire, "m", Thing("h"))
    output(wire)
    message = line("x" * (READ_SIZE - 3))
    assert read_until_sated(ledger, wire, message) == STRETCH * MIB // READ_SIZE
    wire.take()
    assert not wire.sated


@pytest.mark.parametrize("end", ["ack", "give up", "abandon"])
def test_the_usual_bounds_hold_again_afterwards(ledger: Ledger, end: str) -> None:
    wire = node_wire(ledger, limits=Limits(1))
    commit(ledger, wire, "m", Thing("h"))
    output(wire)
    deliver(ledger, wire, b"1\n1\n1\n")
    assert not wire.sated
    if end == "ack":
        deliver(ledger, wire, ACK)
    elif end == "give up":
        wire.give_up()
    else:
        wire.abandon_output()
        deliver(ledger, wire, b"1\n")
    settle_answers(wire)
    assert wire.sated


# Answers that the peer does not read ------------------------------------------------------------


def test_questions_without_reading_the_answers_are_not_read_on(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    questions = get_count("k" * 100) * 100
    rounds = read_until_sated(ledger, wire, questions)
    assert rounds < 10
    assert wire.bytes_unsent() < MOST_ANSWERS + len(questions) * 2
    assert output(wire) == count("k" * 100, 0) * 100 * rounds
    assert not wire.sated


def test_frames_without_handles_neither(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    commit(ledger, wire, "m", Thing("h"))
    output(wire)
    rounds = read_until_sated(ledger, wire, handle_frame(1) * 1000)
    assert output(wire) == NACK * 1000 * rounds
    assert not wire.sated


# Unsent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 1000, 50_000, BATCH_SIZE, HIGH_WATER - 3, HIGH_WATER, MIB])
def test_what_is_unsent_is_bounded(ledger: Ledger, size: int) -> None:
    wire = node_wire(ledger)
    committed = b""
    while wire.can_send():
        assert len(committed) < HIGH_WATER
        commit(ledger, wire, "x" * size)
        committed += line("x" * size)
    assert wire.bytes_unsent() == len(committed)
    assert HIGH_WATER <= len(committed) < HIGH_WATER + size + 3
    assert not wire.can_send(1)
    assert wire.credit_left() == 0
    assert not wire.commit_small(wire.encode("x" * size))
    chunk = wire.next_write()
    assert chunk is not None
    rest = len(committed) - HIGH_WATER + 1
    begun = min(rest, len(chunk[0][0]))
    wire.written(begun)
    if begun == rest:
        assert wire.can_send()
        assert wire.credit_left() == math.inf
    assert output(wire) == committed[begun:]
    assert wire.can_send(1)


def test_a_batch_is_not_too_large(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    for _ in range(130):
        commit(ledger, wire, "x" * 997)
    sizes = []
    while (chunk := wire.next_write()) is not None:
        sizes.append(len(chunk[0][0]))
        wire.written(sizes[-1])
    assert sum(sizes) == 130_000
    assert max(sizes) <= BATCH_SIZE


# The limit on a line ----------------------------------------------------------------------------


def test_a_line_of_the_limit_and_one_more(ledger: Ledger) -> None:
    for most in (1, 7, 1 << 30):
        wire = node_wire(ledger, limits=Limits(max_message_size=100))
        deliver(ledger, wire, line("x" * 98), most=most)
        assert wire.take() == "x" * 98
        with pytest.raises(ProtocolError, match="101 bytes"):
            deliver(ledger, wire, line("x" * 99), most=most)


def test_one_of_nodes_own_may_be_longer(ledger: Ledger) -> None:
    for most in (1, 1 << 30):
        wire = node_wire(ledger, limits=Limits(max_message_size=100))
        deliver(ledger, wire, handle_frame("x" * 98, key="k" * 500), "h", most=most)
        assert ledger.take(wire) == ("x" * 98, Thing("h"))  # type: ignore[arg-type]
        short = len(line({"cmd": "NODE_NEWS", "x": ""})) - 1
        deliver(ledger, wire, line({"cmd": "NODE_NEWS", "x": "y" * (100 + ENVELOPE - short)}))
        with pytest.raises(ProtocolError, match=f"{100 + ENVELOPE + 1} bytes"):
            deliver(ledger, wire, line({"cmd": "NODE_NEWS", "x": "y" * (101 + ENVELOPE - short)}))


def test_a_line_without_its_end_is_refused_while_it_comes(ledger: Ledger) -> None:
    wire = node_wire(ledger, limits=Limits(max_message_size=100))
    deliver(ledger, wire, b"[" * (100 + ENVELOPE))
    with pytest.raises(ProtocolError, match="max_message_size is 100"):
        deliver(ledger, wire, b"[")


def test_a_long_line_takes_linear_time(ledger: Ledger) -> None:
    """Not measured: the pieces are joined once, however many they are."""
    size = 4 * MIB
    wire = node_wire(ledger, limits=Limits(max_message_size=size))
    deliver(ledger, wire, line("x" * (size - 2)), most=1000)
    assert len(wire.take()) == size - 2


def test_credit_is_never_given(ledger: Ledger) -> None:
    wire = node_wire(ledger, limits=Limits(1))
    deliver(ledger, wire, b"1\n")
    wire.take()
    wire.want(5)
    wire.flush_grants()
    assert not wire.grants_pending
    assert not wire.needs_grant()
    assert not wire.has_output()


# The end ----------------------------------------------------------------------------------------


def test_hanging_up(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    assert not wire.hang_up()
    commit(ledger, wire, 1)
    commit(ledger, wire, 2, Thing("h"))
    commit(ledger, wire, 3)
    wire.end()
    assert wire.ended
    assert not wire.hang_up()
    assert output(wire) == b"1\n" + handle_frame(2)
    assert not wire.hang_up()  # there is more behind the answer
    deliver(ledger, wire, ACK)
    settle_answers(wire)
    assert not wire.hang_up()
    assert output(wire) == b"3\n"
    assert wire.hang_up()
    assert not wire.hang_up()  # once
    deliver(ledger, wire, b'"still here"\n')
    assert wire.take() == "still here"


def test_hanging_up_after_what_is_given_up(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    commit(ledger, wire, 2, Thing("h"))
    wire.end()
    output(wire)
    wire.give_up()
    settle_answers(wire)
    assert wire.hang_up()


def test_the_peers_end(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    deliver(ledger, wire, b"1\n")
    wire.received_eof()
    assert wire.peer_ended
    assert wire.take() == 1


CUT: dict[str, tuple[bytes, str]] = {
    "a letter": (b'"', "1 bytes of a line without its end"),
    "all but its end": (b'"x"', "3 bytes of a line"),
    "behind others": (b'"x"\n"y"\n"z', "2 bytes of a line"),
    "one of Node's own": (ACK[:-1], "25 bytes of a line"),
    "what Node leaves when it exits": (b'"' + b"x" * 219_263, "219264 bytes of a line"),
    "not even a message": (b"\n"[:0] + b"\x02", "1 bytes of a line"),
}


@pytest.mark.parametrize("name", CUT)
def test_the_end_in_the_middle_of_a_message(ledger: Ledger, name: str) -> None:
    data, text = CUT[name]
    wire = node_wire(ledger)
    deliver(ledger, wire, data)
    with pytest.raises(ProtocolError, match=f"in the middle of a message: {text}"):
        wire.received_eof()
    assert not wire.peer_ended
    messages: list[Any] = ledger.take_all(wire)  # type: ignore[arg-type]
    assert messages == (["x", "y"] if name == "behind others" else [])
