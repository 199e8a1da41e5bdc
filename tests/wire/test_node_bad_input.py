"""Bytes that no honest Node writes: each of them is one error, and none of them loses a handle."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, strategies as st

from trio_ipc._errors import InvalidMessage, ProtocolError
from trio_ipc.wire import Limits
from trio_ipc.wire.node_values import ENVELOPE

from .harness import Ledger, Thing, Token, examples, feed, settled
from .node_harness import (
    ACK,
    NOT_WHAT_IT_SAYS,
    commit,
    deliver,
    get_count,
    handle_frame,
    line,
    node_wire,
    notify_close,
    output,
)

LIMIT = 10_000
TOO_DEEP = b"[" * 50_000 + b"]" * 50_000  # for msgspec, on whatever Python


@dataclass
class Bad:
    """What arrives, with how many handles on its first byte; and what is said about it."""

    data: bytes
    text: str = "not JSON"
    handles: int = 0
    eof: bool = False
    limits: Limits | None = None


BAD: dict[str, Bad] = {
    # No JSON.
    "an empty line": Bad(b"\n"),
    "a blank line": Bad(b"  \n"),
    "a carriage return alone": Bad(b"\r\n"),
    "two line feeds": Bad(b"1\n\n"),
    "a mark of the byte order": Bad(b"\xef\xbb\xbf1\n"),
    "one of UTF-16": Bad(b"\xff\xfe1\n"),
    "UTF-16": Bad('{"a":1}\n'.encode("utf-16-le")),
    "letters": Bad(b"hello\n"),
    "another protocol": Bad(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "zeros": Bad(bytes(100) + b"\n"),
    "a frame of the native protocol": Bad(b"M\0\0\0\0\0\0\x06\xdd\0\0\0\x01\x01\n"),
    "a frame of the advanced serialization": Bad(b"\0\0\0\x04\xff\x0fI\x02\n"),
    "a bare NaN": Bad(b"NaN\n"),
    "a NaN inside": Bad(b'{"a":[NaN]}\n'),
    "a NaN beside an escape": Bad(b'["\\ud800",NaN]\n'),
    "Infinity": Bad(b"Infinity\n"),
    "minus Infinity beside an escape": Bad(b'["\\ud800",-Infinity]\n'),
    "undefined": Bad(b"undefined\n"),
    "a value cut short": Bad(b'{"a":1\n'),
    "a text cut short": Bad(b'"x\n'),
    "an escape cut short": Bad(b'"\\u00\n'),
    "an escape of a surrogate cut short": Bad(b'"\\ud800\n'),
    "an escape that does not exist": Bad(b'"\\x41"\n'),
    "an escape with other digits": Bad(b'"\\u00g0"\n'),
    "a control character": Bad(b'"\x01"\n'),
    "one beside an escape": Bad(b'"\\ud800\x01"\n'),
    "a tab in a text": Bad(b'"\t"\n'),
    "a comma too many": Bad(b"[1,]\n"),
    "another in an object": Bad(b'{"a":1,}\n'),
    "a comma too few": Bad(b"[1 2]\n"),
    "two values": Bad(b"1 2\n"),
    "two objects": Bad(b'{"a":1}{"a":2}\n'),
    "single quotes": Bad(b"{'a':1}\n"),
    "a name without quotes": Bad(b"{a:1}\n"),
    "a number for a name": Bad(b"{1:1}\n"),
    "a comment": Bad(b"1 // one\n"),
    "a zero in front": Bad(b"01\n"),
    "a number in hexadecimal": Bad(b"0x10\n"),
    "a plus in front": Bad(b"+1\n"),
    "a point in front": Bad(b".5\n"),
    "a point behind": Bad(b"1.\n"),
    "a minus alone": Bad(b"-\n"),
    "an exponent without a number": Bad(b"1e\n"),
    "another end of lines": Bad(b"1\r2\n"),
    # No UTF-8.
    "no UTF-8": Bad(b'"\xff"\n'),
    "no UTF-8 in a name": Bad(b'{"\xc3\x28":1}\n'),
    "a surrogate in UTF-8": Bad(b'"\xed\xa0\x80"\n'),
    "a letter cut short": Bad(b'"\xc3"\n'),
    "a letter written too long": Bad(b'"\xc0\xaf"\n'),
    "no UTF-8 beside an escape": Bad(b'"\\ud800\xff"\n'),
    "no UTF-8 in a handle's message": Bad(
        b'{"cmd":"NODE_HANDLE","type":"net.Socket","msg":"\xff"}\n', handles=1
    ),
    # Too long.
    "a line over the limit": Bad(line("x" * (LIMIT - 1)), "10001 bytes"),
    "one of escapes": Bad(b'"' + b"\\u0041" * 1700 + b'"\n', "10202 bytes"),
    "one that is far over it": Bad(b"x" * 10 * LIMIT + b"\n", "max_message_size is"),
    "one without its end": Bad(b"[" * (LIMIT + ENVELOPE + 1), "bytes or more"),
    "one that never ends": Bad(b"x" * 1_000_000, "bytes or more"),
    "one of Node's own": Bad(handle_frame("x" * (LIMIT + ENVELOPE)), "bytes or more"),
    "one that would be Node's own, were it not for its end": Bad(
        b'{"cmd":"NODE_HANDLE","msg":"' + b"x" * (LIMIT + ENVELOPE), "bytes or more"
    ),
    "the same with a handle": Bad(
        handle_frame("x" * (LIMIT + ENVELOPE)), "bytes or more", handles=1
    ),
    # Handles.
    "a type that is none": Bad(handle_frame(1, NOT_WHAT_IT_SAYS), "that is none", handles=1),
    "a handle for nothing": Bad(b"1\n", "no message announced", handles=1),
    "a handle for an acknowledgement": Bad(ACK, "no message announced", handles=1),
    "two handles": Bad(handle_frame(1), "no message announced", handles=2),
    "three handles for two messages": Bad(
        handle_frame(1) + handle_frame(2), "no message announced", handles=3
    ),
    "a handle, and none is accepted": Bad(
        handle_frame(1), "none is accepted", handles=1, limits=Limits(10, LIMIT, 0)
    ),
    "the announcement alone, and none is accepted": Bad(
        handle_frame(1), "none is accepted", limits=Limits(10, LIMIT, 0)
    ),
    "a handle with one of Node's that is too deep": Bad(
        b'{"cmd":"NODE_HANDLE","msg":' + TOO_DEEP + b"}\n",
        "no message announced",
        handles=1,
        limits=Limits(10, len(TOO_DEEP) + 100),
    ),
    # Questions.
    "a question without a name": Bad(line({"cmd": "NODE_SOCKET_GET_COUNT"}), "without a name"),
    "one with a number": Bad(line({"cmd": "NODE_SOCKET_NOTIFY_CLOSE", "key": 1}), "a name"),
    "one with a name without end": Bad(get_count("x" * 1025), "without a name"),
    "another": Bad(notify_close("x" * 1025), "without a name"),
    # The end.
    "the end in a line": Bad(b'{"a":', "5 bytes of a line without its end", eof=True),
    "the end before a line's end": Bad(b"1", "1 bytes of a line", eof=True),
    "the end in a handle's line": Bad(
        handle_frame(1)[:-1], "49 bytes of a line", handles=1, eof=True
    ),
    "the end in a line of Bun's": Bad(b"\x02abc", "4 bytes of a line", eof=True),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    for most, message_type in itertools.product((1 << 30, 1, 999), (Any, object)):
        with settled() as ledger:
            check_bad(ledger, BAD[name], most, message_type)


def check_bad(ledger: Ledger, bad: Bad, most: int, message_type: Any) -> None:
    wire = node_wire(ledger, message_type, bad.limits or Limits(10, LIMIT))
    if wire.limits.max_handles:
        commit(ledger, wire, "a handle of ours under way", Thing("ours"))
        output(wire)
    deliver(ledger, wire, b'"good"\n')
    assert wire.take() == "good"
    with pytest.raises(ProtocolError) as caught:
        feed(wire, bad.data, [Token(ledger, n) for n in range(bad.handles)], most)  # type: ignore[arg-type]
        if bad.eof:
            wire.received_eof()
    assert bad.text in str(caught.value)
    assert len(str(caught.value)) < 500
    wire.close()
    assert ledger.open_tokens() == []
    ledger.check()


def test_there_are_enough_of_them() -> None:
    assert len(BAD) >= 75


# What looks bad and is none, because Node writes it or takes it, see `test_node_frames`; and what
# harms one message only.
REJECTED = {
    "a number beyond all": b"1e999\n",
    "a number of too many digits": b"1" * 5000 + b"\n",
    "too deep": TOO_DEEP + b"\n",
    "a command that is too deep": b'{"cmd":"NODE_NEWS","a":' + TOO_DEEP + b"}\n",
}


@pytest.mark.parametrize("name", REJECTED)
def test_a_bad_message_is_one_bad_message(ledger: Ledger, name: str) -> None:
    for most in (1 << 30, 999):
        wire = node_wire(ledger, limits=Limits(10, len(TOO_DEEP) + 100))
        deliver(ledger, wire, b"1\n" + REJECTED[name] + b"2\n", most=most)
        assert wire.take() == 1
        with pytest.raises(InvalidMessage) as caught:
            wire.take()
        assert len(str(caught.value)) < 500
        assert wire.take() == 2


@examples
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(
                [
                    ACK,
                    handle_frame(1),
                    handle_frame({"cmd": "NODE_HANDLE", "type": "net.Server"}),
                    get_count("k"),
                    notify_close("k"),
                    b'"x"\n',
                    b'{"cmd":"NODE_',
                    b'{"cmd":"NODE_HANDLE","type":',
                    b'"key":"\\ud800"}\n',
                    b"\x02",
                    b"\\u0041",
                    b"\n",
                    b"}\n",
                    b"[",
                    b'{"',
                ]
            ),
        ),
        max_size=12,
    ),
    st.lists(st.integers(0, 11), max_size=5),
    st.sampled_from([Any, int, tuple[str, Any]]),
)
def test_whatever_arrives(parts: list[bytes], handles: list[int], message_type: Any) -> None:
    """A ProtocolError or none, and each handle is handed out or closed."""
    with settled() as ledger:
        wire = node_wire(ledger, message_type, Limits(10, 1000))
        commit(ledger, wire, "m", Thing("ours"))
        output(wire)
        try:
            for index, part in enumerate(parts):
                if part:
                    deliver(ledger, wire, part, *(index for each in handles if each == index))
            wire.received_eof()
        except ProtocolError:
            wire.close()
            return
        while wire.unread:
            try:
                ledger.take(wire)  # type: ignore[arg-type]
            except InvalidMessage:
                pass
        output(wire)
