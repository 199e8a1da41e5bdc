"""Steps of a conversation times what may happen to its peer: how each cell is run and judged."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import trio

import trio_ipc

from . import peer
from .talk import ROOM, Talk

PEER = peer.__file__
ROOT = Path(__file__).parent.parent.parent

# Seconds. Far above what anything here needs, on whatever machine: what takes longer hangs.
LIMIT = 30
# How long a child that is alive without its channel may stay.
GRACE = 0.1

# How many streams the library's side sends, and how many the peer does.
OURS = ROOM + 1
THEIRS = 3


class Cell(NamedTuple):
    """One case. The library's side is the child if the one that is lost is the ``parent``."""

    lost: str
    protocol: str
    step: str
    event: str

    @property
    def name(self) -> str:
        return f"{self.protocol} {self.lost}: {self.step}: {self.event}"

    @property
    def dies(self) -> bool:
        return self.event not in ("close", "SHUT_WR", "exec")

    def describe(self, **more: Any) -> str:
        about = {"protocol": self.protocol, "step": self.step, "event": self.event, "fds": []}
        return json.dumps({**about, "command": None, **more})


def cells(lost: str, events: list[str]) -> list[Cell]:
    return [
        Cell(lost, protocol, step, event)
        for protocol, steps in peer.STEPS.items()
        for step in steps
        for event in events
    ]


CHILD_CELLS = cells("child", list(peer.EVENTS))
# What else happens to a parent is much the same for the child, which takes much longer to start.
# A forked process that goes on reading in its parent's place can't be told from that.
PARENT_CELLS = cells("parent", ["SIGKILL"])
MORE_PARENT_CELLS = cells(
    "parent", [each for each in peer.EVENTS if each not in ("SIGKILL", "fork")]
)


class Connections:
    """TCP connections of which one end is a handle, and the client at the other."""

    def __init__(self, number: int) -> None:
        self.near: list[socket.socket] = []
        self.far: list[trio.socket.SocketType] = []
        with socket.create_server(("127.0.0.1", 0), backlog=number) as server:
            for _ in range(number):
                self.far.append(
                    trio.socket.from_stdlib_socket(socket.create_connection(server.getsockname()))
                )
                self.near.append(server.accept()[0])

    def numbers(self) -> list[int]:
        return [sock.fileno() for sock in self.near]

    def let_go(self) -> None:
        for sock in self.near:
            sock.close()

    def close(self) -> None:
        self.let_go()
        for sock in self.far:
            sock.close()


@contextlib.contextmanager
def connections(number: int) -> Iterator[Connections]:
    made = Connections(number)
    try:
        yield made
    finally:
        made.close()


async def assert_ended(clients: list[trio.socket.SocketType], whose: str) -> None:
    for number, client in enumerate(clients):
        with trio.move_on_after(LIMIT) as scope:
            try:
                assert await client.recv(1) == b""
            except ConnectionResetError:
                pass
        assert not scope.cancelled_caught, f"the client of {whose} handle {number} sees no end"


