"""docs/wire_format.md says what is on the wire: who goes by it can talk to the library."""

from __future__ import annotations

import io
import math
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import trio_ipc
from trio_ipc.wire import Limits
from trio_ipc.wire.native import NativeWire

from .harness import Ledger, Thing, Token, commit, feed, output
from .spec_peer import HEADER, Handle, Peer

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "wire_format.md").read_text()

ECHO_BY_THE_PAGE = "from tests.wire.spec_peer import echo; echo()"
ECHO_BY_THE_LIBRARY = """
import trio, trio_ipc

async def main():
    async with trio_ipc.open_parent() as parent:
        async for message in parent:
            if isinstance(message, trio_ipc.HandleMessage):
                await parent.send(*message)
            else:
                await parent.send(message)

trio.run(main)
"""
FUNCTION_CHILD = "from trio_ipc._worker import main; main()"
FILE = 6


@pytest.fixture
def null() -> Iterator[io.BufferedReader]:
    with open(os.devnull, "rb") as file:
        yield file


def is_null(number: int) -> bool:
    return os.path.samestat(os.fstat(number), os.stat(os.devnull))


async def fail(parent: object, *args: object) -> None:
    raise ValueError(f"called with {args}")


# The child goes by the page -------------------------------------------------------------------


def open_echo(
    max_buffer_size: float | None = None,
) -> AbstractAsyncContextManager[trio_ipc.ChildChannel[Any, Any]]:
    command = [sys.executable, "-c", ECHO_BY_THE_PAGE]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return trio_ipc.open_child(command, env=env, max_buffer_size=max_buffer_size)


async def test_a_child_echoes_values() -> None:
    values = [None, True, -(2**63), 2**64 - 1, 0.5, "ü", b"short", b"x" * 100_000, [1, {"a": []}]]
    async with open_echo() as child:
        for value in values:
            await child.send(value)
            assert await child.receive() == value
        child.send_channel.close()
        with pytest.raises(trio.EndOfChannel):
            await child.receive()


