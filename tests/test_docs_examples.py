"""The programs that the documentation shows do what its pages say."""

from __future__ import annotations

import importlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
import trio.testing

import trio_ipc

DOCS = Path(__file__).parent.parent / "docs"
EXAMPLES = DOCS / "examples"
NO_NODE = shutil.which("node") is None


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)


def without_numbers(text: str) -> str:
    """What does not depend on process numbers, ports and versions."""
    return re.sub(r"\d{3,}|v\d+\.\d+\.\d+", "N", text)


def expect_on_page(page: str, *outputs: str) -> None:
    """What a program prints, line by line, stands in a block of the page."""
    blocks = re.findall(r"^```text\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    shown = without_numbers("".join(blocks)).replace("^C", "").splitlines()
    for output in outputs:
        assert output
        for line in without_numbers(output).splitlines():
            assert line in shown


class Server:
    """An example that serves, and where to find it."""

    def __init__(self) -> None:
        self.listener: trio.SocketListener | None = None
        self.listening = trio.Event()

    async def connect(self) -> trio.SocketStream:
        await self.listening.wait()
        assert self.listener is not None
        return await trio.testing.open_stream_to_socket_listener(self.listener)

    async def ask(self, request: bytes = b"") -> str:
        async with await self.connect() as client:
            if request:
                await client.send_all(request)
            return b"".join([part async for part in client]).decode()


@asynccontextmanager
async def serve(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Server, trio.Nursery]]:
    """Run the example, on some port: that which it asks for may be taken."""
    server = Server()
    open_tcp_listeners = trio.open_tcp_listeners

    async def open_anywhere(port: int, *, host: str) -> list[trio.SocketListener]:
        assert port == 8000
        [server.listener] = opened = await open_tcp_listeners(0, host=host)
        server.listening.set()
        return opened

    monkeypatch.setattr(trio, "open_tcp_listeners", open_anywhere)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(example.main)
            yield server, nursery


async def run(*command: str | Path, **options: Any) -> str:
    with trio.fail_after(60):
        done = await trio.run_process(
            [sys.executable, *command], capture_stdout=True, stderr=None, **options
        )
    return done.stdout.decode()


# The tutorial ---------------------------------------------------------------------------------


async def test_the_tutorial_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = importlib.import_module("tutorial_1")
    async with serve(example, monkeypatch) as (server, nursery):
        answers = [await server.ask() for _ in range(2)]
        nursery.cancel_scope.cancel()
    output = capsys.readouterr().out
    assert f"process {os.getpid()} accepts" in output
    assert answers[0] == answers[1]
    assert f"{answers[0].split()[-1]} answers" in output
    expect_on_page("tutorial.md", output, *answers)


async def test_the_tutorial_2_goes_round(monkeypatch: pytest.MonkeyPatch) -> None:
    example = importlib.import_module("tutorial_2")
    async with serve(example, monkeypatch) as (server, nursery):
        seen = set[str]()
        while len(seen) < 3:  # at first, who has started takes them all
            seen.add(await server.ask())
        answers = [await server.ask() for _ in range(6)]
        nursery.cancel_scope.cancel()
    assert answers[:3] == answers[3:]
    assert set(answers) == seen
    expect_on_page("tutorial.md", *answers)


async def test_the_tutorial_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = importlib.import_module("tutorial_3")
    said = listen(example, monkeypatch)
    async with serve(example, monkeypatch) as (server, nursery):
        answers = [await server.ask(b"3\n"), await server.ask(b"4\n")]
        lines = [await said.receive(), await said.receive()]
        nursery.cancel_scope.cancel()
    assert answers == ["40 each\n", "30 each\n"]
    assert sorted(lines) == ["connection 1: a bill for 3", "connection 2: a bill for 4"]
    expect_on_page("tutorial.md", *lines, *answers)


