"""Node's frames, byte by byte: what is written, and what is read however it is cut."""

from __future__ import annotations

from typing import Any

import pytest

from trio_ipc._errors import MessageTooLarge, UnsupportedHandle, UnsupportedMessage
from trio_ipc.wire import HandleMessage, Limits

from .harness import Ledger, Thing, Token, feed, settled
from .node_harness import (
    ACK,
    NACK,
    SHUT,
    all_closed,
    commit,
    count,
    deliver,
    get_count,
    handle_frame,
    line,
    node_wire,
    notify_close,
    output,
    settle_answers,
    wrapped_twice,
    writes,
)

# What is written --------------------------------------------------------------------------------

MESSAGES: dict[str, tuple[Any, bytes]] = {
    "null": (None, b"null\n"),
    "true": (True, b"true\n"),
    "a number": (1, b"1\n"),
    "a fraction": (1.5, b"1.5\n"),
    "a text": ("x", b'"x"\n'),
    "an empty text": ("", b'""\n'),
    "a line feed": ("a\nb\r", b'"a\\nb\\r"\n'),
    "two-byte letters": ("éß", '"éß"\n'.encode()),
    "a line separator": ("\u2028", '"\u2028"\n'.encode()),
    "an array": ([1, [2], {}], b"[1,[2],{}]\n"),
    "an object": ({"a": 1, "b": [None]}, b'{"a":1,"b":[null]}\n'),
    "the bare prefix": ({"cmd": "NODE_"}, b'{"cmd":"NODE_"}\n'),
    "another prefix": ({"cmd": "fooNODE_"}, b'{"cmd":"fooNODE_"}\n'),
    "a handle that is none": (HandleMessage("m", None), b'"m"\n'),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_a_line(ledger: Ledger, name: str) -> None:
    message, data = MESSAGES[name]
    wire = node_wire(ledger)
    commit(ledger, wire, message)
    assert output(wire) == data
    assert wire.commit_single(wire.encode(message)) == data


def test_small_messages_share_a_write(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    for number in range(3):
        commit(ledger, wire, number)
    assert wire.next_write(full_only=True) is None  # there may be more of them
    assert writes(wire) == [(b"0\n1\n2\n", [])]
    assert not wire.has_output()
    assert wire.bytes_unsent() == 0


def test_a_single_that_the_kernel_did_not_take_is_finished_first(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    frame = wire.commit_single(wire.encode("first"))
    assert frame == b'"first"\n'
    wire.unwritten(frame, 3)
    assert wire.bytes_unsent() == 5
    assert wire.commit_single(wire.encode("second")) is None
    commit(ledger, wire, "second")
    deliver(ledger, wire, get_count("k"))
    assert [data for data, _ in writes(wire)] == [b'rst"\n', count("k", 0), b'"second"\n']


HANDLES: dict[str, tuple[str, Any, bytes]] = {
    "net.Socket": (
        "net.Socket",
        {"a": 1},
        b'{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"a":1}}\n',
    ),
    "net.Server": (
        "net.Server",
        None,
        b'{"cmd":"NODE_HANDLE","type":"net.Server","msg":null}\n',
    ),
    "dgram.Socket": (
        "dgram.Socket",
        "x",
        b'{"cmd":"NODE_HANDLE","type":"dgram.Socket","dgramType":"udp4","msg":"x"}\n',
    ),
    "a lone surrogate": (
        "net.Socket",
        "\ud800",
        b'{"cmd":"NODE_HANDLE","type":"net.Socket","msg":"\\ud800"}\n',
    ),
}


@pytest.mark.parametrize("name", HANDLES)
@pytest.mark.parametrize("as_pair", [False, True])
def test_a_handle_rides_on_the_first_byte_of_its_frame(
    ledger: Ledger, name: str, as_pair: bool
) -> None:
    kind, message, data = HANDLES[name]
    wire = node_wire(ledger)
    thing = Thing("h", extra=kind.encode())
    if as_pair:
        commit(ledger, wire, HandleMessage(message, thing))
    else:
        commit(ledger, wire, message, thing)
    assert writes(wire) == [(data, ["h"])]


def test_a_frame_cut_by_the_kernel_takes_its_handle_along_once(ledger: Ledger) -> None:
    frame = handle_frame("m")
    for cut in range(1, len(frame)):
        wire = node_wire(ledger)
        commit(ledger, wire, "m", Thing("h"))
        chunk = wire.next_write()
        assert chunk is not None
        wire.written(0)  # and nothing has happened
        assert wire.next_write() == chunk
        wire.written(cut)
        assert writes(wire) == [(frame[cut:], [])]


REFUSED: dict[str, tuple[Any, Any, type[Exception]]] = {
    "a handle inside": ([Thing("h")], None, UnsupportedHandle),
    "a handle for a message": (Thing("h"), None, UnsupportedHandle),
    "a handle inside and one beside": ([Thing("h")], Thing("i"), UnsupportedHandle),
    "a pair and a handle beside": (HandleMessage(1, Thing("h")), Thing("i"), UnsupportedHandle),
    "a pair inside": ([HandleMessage(1, Thing("h"))], None, UnsupportedHandle),
    "something beside that is no handle": ("m", "h", UnsupportedHandle),
    "a handle that is closed": ("m", Thing("h", extra=SHUT.encode()), UnsupportedHandle),
    "an object": (object(), None, UnsupportedMessage),
    "an object beside a handle": (object(), Thing("h"), UnsupportedMessage),
    "a command of Node's": ({"cmd": "NODE_HANDLE_ACK"}, None, UnsupportedMessage),
    "one beside a handle": ({"cmd": "NODE_x"}, Thing("h"), UnsupportedMessage),
    "too many bytes": ("x" * 99, None, MessageTooLarge),
    "too many bytes beside a handle": ("x" * 99, Thing("h"), MessageTooLarge),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_has_no_effect(ledger: Ledger, name: str) -> None:
    message, handle, error = REFUSED[name]
    wire = node_wire(ledger, limits=Limits(max_message_size=100))
    with pytest.raises(error):
        wire.encode(message, handle)
    assert not wire.has_output()
    assert wire.can_send(1)
    commit(ledger, wire, "m", Thing("good"))
    assert writes(wire) == [(handle_frame("m"), ["good"])]


def test_no_handles_are_allowed(ledger: Ledger) -> None:
    wire = node_wire(ledger, limits=Limits(max_handles=0))
    with pytest.raises(MessageTooLarge):
        wire.encode("m", Thing("h"))
    commit(ledger, wire, "m")
    assert output(wire) == b'"m"\n'


def test_the_largest_message(ledger: Ledger) -> None:
    limits = Limits(max_message_size=100)
    wire, peer = node_wire(ledger, limits=limits), node_wire(ledger, limits=limits)
    for message in ("x" * 98, "é" * 49):
        for handle in (None, Thing("h")):
            commit(ledger, wire, message, handle)
            deliver(ledger, peer, output(wire), *([] if handle is None else ["h"]))
            assert ledger.take_all(peer) == [  # type: ignore[arg-type]
                message if handle is None else (message, handle)
            ]
            deliver(ledger, wire, output(peer)) if handle is not None else None
            settle_answers(wire)


# What is read -----------------------------------------------------------------------------------

# What arrives, with whether a handle rides on it; what is taken; and what is written back.
ARRIVALS: dict[str, tuple[bytes, bool, list[Any], bytes]] = {
    "a text": (b'"x"\n', False, ["x"], b""),
    "a carriage return before the line's end": (b'"x"\r\n', False, ["x"], b""),
    "spaces": (b" [ 1 , 2 ] \n", False, [[1, 2]], b""),
    "many": (b'1\n{"a":2}\n[3]\n', False, [1, {"a": 2}, [3]], b""),
    "two-byte letters": ('"éß€😀"\n'.encode(), False, ["éß€😀"], b""),
    "an escape": (b'"\\u00e9\\ud83d\\ude00"\n', False, ["é😀"], b""),
    "a lone surrogate": (b'["\\ud800",1]\n', False, [["\ud800", 1]], b""),
    "a net.Socket": (handle_frame("m"), True, [("m", Thing("h"))], ACK),
    "a net.Socket of a server": (handle_frame([1], key="4:::0"), True, [([1], Thing("h"))], ACK),
    "a net.Server": (handle_frame(None, "net.Server"), True, [(None, Thing("h"))], ACK),
    "a raw handle": (handle_frame(1, "net.Native"), True, [(1, Thing("h"))], ACK),
    "a socket for datagrams": (
        handle_frame(1, "dgram.Socket", dgramType="udp4"),
        True,
        [(1, Thing("h"))],
        ACK,
    ),
    "members in another order, and unknown ones": (
        b'{"nativeKind":"tcp","msg":{"cmd":"x"},"type":"net.Socket","cmd":"NODE_HANDLE"}\n',
        True,
        [({"cmd": "x"}, Thing("h"))],
        ACK,
    ),
    "a handle without a message": (
        b'{"cmd":"NODE_HANDLE","type":"net.Socket"}\n',
        True,
        [(None, Thing("h"))],
        ACK,
    ),
    "one that is sent again, wrapped twice": (
        wrapped_twice("m", key="k"),
        True,
        [("m", Thing("h"))],
        ACK,
    ),
    "a frame whose handle did not come": (handle_frame("m"), False, [], NACK),
    "one wrapped twice whose handle did not come": (wrapped_twice("m"), False, [], NACK),
    "an acknowledgement of nothing": (ACK, False, [], b""),
    "a refusal of nothing": (NACK, False, [], b""),
    "a question": (get_count("4:127.0.0.1:0"), False, [], count("4:127.0.0.1:0", 0)),
    "a question in letters that are escaped": (
        b'{"cmd":"NODE_SOCKET_GET_COUNT","key":"\\u0001\\ud800"}\n',
        False,
        [],
        b'{"cmd":"NODE_SOCKET_COUNT","key":"\\u0001\\ud800","count":0}\n',
    ),
    "a question about the end": (notify_close("k"), False, [], all_closed("k")),
    "an unknown command": (line({"cmd": "NODE_NEWS", "a": 1}), False, [], b""),
    "the cluster's": (line({"cmd": "NODE_CLUSTER", "act": "x"}), False, [], b""),
    "an answer that nobody asked for": (count("k", 1) + all_closed("k"), False, [], b""),
    "Bun's own": (b'\x02{"a":1}\n"x"\n\x02\n', False, ["x"], b""),
    "a command that is escaped": (
        b'{"\\u0063md":"NODE\\u005fNEWS"}\n{"cmd":"\\u004eODE_HANDLE_ACK"}\n1\n',
        False,
        [1],
        b"",
    ),
    "a command that counts no more": (
        b'{"cmd":"NODE_NEWS","cmd":"x"}\n',
        False,
        [{"cmd": "x"}],
        b"",
    ),
    "the bare prefix": (b'{"cmd":"NODE_"}\n', False, [{"cmd": "NODE_"}], b""),
    "another prefix": (b'{"cmd":"fooNODE_"}\n', False, [{"cmd": "fooNODE_"}], b""),
    "a command that is no text": (
        b'{"cmd":["NODE_HANDLE"]}\n',
        False,
        [{"cmd": ["NODE_HANDLE"]}],
        b"",
    ),
    "one of Node's inside": (b'[{"cmd":"NODE_HANDLE"}]\n', False, [[{"cmd": "NODE_HANDLE"}]], b""),
}


def cuts(data: bytes, rides: bool) -> list[list[int]]:
    """Where to cut: nowhere, after each byte, and everywhere."""
    return [[], *([each] for each in range(1, len(data))), list(range(1, len(data)))]


@pytest.mark.parametrize("name", ARRIVALS)
@pytest.mark.parametrize("between", [False, True], ids=["alone", "between others"])
def test_however_it_is_cut(name: str, between: bool) -> None:
    data, rides, taken, written = ARRIVALS[name]
    for places in cuts(data, rides):
        with settled() as ledger:
            wire = node_wire(ledger)
            if between:
                deliver(ledger, wire, b'"before"\n')
            parts = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
            if between:
                parts[-1] += b'"after"\n'
            for index, part in enumerate(parts):
                feed(wire, part, [Token(ledger, "h")] if rides and not index else [])  # type: ignore[arg-type]
            expected = ["before", *taken, "after"] if between else taken
            assert ledger.take_all(wire) == expected  # type: ignore[arg-type]
            assert output(wire) == written
            assert wire.codec.incomplete() is None


def test_plain_bytes_before_the_handle_in_one_read(ledger: Ledger) -> None:
    """A read may begin with older bytes, so the handle's frame is not its first."""
    wire = node_wire(ledger)
    deliver(ledger, wire, b'"one"\n' + handle_frame("two") + b'"three"\n', "h")
    assert ledger.take_all(wire) == ["one", ("two", Thing("h")), "three"]  # type: ignore[arg-type]
    assert output(wire) == ACK


def test_large_messages_arrive_whole(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    message = "é" * 400_000
    deliver(ledger, wire, line(message) + handle_frame(message), most=65_521)
    assert ledger.take_all(wire) == [message]  # type: ignore[arg-type]
    assert output(wire) == NACK
    deliver(ledger, wire, handle_frame(message), "h", most=65_521)
    assert ledger.take_all(wire) == [(message, Thing("h"))]  # type: ignore[arg-type]


def test_received_values_do_not_refer_to_the_buffer(ledger: Ledger) -> None:
    wire = node_wire(ledger)
    deliver(ledger, wire, b'["abc"]\n')
    deliver(ledger, wire, b'["xyz"]\n')
    assert ledger.take_all(wire) == [["abc"], ["xyz"]]  # type: ignore[arg-type]
