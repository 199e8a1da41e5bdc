"""The logger ``trio_ipc`` tells the life of each channel, and nothing unless it is asked to."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ipc
from trio_ipc import _log

from . import logging_children as children
from .handle_kinds import stream_and_client
from .meaning_helpers import frame, open_child_aside, open_pair, open_raw_peer, script, settle

ROOT = Path(__file__).parent.parent
SECRET = "rumpelstiltskin"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is told while somebody watches."""
    caplog.set_level(logging.DEBUG, logger="trio_ipc")
    return caplog


def told(log: pytest.LogCaptureFixture, who: str = "") -> list[str]:
    """What was told about a channel to this peer, each without saying so."""
    pattern = re.compile(rf"channel \d+ to {who or '[^:]*'}: (.*)")
    return [found[1] for found in map(pattern.fullmatch, log.messages) if found]


def assert_in_order(lines: list[str], *wanted: str) -> None:
    rest = iter(lines)
    for text in wanted:
        assert any(text in line for line in rest), f"{text!r} in {lines}"


# Nobody watches ---------------------------------------------------------------------------------


def test_it_is_silent_by_default() -> None:
    assert any(isinstance(each, logging.NullHandler) for each in _log.LOGGER.handlers)
    assert not _log.LOGGER.isEnabledFor(logging.DEBUG)


def test_who_is_not_watched_has_nothing_in_the_way_of_its_messages() -> None:
    with open_pair() as (a, _):
        connection: Any = a._connection
        assert connection.tell is _log.say_nothing
        assert "_commit" not in vars(connection)
        assert "received" not in vars(connection.wire)


# A child ----------------------------------------------------------------------------------------


async def test_the_life_of_a_function_child(log: pytest.LogCaptureFixture) -> None:
    options: Any = {"max_handles": 3, "grace_period": children.PATIENCE}
    async with trio_ipc.open_child(children.answer, **options) as child:
        await child.send("x")
        await child.receive()
    lines = told(log, f"child {child.pid}")
    assert_in_order(
        lines,
        "opened, runs tests.logging_children:answer, native protocol, msgpack",
        "max_buffer_size=1000, max_message_size=16777216, max_handles=3",
        "the greetings are exchanged",
        "the first message arrives",
        "the block is left",
        "no more is sent from here",
        "the process exited with status 0",
        "the verdict: ",
        "closed",
    )
    for text in ("the peer sends no more", "the peer receives no more", "the peer's end is gone"):
        assert lines.count(text) == 1
    assert len(lines) == len(set(lines))


async def test_an_untrusted_child(log: pytest.LogCaptureFixture) -> None:
    async with trio_ipc.open_child(children.receive_all, trusted=False) as child:
        pass
    assert any(line.endswith("takes no handles") for line in told(log, f"child {child.pid}"))


