"""Both scopes in one process: what open_parent finds is the child's end of open_child.

So what they do can be watched, swept and interrupted from one side, in a few milliseconds.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from unittest import mock

import trio

import trio_ipc
from trio_ipc import _child, _process


async def spawn(program: Any, theirs: socket.socket, options: Any) -> trio.Process:
    """In place of `_process.spawn`: a process that waits, with an end that stays here."""
    process = await trio.lowlevel.open_process(program.command, stdin=subprocess.PIPE)
    status = os.fstat(theirs.fileno())
    kept = os.dup(theirs.fileno())
    if program.protocol == "node":
        os.environ[_process.NODE_CHANNEL] = str(kept)
        os.environ[_process.NODE_SERIALIZATION] = program.serialization
    else:
        os.environ[_process.CHANNEL] = f"{kept}:{status.st_dev}:{status.st_ino}"
    return process


def close_kept() -> None:
    """Close the child's end, if it was never opened."""
    os.environ.pop(_process.NODE_SERIALIZATION, None)
    for name in (_process.NODE_CHANNEL, _process.CHANNEL):
        kept = os.environ.pop(name, None)
        if kept is not None:
            os.close(int(kept.partition(":")[0]))


@contextmanager
def children_are_fake(spawn: Any = spawn) -> Iterator[None]:
    """Of each child that is opened, the other end stays here, for `open_parent`."""
    try:
        with (
            mock.patch.object(_process, "spawn", spawn),
            # What is kept here would be waited for, if it is never opened.
            mock.patch.object(_child, "EXIT_TO_EOF", 0.01),
        ):
            yield
    finally:
        close_kept()


@asynccontextmanager
async def open_both_ends(
    max_buffer_size: float = 1000, **options: Any
) -> AsyncIterator[tuple[trio_ipc.ChildChannel[Any, Any], trio_ipc.Channel[Any, Any]]]:
    """The parent's channel and the child's."""
    with children_are_fake():
        async with trio_ipc.open_child(
            ["cat"], max_buffer_size=max_buffer_size, **options
        ) as child:
            assert child.process.stdin is not None
            async with child.process.stdin, trio_ipc.open_parent() as parent:
                yield child, parent
