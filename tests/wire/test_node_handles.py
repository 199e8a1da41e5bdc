"""One handle at a time: acknowledged, refused and sent again, given up; and none is ever lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trio_ipc._errors import ProtocolError
from trio_ipc.wire import Limits
from trio_ipc.wire.node import NodeWire
from trio_ipc.wire.node_receiving import READ_SIZE
from trio_ipc.wire.node_sending import HIGH_WATER

from .harness import Ledger, Pipe, Thing, Token
from .node_harness import (
    ACK,
    NACK,
    NO_ROOM,
    NOT_WHAT_IT_SAYS,
    NodeKinds,
    NodePair,
    commit,
    count,
    deliver,
    get_count,
    handle_frame,
    line,
    node_wire,
    output,
    settle_answers,
    wrapped_twice,
    writes,
)

FRAME = handle_frame("m")


def send_one(ledger: Ledger) -> NodeWire:
    """A wire that has written a handle and waits for its answer."""
    wire = node_wire(ledger)
    commit(ledger, wire, "m", Thing("h"))
    assert writes(wire) == [(FRAME, ["h"])]
    return wire


def problems(wire: NodeWire) -> list[str | None]:
    return [answer.problem for answer in settle_answers(wire)]


# Waiting for the answer -------------------------------------------------------------------------


def test_what_comes_behind_a_handle_waits_for_its_answer(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    commit(ledger, wire, "before")
    commit(ledger, wire, "m", Thing("h"))
    commit(ledger, wire, "behind")
    assert not wire.can_send(1)
    assert wire.can_send()
    assert writes(wire) == [(b'"before"\n', []), (FRAME, ["h"])]
    assert wire.has_output()
    assert wire.commit_single(wire.encode("single")) is None
    commit(ledger, wire, "x" * 70_000)
    commit(ledger, wire, "last")
    assert wire.next_write() is None
    wire.must_push = False
    deliver(ledger, wire, ACK)
    assert wire.must_push
    assert problems(wire) == [None]
    assert wire.can_send(1)
    assert writes(wire) == [(b'"behind"\n', []), (line("x" * 70_000), []), (b'"last"\n', [])]
    assert not wire.has_output()
    assert wire.bytes_unsent() == 0


def test_what_waits_is_bounded(ledger: Ledger) -> None:
    wire = send_one(ledger)
    sent = 0
    while wire.can_send():
        commit(ledger, wire, "x" * 998)
        sent += 1
    assert sent * 1001 >= HIGH_WATER > (sent - 1) * 1001
    assert wire.credit_left() == 0
    assert not wire.commit_small(wire.encode("x" * 998))
    deliver(ledger, wire, ACK)
    settle_answers(wire)
    assert not wire.can_send()  # there is room when they are out
    assert len(output(wire)) == sent * 1001
    assert wire.can_send(1)


def test_our_answers_overtake_what_waits(ledger: Ledger) -> None:
    wire = send_one(ledger)
    commit(ledger, wire, "behind")
    deliver(ledger, wire, handle_frame(1), "a")
    deliver(ledger, wire, handle_frame(2))
    deliver(ledger, wire, get_count("k"))
    assert output(wire) == ACK + NACK + count("k", 0)
    assert len(ledger.take_all(wire)) == 1  # type: ignore[arg-type]
    deliver(ledger, wire, ACK)
    settle_answers(wire)
    assert output(wire) == b'"behind"\n'


def test_an_answer_never_cuts_a_frame(ledger: Ledger) -> None:
    for handle in (None, Thing("h")):
        wire = node_wire(ledger)
        commit(ledger, wire, "m", handle)
        frame = FRAME if handle else b'"m"\n'
        assert wire.next_write() is not None
        wire.written(2)
        deliver(ledger, wire, handle_frame(1), "a")
        assert output(wire) == frame[2:] + ACK
        ledger.take_all(wire)  # type: ignore[arg-type]


def test_handles_one_after_the_other(ledger: Ledger) -> None:
    pair = NodePair(ledger)
    for number in range(5):
        pair.send(number, Thing(number))
        assert [answer.problem for answer in pair.move()] == [None]
    assert pair.receive_all() == [(number, Thing(number)) for number in range(5)]


def test_both_send_handles_and_nobody_waits_for_ever(ledger: Ledger) -> None:
    pair = NodePair(ledger, Limits(1))
    for wire in (pair.left, pair.right):
        commit(ledger, wire, "m", Thing(id(wire)))
        commit(ledger, wire, "behind")
    assert [answer.problem for answer in pair.move()] == [None, None]
    assert pair.receive_all() == [("m", Thing(id(pair.left))), "behind"]
    assert ledger.take_all(pair.left) == [("m", Thing(id(pair.right))), "behind"]  # type: ignore[arg-type]


# Refused ----------------------------------------------------------------------------------------


def test_a_refused_handle_is_sent_again_three_times(ledger: Ledger) -> None:
    wire = send_one(ledger)
    commit(ledger, wire, "behind")
    for _ in range(3):
        wire.must_push = False
        deliver(ledger, wire, NACK)
        assert wire.must_push
        assert not wire.can_send(1)
        assert wire.bytes_unsent() == len(FRAME) + len(b'"behind"\n')
        assert writes(wire) == [(FRAME, ["h"])]  # wrapped once, and nothing overtakes it
        assert problems(wire) == []
    deliver(ledger, wire, NACK)
    assert problems(wire) == ["refused 4 times"]
    assert wire.can_send(1)
    assert output(wire) == b'"behind"\n'
    assert wire.bytes_unsent() == 0


def test_one_that_is_taken_at_last(ledger: Ledger) -> None:
    for refusals in (1, 2, 3):
        wire = send_one(ledger)
        for _ in range(refusals):
            deliver(ledger, wire, NACK)
            assert output(wire) == FRAME
        deliver(ledger, wire, ACK)
        assert problems(wire) == [None]
        assert not wire.has_output()


def test_refusals_are_counted_for_each_handle(ledger: Ledger) -> None:
    wire = send_one(ledger)
    for _ in range(3):
        for answer in (NACK, NACK, NACK, ACK):
            deliver(ledger, wire, answer)
            output(wire)
        assert problems(wire) == [None]
        commit(ledger, wire, "m", Thing("next"))
        assert output(wire) == FRAME
    deliver(ledger, wire, 4 * NACK)  # three of them come before it is sent again
    assert output(wire) == FRAME
    assert problems(wire) == []


def test_refusals_in_one_read_count_once(ledger: Ledger) -> None:
    """They can't be answers to what is not written yet."""
    wire = send_one(ledger)
    deliver(ledger, wire, 100 * NACK + ACK)
    assert problems(wire) == []
    assert writes(wire) == [(FRAME, ["h"])]