class Lines:
    """What the peer says."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._data = b""

    async def next(self) -> str:
        while b"\n" not in self._data:
            chunk = await self._stream.receive_some()
            assert chunk, f"it ended after {self._data!r}"
            self._data += chunk
        line, _, self._data = self._data.partition(b"\n")
        return line.decode()


async def cause(event: str, process: trio.Process) -> None:
    """Make it happen."""
    if event == "SIGSTOP, SIGKILL":
        process.send_signal(signal.SIGSTOP)
        await trio.to_thread.run_sync(
            os.waitid, os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT, abandon_on_cancel=True
        )
        for _ in range(3):
            await trio.lowlevel.checkpoint()
    if "SIGKILL" in event:
        process.kill()
    else:
        assert process.stdin is not None
        await process.stdin.send_all(b"g")


async def wait_for_orphan(pid: int) -> int:
    """The status of a process that has lost its parent, and that this one has adopted."""
    fd = os.pidfd_open(pid)
    try:
        with trio.move_on_after(LIMIT) as scope:
            await trio.lowlevel.wait_readable(fd)
        if scope.cancelled_caught:
            os.kill(pid, signal.SIGKILL)
    finally:
        trio.lowlevel.notify_closing(fd)
        os.close(fd)
    # It is dead, so this does not block.
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])  # noqa: ASYNC222
    assert not scope.cancelled_caught, "an orphan is left"
    return status


# A child is lost ---------------------------------------------------------------------------------


async def run_child_cell(cell: Cell, *, check: bool = False) -> dict[str, str]:
    """What became of each call.

    Raises:
      AssertionError: something is not as it should be.
    """
    with connections(OURS) as ours, connections(THEIRS) as theirs:
        streams = [trio.SocketStream(trio.socket.from_stdlib_socket(sock)) for sock in ours.near]
        talk = Talk(cell.protocol, cell.step, streams)
        with trio.move_on_after(4 * LIMIT) as scope:
            await _lose_child(cell, talk, theirs, check)
        assert not scope.cancelled_caught, f"it hangs, after {talk.outcomes}"
        talk.check()
        await assert_ended(theirs.far, "the peer's")
        sent = [n for n in range(OURS) if talk.outcomes.get(f"send {n}") == "done"]
        await assert_ended([ours.far[n] for n in sent], "our")
        assert_outcomes(cell, talk.outcomes)
        return talk.outcomes


async def _lose_child(cell: Cell, talk: Talk, theirs: Connections, check: bool) -> None:
    command = [sys.executable, "-I", "-S", PEER, cell.describe(fds=theirs.numbers())]
    process: trio.Process | None = None
    orphans: list[int] = []
    failure: trio_ipc.ChildFailed | None = None
    async with trio.open_nursery() as nursery:
        try:
            async with trio_ipc.open_child(
                command,
                protocol=cell.protocol,
                max_buffer_size=ROOM,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=theirs.numbers(),
                grace_period=LIMIT if cell.dies else GRACE,
                check=check,
            ) as child:
                process = child.process
                theirs.let_go()
                nursery.start_soon(_happen, cell, talk, process, orphans)
                await talk.hold(child, nursery)
        except trio_ipc.ChildFailed as exc:
            failure = exc
    assert process is not None
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        await stream.aclose()
    assert process.returncode == _returncode(cell), process.returncode
    assert (failure is not None) == (check and "SIGKILL" in cell.event), failure
    for pid in orphans:
        assert await wait_for_orphan(pid) == 0


async def _happen(cell: Cell, talk: Talk, process: trio.Process, orphans: list[int]) -> None:
    assert process.stdout is not None
    lines = Lines(process.stdout)
    if cell.step != "spawning":
        assert await lines.next() == "r"
        await talk.begun.wait()
        talk.ready.set()
    try:
        await cause(cell.event, process)
    except trio.BrokenResourceError:
        if cell.step != "leaving" or cell.dies:
            raise
        # Its time was up before it had its turn.
    if cell.event == "fork":
        line = await lines.next()
        if line == "r":
            line = await lines.next()
        orphans.append(int(line))


def _returncode(cell: Cell) -> int:
    if "SIGKILL" in cell.event:
        return -signal.SIGKILL
    return 0 if cell.dies else -signal.SIGTERM


# A parent is lost --------------------------------------------------------------------------------


async def run_parent_cell(cell: Cell) -> dict[str, str]:
    """The same, for a child that is a script of its own."""
    with connections(OURS) as ours, connections(THEIRS) as theirs:
        reader, writer = os.pipe()
        command = [sys.executable, "-m", "tests.kills.talk", cell.describe(fds=ours.numbers())]
        about = cell.describe(
            fds=theirs.numbers(), command=command, theirs=ours.numbers(), report=writer
        )
        async with trio.lowlevel.FdStream(reader) as report:
            try:
                process = await trio.lowlevel.open_process(
                    [sys.executable, "-I", "-S", PEER, about],
                    pass_fds=[*ours.numbers(), *theirs.numbers(), writer],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                    cwd=ROOT,
                )
            finally:
                os.close(writer)
            ours.let_go()
            theirs.let_go()
            outcomes = await _lose_parent(cell, process, report)
        await assert_ended(theirs.far, "the peer's")
        await assert_ended(ours.far, "our")
        assert_outcomes(cell, outcomes)
        return outcomes


async def _lose_parent(
    cell: Cell, process: trio.Process, report: trio.lowlevel.FdStream
) -> dict[str, str]:
    assert process.stdin is not None
    assert process.stdout is not None
    lines, reports = Lines(process.stdout), Lines(report)
    orphans: list[int] = []
    try:
        with trio.fail_after(4 * LIMIT):
            ready = await lines.next()
            orphans.append(int(ready[1:]))
            if _is_greeted(cell):
                assert await reports.next() == "begun"
            await cause(cell.event, process)
            while (line := await reports.next()) == "begun":
                pass  # where nobody greets, it may have begun or not
            outcomes = json.loads(line)
    except BaseException:
        # It may not have come to what ends it.
        process.kill()
        raise
    finally:
        with trio.CancelScope(shield=True):
            if not cell.dies:
                process.kill()
            await process.wait()
            await process.stdin.aclose()
            await process.stdout.aclose()
            statuses = [await wait_for_orphan(pid) for pid in orphans]
    assert not any(statuses), statuses
    return outcomes  # type: ignore[no-any-return]


# What is to become of the calls -------------------------------------------------------------------


def _is_greeted(cell: Cell) -> bool:
    return cell.step not in ("spawning", "before the greeting", "in the greeting")


def assert_outcomes(cell: Cell, outcomes: dict[str, str]) -> None:
    """Each call has ended in the one way in which it can."""
    if cell.protocol == "native" and cell.lost == "parent" and not _is_greeted(cell):
        assert outcomes == {"open": "NoParent"}, outcomes
        return
    receive = "EndOfChannel" if cell.protocol == "node" else "BrokenResourceError"
    send = "BrokenResourceError"
    if cell.step.startswith("in "):
        receive = send = "ProtocolError"
    elif cell.step == "they have ended":
        receive = "EndOfChannel"
    late = {"ClosedResourceError"} if cell.step == "leaving" else set()
    for name, outcome in outcomes.items():
        if "receive" in name:
            assert outcome in {receive, *late}, (name, outcomes)
        elif cell.step in ("we have ended", "leaving"):
            assert outcome in {"done", send, "ClosedResourceError"}, (name, outcomes)
        elif name == "send again":
            assert outcome == send, (name, outcomes)
        else:
            assert outcome in {"done", send}, (name, outcomes)
    sent = sum(outcomes[f"send {number}"] == "done" for number in range(OURS))
    assert sent in _counts(cell), outcomes


def _counts(cell: Cell) -> range:
    """How many handles may have been sent."""
    if cell.protocol == "node":
        return range(2) if cell.step == "second handle read" else range(1)
    if cell.step in ("spawning", "they have stopped", "we have ended", "leaving"):
        return range(ROOM + 1)
    if cell.step == "drain":
        # The one that is forked reads what its parent did not.
        return range(ROOM if cell.event == "fork" else 1)
    return range(ROOM, ROOM + 1)
