"""``python -m trio_ipc demo``, run as a person would run it, and what it says when a step fails."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from trio_ipc import __main__, _demo
from trio_ipc._demo_runner import Console, Say, Seen, Step, count_children, expect, run_steps

COMMAND = [sys.executable, "-m", "trio_ipc", "demo"]
HAS_NODE = shutil.which("node") is not None
PATIENCE = 120  # seconds; the demo takes two of them on an idle machine

NAMES = [
    "messages",
    "shared-listener",
    "hand-over",
    "node-child",
    "direct-channel",
    "failing-child",
    "stubborn-child",
]


async def run_demo(*args: str) -> subprocess.CompletedProcess[str]:
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(
            [*COMMAND, *args], capture_stdout=True, capture_stderr=True, check=False
        )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


@asynccontextmanager
async def demo_at_work(*args: str) -> AsyncIterator[tuple[trio.Process, LineReader, LineReader]]:
    """A running demo and what it prints."""
    process = await trio.lowlevel.open_process(
        [*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with process.stdout, process.stderr:
            with trio.fail_after(PATIENCE):
                yield process, LineReader(process.stdout), LineReader(process.stderr)
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


class LineReader:
    """Text that is read as it comes."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self.text = ""

    async def read_until(self, wanted: str) -> str:
        """The whole line that has ``wanted`` in it."""
        while True:
            *lines, _ = self.text.split("\n")
            for line in lines:
                if wanted in line:
                    return line
            chunk = await self._stream.receive_some()
            assert chunk, f"{wanted!r} never came, but {self.text}"
            self.text += chunk.decode()

    async def read_all(self) -> str:
        async for chunk in self._stream:
            self.text += chunk.decode()
        return self.text


