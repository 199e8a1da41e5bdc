"""Each kind of frame, byte for byte, as `trio_ipc.wire.native_frames` documents it."""

from __future__ import annotations

from typing import Any

import pytest

from trio_ipc.wire import HandleMessage, Limits, Outbound
from trio_ipc.wire.native import NativeWire
from trio_ipc.wire.native_frames import CALL, FAILURE

from .harness import (
    LARGE,
    ConnectionPair,
    Ledger,
    Thing,
    Token,
    commit,
    feed,
    frame,
    frames_in,
    hello,
    output,
)


def write_one(wire: NativeWire) -> tuple[bytes, list[Token]]:
    chunk = wire.next_write()
    assert chunk is not None
    data = b"".join(map(bytes, chunk[0]))
    tokens = list(chunk[1])
    wire.written(len(data))
    return data, tokens


def test_hello(ledger: Ledger) -> None:
    wire = ledger.wire(limits=Limits(5, 1000, 3), greeted=False)
    wire.hello(device=7, inode=300)
    assert output(wire) == (
        b"H\x00\x00\x00\x00\x00\x00\x0c"  # no handles, no grant, twelve bytes:
        b"\x97\x01\x05\xcd\x03\xe8\x03\x07\xcd\x01\x2c\x03"  # [1, 5, 1000, 3, 7, 300, 3]
    )


def test_hello_without_a_limit_on_the_number_of_messages(ledger: Ledger) -> None:
    wire = ledger.wire(limits=Limits(float("inf"), 0, 0), greeted=False)
    wire.hello()
    assert output(wire) == b"H\x00\x00\x00\x00\x00\x00\x08\x97\x01\xff\x00\x00\x00\x00\x00"


def test_one_message(ledger: Ledger) -> None:
    wire = ledger.wire()
    commit(ledger, wire, "hi")
    assert output(wire) == b"M\x00\x00\x00\x00\x00\x00\x08\xdd\x00\x00\x00\x01\xa2hi"


def test_messages_gather_in_one_frame(ledger: Ledger) -> None:
    wire = ledger.wire()
    for message in (1, None, [True], b"b"):
        commit(ledger, wire, message)
    assert output(wire) == (
        b"M\x00\x00\x00\x00\x00\x00\x0c\xdd\x00\x00\x00\x04\x01\xc0\x91\xc3\xc4\x01b"
    )


def test_a_message_with_handles_is_a_frame_of_its_own(ledger: Ledger) -> None:
    wire = ledger.wire()
    commit(ledger, wire, 1)
    commit(ledger, wire, [Thing("a", code=3), Thing("b", code=4, extra=b"xy")])
    commit(ledger, wire, 2)
    assert write_one(wire)[0] == b"M\x00\x00\x00\x00\x00\x00\x06\xdd\x00\x00\x00\x01\x01"
    data, tokens = write_one(wire)
    handle_frame = (
        b"M\x02\x00\x00\x00\x00\x00\x10\xdd\x00\x00\x00\x01\x92"
        b"\xd5\xd6\x00\x03"  # extension -42 of two bytes: index 0, code 3
        b"\xd6\xd6\x01\x04xy"  # of four bytes: index 1, code 4, and its extra
    )
    assert data == handle_frame + b"M\x00\x00\x00\x00\x00\x00\x06\xdd\x00\x00\x00\x01\x02"
    assert [token.name for token in tokens] == ["a", "b"]


def test_pair(ledger: Ledger) -> None:
    wire = ledger.wire()
    commit(ledger, wire, "take it", Thing("a", code=9))
    data, tokens = write_one(wire)
    assert data == b"P\x01\x00\x00\x00\x00\x00\x0d\x92\xa7take it\xd5\xd6\x00\x09"
    assert [token.name for token in tokens] == ["a"]


def test_bytes_go_bare(ledger: Ledger) -> None:
    message = b"*" * 16384
    wire = ledger.wire()
    commit(ledger, wire, message)
    assert output(wire) == b"B\x00\x00\x00\x00\x00\x40\x00" + message


def test_fewer_bytes_are_a_message_like_others(ledger: Ledger) -> None:
    message = b"*" * 16383
    wire = ledger.wire()
    commit(ledger, wire, message)
    assert output(wire) == (
        b"M\x00\x00\x00\x00\x00\x40\x07\xdd\x00\x00\x00\x01\xc5\x3f\xff" + message
    )


