"""The two HELLOs: what each end accepts, said before anything else.

The parent writes its own at once and takes it for granted that the child accepts the same; the
child reads it, adopts its own limits, and says so.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from trio_ipc._errors import InvalidMessage, MessageTooLarge, ProtocolError
from trio_ipc.wire import Limits, Outbound
from trio_ipc.wire.native import NativeWire

from .harness import (
    ConnectionPair,
    Ledger,
    Pipe,
    Thing,
    batch,
    commit,
    feed,
    frame,
    greet,
    hello,
    output,
    read_all,
    read_some,
    write_all,
)

INF = math.inf


def fill(pair: ConnectionPair, most: int = 3000) -> int:
    count = 0
    while pair.left.can_send() and count < most:
        pair.send("m")
        pair.move()
        count += 1
    return count


@pytest.mark.parametrize("parents", [0, 1, 5, 1000, INF])
@pytest.mark.parametrize("childs", [0, 1, 5, 1000, INF])
def test_each_end_has_the_buffer_that_it_asked_for(
    ledger: Ledger, parents: float, childs: float
) -> None:
    pair, parent, child = greet(ledger, Limits(parents), Limits(childs))
    assert parent.credit_left() == childs
    assert child.credit_left() == parents
    assert child.rendezvous == (childs == 0)
    if childs == 0:
        child.want(2)
        pair.grant()
        childs = 2
    assert fill(pair) == min(childs, 3000)
    assert len(child.unread) == min(childs, 3000)


@pytest.mark.parametrize("parents", [5, 1000, INF])
@pytest.mark.parametrize("childs", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("early", [0, 1, 3, 5])
def test_credit_is_exact_however_much_was_sent_before(
    ledger: Ledger, parents: float, childs: int, early: int
) -> None:
    pair, _, child = greet(ledger, Limits(parents), Limits(childs), early=early)
    fill(pair)
    # What the parent took for granted it has used; from then on the child's own size holds.
    assert len(child.unread) == max(childs, early)
    for _ in range(20):
        pair.receive()
        if child.starving or child.grants_pending >= child.grant_at:
            pair.grant()
        fill(pair)
    if early <= childs:
        assert len(child.unread) == childs
    else:
        assert 1 <= len(child.unread) <= childs


@pytest.mark.parametrize("parents", [5, 1000, INF])
@pytest.mark.parametrize("early", [0, 1, 5])
def test_a_child_without_a_buffer_gives_credit_to_whom_it_waits_for(
    ledger: Ledger, parents: float, early: int
) -> None:
    pair, parent, child = greet(ledger, Limits(parents), Limits(0), early=early)
    assert ledger.take_all(child) == list(range(early))
    assert not parent.can_send()
    for _ in range(3):
        child.want(1)
        pair.grant()
        assert fill(pair) == 1
        pair.receive()


def test_the_smaller_message_size_counts(ledger: Ledger) -> None:
    _, parent, child = greet(ledger, Limits(5, 1000), Limits(5, 500))
    for wire in (parent, child):
        assert wire.encode("x" * 497)
        with pytest.raises(MessageTooLarge, match="501 bytes; max_message_size is 500"):
            wire.encode("x" * 498)


def test_the_smaller_number_of_handles_counts(ledger: Ledger) -> None:
    _, parent, child = greet(ledger, Limits(5, 1000, 3), Limits(5, 1000, 2))
    for wire in (parent, child):
        assert wire.encode([Thing(1), Thing(2)])
        with pytest.raises(MessageTooLarge, match="3 handles; max_handles is 2"):
            wire.encode([Thing(1), Thing(2), Thing(3)])


def test_a_child_may_accept_more_than_the_parent_only_in_number(ledger: Ledger) -> None:
    # What the parent won't take it does not send either: the smaller limit counts both ways.
    _, parent, child = greet(ledger, Limits(5, 500, 2), Limits(50, 1000, 3))
    assert parent.credit_left() == 50
    for wire in (parent, child):
        with pytest.raises(MessageTooLarge):
            wire.encode("x" * 600)
        with pytest.raises(MessageTooLarge):
            wire.encode([Thing(1), Thing(2), Thing(3)])


def test_a_child_with_a_smaller_byte_window_takes_what_was_under_way(ledger: Ledger) -> None:
    childs = Limits(1000, 100_000)
    pair, parent, _ = greet(ledger, Limits(1000, 8 * 1024 * 1024), childs)
    count = 0
    while parent.can_send():
        pair.send("x" * 90_000)
        pair.move()
        count += 1
    assert 1024 * 1024 <= count * 90_005 < 1024 * 1024 + 200_000


def test_a_child_with_a_larger_byte_window_lets_the_parent_go_on(ledger: Ledger) -> None:
    parent = ledger.wire(limits=Limits(1000, 1024 * 1024), greeted=False)
    while parent.can_send():
        commit(ledger, parent, "x" * 100_000)
        output(parent)
    feed(parent, hello(size=4 * 1024 * 1024))
    assert parent.can_send()


# Messages, and whether they are within the limits that the child will name.
EARLY: dict[str, list[tuple[Any, bool]]] = {
    "alone": [(["x" * 2000], False)],
    "alone with a handle": [(["x" * 2000, Thing("a")], False)],
    "with too many handles": [([Thing("a"), Thing("b"), Thing("c")], False)],
    "among others": [("before", True), ("x" * 2000, False), ("after", True)],
    "among others with handles": [
        ([Thing("a")], True),
        (["x" * 2000, Thing("b")], False),
        ([Thing("c")], True),
    ],
    "bare bytes": [(b"x" * 20_000, False)],
    "large": [("x" * 100_000, False)],
    "exactly the limit": [("x" * 997, True), (["x" * 992, Thing("a")], True)],
    "one byte more": [("x" * 998, False), (["x" * 993, Thing("a")], False)],
}


@pytest.mark.parametrize("name", EARLY)
def test_what_was_sent_before_the_smaller_limit_was_known_is_refused_in_its_place(
    ledger: Ledger, name: str
) -> None:
    # It is nobody's fault: the channel goes on.
    parent = ledger.wire(greeted=False)
    child = ledger.wire(greeted=False)
    pipe = Pipe(ledger)
    parent.hello()
    for message, _ in EARLY[name]:
        commit(ledger, parent, message)
    write_all(parent, pipe)
    while not child.greeted:
        read_some(child, pipe)
    child.adopt(Limits(1000, 1000, 2))
    read_all(child, pipe)
    for message, fits in EARLY[name]:
        if fits:
            assert ledger.take(child) == message
        else:
            with pytest.raises(InvalidMessage, match="are the limits here"):
                child.take()
    child.hello()
    feed(parent, output(child))
    commit(ledger, parent, "after")
    write_all(parent, pipe)
    read_all(child, pipe)
    assert ledger.take(child) == "after"


def test_messages_that_wait_are_checked_again_once_the_limits_are_known(ledger: Ledger) -> None:
    wire = ledger.wire(greeted=False)
    large = wire.encode("x" * 98)
    with_thing = wire.encode(["x" * 95, Thing("a")])
    assert isinstance(with_thing, Outbound)
    many = wire.encode([Thing(1), Thing(2)])
    bare = wire.encode(bytes(20_000))
    pair = wire.encode("x" * 97, Thing("a"))
    for payload in (large, with_thing, many, bare, pair):
        wire.check_again(payload)
    feed(wire, hello(size=100, handles=1))
    wire.check_again(large)
    assert len(large) == 100
    for payload in (with_thing, many, bare, pair):
        with pytest.raises(MessageTooLarge):
            wire.check_again(payload)
    fits = wire.encode(["x" * 93, Thing("a")])
    assert isinstance(fits, Outbound)
    assert len(fits.data) == 105  # with the head of the array that it stands in
    wire.check_again(fits)


def test_messages_before_the_greeting_is_answered_arrive(ledger: Ledger) -> None:
    pair, _, child = greet(ledger, Limits(), Limits(), early=3)
    assert ledger.take_all(child) == [0, 1, 2]
    commit(ledger, child, "answer")
    pair.move()
    assert ledger.take(pair.left) == "answer"


def test_two_ends_of_a_pair_say_no_hello(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, Limits(7))
    assert pair.left.greeted
    assert not pair.left.has_output()
    assert pair.left.credit_left() == 7
    with pytest.raises(ProtocolError, match="unexpected frame of kind 'H'"):
        feed(pair.left, hello())


def test_without_an_agreement_hello_comes_first(ledger: Ledger) -> None:
    wire = NativeWire(ledger.wire().codec, Limits())
    assert not wire.greeted
    with pytest.raises(ProtocolError, match="unexpected frame of kind 'M'"):
        feed(wire, batch("m"))


def test_a_second_hello_is_refused(ledger: Ledger) -> None:
    wire = ledger.wire(greeted=False)
    feed(wire, hello())
    with pytest.raises(ProtocolError, match="unexpected frame of kind 'H'"):
        feed(wire, hello())


@pytest.mark.parametrize("version", [0, 2, 1000])
def test_another_version_is_named(ledger: Ledger, version: int) -> None:
    wire = ledger.wire(greeted=False)
    with pytest.raises(ProtocolError, match=f"speaks version {version} of the protocol, this is 1"):
        feed(wire, hello(version=version))
    assert not wire.greeted


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x01", id="a number"),
        pytest.param(b"\x91\x01", id="too short"),
        pytest.param(msgspec.msgpack.encode({"version": 1}), id="a map"),
        pytest.param(msgspec.msgpack.encode(["1", 2, 3, 4]), id="a string for a number"),
        pytest.param(msgspec.msgpack.encode([1, 2.5, 3, 4]), id="a fraction"),
        pytest.param(msgspec.msgpack.encode([1, 2, 3, 4, 5, 6])[:-1], id="cut short"),
        pytest.param(msgspec.msgpack.encode([1, 2, 3, 4]) + b"\x01", id="something behind"),
        pytest.param(b"\xc1", id="no MessagePack"),
    ],
)
def test_a_greeting_that_makes_no_sense(ledger: Ledger, payload: bytes) -> None:
    wire = ledger.wire(greeted=False)
    with pytest.raises(ProtocolError, match="greeting makes no sense"):
        feed(wire, frame("H", payload))
    assert not wire.greeted


def test_a_greeting_of_a_later_minor_version_may_say_more(ledger: Ledger) -> None:
    wire = ledger.wire(greeted=False)
    feed(wire, frame("H", msgspec.msgpack.encode([1, 2, 3, 4, 5, 6, 7, "and more"])))
    assert wire.greeted
    assert wire.credit_left() == 2


def test_a_greeting_may_say_less(ledger: Ledger) -> None:
    wire = ledger.wire(greeted=False)
    feed(wire, frame("H", msgspec.msgpack.encode([1, 2, 3, 4])))
    assert wire.greeted
    assert (wire.peer.device, wire.peer.inode) == (0, 0)


@pytest.mark.parametrize("step", range(1, 20))
def test_a_greeting_in_pieces(ledger: Ledger, step: int) -> None:
    wire = ledger.wire(greeted=False)
    feed(wire, hello(window=9) + batch("m"), most=step)
    assert wire.greeted
    assert wire.credit_left() == 9
    assert ledger.take_all(wire) == ["m"]


def test_output_before_the_greeting_comes_after_it(ledger: Ledger) -> None:
    wire = ledger.wire(greeted=False)
    wire.hello()
    commit(ledger, wire, 1)
    data = output(wire)
    other = ledger.wire(greeted=False)
    feed(other, data)
    assert ledger.take_all(other) == [1]


def test_limits_that_are_met_late_hold_for_what_is_sent_later(ledger: Ledger) -> None:
    # A message that was encoded before the smaller limit was known goes out as it is.
    wire = ledger.wire(limits=Limits(10, 1000), greeted=False)
    early: Any = wire.encode("x" * 900)
    feed(wire, hello(window=10, size=100))
    wire.commit(early)
    with pytest.raises(MessageTooLarge):
        wire.encode("x" * 900)
    pair = ConnectionPair(ledger)
    pair.rightward.write(output(wire))
    read_all(pair.right, pair.rightward)
    assert pair.receive() == "x" * 900
