"""How many of a server's sockets are open here, for a Node parent that asks."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from trio_ipc._errors import ProtocolError
from trio_ipc.wire import Limits
from trio_ipc.wire.node_values import ENVELOPE

from .harness import Ledger
from .node_harness import (
    ACK,
    all_closed,
    count,
    deliver,
    get_count,
    handle_frame,
    line,
    node_wire,
    notify_close,
    output,
)

KEY = "4:127.0.0.1:0"


def receive_sockets(ledger: Ledger, number: int = 2, key: Any = KEY) -> tuple[Any, list[Any]]:
    wire = node_wire(ledger)
    for each in range(number):
        deliver(ledger, wire, handle_frame(each, key=key), each)
    assert output(wire) == ACK * number
    wire.must_push = False
    return wire, ledger.objects


def test_sockets_count_from_their_arrival_until_they_are_closed(ledger: Ledger) -> None:
    wire, (first, second) = receive_sockets(ledger)
    for expected, close in ((2, first), (1, second), (0, None)):
        deliver(ledger, wire, get_count(KEY))
        assert output(wire) == count(KEY, expected)
        if expected == 2:
            ledger.take_all(wire)
            deliver(ledger, wire, get_count(KEY))
            assert output(wire) == count(KEY, expected)
        if close is not None:
            close.closed = 1
    first.closed = second.closed = 0  # their user has them


def test_what_nobody_holds_any_more_does_not_count(ledger: Ledger) -> None:
    wire, objects = receive_sockets(ledger)
    ledger.take_all(wire)
    objects.clear()
    gc.collect()
    deliver(ledger, wire, get_count(KEY))
    assert output(wire) == count(KEY, 0)


def test_what_was_never_taken_counts_until_it_is_dropped(ledger: Ledger) -> None:
    wire, _ = receive_sockets(ledger)
    wire.skip_unread()
    deliver(ledger, wire, get_count(KEY))
    assert output(wire) == count(KEY, 0)


def test_servers_are_told_apart(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    keys = ["4:127.0.0.1:0", "6:::0", "-1:/tmp/x.sock:-1", "", "\ud800", "é"]
    for number, key in enumerate(keys):
        for each in range(number):
            frame = (
                handle_frame(each, key=key)
                if key != "\ud800"
                else (b'{"cmd":"NODE_HANDLE","type":"net.Socket","msg":1,"key":"\\ud800"}\n')
            )
            deliver(ledger, wire, frame, (key, each))
    deliver(ledger, wire, handle_frame(1), "without a key")
    output(wire)
    for number, key in enumerate(keys):
        question = b'{"cmd":"NODE_SOCKET_GET_COUNT","key":"\\ud800"}\n'
        deliver(ledger, wire, question if key == "\ud800" else get_count(key))
        answer = b'{"cmd":"NODE_SOCKET_COUNT","key":"\\ud800","count":4}\n'
        assert output(wire) == (answer if key == "\ud800" else count(key, number))
    deliver(ledger, wire, get_count("another"))
    assert output(wire) == count("another", 0)
    ledger.take_all(wire)  # type: ignore[arg-type]


def test_the_end_of_a_server_without_sockets(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    deliver(ledger, wire, notify_close("a") + notify_close("b"))
    assert wire.must_push
    assert output(wire) == all_closed("a") + all_closed("b")
    assert not wire.accounts.closing


def test_the_end_of_a_server_with_sockets(ledger: Ledger) -> None:
    wire, (first, second) = receive_sockets(ledger)
    deliver(ledger, wire, notify_close(KEY))
    assert wire.accounts.closing == {KEY}
    assert wire.must_push  # or nobody would look after them
    assert output(wire) == b""
    first.closed = 1
    wire.settle_accounts()
    assert output(wire) == b""
    second.closed = 1
    wire.settle_accounts()
    assert output(wire) == all_closed(KEY)
    assert not wire.accounts.closing
    wire.settle_accounts()
    assert output(wire) == b""  # once
    first.closed = second.closed = 0
    ledger.take_all(wire)


def test_asked_twice_and_answered_once(ledger: Ledger) -> None:
    wire, (first,) = receive_sockets(ledger, 1)
    deliver(ledger, wire, notify_close(KEY) + get_count(KEY) + notify_close(KEY))
    assert output(wire) == count(KEY, 1)
    first.closed = 1
    wire.settle_accounts()
    assert output(wire) == all_closed(KEY)
    deliver(ledger, wire, notify_close(KEY))  # another one of that name
    assert output(wire) == all_closed(KEY)
    first.closed = 0
    ledger.take_all(wire)


def test_one_that_comes_while_the_end_is_awaited(ledger: Ledger) -> None:
    wire, (first,) = receive_sockets(ledger, 1)
    deliver(ledger, wire, notify_close(KEY))
    deliver(ledger, wire, handle_frame(1, key=KEY), "late")
    first.closed = 1
    wire.settle_accounts()
    assert output(wire) == ACK
    late = ledger.objects[1]
    late.closed = 1
    wire.settle_accounts()
    assert output(wire) == all_closed(KEY)
    first.closed = late.closed = 0
    ledger.take_all(wire)


@pytest.mark.parametrize("key", [1, None, [], {"a": 1}, True, "x" * (ENVELOPE + 1)])
@pytest.mark.parametrize("ask", ["NODE_SOCKET_GET_COUNT", "NODE_SOCKET_NOTIFY_CLOSE"])
def test_a_question_without_a_name(ledger: Ledger, ask: str, key: Any) -> None:
    wire = node_wire(ledger)
    with pytest.raises(ProtocolError, match="without a name"):
        deliver(ledger, wire, line({"cmd": ask, "key": key}))


@pytest.mark.parametrize("key", [1, None, [], {"a": 1}, "x" * (ENVELOPE + 1)])
def test_a_socket_whose_server_has_no_name_is_not_counted(ledger: Ledger, key: Any) -> None:
    wire, _ = receive_sockets(ledger, 1, key)
    assert not wire.accounts._held
    assert len(ledger.take_all(wire)) == 1


def test_servers_without_sockets_are_forgotten(ledger: Ledger) -> None:
    """A peer that names a new server each time does not fill our memory."""
    wire = node_wire(ledger, limits=Limits())
    for number in range(100):
        deliver(ledger, wire, handle_frame(1, key=str(number)), number)
        wire.take()
        ledger.objects.clear()
        gc.collect(0)
    output(wire)
    assert len(wire.accounts._held) <= 2