def test_grant(ledger: Ledger) -> None:
    wire = ledger.wire()
    wire.grants_pending = 258
    wire.flush_grants()
    assert output(wire) == b"G\x00\x01\x02\x00\x00\x00\x00"


def test_a_grant_beyond_16_bits_takes_several_frames(ledger: Ledger) -> None:
    wire = ledger.wire()
    wire.grants_pending = 0x20001
    wire.flush_grants()
    assert output(wire) == (
        b"G\x00\xff\xff\x00\x00\x00\x00G\x00\xff\xff\x00\x00\x00\x00G\x00\x00\x03\x00\x00\x00\x00"
    )
    assert wire.grants_pending == 0


def test_end_and_stop_are_said_once(ledger: Ledger) -> None:
    wire = ledger.wire()
    wire.end()
    wire.stop()
    wire.end()
    wire.stop()
    assert output(wire) == b"E\x00\x00\x00\x00\x00\x00\x00S\x00\x00\x00\x00\x00\x00\x00"


def test_call(ledger: Ledger) -> None:
    wire = ledger.wire()
    payload = wire.encode_call({"f": 1}, [2, Thing("a", code=5)])
    wire.commit(payload, [Token(ledger, "a")])
    data, tokens = write_one(wire)
    assert data == b"C\x01\x00\x00\x00\x00\x00\x0b\x92\x81\xa1f\x01\x92\x02\xd5\xd6\x00\x05"
    assert [token.name for token in tokens] == ["a"]


def test_failure(ledger: Ledger) -> None:
    wire = ledger.wire()
    wire.fail("Oops: \N{SNOWMAN}")
    assert output(wire) == b"F\x00\x00\x00\x00\x00\x00\x09Oops: \xe2\x98\x83"


@pytest.mark.parametrize(
    ("kind", "commit_it"),
    [
        ("M", lambda ledger, wire: commit(ledger, wire, 1)),
        ("M", lambda ledger, wire: commit(ledger, wire, "x" * LARGE)),
        ("M", lambda ledger, wire: commit(ledger, wire, [Thing("a")])),
        ("P", lambda ledger, wire: commit(ledger, wire, 1, Thing("a"))),
        ("B", lambda ledger, wire: commit(ledger, wire, bytes(20_000))),
        ("E", lambda ledger, wire: wire.end()),
        ("S", lambda ledger, wire: wire.stop()),
        ("F", lambda ledger, wire: wire.fail("x")),
        ("H", lambda ledger, wire: wire.hello()),
        ("C", lambda ledger, wire: wire.commit(wire.encode_call(1, []), [])),
    ],
)
def test_every_kind_of_frame_takes_credit_along(ledger: Ledger, kind: str, commit_it: Any) -> None:
    wire = ledger.wire()
    wire.grants_pending = 70_000
    commit_it(ledger, wire)
    first, second = output_of_first(wire), wire.grants_pending
    assert first[:2] == (kind, 0xFFFF)
    assert second == 70_000 - 0xFFFF


def output_of_first(wire: NativeWire) -> tuple[str, int]:
    kind, _, grant, _ = frames_in(output(wire))[0]
    return kind, grant


@pytest.mark.parametrize("cut", range(1, 25))
def test_frames_written_in_part_go_on_without_their_handles(ledger: Ledger, cut: int) -> None:
    wire = ledger.wire()
    commit(ledger, wire, "hi", Thing("a"))  # 16 bytes
    commit(ledger, wire, "ho")  # 16 bytes
    buffers, tokens = wire.next_write()
    [token] = tokens
    whole = b"".join(map(bytes, buffers))
    wire.written(cut)
    assert token.state == "sent"
    rest, tokens = wire.next_write()
    assert tokens == []
    assert b"".join(map(bytes, rest)) == whole[cut:]


def test_nothing_stands_in_front_of_a_frame_with_handles(ledger: Ledger) -> None:
    wire = ledger.wire()
    for message in ("a", Thing(1), "b", "c", Thing(2), Thing(3), bytes(20_000), "d"):
        commit(ledger, wire, message)
    writes = []
    while (chunk := wire.next_write()) is not None:
        data = b"".join(map(bytes, chunk[0]))
        writes.append(([kind for kind, *_ in frames_in(data)], [token.name for token in chunk[1]]))
        wire.written(len(data))
    assert writes == [(["M"], []), (["M", "M"], [1]), (["W", "B", "M"], [2, 3])]