@pytest.mark.parametrize("surplus", [ACK, NACK, 3 * ACK, NACK + ACK, ACK + NACK])
def test_surplus_answers_are_ignored(ledger: Ledger, surplus: bytes) -> None:
    wire = node_wire(ledger)
    deliver(ledger, wire, surplus)  # before anything was sent
    commit(ledger, wire, "m", Thing("h"))
    deliver(ledger, wire, surplus)  # before it is written
    assert problems(wire) == []
    assert wire.next_write() is not None
    deliver(ledger, wire, surplus)  # before its first byte
    assert problems(wire) == []
    wire.written(5)
    deliver(ledger, wire, surplus)  # while it is half written
    assert problems(wire) == []
    assert output(wire) == FRAME[5:]
    deliver(ledger, wire, ACK + surplus)
    assert problems(wire) == [None]
    assert not wire.has_output()
    deliver(ledger, wire, surplus)
    assert output(wire) == b""
    assert not wire.unread


def test_an_answer_while_what_is_sent_again_is_half_written(ledger: Ledger) -> None:
    wire = send_one(ledger)
    deliver(ledger, wire, NACK)
    assert wire.next_write() is not None
    wire.written(1)
    deliver(ledger, wire, ACK + NACK)
    assert problems(wire) == []
    assert output(wire) == FRAME[1:]
    deliver(ledger, wire, ACK)
    assert problems(wire) == [None]


# Given up ---------------------------------------------------------------------------------------


def not_started(wire: NodeWire) -> bytes:
    return b""


def chosen(wire: NodeWire) -> bytes:
    assert wire.next_write() is not None
    return b""


def half_written(wire: NodeWire) -> bytes:
    assert wire.next_write() is not None
    wire.written(5)
    return FRAME[5:]


def out(wire: NodeWire) -> bytes:
    assert output(wire) == FRAME
    return b""


