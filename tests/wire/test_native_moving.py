"""An end of a quiet channel moves to another process: a new wire takes up where the old one was."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from trio_ipc._errors import MessageTooLarge
from trio_ipc.wire import Limits
from trio_ipc.wire.native import NativeWire
from trio_ipc.wire.native_frames import CreditState

from .harness import (
    LARGE,
    ConnectionPair,
    Ledger,
    Thing,
    commit,
    examples,
    feed,
    frame,
    settled,
    with_handle,
    write_all,
)


def move_right(pair: ConnectionPair) -> None:
    """Have the right end go on in another process; only bytes get there."""
    old = pair.right
    assert old.quiet()
    sent = msgspec.msgpack.encode(old.credit_state())
    pair.right = pair.ledger.wire(limits=old.limits)
    pair.right.restore(msgspec.msgpack.decode(sent, type=CreditState))
    assert pair.right.quiet()
    assert pair.right.credit_state() == msgspec.msgpack.decode(sent, type=CreditState)


def test_a_fresh_end_is_quiet(ledger: Ledger) -> None:
    assert ledger.wire().quiet()


def test_an_end_that_was_used_is_quiet_again(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger)
    for message in (1, Thing("a"), b"x" * 20_000, "x" * LARGE):
        pair.send(message)
        commit(ledger, pair.right, message)
    pair.move()
    ledger.take_all(pair.left)
    ledger.take_all(pair.right)
    assert not pair.left.quiet()
    pair.left.flush_grants()
    pair.right.flush_grants()
    pair.move()
    assert pair.left.quiet()
    assert pair.right.quiet()


NOT_QUIET: dict[str, Callable[[Ledger, NativeWire], Any]] = {
    "a message gathers": lambda ledger, wire: commit(ledger, wire, 1),
    "a message with a handle gathers": lambda ledger, wire: commit(ledger, wire, [Thing(1)]),
    "something is queued": lambda ledger, wire: wire.fail(""),
    "something is unread": lambda ledger, wire: feed(wire, with_handle(1, handles=0)),
    "a header is incomplete": lambda ledger, wire: feed(wire, b"M"),
    "a frame is incomplete": lambda ledger, wire: feed(wire, frame("B", b"123")[:8]),
    "a large frame is incomplete": lambda ledger, wire: feed(wire, frame("B", bytes(LARGE))[:8]),
    "credit is due": lambda ledger, wire: setattr(wire, "grants_pending", 1),
    "it ended": lambda ledger, wire: (wire.end(), write_all(wire, ConnectionPair(ledger).leftward)),
    "it stopped": lambda ledger, wire: (
        wire.stop(),
        write_all(wire, ConnectionPair(ledger).leftward),
    ),
    "the peer ended": lambda ledger, wire: feed(wire, frame("E")),
    "the peer stopped": lambda ledger, wire: feed(wire, frame("S")),
}


@pytest.mark.parametrize("reason", NOT_QUIET)
def test_what_keeps_an_end_where_it_is(ledger: Ledger, reason: str) -> None:
    wire = ledger.wire()
    assert wire.quiet()
    NOT_QUIET[reason](ledger, wire)
    assert not wire.quiet()


@pytest.mark.parametrize("size", [0, 1, 5, 1000, math.inf])
def test_a_moved_end_sends_and_receives(ledger: Ledger, size: float) -> None:
    pair = ConnectionPair(ledger, Limits(size))
    for _ in range(3):
        move_right(pair)
        for sender, receiver in ((pair.left, pair.right), (pair.right, pair.left)):
            receiver.want(2)
            receiver.flush_grants()
            pair.move()
            assert sender.credit_left() == (size or 2)
            commit(ledger, sender, ["text", Thing("a")])
            pair.move()
            assert ledger.take_all(receiver) == [["text", Thing("a")]]
            receiver.flush_grants()
            pair.move()
            assert sender.credit_left() == (size or 1)
            if not size:
                commit(ledger, sender, 1)
                pair.move()
                ledger.take_all(receiver)


def test_credit_that_was_given_to_nobody_in_particular_moves_along(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(0))
    pair.right.want(1)
    pair.grant()
    move_right(pair)  # whoever waited has been cancelled
    pair.right.want(1)
    assert pair.right.grants_pending == 0
    pair.send("m")
    pair.move()
    assert pair.receive() == "m"


def test_messages_that_the_peer_has_not_taken_still_count(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(3))
    for number in range(3):
        commit(ledger, pair.right, number)
    pair.move()
    move_right(pair)
    assert not pair.right.can_send()
    ledger.take(pair.left)
    pair.left.flush_grants()
    pair.move()
    assert pair.right.credit_left() == 1


def test_bytes_that_the_peer_has_not_taken_still_count(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(1000, 1024 * 1024))
    for _ in range(2):
        commit(ledger, pair.right, "x" * 400_000)
        pair.move()
    move_right(pair)
    sent = 0
    while pair.right.can_send():
        commit(ledger, pair.right, "x" * 400_000)
        pair.move()
        sent += 1
    assert sent == 1
    ledger.take_all(pair.left)
    pair.left.flush_grants()
    pair.move()
    assert pair.right.can_send()


@pytest.mark.parametrize("taken", [1, 3, 4])
def test_what_was_taken_before_does_not_count_any_more(ledger: Ledger, taken: int) -> None:
    pair = ConnectionPair(ledger, Limits(1000, 1024 * 1024))
    for _ in range(4):
        commit(ledger, pair.right, "x" * 250_000)
        pair.move()
    for _ in range(taken):
        ledger.take(pair.left)
    pair.left.flush_grants()
    pair.move()
    move_right(pair)
    sent = 0
    while pair.right.can_send():
        commit(ledger, pair.right, "x" * 250_000)
        pair.move()
        sent += 1
    assert sent == 1 + taken
    ledger.take_all(pair.left)
    pair.left.flush_grants()
    pair.move()
    assert pair.right.can_send()


def test_messages_on_their_way_arrive_at_the_moved_end(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(2))
    pair.send(1)
    pair.send(Thing("a"))
    write_all(pair.left, pair.rightward)
    move_right(pair)
    pair.move()
    assert ledger.take_all(pair.right) == [1, Thing("a")]
    pair.grant()
    assert pair.left.credit_left() == 2


def test_the_limits_of_the_peer_move_along(ledger: Ledger) -> None:
    wire = ledger.wire(limits=Limits(10, 1000, 5))
    wire.restore(CreditState(7, 10, 0, 0, 500, 2))
    assert wire.credit_left() == 7
    wire.encode("x" * 490)
    with pytest.raises(MessageTooLarge, match="max_message_size is 500"):
        wire.encode("x" * 500)
    with pytest.raises(MessageTooLarge, match="max_handles is 2"):
        wire.encode([Thing(1), Thing(2), Thing(3)])


@given(
    st.sampled_from([1, 2, 7]),
    st.lists(st.sampled_from(["send", "answer", "take", "take answer", "move"]), max_size=40),
)
@examples
def test_moving_loses_neither_messages_nor_credit(size: int, steps: list[str]) -> None:
    with settled() as ledger:
        pair = ConnectionPair(ledger, Limits(size))
        sent = taken = answered = heard = 0
        for step in steps:
            if step == "send" and pair.left.can_send():
                pair.send(sent)
                sent += 1
            elif step == "answer" and pair.right.can_send():
                commit(ledger, pair.right, answered)
                answered += 1
            elif step == "take" and pair.right.unread:
                assert pair.receive() == taken
                taken += 1
            elif step == "take answer" and pair.left.unread:
                assert ledger.take(pair.left) == heard
                heard += 1
            elif step == "move" and pair.right.quiet():
                move_right(pair)
            pair.left.flush_grants()
            pair.right.flush_grants()
            pair.move()
            assert len(pair.right.unread) == sent - taken
            assert pair.left.credit_left() == size - (sent - taken)
            assert pair.right.credit_left() == size - (answered - heard)
