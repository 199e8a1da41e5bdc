"""The peers by name, how each does its work, and whether it is installed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..messages import ANSWER, SMALL

__all__ = ["PEERS", "Peer"]

JAVASCRIPT = Path(__file__).parent / "javascript"
# The child's side, where it is not called as the parent's.
JAVASCRIPT_CHILD = {
    "stream_awaited": "stream",
    "children": "round_trip",
    "startup": "first_message",
}


@dataclass(frozen=True)
class Peer:
    """One way to do the works.

    Attributes:
      title: what it is called in tables.
      how: what it uses, in a line.
      module: its module in this package, or "javascript".
      options: what its functions are called with, besides the options of the work.
      needs: programs that it can't do without.
    """

    title: str
    how: str
    module: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: Sequence[str] = ()

    def missing(self) -> str | None:
        """The first program that is not installed."""
        return next((name for name in self.needs if shutil.which(name) is None), None)

    def command(self, work: str, options: Mapping[str, Any]) -> list[str]:
        """What to run to have it do this work: see contestant.py."""
        options = {**options, **self.options}
        if self.module != "javascript" and options.pop("role", "parent") == "parent":
            module = f"{__package__}.{self.module}"
            program = [sys.executable, "-m", "benchmarks.contestant"]
            return [*program, module, work, json.dumps(options)]
        runtime = options.pop("runtime", "node")
        if work == "serve":
            arguments = [options["way"], str(options["workers"]), ANSWER.decode()]
            return [runtime, str(JAVASCRIPT / "serve.js"), *arguments]
        if self.module == "javascript":
            child = [runtime, str(JAVASCRIPT / "child.js"), JAVASCRIPT_CHILD.get(work, work)]
        else:
            child = [sys.executable, "-m", f"{__package__}.ours_child", work]
        order = json.dumps({"message": SMALL, **options})
        return [runtime, str(JAVASCRIPT / "parent.js"), work, order, *child]


def _node(serialization: str) -> Peer:
    return Peer(
        f"Node × Node, {serialization}",
        f'child_process.spawn with an "ipc" pipe, serialization: "{serialization}"',
        "javascript",
        {"runtime": "node", "serialization": serialization},
        ["node"],
    )


def _bun(serialization: str) -> Peer:
    return Peer(
        f"Bun × Bun, {serialization}",
        "the same programs under Bun, whose own Bun.spawn({ipc}) was slower with JSON",
        "javascript",
        {"runtime": "bun", "serialization": serialization},
        ["bun"],
    )


def _served(title: str, how: str, **options: object) -> Peer:
    return Peer(title, how, "javascript", options, [str(options["runtime"])])


def _python(title: str, code: str) -> Peer:
    return Peer(title, "a process that runs it and exits", "blocking", {"code": code})


PEERS: Mapping[str, Peer] = {
    "trio_ipc": Peer("trio_ipc", "open_child(function), and the usual options", "ours"),
    "with-node": Peer(
        "trio_ipc × Node",
        "in the place of one of two Node processes",
        "ours",
        {"node": True},
        ["node"],
    ),
    "shared-listener": Peer(
        "trio_ipc, listener sent",
        "every worker is sent the listener once, and accepts",
        "ours",
        {"share_listener": True},
    ),
    "node-json": _node("json"),
    "node-advanced": _node("advanced"),
    "bun-json": _bun("json"),
    "bun-advanced": _bun("advanced"),
    "pipe": Peer(
        "multiprocessing Pipe", "send and recv, which pickle; spawn", "pipe", {"pickle": True}
    ),
    "pipe-bytes": Peer(
        "Pipe.send_bytes", "ready bytes, no serialization", "pipe", {"pickle": False}
    ),
    "send-handle": Peer(
        "multiprocessing send_handle",
        "the descriptor in the Pipe; workers that block",
        "pipe",
        {"pickle": False},
    ),
    "trio-socket": Peer(
        "raw trio.socket", "ready bytes, no frames, no serialization", "trio_socket"
    ),
    "one-trio": Peer("one Trio process", "trio.serve_listeners, no workers", "trio_socket"),
    "blocking": Peer(
        "blocking socketpair", "ready bytes, no frames, no event loop: the floor", "blocking"
    ),
    "send-fds": Peer("blocking send_fds", "one descriptor a message: the floor", "blocking"),
    "one-blocking": Peer(
        "one blocking loop", "accept, recv, send, close: as many as clients can make", "blocking"
    ),
    "memory": Peer("memory channel", "trio.open_memory_channel, in one process", "memory_channel"),
    "spawn": Peer("multiprocessing spawn", "Pipe and Process", "pipe", {"method": "spawn"}),
    "forkserver": Peer(
        "multiprocessing forkserver",
        "the same, the server being warm",
        "pipe",
        {"method": "forkserver"},
    ),
    "python": _python("python -c pass", "pass"),
    "imports": _python("… -c 'import trio, msgspec'", "import trio, msgspec"),
    "node-send": _served("Node, child.send", "accept and send", runtime="node", way="send"),
    "node-cluster": _served("Node, cluster", "Node's own way", runtime="node", way="cluster"),
    "one-node": _served("one Node process", "no workers", runtime="node", way="alone"),
    "bun-send": _served("Bun, child.send", "accept and send", runtime="bun", way="send"),
    "one-bun": _served("one Bun process", "no workers", runtime="bun", way="alone"),
}