def refused(wire: NodeWire) -> bytes:
    assert output(wire) == FRAME
    wire._receive_nack()
    return b""


def refused_and_half_written(wire: NodeWire) -> bytes:
    refused(wire)
    return half_written(wire)


@pytest.mark.parametrize(
    "state", [not_started, chosen, half_written, out, refused, refused_and_half_written]
)
@pytest.mark.parametrize("behind", [False, True])
def test_given_up(ledger: Ledger, state: Callable[[NodeWire], bytes], behind: bool) -> None:
    """What is begun is finished, what is not begun is dropped, and the channel goes on."""
    wire = node_wire(ledger)
    commit(ledger, wire, "m", Thing("h"))
    rest = state(wire)
    if behind:
        commit(ledger, wire, "behind")
        rest += b'"behind"\n'
    wire.must_push = False
    wire.give_up()
    assert wire.must_push
    assert problems(wire) == ["not acknowledged in time"]
    assert wire.can_send(1)
    assert wire.bytes_unsent() == len(rest)
    assert output(wire) == rest
    assert not wire.has_output()
    assert wire.bytes_unsent() == 0
    deliver(ledger, wire, ACK)  # too late
    deliver(ledger, wire, NACK)
    assert not wire.has_output()
    assert problems(wire) == []
    commit(ledger, wire, "n", Thing("next"))
    assert writes(wire) == [(handle_frame("n"), ["next"])]


def test_given_up_behind_plain_messages(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    commit(ledger, wire, "before")
    commit(ledger, wire, "m", Thing("h"))
    commit(ledger, wire, "behind")
    assert wire.next_write() is not None
    wire.written(3)
    wire.give_up()
    assert problems(wire) == ["not acknowledged in time"]
    assert output(wire) == b'fore"\n"behind"\n'
    assert wire.bytes_unsent() == 0


# Tokens on every path ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state", [not_started, chosen, half_written, out, refused, refused_and_half_written]
)
@pytest.mark.parametrize("call", ["abandon_output", "close"])
def test_the_end_closes_what_was_under_way(
    ledger: Ledger, state: Callable[[NodeWire], bytes], call: str
) -> None:
    wire = node_wire(ledger)
    commit(ledger, wire, "m", Thing("h"))
    state(wire)
    getattr(wire, call)()
    assert not wire.has_output()
    assert wire.bytes_unsent() == 0
    assert ledger.open_tokens() == []


def test_an_answer_that_nobody_took_is_closed(ledger: Ledger) -> None:
    wire = send_one(ledger)
    deliver(ledger, wire, ACK)
    [token] = ledger.open_tokens()
    wire.close()
    assert token.state == "closed"