async def test_the_steps_to_end_a_child(log: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    path = script(
        tmp_path,
        """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("ready", flush=True)
        time.sleep(3600)
        """,
    )
    async with open_child_aside(path, grace_period=0.01) as (child, aside):
        assert await aside.hear() == "ready"
    assert_in_order(
        told(log, f"child {child.pid}"),
        f"opened, runs {sys.executable} {path}, native protocol",
        "the block is left",
        "the process is sent SIGTERM",
        "the process is sent SIGKILL",
        "the process was killed by SIGKILL",
        "closed",
    )


async def test_a_child_that_dies(log: pytest.LogCaptureFixture) -> None:
    with pytest.raises(trio_ipc.ChildFailed):
        async with trio_ipc.open_child(children.receive_all) as child:
            child.process.send_signal(signal.SIGKILL)
            await child.receive()
    assert_in_order(
        told(log, f"child {child.pid}"),
        "the process was killed by SIGKILL",
        "the verdict: ",
        "the block is left by an exception or a cancellation",
        "closed",
    )


async def test_a_filter_that_fails_does_not_keep_a_child(
    log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(record: logging.LogRecord) -> bool:
        raise ValueError("no such filter")

    monkeypatch.setattr(_log.LOGGER, "filters", [fail])
    async with trio_ipc.open_child(children.receive_all, grace_period=children.PATIENCE) as child:
        pass
    assert child.process.returncode == 0
    assert "ValueError: no such filter" in capsys.readouterr().err


# Other ends -------------------------------------------------------------------------------------


async def test_a_peer_that_breaks_the_protocol(log: pytest.LogCaptureFixture) -> None:
    with open_raw_peer() as (a, raw):
        raw.sendall(frame(b"?"))
        with pytest.raises(trio_ipc.ProtocolError):
            await a.receive()
    assert_in_order(
        told(log), "the peer broke the protocol: unexpected frame of kind '?'", "closed"
    )


async def test_a_peer_that_goes_away(log: pytest.LogCaptureFixture) -> None:
    with open_raw_peer() as (a, raw):
        raw.close()
        with pytest.raises(trio.BrokenResourceError):
            await a.receive()
    assert_in_order(told(log), "the peer's end is gone", "no more is sent from here", "closed")


async def test_a_channel_that_moves(log: pytest.LogCaptureFixture) -> None:
    first, second = trio_ipc.open_channel_pair(1)
    with first, open_pair() as (a, b):
        await a.send(second)
        with await b.receive():
            pass
    assert_in_order(
        told(log),
        "opened, one of a pair",
        "moved to another process",
        "handles are sent: Channel",
        "handles arrive: 1",
        "opened, arrived in a message",
        "closed",
    )


async def test_handles(log: pytest.LogCaptureFixture) -> None:
    with stream_and_client() as (stream, _), open_pair() as (a, b):
        async with trio.open_nursery() as nursery:  # one that waits for room, too
            for _ in range(10):
                a.send_nowait("x")
            nursery.start_soon(a.send, [stream.socket, stream])
            await settle()
            for _ in range(10):
                await b.receive()
        for handle in await b.receive():
            getattr(handle, "socket", handle).close()
    assert "handles are sent: _SocketType, SocketStream" in told(log)
    assert "handles arrive: 2" in told(log)


async def test_no_content_is_ever_told(log: pytest.LogCaptureFixture) -> None:
    async with trio_ipc.open_child(children.receive_all, SECRET) as child:
        for message in (SECRET, SECRET.encode(), {SECRET: SECRET}, SECRET * 100_000):
            await child.send(message)
        with pytest.raises(trio_ipc.UnsupportedMessage):
            await child.send([SECRET, print])
    with open_pair() as (a, b):
        await a.send(SECRET)
        assert await b.receive() == SECRET
    assert log.messages
    assert SECRET not in log.text


# The environment --------------------------------------------------------------------------------

ANSWERING = """
    import trio
    import trio_ipc

    async def main():
        async with trio_ipc.open_parent() as parent:
            await parent.send(await parent.receive())

    trio.run(main)
"""

LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} trio_ipc\[(\d+)\] channel \d+ to ([^:]+): (.+)")


async def run(*command: str, value: str | None) -> str:
    """What a tree of processes writes to its standard error."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop(_log.VARIABLE, None)
    if value is not None:
        env[_log.VARIABLE] = value
    done = await trio.run_process(command, env=env, capture_stdout=True, capture_stderr=True)
    assert done.stdout == b""
    return done.stderr.decode()


async def run_tree(tmp_path: Path, value: str | None) -> str:
    answering = script(tmp_path, ANSWERING)
    return await run(sys.executable, "-m", "tests.logging_children", answering, value=value)


async def test_the_variable_holds_for_a_whole_tree(tmp_path: Path) -> None:
    text = await run_tree(tmp_path, "1")
    found = [LINE.fullmatch(line) for line in text.splitlines()]
    assert None not in found, text
    peers: dict[str, set[str]] = {}
    for each in found:
        assert each is not None
        peers.setdefault(each[1], set()).add(each[2])
    # The first one has a child, which has two, of which each has nobody but its parent.
    assert sorted(map(len, peers.values())) == [1, 1, 1, 3], text
    [middle] = [pid for pid, names in peers.items() if len(names) == 3]
    assert peers.pop(middle) >= {"the parent"}
    assert sorted(map(sorted, peers.values())) == [
        [f"child {middle}"],
        ["the parent"],
        ["the parent"],
    ]
    assert "secret" not in text
    for told_by_the_child in ("runs __main__:answer", "the limits are max_buffer_size=1000"):
        assert f"to the parent: {told_by_the_child}" in text


def test_the_variable_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "environment.md").read_text()
    assert f"| `{_log.VARIABLE}` |" in page


@pytest.mark.parametrize("value", [None, "", "0"])
async def test_without_the_variable_nothing_is_written(value: str | None, tmp_path: Path) -> None:
    assert await run_tree(tmp_path, value) == ""


NODE_PARENT = """
    const { spawn } = require('node:child_process')
    const [python, script] = process.argv.slice(2)
    const child = spawn(python, [script], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    child.on('message', () => child.disconnect())
    child.send('a secret')
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
async def test_the_variable_holds_in_the_child_of_a_node_parent(tmp_path: Path) -> None:
    program = script(tmp_path, NODE_PARENT, "parent.js")
    answering = script(tmp_path, ANSWERING)
    text = await run("node", program, sys.executable, answering, value="1")
    lines = [each[3] for each in map(LINE.fullmatch, text.splitlines()) if each is not None]
    assert len(lines) == len(text.splitlines()), text
    assert_in_order(
        lines,
        "opened, node protocol, json",
        "the limits are max_buffer_size=1000",
        "the first message arrives",
        "closed",
    )
    assert "secret" not in text
