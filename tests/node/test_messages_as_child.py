"""A Python script as the child of a Node parent: messages. What is asserted stands in
``programs/messages_parent.js``."""

from __future__ import annotations

import subprocess
import sys

import trio

from .helpers import PROGRAMS, SCRIPTS, run_parent


async def test_fork(node: str) -> None:
    await run_parent(node, "messages", "fork")


async def test_fork_exec_path(node: str) -> None:
    await run_parent(node, "messages", "exec_path")


async def test_esm_fork_main(node: str) -> None:
    parent = [node, PROGRAMS / "echo.mjs", "parent", sys.executable, SCRIPTS / "messages.py"]
    process = await trio.run_process(parent, stdin=subprocess.DEVNULL, capture_stdout=True)
    assert process.stdout == b"done\n"


async def test_send_cb(node: str) -> None:
    await run_parent(node, "messages", "send_callback")


async def test_send_utf8(node: str) -> None:
    await run_parent(node, "messages", "utf8")


async def test_internal(node: str) -> None:
    # With the acknowledgement of nothing of Node's test cluster-invalid-message.
    await run_parent(node, "messages", "internal")


async def test_json_values(node: str) -> None:
    await run_parent(node, "messages", "json_values")


async def test_a_message_of_another_type_is_invalid(node: str) -> None:
    await run_parent(node, "messages", "invalid_message")


async def test_a_parent_that_floods_is_read_only_as_fast_as_we_receive(node: str) -> None:
    await run_parent(node, "messages", "flood")
