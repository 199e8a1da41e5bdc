"""What the tests of the meanings share."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import trio_ipc

from . import meaning_children as children

# Seconds after which a test is given up; nothing here needs a tenth of it on an idle machine.
PATIENCE = 60
MANY_BYTES = children.MANY_BYTES


@contextmanager
def open_pair(
    max_buffer_size: float = 10, **limits: int
) -> Iterator[tuple[trio_ipc.Channel[Any, Any], trio_ipc.Channel[Any, Any]]]:
    """Two ends, closed at the end."""
    a, b = trio_ipc.open_channel_pair(max_buffer_size, **limits)
    with a, b:
        yield a, b


@contextmanager
def open_raw_peer(
    max_buffer_size: float = 10, **limits: int
) -> Iterator[tuple[trio_ipc.Channel[Any, Any], socket.socket]]:
    """A channel, and the bare socket at its other end, to say there what no peer of ours says."""
    a, b = trio_ipc.open_channel_pair(max_buffer_size, **limits)
    with a, socket.socket(fileno=os.dup(b.fileno())) as raw:
        b._surrender()  # type: ignore[attr-defined]
        raw.settimeout(PATIENCE)
        yield a, raw


@asynccontextmanager
async def open_child_aside(
    target: Any, *args: Any, **options: Any
) -> AsyncIterator[tuple[trio_ipc.ChildChannel[Any, Any], Aside]]:
    """A child to which there is a second way, its standard streams: what is said there has no
    influence on the channel."""
    async with trio_ipc.open_child(
        target, *args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
    ) as child:
        async with aside_of(child.process) as aside:
            yield child, aside


@asynccontextmanager
async def aside_of(process: trio.Process) -> AsyncIterator[Aside]:
    assert process.stdin is not None
    assert process.stdout is not None
    async with process.stdin, process.stdout:
        yield Aside(process.stdin, process.stdout)


class Aside:
    """Lines to and from the standard streams of a process."""

    def __init__(self, stdin: trio.abc.SendStream, stdout: trio.abc.ReceiveStream) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._received = b""

    async def say(self, line: str = "") -> None:
        await self._stdin.send_all(line.encode() + b"\n")

    async def hear(self) -> str:
        while b"\n" not in self._received:
            chunk = await self._stdout.receive_some()
            assert chunk, f"the process ended after {self._received!r}"
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line.decode()

    async def hear_all(self) -> list[str]:
        """All that is still to come, until every process that holds the stream has gone."""
        async for chunk in self._stdout:
            self._received += chunk
        return self._received.decode().splitlines()


@asynccontextmanager
async def open_driver(source: str, tmp_path: Path) -> AsyncIterator[tuple[trio.Process, Aside]]:
    """A script in a session of its own, that can be killed or interrupted as a whole group.

    Whatever the script starts must end when it does: that is what the tests are about.
    """
    process = await trio.lowlevel.open_process(
        [sys.executable, script(tmp_path, source, "driver.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    try:
        async with aside_of(process) as aside:
            yield process, aside
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def script(tmp_path: Path, source: str, name: str = "child.py") -> str:
    """The path of a script with this source."""
    path = tmp_path / name
    path.write_text(textwrap.dedent(source))
    return str(path)


def raw_script(tmp_path: Path, source: str) -> list[str]:
    """A command: a child that starts quickly and talks bytes. It finds its socket as ``sock``,
    has greeted, and has read the greeting of its parent."""
    prelude = f"""
        import os, signal, socket, struct, sys, time
        sock = socket.socket(fileno=int(os.environ["TRIO_IPC_CHANNEL"].split(":")[0]))
        def read(count):
            data = b""
            while len(data) < count:
                chunk = sock.recv(count - len(data))
                assert chunk
                data += chunk
            return data
        def frame(kind, payload=b"", handles=0, grant=0, length=None):
            length = len(payload) if length is None else length
            return struct.pack("!BBHI", kind[0], handles, grant, length) + payload
        def read_frame():
            kind, handles, grant, length = struct.unpack("!BBHI", read(8))
            return bytes([kind]), read(length)
        hello = read_frame()
        assert hello[0] == b"H"
        sock.sendall(frame(b"H", hello[1]))
        ONE = {ONE_MESSAGE!r}
    """
    text = textwrap.dedent(prelude) + textwrap.dedent(source)
    return [sys.executable, "-I", "-S", script(tmp_path, text)]


async def stop(process: trio.Process) -> None:
    """Stop a child, as Ctrl-Z does, and return when it has stopped."""
    process.send_signal(signal.SIGSTOP)
    await trio.to_thread.run_sync(
        os.waitid, os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT, abandon_on_cancel=True
    )


def assert_reaped(process: trio.Process, returncode: int) -> None:
    assert process.returncode == returncode
    with pytest.raises(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)


def fill(channel: Any, message: Any = "x", most: int = 100_000) -> int:
    """Send as many messages as go in at once; how many that were."""
    for count in range(most):
        try:
            channel.send_nowait(message)
        except trio.WouldBlock:
            return count
    raise AssertionError(f"{most} messages were not enough")


# The payload of a frame with one message, the number 1.
ONE_MESSAGE = b"\xdd\0\0\0\x01\x01"


def frame(
    kind: bytes, payload: bytes = b"", *, handles: int = 0, grant: int = 0, length: int = -1
) -> bytes:
    """One frame of the native protocol, or something like it."""
    size = len(payload) if length < 0 else length
    return struct.pack("!BBHI", kind[0], handles, grant, size) + payload


async def settle(cushion: float = 0) -> None:
    """Wait until every other task is parked, or sleeps longer than the cushion."""
    await trio.testing.wait_all_tasks_blocked(cushion)


@asynccontextmanager
async def waiting(call: Callable[..., Awaitable[Any]], *args: Any) -> AsyncIterator[Call]:
    """A call in a task of its own, that waits when the block begins."""
    async with trio.open_nursery() as nursery:
        made = Call()
        nursery.start_soon(made.run, call, args)
        await settle()
        assert not made.finished.is_set(), f"{call} did not wait"
        try:
            yield made
        finally:
            nursery.cancel_scope.cancel()


class Call:
    """A call in another task, and what became of it."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.finished = trio.Event()
        self.value: Any = None
        self.error: BaseException | None = None
        self.cancelled = False

    async def run(self, call: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        with self.scope:
            try:
                self.value = await call(*args)
            except Exception as exc:
                self.error = exc
        self.cancelled = self.scope.cancelled_caught
        self.finished.set()

    async def cancel(self) -> None:
        self.scope.cancel()
        await self.finished.wait()
        assert self.cancelled

    async def outcome(self) -> Any:
        await self.finished.wait()
        if self.error is not None:
            raise self.error
        assert not self.cancelled
        return self.value