def test_the_end_closes_what_was_not_taken(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    deliver(ledger, wire, handle_frame(1), "a")
    deliver(ledger, wire, handle_frame(2)[:10], "b")
    assert len(wire.unread) == 1
    wire.abandon_input()
    assert ledger.open_tokens() == []
    wire.close()
    assert [each.closed for each in ledger.objects] == [1]


def test_who_receives_no_more_closes_what_comes(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    deliver(ledger, wire, handle_frame(1), "a")
    deliver(ledger, wire, b'"x"\n')
    wire.stop()
    deliver(ledger, wire, handle_frame(2, key="k"), "b")
    deliver(ledger, wire, b'"x"\n')
    deliver(ledger, wire, wrapped_twice(3), "c")
    assert output(wire) == 3 * ACK  # the peer goes on
    assert not wire.unread
    assert [each.closed for each in ledger.objects] == [1, 1, 1]
    deliver(ledger, wire, handle_frame(4) + get_count("k"))
    assert output(wire) == NACK + count("k", 0)


# Handles that arrive ----------------------------------------------------------------------------


def test_a_frame_wrapped_twice_is_acknowledged_once(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    deliver(ledger, wire, wrapped_twice("m", key="k"), "h")
    assert output(wire) == ACK
    assert wire.accounts.count("k") == 1
    [(message, handle)] = ledger.take_all(wire)  # type: ignore[arg-type]
    assert (message, handle) == ("m", Thing("h"))
    assert handle.extra == b"net.Socket"  # its own type, not that of the wrapping


def test_a_frame_wrapped_three_times_is_closed(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    inner = {"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": 1}
    deliver(ledger, wire, wrapped_twice(inner), "h")
    assert output(wire) == ACK
    assert not wire.unread
    assert [each.closed for each in ledger.objects] == [1]


def test_a_handle_beside_one_of_nodes_own_messages_is_closed(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    deliver(ledger, wire, handle_frame({"cmd": "NODE_CLUSTER"}), "h")
    assert output(wire) == ACK
    assert not wire.unread
    assert [each.closed for each in ledger.objects] == [1]


@pytest.mark.parametrize("size", [10, 30_000, 100_000, READ_SIZE - 1, READ_SIZE, READ_SIZE + 1])
@pytest.mark.parametrize("most", [READ_SIZE, 1000, 65_521])
def test_a_peer_that_does_not_wait_for_our_answers(ledger: Ledger, size: int, most: int) -> None:
    """The tail of one frame arrives with the head, and the handle, of the next."""
    pair = NodePair(ledger)
    for number in range(5):
        pair.rightward.write(handle_frame([number, "x" * size]), [number])
        pair.rightward.write(line(number))
    pair.move(most)
    received = pair.receive_all()
    assert received == [
        each for number in range(5) for each in (([number, "x" * size], Thing(number)), number)
    ]


@pytest.mark.parametrize("lost", range(4))
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_frame_that_lost_its_handle_takes_no_other_ones(
    ledger: Ledger, size: int, lost: int
) -> None:
    """The kernel drops descriptors when the table is full, and the read ends all the same."""
    wire, pipe = node_wire(ledger), Pipe(ledger)
    for number in range(4):
        pipe.write(handle_frame([number, "x" * size]), [number])
    while len(pipe):
        data, tokens = pipe.read(READ_SIZE)
        for token in tokens:
            token.close()
        deliver(ledger, wire, data, *(token.name for token in tokens if token.name != lost))
    assert output(wire) == b"".join(NACK if number == lost else ACK for number in range(4))
    assert ledger.take_all(wire) == [  # type: ignore[arg-type]
        ([number, "x" * size], Thing(number)) for number in range(4) if number != lost
    ]


# What arrives in each read, with names of handles; in the end it is a ProtocolError.
SURPLUS: dict[str, list[tuple[bytes, list[Any]]]] = {
    "with a plain message": [(b'"x"\n', ["a"])],
    "with a plain message that came in two": [(b'"x', ["a"]), (b'"\n', [])],
    "with a plain message behind a handle's": [
        (handle_frame(1) + b'"x', ["a", "b"]),
        (b'"\n', []),
    ],
    "two with one frame": [(handle_frame(1), ["a", "b"])],
    "two with a frame that is not complete": [(handle_frame(1)[:20], ["a", "b"])],
    "a second one before the frame is complete": [
        (handle_frame(1)[:20], ["a"]),
        (handle_frame(1)[20:30], ["b"]),
    ],
    "a second one with the last byte": [
        (handle_frame(1)[:-1], ["a"]),
        (handle_frame(1)[-1:], ["b"]),
    ],
    "with an acknowledgement": [(ACK, ["a"])],
    "with a refusal": [(NACK, ["a"])],
    "with a question": [(get_count("k"), ["a"])],
    "with an unknown command": [(b'{"cmd":"NODE_NEWS"}\n', ["a"])],
    "with a line of Bun's": [(b"\x02\n", ["a"])],
    "left over by a plain message, before a handle's own": [
        (b'"x', ["a"]),
        (b'"\n' + handle_frame(1), ["b"]),
    ],
    "with a wrapping that has none in it": [(handle_frame(1) + b"1\n", ["a", "b"])],
    "253 of them": [(handle_frame(1), list(range(253)))],
}


@pytest.mark.parametrize("name", SURPLUS)
def test_surplus_handles_end_the_channel(ledger: Ledger, name: str) -> None:
    wire = node_wire(ledger)
    commit(ledger, wire, "m", Thing("ours"))
    with pytest.raises(ProtocolError, match="that no message announced"):
        for data, names in SURPLUS[name]:
            deliver(ledger, wire, data, *names)
    wire.close()
    assert ledger.open_tokens() == []


@pytest.mark.parametrize("kind", [NOT_WHAT_IT_SAYS, NO_ROOM])
def test_a_handle_that_can_not_be_made(ledger: Ledger, kind: str) -> None:
    wire = node_wire(ledger)
    with pytest.raises((ProtocolError, OSError)):
        deliver(ledger, wire, handle_frame(1, kind), "h")
    assert output(wire) == b""  # it was not taken
    assert ledger.open_tokens() == []


def test_no_handles_are_accepted(ledger: Ledger) -> None:
    wire = node_wire(ledger, limits=Limits(max_handles=0))
    with pytest.raises(ProtocolError, match="none is accepted"):
        deliver(ledger, wire, handle_frame(1), "h")
    wire.close()


def test_the_end_in_the_middle_of_a_frame_closes_its_handle(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    deliver(ledger, wire, handle_frame(1)[:-1], "h")
    with pytest.raises(ProtocolError, match=rf"{len(handle_frame(1)) - 1} bytes of a line"):
        wire.received_eof()
    wire.abandon_input()
    assert ledger.open_tokens() == []


def test_tokens_are_handed_over_once(ledger: Ledger) -> None:
    """The token of an answer belongs to whoever takes the answer."""
    wire = send_one(ledger)
    deliver(ledger, wire, ACK)
    answer = wire.answers.popleft()
    assert isinstance(answer.token, Token)
    assert answer.payload.data == FRAME
    wire.close()
    assert answer.token.state == "owned"
    answer.token.sent()


def test_what_comes_with_a_handle_is_converted_as_what_comes_without(ledger: Ledger) -> None:
    pytest.importorskip("v8serialize")
    from trio_ipc.wire import node_advanced as advanced

    codec = advanced.AdvancedCodec(tuple[set[int], Any], 1000, lambda obj: isinstance(obj, Thing))
    kinds: Any = NodeKinds(ledger)
    wire = NodeWire(codec, kinds, Limits())
    ledger.wires.append(wire)  # type: ignore[arg-type]
    frame = advanced.AdvancedCodec(Any, 1000, bool).encode_handle({"type": "net.Socket"}, {1, 2})
    deliver(ledger, wire, frame, "h")
    numbers, handle = wire.take()
    assert numbers == {1, 2}
    handle.closed += 1


# Answers that come after the time is up ---------------------------------------------------------


def give_up_and_send_another(ledger: Ledger) -> NodeWire:
    wire = send_one(ledger)
    wire.give_up()
    assert problems(wire) == ["not acknowledged in time"]
    commit(ledger, wire, "next", Thing("other"))
    assert writes(wire) == [(handle_frame("next"), ["other"])]
    return wire


@pytest.mark.parametrize("late", [ACK, NACK])
def test_a_late_answer_is_not_the_next_handles(ledger: Ledger, late: bytes) -> None:
    wire = give_up_and_send_another(ledger)
    deliver(ledger, wire, late)
    assert problems(wire) == []
    assert wire.next_write() is None
    deliver(ledger, wire, NACK)
    assert problems(wire) == []
    assert writes(wire) == [(handle_frame("next"), ["other"])]
    deliver(ledger, wire, ACK)
    assert problems(wire) == [None]


def test_one_handle_that_is_never_answered_is_not_the_end_of_all(ledger: Ledger) -> None:
    """What seemed a late answer was the next one's own, as the time shows; and from then on each
    has its own again."""
    wire = give_up_and_send_another(ledger)
    deliver(ledger, wire, ACK)
    assert problems(wire) == []
    wire.give_up()
    assert problems(wire) == [None]
    commit(ledger, wire, "third", Thing("third"))
    writes(wire)
    deliver(ledger, wire, ACK)
    assert problems(wire) == [None]


def test_what_was_not_written_is_owed_no_answer(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    commit(ledger, wire, "m", Thing("h"))
    wire.give_up()
    assert problems(wire) == ["not acknowledged in time"]
    commit(ledger, wire, "next", Thing("other"))
    assert writes(wire) == [(handle_frame("next"), ["other"])]
    deliver(ledger, wire, ACK)
    assert problems(wire) == [None]


# Handles that wait unreceived -------------------------------------------------------------------


def test_handles_that_nobody_receives_do_not_fill_the_table(ledger: Ledger) -> None:
    wire = node_wire(ledger, handle_window=4)
    for number in range(4):
        assert not wire.sated
        deliver(ledger, wire, handle_frame(number), [f"h{number}"])
        writes(wire)
    assert wire.sated
    wire.take().handle.closed += 1
    assert wire.sated
    for _ in range(2):
        wire.take().handle.closed += 1
    assert not wire.sated
    wire.take().handle.closed += 1