def test_one_write_takes_at_most_sixteen_buffers(ledger: Ledger) -> None:
    wire = ledger.wire()
    for _ in range(20):
        wire.fail("x")
    buffers, _ = wire.next_write()
    assert len(buffers) == 16
    assert output(wire) == frame("F", b"x") * 20


def test_large_payloads_are_not_copied(ledger: Ledger) -> None:
    message = bytes(100_000)
    wire = ledger.wire()
    commit(ledger, wire, message)
    buffers, _ = wire.next_write()
    assert buffers[1] is message


def test_what_is_documented_is_understood(ledger: Ledger) -> None:
    wire = ledger.wire(greeted=False, accepts=(CALL,))
    feed(wire, hello(window=3))
    assert wire.credit == 3
    feed(wire, b"C\x00\x00\x01\x00\x00\x00\x03\x92\x01\x90")
    assert wire.take_call() == (1, [])
    assert wire.credit == 4
    feed(wire, b"M\x00\x00\x02\x00\x00\x00\x07\xdd\x00\x00\x00\x02\x01\x02")
    assert ledger.take_all(wire) == [1, 2]
    assert wire.credit == 6
    feed(wire, b"P\x01\x00\x00\x00\x00\x00\x06\x92\x07\xd5\xd6\x00\x09", [Token(ledger, "x")])
    assert ledger.take_all(wire) == [HandleMessage(7, Thing("x", code=9))]
    feed(wire, b"B\x00\x00\x00\x00\x00\x00\x02ab")
    assert ledger.take_all(wire) == [b"ab"]
    feed(wire, b"G\x00\x00\x05\x00\x00\x00\x00")
    assert wire.credit == 11
    feed(wire, b"S\x00\x00\x00\x00\x00\x00\x00")
    assert wire.peer_stopped
    assert not wire.peer_ended
    feed(wire, b"E\x00\x00\x00\x00\x00\x00\x00")
    assert wire.peer_ended
    wire.received_eof()


def test_last_words_are_understood(ledger: Ledger) -> None:
    wire = ledger.wire(accepts=(FAILURE,))
    feed(wire, b"E\x00\x00\x00\x00\x00\x00\x00")
    feed(wire, b"F\x00\x00\x00\x00\x00\x00\x02\xc3\x28")
    assert wire.failure_text == "\N{REPLACEMENT CHARACTER}("


def test_a_long_failure_keeps_its_end(ledger: Ledger) -> None:
    pair = ConnectionPair(ledger, accepts=(FAILURE,))
    pair.right.fail("\N{SNOWMAN}" * 30_000 + "the error itself \ud800")
    pair.move()
    text = pair.left.failure_text
    assert text is not None
    assert text.endswith("\N{SNOWMAN}the error itself ?")
    assert 64 * 1024 - 2 <= len(text.encode()) <= 64 * 1024 + 6


def test_the_two_argument_form_is_a_pair_and_so_is_one_that_is_passed_on(ledger: Ledger) -> None:
    wire = ledger.wire()
    for message, handle in (("m", Thing("a")), (HandleMessage("m", Thing("a")), None)):
        payload = wire.encode(message, handle)
        assert isinstance(payload, Outbound)
        assert chr(payload.kind) == "P"
        assert payload.data == b"\x92\xa1m\xd5\xd6\x00\x01"
    assert wire.encode(HandleMessage("m", None)) == b"\x92\xa1m\xc0"


def test_output_is_bytes_that_can_be_counted(ledger: Ledger) -> None:
    wire = ledger.wire()
    assert wire.bytes_unsent() == 0
    assert not wire.has_output()
    commit(ledger, wire, "hi")
    assert wire.bytes_unsent() == 16
    wire.end()
    assert wire.bytes_unsent() == 24
    assert wire.unsent == 24
    wire.next_write()
    wire.written(10)
    assert wire.bytes_unsent() == 14
    output(wire)
    assert wire.bytes_unsent() == 0
    assert not wire.has_output()
