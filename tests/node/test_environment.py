"""What a process inherits beside its channel, and what its own children do not."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import trio

import trio_ipc

from .helpers import PROGRAMS, SCRIPTS, open_node, read_all, run_parent

STALE = {
    "NODE_CHANNEL_FD": "3",
    "NODE_CHANNEL_SERIALIZATION_MODE": "nonsense",
    "NODE_UNIQUE_ID": "1",
    "TRIO_IPC_CHANNEL": "3:1:1",
}


@pytest.fixture(params=["clean", "stale"])
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours, and one as in a child of Node that has not consumed its variables."""
    if request.param == "stale":
        for name, value in STALE.items():
            monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("environment")
async def test_a_node_child_sees_no_variable(node: str) -> None:
    async with open_node(node, "environment.js", "variables") as child:
        assert await child.receive() == []
    env = {**os.environ, **STALE}
    async with open_node(node, "environment.js", "variables", env=env) as child:
        assert await child.receive() == []


@pytest.mark.usefixtures("environment")
async def test_fork_and_spawn(node: str) -> None:
    async with open_node(node, "environment.js", "fork_and_spawn") as child:
        expected = {"variables": [], "send": "undefined", "isWorker": False}
        assert await child.receive() == expected
    assert child.process.returncode == 0


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("serialization", ["json", "advanced"])
async def test_a_child_is_told_of_its_channel_and_of_no_other(serialization: str) -> None:
    # Node removes the variables itself before anybody can see them.
    code = "import os; print(*sorted(os.environ))"
    async with trio_ipc.open_child(
        [sys.executable, "-I", "-S", "-c", code],
        protocol="node",
        serialization=serialization,  # type: ignore[arg-type]
        stdout=subprocess.PIPE,
    ) as child:
        assert child.process.stdout is not None
        async with child.process.stdout as stdout:
            names = (await read_all(stdout)).decode().split()
    assert [name for name in names if name in STALE] == [
        "NODE_CHANNEL_FD",
        "NODE_CHANNEL_SERIALIZATION_MODE",
    ]


async def test_fork_stdio(node: str) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as another:
        with os.fdopen(writer, "wb"):
            async with open_node(
                node,
                "environment.js",
                "fork_stdio",
                str(writer),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[writer],
            ) as child:
                process: Any = child.process
                async with process.stdin, process.stdout, process.stderr:
                    await process.stdin.send_all(b"to stdin")
                    await process.stdin.aclose()
                    assert await child.receive() == "to stdin"
                    assert await process.stdout.receive_some() == b"to stdout"
                    assert await process.stderr.receive_some() == b"to stderr"
        assert another.read() == b"to another"


async def test_fork_stdio_ignored(node: str) -> None:
    null: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    async with open_node(node, "messages.js", "echo", **null) as child:
        await child.send("over the channel")
        assert await child.receive() == "over the channel"


async def test_a_script_consumes_its_variables(node: str) -> None:
    await run_parent(node, "environment", "variables")


async def test_the_children_of_a_script_inherit_no_channel(node: str) -> None:
    await run_parent(node, "environment", "inherits_nothing")


async def test_a_script_opens_its_channel_once(node: str) -> None:
    await run_parent(node, "environment", "twice")


async def test_stdin_ipc(node: str) -> None:
    await run_parent(node, "environment", "stdin_ipc")


async def test_stdout_ipc(node: str) -> None:
    await run_parent(node, "environment", "stdout_ipc")


async def test_a_channel_at_any_number(node: str) -> None:
    await run_parent(node, "environment", "another_number")


async def test_fork_stdio_of_a_script(node: str) -> None:
    await run_parent(node, "environment", "fork_stdio")


async def test_fork_stdio_ignored_of_a_script(node: str) -> None:
    await run_parent(node, "environment", "fork_stdio_ignored")


async def test_fork_and_spawn_by_a_script(node: str) -> None:
    await run_parent(node, "environment", "fork_and_spawn")


async def test_fork_and_spawn_by_a_worker_of_a_cluster(node: str) -> None:
    await run_parent(node, "environment", "cluster_worker")


async def test_a_script_between_two_nodes(node: str) -> None:
    await run_parent(node, "environment", "in_the_middle")


async def test_a_script_of_ours_between_a_script_and_node(node: str) -> None:
    # Both sides of it speak Node's protocol, and each of them over a channel of its own.
    script = [sys.executable, str(SCRIPTS / "environment.py"), "in_the_middle"]
    async with trio_ipc.open_child(
        [*script, node, str(PROGRAMS / "messages.js")], protocol="node"
    ) as child:
        await child.send({"there and": "back"})
        assert await child.receive() == {"there and": "back"}
        await child.send_channel.aclose()
        with pytest.raises(trio.EndOfChannel):
            await child.receive()


@pytest.mark.parametrize("value", ["foo", "-1", "", "3abc", "987654"])
async def test_a_script_with_a_malformed_variable(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODE_CHANNEL_FD", value)
    with pytest.raises(trio_ipc.NoParent):
        async with trio_ipc.open_parent():
            pytest.fail("a parent was found")
    assert not os.environ.get("NODE_CHANNEL_FD")