async def test_the_tutorial_4_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    example = importlib.import_module("tutorial_4")
    said = listen(example, monkeypatch)
    async with serve(example, monkeypatch) as (server, nursery):
        assert await server.ask(b"0\n") == ""
        failure = await said.receive()
        answers = [await server.ask(b"4\n") for _ in range(6)]
        assert answers == ["30 each\n"] * 6
        nursery.cancel_scope.cancel()
    assert "exited with status 1" in failure
    expect_on_page("tutorial.md", failure.replace("tutorial_4", "__main__"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_tutorial_5_answers_whom_it_has_accepted(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    example = importlib.import_module("tutorial_5")
    said = listen(example, monkeypatch)
    async with serve(example, monkeypatch) as (server, _):
        async with await server.connect() as client:
            assert await server.ask(b"3\n") == "40 each\n"  # so the other one is in as well
            assert "a bill for 3" in await said.receive()
            os.kill(os.getpid(), number)
            assert await said.receive() == "stopping"
            await client.send_all(b"4\n")
            assert await client.receive_some() == b"30 each\n"
            assert "a bill for 4" in await said.receive()
    expect_on_page("tutorial.md", "stopping")


def listen(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> trio.MemoryReceiveChannel[str]:
    """What the example prints from now on, as it comes."""
    says, said = trio.open_memory_channel[str](math.inf)
    monkeypatch.setattr(example, "print", lambda it: says.send_nowait(str(it)), raising=False)
    return said


@pytest.mark.parametrize("name", ["tutorial_6_test.py", "adder_test.py"])
async def test_the_tests_pass(name: str) -> None:
    """As of somebody who has pytest-trio, and none of our settings."""
    output = await run(
        *["-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", EXAMPLES / name],
        cwd=EXAMPLES,
    )
    assert re.search(r"^3 passed", output, re.MULTILINE)


# How to ... -------------------------------------------------------------------------------------


async def test_connections_are_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    example = importlib.import_module("hand_out_connections")
    async with serve(example, monkeypatch) as (server, nursery):
        async with await server.connect() as slow:  # which keeps nobody else waiting
            for _ in range(5):
                async with await server.connect() as client:
                    await client.send_all(b"tea\n")
                    assert await client.receive_some() == b"TEA\n"
            await slow.send_all(b"milk\n")
            assert await slow.receive_some() == b"MILK\n"
        nursery.cancel_scope.cancel()


async def test_a_listener_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    example = importlib.import_module("share_listener")
    async with serve(example, monkeypatch) as (server, nursery):
        answers = [await server.ask() for _ in range(5)]
        nursery.cancel_scope.cancel()
    assert all(answer.startswith("accepted by process ") for answer in answers)
    assert f"process {os.getpid()}" not in "".join(answers)


async def test_a_worker_with_a_shared_listener_stops_when_its_channel_ends() -> None:
    example = importlib.import_module("share_listener")
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        with trio.fail_after(60):
            async with trio_ipc.open_child(example.worker, listener, grace_period=50) as child:
                pass
    assert child.process.returncode == 0


async def test_an_address_sticks_to_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    example = importlib.import_module("sticky_routing")
    async with serve(example, monkeypatch) as (server, nursery):
        answers = [await server.ask() for _ in range(3)]
        nursery.cancel_scope.cancel()
    assert [answer.split()[1] for answer in answers] == ["1", "2", "3"]
    assert len({answer.split()[-1] for answer in answers}) == 1
    expect_on_page("howto/sticky_routing.md", *answers)


@pytest.mark.skipif(NO_NODE, reason="no node on the path")
async def test_a_node_program_is_driven(monkeypatch: pytest.MonkeyPatch) -> None:
    example = importlib.import_module("drive_node")
    said = listen(example, monkeypatch)
    async with serve(example, monkeypatch) as (server, nursery):
        answer = await server.ask()
        nursery.cancel_scope.cancel()
    assert answer.startswith("hello, from Node v")
    expect_on_page("howto/drive_node.md", await said.receive(), answer)


@pytest.mark.skipif(NO_NODE, reason="no node on the path")
async def test_a_node_program_has_a_worker() -> None:
    with trio.fail_after(60):
        node = await trio.lowlevel.open_process(
            ["node", EXAMPLES / "node_parent.js", "0"],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHON": sys.executable},
        )
        assert node.stdout is not None
        try:
            output = b""
            while not re.search(rb"port \d+\n", output) or b"ready\n" not in output:
                output += await node.stdout.receive_some()
            port = int(re.findall(rb"port (\d+)\n", output)[0])
            async with await trio.open_tcp_stream("127.0.0.1", port) as client:
                answer = b"".join([part async for part in client]).decode()
            node.send_signal(signal.SIGTERM)
            output += b"".join([part async for part in node.stdout])
        finally:
            node.kill()
            with trio.CancelScope(shield=True):
                await node.wait()
                await node.stdout.aclose()
    assert answer == "Python answers a client\n"
    expect_on_page("howto/worker_of_node.md", output.decode(), answer)


@pytest.mark.parametrize(
    ("page", "script", "printed"),
    [
        ("several_handles", "several_handles.py", "{'done': 'tea'}"),
        ("typed_messages", "typed_messages.py", "Done(name='small', total=30.0)"),
        ("restart_a_worker", "restart_worker.py", "exited with status 1"),
    ],
)
async def test_the_script(page: str, script: str, printed: str) -> None:
    output = await run(EXAMPLES / script)
    assert printed in output
    expect_on_page(f"howto/{page}.md", output)


async def test_a_worker_that_always_fails_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    example = importlib.import_module("restart_worker")
    to_workers, jobs = trio.open_memory_channel[int](math.inf)
    with trio.fail_after(60), to_workers, jobs:
        for _ in range(10):
            to_workers.send_nowait(3)
        with pytest.raises(example.TooManyFailures):
            await example.keep_worker(jobs, 2)
        assert jobs.statistics().current_buffer_used == 8
    assert capsys.readouterr().out.count("exited with status 1") == 2


async def test_everything_is_done_before_it_stops(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    example = importlib.import_module("graceful_stop")
    said = listen(example, monkeypatch)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(example.main)
            lines = [await said.receive()]
            os.kill(os.getpid(), signal.SIGTERM)
    while said.statistics().current_buffer_used:
        lines.append(said.receive_nowait())
    results = [line for line in lines if line != "stopping"]
    assert results == [f"job {number} is done" for number in range(len(results))]
    after = len(lines) - lines.index("stopping") - 1
    assert 1 <= after <= 8  # in each direction three may be under way, and one is in its hands
    worker = capfd.readouterr().out
    assert worker == "worker: there is nothing left to do\nworker: tidied up\n"
    expect_on_page("howto/graceful_stop.md", worker, "stopping", lines[0])


def test_each_example_is_shown() -> None:
    pages = "".join(page.read_text() for page in DOCS.rglob("*.md"))
    for example in [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.js")]:
        assert f"examples/{example.name}" in pages, example.name
