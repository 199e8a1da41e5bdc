"""A Python script as the child of a Node parent: how it ends. What is asserted stands in
``programs/ends_parent.js``."""

from __future__ import annotations

import subprocess
import sys

import trio

from .helpers import PROGRAMS, SCRIPTS, run_parent


async def test_fork3_child_that_ignores_the_channel(node: str) -> None:
    await run_parent(node, "ends", "fork3")


async def test_fork_close(node: str) -> None:
    await run_parent(node, "ends", "fork_close")


async def test_fork_ref(node: str) -> None:
    await run_parent(node, "ends", "fork_ref")


async def test_fork_ref2(node: str) -> None:
    await run_parent(node, "ends", "fork_ref2")


async def test_disconnect_by_the_parent(node: str) -> None:
    await run_parent(node, "ends", "disconnect_by_parent")


async def test_disconnect_by_the_child(node: str) -> None:
    await run_parent(node, "ends", "disconnect_by_child")


async def test_disconnect_of_the_send_half_only(node: str) -> None:
    await run_parent(node, "ends", "close_send_half")


async def test_send_after_close(node: str) -> None:
    await run_parent(node, "ends", "send_after_close")


async def test_an_exit_status(node: str) -> None:
    await run_parent(node, "ends", "exit")


async def test_an_exception(node: str) -> None:
    await run_parent(node, "ends", "throw")


async def test_a_child_that_is_killed(node: str) -> None:
    await run_parent(node, "ends", "kill")


async def test_a_big_message_and_leaving(node: str) -> None:
    await run_parent(node, "ends", "big_then_exit")


async def test_a_big_message_and_then_the_end(node: str) -> None:
    await run_parent(node, "ends", "big_then_close")


async def test_a_last_message_of_the_parent_that_is_cut_off(node: str) -> None:
    text = await run_parent(node, "ends", "truncated")
    assert "bytes" in text


async def test_messages_and_then_the_end(node: str) -> None:
    await run_parent(node, "ends", "many_then_disconnect")


async def test_cluster_concurrent_disconnect(node: str) -> None:
    await run_parent(node, "ends", "concurrent_disconnect")


async def run_fatal_parent(node: str, role: str) -> tuple[int | None, bytes]:
    # This returns when nobody is left that could write to the stdout of the parent.
    process = await trio.run_process(
        [node, PROGRAMS / "ends_parent.js", role, sys.executable, SCRIPTS / "ends.py"],
        stdin=subprocess.DEVNULL,
        capture_stdout=True,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return process.returncode, process.stdout


async def test_cluster_primary_kill(node: str) -> None:
    assert await run_fatal_parent(node, "primary_kill") == (-9, b"ended cleanly\n" * 2)


async def test_cluster_primary_error(node: str) -> None:
    assert await run_fatal_parent(node, "primary_error") == (1, b"ended cleanly\n" * 2)