async def talk(port: int, request: bytes) -> str:
    """What `nc` and curl do: say something, then read until the end."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request)
        return b"".join([chunk async for chunk in stream]).decode()


async def test_every_step_shows_what_it_says() -> None:
    done = await run_demo()
    assert done.stderr == ""
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    for number, step in enumerate(_demo.make_steps(0), 1):
        assert f"{number}. {step.title}" in lines
    for wanted in [
        "-> function child",
        "-> script child",
        ": answered by the parent, ",
        ": answered by the child, ",
        "GET / HTTP/1.0: answered by the normal child, ",
        "GET /special HTTP/1.0: answered by the special child, ",
        "asked 1000 questions, and ",
        "ZeroDivisionError: division by zero",
        "ignores SIGTERM",
        "returncode -9",
        "open descriptors",
    ]:
        assert wanted in done.stdout
    assert lines[-1].strip() == "Every step did what it says."
    assert "FAILED" not in done.stdout
    assert "\033" not in done.stdout


async def test_json_is_all_that_is_printed() -> None:
    done = await run_demo("--json")
    assert done.stderr == ""
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert [step["name"] for step in report["steps"]] == NAMES
    assert all(step["ok"] and step["error"] is None for step in report["steps"])
    assert sum(step["seconds"] for step in report["steps"]) <= report["seconds"] + 0.1
    for count in report["descriptors"], report["children"]:
        assert count["before"] == count["after"]
    assert report["versions"]["trio"] == trio.__version__
    assert sorted(report["versions"]) == ["python", "trio", "trio_ipc"]
    assert report["platform"]

    seen = {step["name"]: step["seen"] for step in report["steps"]}
    assert seen["shared-listener"] == {"clients": 6, "by_parent": 3, "by_child": 3}
    assert seen["hand-over"] == {"clients": 6, "by_normal": 3, "by_special": 3}
    assert seen["direct-channel"]["correct"] == 1000
    assert seen["failing-child"]["returncode"] == 1
    assert seen["stubborn-child"]["returncode"] == -signal.SIGKILL


@pytest.mark.skipif(not HAS_NODE, reason="no node on the path")
async def test_a_node_program_is_a_child_where_there_is_a_node() -> None:
    said: list[object] = []
    seen = await _demo.node_child(0, said.append)
    assert seen["node"].startswith("v")
    assert seen["returncode"] == 0
    assert any("answered by Node v" in str(each) for each in said)


async def test_without_a_node_the_demo_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    said: list[object] = []
    assert await _demo.node_child(0, said.append) == {"node": None}
    assert said == ["there is no `node` on the path, so this is left out"]


async def test_a_port_that_is_taken_fails_the_steps_that_need_it_and_no_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = await run_demo("--json", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["ok"] is False
    errors = {step["name"]: step["error"] for step in report["steps"] if not step["ok"]}
    listening = ["shared-listener", "hand-over", *(["node-child"] if HAS_NODE else [])]
    assert list(errors) == listening
    assert all("in use" in error for error in errors.values())


async def test_keep_serves_until_ctrl_c() -> None:
    with socket.socket() as reserved:  # bound and not listening: it can be shared with who asks so
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        async with demo_at_work("--port", str(port), "--keep") as (process, out, err):
            normal = (await out.read_until(f"curl http://127.0.0.1:{port}/ ")).split()[-1]
            special = (await out.read_until(f"curl http://127.0.0.1:{port}/special ")).split()[-1]
            await out.read_until(f"nc 127.0.0.1 {port} ")

            head, _, body = (await talk(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).partition(
                "\r\n\r\n"
            )
            assert head.startswith("HTTP/1.0 200 ")
            assert body == f"answered by the normal child, {normal}\n"
            answer = await talk(port, b"GET /special HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer.endswith(f"\r\n\r\nanswered by the special child, {special}\n")
            answer = await talk(port, b"something special\n")
            assert answer == f"answered by the special child, {special}\n"
            answer = await talk(port, b"hello\n")
            assert answer == f"answered by the normal child, {normal}\n"

            process.send_signal(signal.SIGINT)
            printed = await out.read_all()
            assert await err.read_all() == ""
            assert await process.wait() == 0
    assert "Every step did what it says." in printed
    assert "FAILED" not in printed


async def test_keep_with_json_leaves_stdout_to_the_summary() -> None:
    async with demo_at_work("--json", "--keep") as (process, out, err):
        address = (await err.read_until("/special ")).split()[1]
        port = int(address.split(":")[2].split("/")[0])
        assert "special child" in await talk(port, b"special\n")
        process.send_signal(signal.SIGINT)
        assert json.loads(await out.read_all())["ok"] is True
        assert await process.wait() == 0


async def test_keep_answers_a_client_who_says_nothing(autojump_clock: trio.abc.Clock) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        async with stream:
            assert await _demo.read_request(stream) == b""


async def test_ctrl_c_ends_the_steps() -> None:
    async with demo_at_work() as (process, out, err):
        await out.read_until("1. Messages")
        process.send_signal(signal.SIGINT)
        await out.read_all()
        said = await err.read_all()
        assert await process.wait() == 130
    assert said == "interrupted\n"


# The runner, with steps of other kinds --------------------------------------------------------


async def fine(say: Say) -> Seen:
    say("all is well")
    return {"answer": 42}


async def disappointing(say: Say) -> Seen:
    expect(1 + 1 == 3, "one and one make three")
    return {}


async def buggy(say: Say) -> Seen:
    return {"never": [][0]}


async def endless(say: Say) -> Seen:
    await trio.sleep_forever()


def step(perform: Any, patience: float = 30) -> Step:
    return Step(perform.__name__, f"this is {perform.__name__}", perform, patience)


async def test_failing_steps_say_why_and_the_others_still_run() -> None:
    out = io.StringIO()
    steps = [step(fine), step(disappointing), step(buggy), step(endless, patience=0), step(fine)]
    report = await run_steps(steps, Console(out))
    assert [result.ok for result in report.steps] == [True, False, False, False, True]
    assert not report.ok
    assert report.steps[0].seen == {"answer": 42}
    reasons = [result.error or "" for result in report.steps]
    assert reasons[1] == "this does not hold: one and one make three"
    assert "IndexError" in reasons[2]
    assert "in buggy" in reasons[2]
    assert reasons[3] == "it was not done after 0 s"
    for reason in filter(None, reasons):
        assert reason.splitlines()[-1] in out.getvalue()
    assert out.getvalue().endswith("FAILED: disappointing, buggy, endless\n")


async def test_a_failing_step_is_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_demo, "make_steps", lambda port: [step(fine), step(disappointing)])
    assert await _demo.run(0, False, False) == 1
    assert "FAILED: disappointing" in capsys.readouterr().out
    assert await _demo.run(0, False, True) == 1
    assert json.loads(capsys.readouterr().out)["steps"][1]["ok"] is False

    monkeypatch.setattr(_demo, "make_steps", lambda port: [step(fine)])
    assert await _demo.run(0, False, False) == 0


async def test_what_a_step_leaves_behind_spoils_the_proof() -> None:
    left: list[int] = []

    async def leaky(say: Say) -> Seen:
        left.append(os.open(os.devnull, os.O_RDONLY))
        return {}

    out = io.StringIO()
    try:
        report = await run_steps([step(leaky)], Console(out))
    finally:
        os.close(left[0])
    assert report.steps[0].ok
    assert not report.ok
    assert report.descriptors.after == report.descriptors.before + 1
    assert out.getvalue().endswith("FAILED: the proof\n")


async def test_children_are_counted() -> None:
    before = count_children()
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    try:
        assert count_children() == before + 1
    finally:
        process.kill()
        await process.stdin.aclose()
        await process.wait()
    assert count_children() == before


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [
        ({}, True),
        ({"NO_COLOR": ""}, True),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    for file, expected in (Terminal(), coloured), (io.StringIO(), False):
        Console(file).verdict(True, "fine")
        assert ("\033[32mfine\033[0m" in file.getvalue()) is expected


def test_a_reader_that_has_seen_enough_does_no_harm() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as file:
        console = Console(file)
        console.say("this meets the broken pipe")
        console.say("this does not")


# The command line -----------------------------------------------------------------------------


@pytest.mark.parametrize("args", [[], ["demo", "--port", "65536"], ["demo", "--port", "x"]])
def test_usage_errors(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        __main__.main(args)
    assert caught.value.code == 2
    assert "usage: python -m trio_ipc" in capsys.readouterr().err


def test_windows_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert __main__.main(["demo"]) == 2
    assert "can't run on Windows" in capsys.readouterr().err
