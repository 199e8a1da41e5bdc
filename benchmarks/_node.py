"""The Node.js side of the contestants that speak Node's protocol.

What is compared is one process of the pair: the same program of Node is the parent, or the child,
of another one of Node, and of one of ours. All of them name their work by what the child does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio_ipc

from ._host import AsyncRun, Contestant, Run
from ._measure import Effort, Rival, contest
from ._messages import SMALL
from ._node_works import PARENT_WORKS
from ._result import Line, Report, Target, Unit

__all__ = ["Duel", "duels", "node_x_node", "node_x_trio", "trio_x_node"]

PROGRAMS = Path(__file__).parent / "node_programs"
NODE_CHILD = str(PROGRAMS / "child.js")
NODE_PARENT = str(PROGRAMS / "parent.js")
TRIO_CHILD = "benchmarks._node_child"

COMPILED = 4000

# What a line of the result is called, who is ours, and who is not.
Duel = tuple[str, Contestant, Rival]


def duels(pairs: Sequence[Duel], unit: Unit, effort: Effort) -> Report:
    """One line for each of them."""
    if shutil.which("node") is None:
        return Report([], notes=["There is no `node` on the path: nothing was compared with it."])
    lines: list[Line] = []
    for what, ours, rival in pairs:
        lines += contest(what, ours, [rival], unit, effort)
    return Report(lines)


def node_x_node(
    work: str, target: Target | None = None, *, cpus: int | None = None, count: int | None = None
) -> Rival:
    """Node with itself, the rival of all of ours."""
    args = (work, "node", NODE_CHILD, work)
    contestant = Contestant(node_parent, args, cpus, count, _warm_up(count))
    return Rival("Node x Node", contestant, target)


def node_x_trio(
    work: str, variant: str | None = None, *, cpus: int | None = None, count: int | None = None
) -> Contestant:
    """A parent of Node with a child of ours, which may have several ways to do its work."""
    command = (sys.executable, "-m", TRIO_CHILD, variant or work)
    return Contestant(node_parent, (work, *command), cpus, count, _warm_up(count))


def trio_x_node(
    work: str, variant: str | None = None, *, cpus: int | None = None, count: int | None = None
) -> Contestant:
    """The other way round."""
    return Contestant(trio_parent, (variant or work, work), cpus, count, _warm_up(count))


def _warm_up(count: int | None) -> int:
    # Node compiles what has run a few thousand times.
    return 1 if count is None else -(-COMPILED // count)


@asynccontextmanager
async def trio_parent(variant: str, work: str) -> AsyncIterator[AsyncRun]:
    async with trio_ipc.open_child(NODE_CHILD, work, stdin=subprocess.DEVNULL) as child:

        async def run(count: int) -> float:
            return await PARENT_WORKS[variant](child, count)

        yield run


@contextmanager
def node_parent(work: str, *command: str) -> Iterator[Run]:
    """Node measures itself: only counts and seconds go back and forth here."""
    process = subprocess.Popen(
        ["node", NODE_PARENT, work, json.dumps(SMALL), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def answer() -> str:
        line = stdout.readline()
        if not line:
            raise RuntimeError("the Node parent has died; its last words are above")
        return line

    def run(count: int) -> float:
        _share_cpus(process.pid)
        stdin.write(f"{count}\n")
        stdin.flush()
        return float(answer())

    try:
        answer()  # the child is started, on the CPU that it is to have
        yield run
    finally:
        stdin.close()
        try:
            process.wait(5)
        finally:
            process.kill()
            process.wait()
            stdout.close()


def _share_cpus(pid: int) -> None:
    """Node stands in for this process, and runs where this process was told to."""
    cpus = os.sched_getaffinity(0)
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            os.sched_setaffinity(int(thread), cpus)
        except ProcessLookupError:
            pass  # a thread that has just ended
