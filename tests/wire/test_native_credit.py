"""What holds a sender back: messages, bytes and handles that are not taken, bytes not written.

`max_buffer_size` is exact: so many messages may wait unreceived, not one more, and not one less.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, strategies as st

from trio_ipc._errors import ProtocolError
from trio_ipc.wire import Limits

from .harness import (
    LARGE,
    ConnectionPair,
    Ledger,
    Thing,
    examples,
    feed,
    frame,
    frames_in,
    output,
    read_all,
    settled,
    write_all,
)

KIB = 1024
MIB = 1024 * KIB


def send_until_full(pair: ConnectionPair, message: Any = "m", most: int = 10_000) -> int:
    """Move everything as it is sent; how many messages could be."""
    count = 0
    while pair.left.can_send() and count < most:
        pair.send(message)
        pair.move()
        count += 1
    return count


class Receiver:
    """Gives credit as a connection does that never writes anything else.

    In a scope there is a background writer, which gives all that is due soon. Outside of one
    nobody is there to do it later.
    """

    def __init__(self, pair: ConnectionPair, in_scope: bool) -> None:
        self._pair = pair
        self._in_scope = in_scope

    def read(self) -> None:
        self._pair.move()
        if self._pair.right.starving:
            self._give_credit()

    def take(self) -> Any:
        value = self._pair.receive()
        right = self._pair.right
        if right.starving or right.grants_pending >= right.grant_at or not self._in_scope:
            self._give_credit()
        return value

    def _give_credit(self) -> None:
        right = self._pair.right
        if right.grants_pending >= right.grant_at or self._in_scope or right.needs_grant():
            self._pair.grant()


in_and_out_of_scopes = pytest.mark.parametrize("in_scope", [True, False])


# Messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1000])
def test_exactly_so_many_messages_wait_unreceived(ledger: Ledger, size: int) -> None:
    pair = ConnectionPair(ledger, Limits(size))
    assert pair.left.credit_left() == size
    assert send_until_full(pair) == size
    assert len(pair.right.unread) == size
    assert pair.left.credit_left() == 0


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("taken", [1, 2, 3])
def test_each_message_taken_makes_room_for_one(ledger: Ledger, size: int, taken: int) -> None:
    pair = ConnectionPair(ledger, Limits(size))
    for _ in range(3):
        send_until_full(pair)
        for _ in range(min(taken, size)):
            pair.receive()
        pair.grant()
        assert send_until_full(pair) == min(taken, size)
        assert len(pair.right.unread) == size


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1000])
@in_and_out_of_scopes
def test_credit_given_in_batches_is_exact_once_the_sender_needs_it(
    ledger: Ledger, size: int, in_scope: bool
) -> None:
    # `starving` and `grant_at` decide when: a sender that fills the buffer gets all of it.
    pair = ConnectionPair(ledger, Limits(size))
    receiver = Receiver(pair, in_scope)
    for _ in range(2 * size + 3):
        while pair.left.can_send():
            pair.send("m")
            receiver.read()
        assert len(pair.right.unread) == size
        receiver.take()


@pytest.mark.parametrize("size", [1, 2, 5, 64, 1000, math.inf])
@in_and_out_of_scopes
def test_a_receiver_that_keeps_up_never_stops_the_sender(
    ledger: Ledger, size: float, in_scope: bool
) -> None:
    pair = ConnectionPair(ledger, Limits(size))
    receiver = Receiver(pair, in_scope)
    for number in range(3000):
        assert pair.left.can_send()
        pair.send(number)
        receiver.read()
        assert receiver.take() == number


@pytest.mark.parametrize(
    ("size", "grant_at"), [(0, 1), (1, 1), (2, 1), (4, 2), (1000, 500), (5000, 512)]
)
def test_credit_is_given_back_in_batches(ledger: Ledger, size: int, grant_at: int) -> None:
    wire = ledger.wire(limits=Limits(size))
    assert wire.grant_at == grant_at
    assert wire.starving == (size <= grant_at)


def test_no_limit_on_the_number_of_messages(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(math.inf))
    assert pair.left.credit_left() == math.inf
    assert send_until_full(pair, most=3000) == 3000
    assert len(pair.right.unread) == 3000
    assert pair.left.credit_left() == math.inf
    assert not pair.right.starving
    assert pair.right.grant_at == 512


def test_a_sender_without_credit_can_commit_nothing(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(1))
    pair.send(1)
    assert not pair.left.can_send()
    assert not pair.left.commit_small(pair.left.encode(2))
    pair.move()
    assert ledger.take_all(pair.right) == [1]


def test_messages_dropped_for_nobody_give_their_credit_back(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(3))
    pair.send(1)
    pair.send(Thing("a"))
    pair.send(2)
    pair.move()
    pair.right.skip_unread()
    assert not pair.right.unread
    assert pair.right.grants_pending == 3
    pair.grant()
    assert send_until_full(pair) == 3


def test_messages_dropped_by_stop_give_none(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(3))
    pair.send(1)
    pair.send(Thing("a"))
    pair.move()
    pair.right.stop()
    pair.grant()
    assert not pair.right.unread
    assert pair.left.peer_stopped
    assert pair.left.credit_left() == 1


# Rendezvous -------------------------------------------------------------------------------------


def test_without_a_buffer_each_task_that_waits_is_a_credit(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(0))
    assert pair.right.rendezvous
    assert not pair.left.can_send()
    pair.right.want(2)
    assert pair.right.grants_pending == 2
    pair.right.want(2)  # the same two
    assert pair.right.grants_pending == 2
    pair.grant()
    pair.right.want(2)
    assert pair.right.grants_pending == 0
    assert send_until_full(pair) == 2
    assert ledger.take_all(pair.right) == ["m", "m"]
    assert pair.right.grants_pending == 0
    pair.right.want(1)
    pair.grant()
    assert send_until_full(pair) == 1


def test_without_a_buffer_what_nobody_waits_for_any_more_is_still_granted(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(0))
    pair.right.want(3)
    pair.grant()
    pair.right.want(1)
    assert pair.right.grants_pending == 0
    assert send_until_full(pair) == 3


def test_with_a_buffer_those_who_wait_give_no_credit(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(2))
    assert not pair.right.rendezvous
    pair.right.want(10)
    pair.grant()
    assert send_until_full(pair) == 2


# Grants on the wire -----------------------------------------------------------------------------


def test_an_answer_takes_the_credit_along(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(5))
    pair.send("question")
    pair.move()
    pair.receive()
    assert pair.right.grants_pending == 1
    pair.right.commit(pair.right.encode("answer"))
    assert pair.right.grants_pending == 1  # it is not written yet
    data = output(pair.right)
    assert [(kind, grant) for kind, _, grant, _ in frames_in(data)] == [("M", 1)]
    assert pair.right.grants_pending == 0


def test_credit_is_flushed_with_the_open_batch_if_there_is_one(ledger: Ledger) -> None:
    wire = ledger.wire()
    wire.grants_pending = 4
    wire.commit(wire.encode("m"))
    wire.flush_grants()
    assert [(kind, grant) for kind, _, grant, _ in frames_in(output(wire))] == [("M", 4)]


def test_no_credit_no_frame(ledger: Ledger) -> None:
    wire = ledger.wire()
    wire.flush_grants()
    assert not wire.has_output()


def test_a_grant_may_stand_in_front_of_anything(ledger: Ledger) -> None:
    wire = ledger.wire(limits=Limits(0))
    for kind in "SGE":
        feed(wire, frame(kind, grant=2))
    assert wire.credit_left() == 6


# Bytes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [100, MIB, 4 * MIB])
@pytest.mark.parametrize("size", [30_000, 64 * KIB, 700_000])
def test_bytes_not_taken_are_bounded(ledger: Ledger, limit: int, size: int) -> None:
    pair = ConnectionPair(ledger, Limits(math.inf, max(limit, size + 10)))
    window = max(limit, size + 10, MIB)
    count = send_until_full(pair, "x" * size)
    # One more message may begin below the window.
    assert window <= count * (size + 10) < window + size + 10 + 32 * KIB


def test_many_small_messages_are_bounded_in_bytes_too(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(math.inf, 100))
    size = 0
    while pair.left.can_send():
        for _ in range(100):
            if pair.left.can_send():
                pair.send("x" * 95)
                size += 97
        pair.move()
    assert MIB <= size < MIB + 128 * KIB


@in_and_out_of_scopes
def test_bytes_taken_make_room_for_others(ledger: Ledger, in_scope: bool) -> None:
    pair = ConnectionPair(ledger, Limits(math.inf, MIB))
    receiver = Receiver(pair, in_scope)
    message = "x" * 64 * KIB
    first = send_until_full(pair, message)
    for _ in range(5):
        taken = 0
        while not pair.left.can_send():
            receiver.take()
            taken += 1
            assert taken <= first
        send_until_full(pair, message)
    assert len(pair.right.unread) <= first


def test_without_a_buffer_bytes_are_what_the_receivers_want(ledger: Ledger) -> None:
    # Each message was asked for: even beyond the window nobody did anything wrong.
    pair = ConnectionPair(ledger, Limits(0, MIB))
    for _ in range(5):
        pair.right.want(1)
        pair.grant()
        assert pair.left.can_send()
        pair.send("x" * 900 * KIB)
        pair.move()
        pair.receive()
    pair.right.want(4)
    pair.grant()
    sent = 0
    while pair.left.can_send():
        pair.send("x" * 900 * KIB)
        pair.move()
        sent += 1
    assert 1 <= sent <= 4


def test_bytes_not_written_are_bounded(ledger: Ledger) -> None:
    wire = ledger.wire(limits=Limits(math.inf))
    count = 0
    while wire.can_send():
        wire.commit(wire.encode("x" * 1000))
        count += 1
    assert 256 * KIB < wire.bytes_unsent() < 256 * KIB + 128 * KIB
    while not wire.can_send():
        assert wire.next_write() is not None
        wire.written(1000)
    # Nothing was taken, but it is the kernel's now.
    assert 128 * KIB < wire.bytes_unsent() <= 256 * KIB


def test_one_message_above_every_window_can_be_sent(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(10, 16 * MIB))
    message = b"x" * 16 * MIB
    pair.send(message)
    assert not pair.left.can_send()
    pair.move()
    assert not pair.left.can_send()
    assert len(Receiver(pair, in_scope=False).take()) == len(message)
    assert pair.left.can_send()


@pytest.mark.parametrize("size", [20_000, LARGE])
def test_a_peer_that_ignores_the_byte_window_is_cut_off(ledger: Ledger, size: int) -> None:
    wire = ledger.wire(limits=Limits(math.inf, MIB))
    data = frame("B", b"x" * size)
    sent = 0
    with pytest.raises(ProtocolError, match="more bytes than it had credit for"):
        while sent < 10 * MIB:
            feed(wire, data)
            sent += size
    assert 2 * MIB < sent < 2 * MIB + 256 * KIB + 2 * size


@given(st.lists(st.integers(0, 300 * KIB), min_size=1, max_size=60), st.data())
@examples
def test_an_honest_sender_is_never_cut_off(sizes: list[int], data: st.DataObject) -> None:
    # The two ends count the same bytes in different steps: the windows must not collide.
    with settled() as ledger:
        pair = ConnectionPair(ledger, Limits(math.inf, 300 * KIB + 10))
        receiver = Receiver(pair, data.draw(st.booleans()))
        for number, size in enumerate(sizes * 3):
            if not pair.left.can_send():
                pair.move()
            while not pair.left.can_send():
                if pair.right.unread:
                    receiver.take()
                else:  # its credit is still due, see below
                    pair.grant()
            pair.send([Thing(number), "x" * size] if number % 7 == 3 else "x" * size)
            if data.draw(st.booleans()):
                write_all(pair.left, pair.rightward)
            if data.draw(st.booleans()):
                read_all(pair.right, pair.rightward)
            for _ in range(data.draw(st.integers(0, 2))):
                if pair.right.unread:
                    pair.receive()


# Handles ----------------------------------------------------------------------------------------


def test_handles_under_way_are_bounded(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(), handle_window=5)
    pair.send([Thing(1), Thing(2), Thing(3)])
    assert pair.left.can_send(2)
    assert not pair.left.can_send(3)
    assert pair.left.can_send(0)
    pair.move()
    pair.send([Thing(4), Thing(5)])
    assert not pair.left.can_send(1)
    pair.send("without handles")
    pair.move()
    assert not pair.left.can_send(1)
    pair.receive()
    pair.grant()
    assert pair.left.can_send(3)
    assert not pair.left.can_send(4)
    pair.receive()
    pair.grant()
    assert pair.left.can_send(5)


def test_more_handles_than_the_window_go_alone(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(), handle_window=1)
    assert pair.left.can_send(16)
    pair.send([Thing(number) for number in range(16)])
    assert not pair.left.can_send(1)


@pytest.mark.parametrize("window", [1, 2, 16, 256])
@in_and_out_of_scopes
def test_a_receiver_that_keeps_up_never_stops_a_sender_of_handles(
    ledger: Ledger, window: int, in_scope: bool
) -> None:
    pair = ConnectionPair(ledger, Limits(1000), handle_window=window)
    receiver = Receiver(pair, in_scope)
    for number in range(600):
        count = number % 17
        assert pair.left.can_send(count)
        pair.send([Thing(each) for each in range(count)])
        receiver.read()
        receiver.take()


# All of it --------------------------------------------------------------------------------------


@given(
    st.booleans(),
    st.sampled_from([1, 2, 7, 100, 1000, math.inf]),
    st.sampled_from([1, 5, 256]),
    st.lists(
        st.tuples(
            st.sampled_from([0, 0, 100, 20_000, 250 * KIB]),  # bytes
            st.sampled_from([0, 0, 0, 1, 16]),  # handles
            st.integers(1, 60),  # so many of them
            st.integers(0, 60),  # and so many are taken
        ),
        max_size=12,
    ),
)
@examples
def test_no_sender_waits_for_a_receiver_that_has_taken_everything(
    in_scope: bool, size: float, window: int, steps: list[tuple[int, int, int, int]]
) -> None:
    with settled() as ledger:
        pair = ConnectionPair(ledger, Limits(size, 256 * KIB + 10), handle_window=window)
        receiver = Receiver(pair, in_scope)
        for weight, handles, count, takes in steps:
            for _ in range(count):
                while not pair.left.can_send(handles):
                    receiver.read()
                    if not pair.left.can_send(handles):
                        assert pair.right.unread
                        receiver.take()
                pair.send(["x" * weight, *map(Thing, range(handles))])
            receiver.read()
            for _ in range(min(takes, len(pair.right.unread))):
                receiver.take()
        while pair.right.unread:
            receiver.take()
        assert pair.left.can_send(16)


@given(st.integers(0, 4), st.lists(st.sampled_from("sswrtgW"), max_size=60))
@examples
def test_credit_is_conserved(size: int, steps: list[str]) -> None:
    """s: send, w: write, r: read, t: take, g: give credit, W: one task waits."""
    with settled() as ledger:
        pair = ConnectionPair(ledger, Limits(size))
        left, right = pair.left, pair.right
        sent = taken = wanted = 0
        for step in steps:
            if step == "s" and left.can_send():
                pair.send(sent)
                sent += 1
            elif step == "w":
                write_all(left, pair.rightward)
            elif step == "r":
                read_all(right, pair.rightward)
                read_all(left, pair.leftward)
            elif step == "t" and right.unread:
                assert pair.receive() == taken
                taken += 1
            elif step == "g":
                right.flush_grants()
                write_all(right, pair.leftward)
            elif step == "W" and size == 0:
                right.want(1)
                wanted = max(wanted, taken + len(right.unread) + 1)
            assert len(right.unread) <= (size if size else wanted - taken)
            assert left.credit_left() + sent <= (size + taken if size else wanted)
        pair.move()
        pair.grant()
        assert left.credit_left() + sent == (size + taken if size else wanted)
        assert right.credit_left() == size


def test_both_directions_are_counted_apart(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(2))
    left, right = pair.left, pair.right
    pair.send(1)
    right.commit(right.encode(2))
    right.commit(right.encode(3))
    pair.move()
    assert (left.credit_left(), right.credit_left()) == (1, 0)
    assert ledger.take_all(left) == [2, 3]
    left.flush_grants()
    pair.move()
    assert (left.credit_left(), right.credit_left()) == (1, 2)
