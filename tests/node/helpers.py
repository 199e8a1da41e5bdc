"""How Node programs are started: as our children, and as parents of Python scripts.

The programs are roles in the files of ``programs``, the scripts roles in the files of ``scripts``.
Roles of the same name in ``programs/x.js`` and ``scripts/x.py`` are the same child in two
languages, so that the parents in ``programs/x_parent.js`` can be tried with both.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from trio.testing import open_stream_to_socket_listener

import trio_ipc

from ..meaning_helpers import Aside, open_child_aside

PROGRAMS = Path(__file__).parent / "programs"
SCRIPTS = Path(__file__).parent / "scripts"


def command(node: str, file: str, role: str, *args: str) -> list[str]:
    return [node, str(PROGRAMS / file), role, *args]


def open_node(
    node: str, file: str, role: str, *args: str, **options: Any
) -> AbstractAsyncContextManager[trio_ipc.ChildChannel[Any, Any]]:
    """A Node child."""
    return trio_ipc.open_child(command(node, file, role, *args), protocol="node", **options)


def open_node_aside(
    node: str, file: str, role: str, *args: str, **options: Any
) -> AbstractAsyncContextManager[tuple[trio_ipc.ChildChannel[Any, Any], Aside]]:
    """A Node child, and its standard streams to talk to it on the quiet."""
    return open_child_aside(command(node, file, role, *args), protocol="node", **options)


def open_script(
    file: str, role: str, *args: str, **options: Any
) -> AbstractAsyncContextManager[trio_ipc.ChildChannel[Any, Any]]:
    """A Python child that is spoken to as if it was a Node program."""
    script = [sys.executable, str(SCRIPTS / file), role, *args]
    return trio_ipc.open_child(script, protocol="node", **options)


@asynccontextmanager
async def connection() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """A connection to hand over, and its client."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await open_stream_to_socket_listener(listener)
        accepted = await listener.accept()
    async with accepted, client:
        yield accepted, client


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """All that comes until the other end has ended."""
    return b"".join([chunk async for chunk in stream])


async def run_parent(
    node: str, name: str, role: str, *args: str, serialization: str = "json"
) -> str:
    """Run a Node program that starts ``scripts/name.py`` and asserts what it sees of it; what it
    printed."""
    process = await trio.run_process(
        [node, PROGRAMS / f"{name}_parent.js", role, sys.executable, SCRIPTS / f"{name}.py", *args],
        stdin=subprocess.DEVNULL,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error", "SERIALIZATION": serialization},
    )
    errors = process.stderr.decode()
    assert (process.returncode, errors) == (0, ""), f"status {process.returncode}\n{errors}"
    return process.stdout.decode()
