"""A Node process that has sent away the connections of its server asks how many are still open,
and is told when the last one is closed.

The owner of the server plays its role in ``programs/accounting.js``, and asserts there. Node's own
tests of it are fork-getconnections, fork-net, internal-socket-list-send and -receive.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import trio

from .helpers import PROGRAMS, SCRIPTS, open_node
from .scripts.holding import hold_for, wait_until_unread


async def play(node: str, role: str) -> None:
    """We hold the connections of a Node child, and then those of a Node parent."""
    async with open_node(node, "accounting.js", role) as child:
        await hold_for(child)
    assert child.process.returncode == 0
    await run_owner(node, f"{role}_of_a_parent")


async def run_owner(node: str, role: str) -> None:
    program = PROGRAMS / "accounting.js"
    await trio.run_process(
        [node, program, role, sys.executable, SCRIPTS / "accounting.py"], stdin=subprocess.DEVNULL
    )


async def test_fork_getconnections(node: str) -> None:
    await play(node, "get_connections")


async def test_fork_getconnections_of_a_server_on_a_path(
    node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOCKET_PATH", str(tmp_path / "a socket"))
    await play(node, "on_a_path")


async def test_close_waits_for_the_last_connection(node: str) -> None:
    await play(node, "close")


async def test_two_servers(node: str) -> None:
    await play(node, "two_servers")


async def test_a_connection_that_is_handed_on(node: str) -> None:
    await play(node, "handed_on")


async def test_internal_socket_list_receive(node: str) -> None:
    # Questions about servers that we have never heard of.
    await play(node, "unknown_key")


async def test_connections_that_nobody_has_received(node: str) -> None:
    async with open_node(node, "accounting.js", "unreceived") as child:
        await wait_until_unread(child, 6)
        await hold_for(child)
    await run_owner(node, "unreceived_of_a_parent")


async def test_connections_that_are_dropped_by_closing_the_receive_half(node: str) -> None:
    async with open_node(node, "accounting.js", "unreceived") as child:
        await wait_until_unread(child, 6)
        child.receive_channel.close()
        await child.process.wait()
    assert child.process.returncode == 0


async def test_connections_that_are_garbage(node: str) -> None:
    async with open_node(node, "accounting.js", "unreceived") as child:
        await wait_until_unread(child, 6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            for _ in range(6):
                await child.receive()
            gc.collect()
            await child.process.wait()
    assert child.process.returncode == 0


async def test_internal_socket_list_send(node: str) -> None:
    # The child ends before it has answered.
    await run_owner(node, "child_ends_first")


async def test_a_child_that_exits_with_connections_in_its_hands(node: str) -> None:
    await run_owner(node, "child_exits_holding")