@pytest.mark.parametrize("max_buffer_size", [0, 1, 10, math.inf])
async def test_a_child_keeps_to_the_credit(max_buffer_size: float) -> None:
    async with open_echo(max_buffer_size) as child:

        async def send() -> None:
            async with child.send_channel:
                for number in range(300):
                    await child.send(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert [number async for number in child] == list(range(300))


async def test_a_child_echoes_handles(null: io.BufferedReader) -> None:
    async with open_echo() as child:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            await child.send({"deep": [listener, null, listener]})
            first, second, third = (await child.receive())["deep"]
        assert first is third
        assert first.socket.getsockname()[1] != 0
        await first.aclose()

        await child.send("a pair", null)
        message, handle = await child.receive()
        assert message == "a pair"

        for number in range(8):
            child.send_nowait([number, null])  # together in one frame
        others = [await child.receive() for _ in range(8)]
        assert [number for number, _ in others] == list(range(8))
        await child.send("which kinds?")
        assert {*"HMWP"} <= {*await child.receive()}
    for each in (second, handle, *(each for _, each in others)):
        assert is_null(each.fileno())
        each.close()


async def test_a_child_takes_over_a_channel() -> None:
    first, second = trio_ipc.open_channel_pair(1)
    async with first, second, open_echo() as child:
        await first.send("before it moved")
        await child.send(second)
        assert await first.receive() == "before it moved"
        with pytest.raises(trio.EndOfChannel):
            await first.receive()


# The parent goes by the page ------------------------------------------------------------------


@contextmanager
def parent_of(source: str, *, status: int = 0) -> Iterator[Peer]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.settimeout(60)
    with ours:
        with theirs:
            found = os.fstat(theirs.fileno())
            channel = f"{theirs.fileno()}:{found.st_dev}:{found.st_ino}"
            child = subprocess.Popen(
                [sys.executable, "-c", source],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": str(ROOT), "TRIO_IPC_CHANNEL": channel},
            )
        try:
            yield Peer(ours)
            assert child.wait(60) == status
        finally:
            child.kill()
            child.wait()


def test_a_parent_is_echoed() -> None:
    with parent_of(ECHO_BY_THE_LIBRARY) as peer:
        peer.hello(100, 1 << 20, 16)
        assert peer.read_frame() == "H"
        version, *limits, _, inode, handles_sent = peer.greeting
        assert [version, *limits, handles_sent] == [1, 100, 1 << 20, 16, 16]
        assert inode not in (0, os.fstat(peer.sock.fileno()).st_ino)
        peer.send(1, "two", [3])
        assert [peer.receive() for _ in range(3)] == [1, "two", [3]]
        peer.send_bytes(b"x" * 100_000)
        assert peer.receive() == b"x" * 100_000
        assert "B" in peer.kinds
        for number in range(1000):
            peer.send(number)
            assert peer.receive() == number
        peer.write("E")
        with pytest.raises(EOFError):
            peer.receive()
        assert peer.kinds.endswith("E")


def test_a_parent_is_echoed_with_handles(null: io.BufferedReader) -> None:
    with parent_of(ECHO_BY_THE_LIBRARY) as peer:
        peer.hello(100, 1 << 20, 16)
        assert peer.read_frame() == "H"
        one, other = Handle(null.fileno(), FILE), Handle(null.fileno(), FILE)
        peer.send({"in": [one]})
        peer.send_pair("a pair", one)
        peer.send_each([one], [one, other, one], {"x": one})
        [first], (text, second), [third], [fourth, fifth, again], sixth = (
            message["in"] if index == 0 else message
            for index, message in enumerate(peer.receive() for _ in range(5))
        )
        assert text == "a pair"
        assert again is fourth
        for handle in (first, second, third, fourth, fifth, sixth["x"]):
            assert handle.kind == FILE
            assert is_null(handle.fd)
            os.close(handle.fd)
        assert "P" in peer.kinds
        peer.write("E")
        with pytest.raises(EOFError):
            peer.receive()


def test_a_parent_that_receives_no_more_breaks_the_sender() -> None:
    source = ECHO_BY_THE_LIBRARY.replace(
        "trio.run(main)",
        "try: trio.run(main)\nexcept trio.BrokenResourceError: raise SystemExit(3)",
    )
    with parent_of(source, status=3) as peer:
        peer.hello(100, 1 << 20, 16)
        assert peer.read_frame() == "H"
        peer.write("S")
        peer.send(1)
        while peer.read_frame():
            pass
        assert "M" not in peer.kinds


def test_a_parent_calls_a_function() -> None:
    with parent_of(FUNCTION_CHILD, status=1) as peer:
        peer.hello(100, 1 << 20, 16)
        name = f"{fail.__module__}:{fail.__qualname__}"
        call = {"function": name, "message_type": "Any", "main": None, "argv": []}
        peer.write("C", b"\x92" + msgspec.msgpack.encode(call) + msgspec.msgpack.encode([1, "two"]))
        while peer.read_frame():
            pass
        assert peer.kinds == "HF"
        assert peer.failure.endswith("ValueError: called with (1, 'two')\n")


# The examples and the table -------------------------------------------------------------------


def written(ledger: Ledger, act: Callable[[NativeWire], None]) -> bytes:
    wire = ledger.wire()
    act(wire)
    return output(wire)


def test_the_examples_are_what_the_library_writes(ledger: Ledger) -> None:
    blocks = re.findall(r"```text\n([^`]*)```", PAGE.partition("## Examples")[2])
    stream, file = Thing("stream", 1), Thing("file", FILE)

    def several(wire: NativeWire) -> None:
        wire.grants_pending = 3
        commit(ledger, wire, 1)
        commit(ledger, wire, "two")

    def last(wire: NativeWire) -> None:
        wire.grants_pending = 7
        wire.flush_grants()
        wire.end()
        wire.stop()

    assert [bytes.fromhex(block) for block in blocks] == [
        written(ledger, lambda wire: wire.hello()),
        written(ledger, several),
        written(ledger, lambda wire: commit(ledger, wire, {"to": stream})),
        written(ledger, lambda wire: commit(ledger, wire, "hi", file)),
        written(ledger, last),
    ]


ROWS = re.findall(r"^\| `(\w)` \| \w+ \| .* \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)


def test_all_kinds_are_in_the_table() -> None:
    assert [kind for kind, _, _ in ROWS] == list("HMWPBGESCF")


@pytest.mark.parametrize("max_message_size", [1000, 100_000])
@pytest.mark.parametrize(("kind", "most", "handles"), ROWS)
def test_headers_are_taken_as_the_table_says(
    ledger: Ledger, kind: str, most: str, handles: str, max_message_size: int
) -> None:
    named = {"*max_message_size*": max_message_size, "*L*": max(max_message_size, 65536)}
    size = sum(named.get(part) or int(part.replace(",", "")) for part in most.split(" + "))

    def read_header(length: int, handles: int = 0) -> None:
        limits = Limits(max_message_size=max_message_size)
        wire = ledger.wire(limits=limits, greeted=kind != "H", accepts=tuple(b"CF"))
        tokens = [Token(ledger, number) for number in range(handles)]
        feed(wire, HEADER.pack(ord(kind), handles, 0, length), tokens)

    with pytest.raises(trio_ipc.ProtocolError, match=f"{size + 1} bytes"):
        read_header(size + 1)
    allowed = 0 if handles == "no" else 16
    with pytest.raises(trio_ipc.ProtocolError, match=f"{allowed + 1} handles where they"):
        read_header(size, allowed + 1)
    read_header(size, allowed)
