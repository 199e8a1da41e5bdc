"""What is measured: the works, who does them, and at which sizes.

Every figure is a cost, in seconds or in bytes, of which less is better; so a ratio says how many
times as fast, or as small, trio_ipc is: above one it is ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .measuring import costs
from .measuring.program import Program

__all__ = ["WORKS", "Case", "Metric", "Work"]


@dataclass(frozen=True)
class Metric:
    """One of the figures of a work.

    Attributes:
      label: the unit that it is shown in.
      scale: what a cost is multiplied with; a rate is this divided by the cost.
      kind: "second" or "byte", of the cost.
      title: what distinguishes it from the other figures of its work.
      compared: whether the ratio says something about the peers.
    """

    label: str
    scale: float
    rate: bool = False
    kind: str = "second"
    title: str = ""
    compared: bool = True

    def convert(self, cost: float) -> float:
        return self.scale / cost if self.rate else self.scale * cost


@dataclass(frozen=True)
class Case:
    """A work at one size, or in one place.

    Attributes:
      label: what distinguishes it from the other cases of its work.
      options: what the peers are told besides.
      x: the size as a number, for the plots.
      cpus: 1 for one CPU that both processes share, 2 for one each; None for any.
      quick: whether ``--quick`` does it too.
      without: peers that can't do it.
    """

    label: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    x: float | None = None
    cpus: int | None = None
    quick: bool = True
    without: Sequence[str] = ()


Measure = Callable[[Program, int], dict[str, float]]


@dataclass(frozen=True)
class Work:
    """Something that peers do.

    Attributes:
      title: a line that says what.
      doing: the name that it has among the WORKS of the modules in peers/.
      ours: the peer that the others are compared with.
      rivals: the others.
      metrics: its figures, by name.
      cases: where and how large.
      measure: takes the figures of one turn.
      count: operations in a turn; None to find out how many take as long as a turn should.
      warm_up: operations before the first turn that counts, if they are not found out.
      fresh: whether each turn needs a program of its own.
      x_label: what the sizes of the cases are.
    """

    title: str
    doing: str
    ours: str
    rivals: Sequence[str]
    metrics: Mapping[str, Metric]
    cases: Sequence[Case] = (Case(),)
    measure: Measure = costs.duration
    count: int | None = None
    warm_up: int = 1
    fresh: bool = False
    x_label: str = ""

    def peers(self, case: Case) -> list[str]:
        return [name for name in (self.ours, *self.rivals) if name not in case.without]


MICROSECONDS = {"time": Metric("µs", 1e6)}
MILLISECONDS = {"time": Metric("ms", 1e3)}
THOUSANDS = {"time": Metric("k/s", 1e-3, rate=True)}
CPU = {"cpu": Metric("µs", 1e6, title="CPU of both, each")}

JAVASCRIPT = ("node-json", "node-advanced", "bun-json", "bun-advanced")
BYTES = ("pipe-bytes", "trio-socket", "blocking")

KB, MB = 1000, 1_000_000

SIZES = [
    Case("16 B", {"size": 16}, 16),
    Case("1 kB", {"size": KB}, KB, quick=False),
    Case("10 kB", {"size": 10 * KB}, 10 * KB, quick=False),
    Case("100 kB", {"size": 100 * KB}, 100 * KB),
    Case("1 MB", {"size": MB}, MB, quick=False),
    Case("10 MB", {"size": 10 * MB}, 10 * MB),
    Case("64 MB", {"size": 64 * MB}, 64 * MB, quick=False),
]

PLACES = [
    Case("anywhere"),
    Case("on two CPUs", cpus=2, without=["memory"]),
    Case("on one CPU", cpus=1),
]

TO_NODE = {"role": "parent"}
TO_TRIO = {"role": "child"}

# Node compiles what has run a few thousand times.
COMPILED = 4000
# In one turn: each has two ends in one process, which may have 1024 descriptors.
SOCKETS = 400
CONNECTIONS = 400

WORKS: Mapping[str, Work] = {
    "round-trip": Work(
        "a small message there and back, one at a time",
        "round_trip",
        "trio_ipc",
        [*JAVASCRIPT, "pipe", *BYTES, "memory"],
        MICROSECONDS | CPU,
        PLACES,
    ),
    "round-trip-paused": Work(
        "the same, now and then",
        "round_trip",
        "trio_ipc",
        ["node-json", "bun-json", "pipe", "trio-socket", "blocking"],
        MICROSECONDS,
        measure=costs.after_silence,
        count=5,
    ),
    "stream": Work(
        "small messages in one direction, send_nowait and receive_nowait",
        "stream",
        "trio_ipc",
        [*JAVASCRIPT, "pipe", "pipe-bytes", "blocking", "memory"],
        THOUSANDS | CPU,
    ),
    "stream-awaited": Work(
        "the same, each message awaited; with Node and Bun, its callback",
        "stream_awaited",
        "trio_ipc",
        [*JAVASCRIPT, "memory"],
        THOUSANDS | CPU,
    ),
    "payload": Work(
        "bytes of this size there, and a small answer back",
        "payload",
        "trio_ipc",
        [*JAVASCRIPT, "pipe", *BYTES],
        MICROSECONDS,
        SIZES,
        x_label="bytes",
    ),
    "payload-memory": Work(
        "peak growth of both processes by one such message, which the sender has already",
        "payload",
        "trio_ipc",
        # The others read into a buffer that is there already.
        [*JAVASCRIPT, "pipe", "pipe-bytes"],
        {"memory": Metric("MB", 1e-6, kind="byte")},
        [case for case in SIZES if case.x and case.x >= MB],
        costs.growth,
        count=1,
        fresh=True,
        x_label="bytes",
    ),
    "payload-stream": Work(
        "the same bytes one after the other, and one answer at the end",
        "payload_stream",
        "trio_ipc",
        ["pipe", "pipe-bytes", "blocking"],
        MICROSECONDS,
        [case for case in SIZES if case.label in ("100 kB", "10 MB")],
    ),
    "queue": Work(
        "small messages that all wait before the first is received, each of them",
        "queue",
        "trio_ipc",
        ["memory"],
        MICROSECONDS,
        [
            Case("100", {"length": 100}, 100),
            Case("1,000", {"length": 1000}, 1000, quick=False),
            Case("10,000", {"length": 10_000}, 10_000),
            Case("100,000", {"length": 100_000}, 100_000, quick=False),
        ],
        x_label="messages",
    ),
    "handles": Work(
        "connected TCP sockets that move, one in each message, and are closed on arrival",
        "handles",
        "trio_ipc",
        ["node-json", "bun-json", "send-handle", "pipe", "send-fds"],
        THOUSANDS,
        count=SOCKETS,
        warm_up=COMPILED,
    ),
    "startup": Work(
        "from nothing to the first message of a child",
        "startup",
        "trio_ipc",
        ["node-json", "bun-json", "spawn", "forkserver", "python", "imports"],
        MILLISECONDS,
        count=1,
    ),
    "children": Work(
        "so many children: a round trip with each at a time, and then silence",
        "children",
        "trio_ipc",
        ["node-json", "bun-json", "pipe", "trio-socket"],
        {
            "time": Metric("k/s", 1e-3, rate=True, title="busy, round trips of all"),
            "cpu": Metric("ms/s", 1e3, title="idle, CPU of all"),
            "memory": Metric("MB", 1e-6, kind="byte", title="idle, memory of a child"),
        },
        [
            Case("1", {"children": 1}, 1),
            Case("8", {"children": 8}, 8),
            Case("32", {"children": 32}, 32, quick=False),
        ],
        costs.busy_and_idle,
        x_label="children",
    ),
    "serve": Work(
        "TCP connections, each accepted, handed to one of two workers, and answered there",
        "serve",
        "trio_ipc",
        [
            "shared-listener",
            "one-trio",
            "node-send",
            "node-cluster",
            "one-node",
            "bun-send",
            "one-bun",
            "send-handle",
            "one-blocking",
        ],
        {
            "time": Metric("k/s", 1e-3, rate=True, title="connections"),
            "cpu": Metric("µs", 1e6, title="CPU of the servers, each"),
            "clients": Metric("µs", 1e6, title="CPU of the clients, each", compared=False),
        },
        [Case(options={"workers": 2})],
        costs.served,
        count=CONNECTIONS,
        warm_up=COMPILED,
    ),
    "node-round-trip": Work(
        "trio_ipc in the place of one Node process: round trip",
        "round_trip",
        "with-node",
        ["node-json"],
        MICROSECONDS | CPU,
        [
            Case(f"{label} {where}", role, cpus=cpus)
            for label, role in (("Node child,", TO_NODE), ("Node parent,", TO_TRIO))
            for where, cpus in (("anywhere", None), ("two CPUs", 2), ("one CPU", 1))
        ],
    ),
    "node-stream": Work(
        "… small messages towards the child",
        "stream",
        "with-node",
        ["node-json"],
        THOUSANDS | CPU,
        [Case("to a Node child", TO_NODE), Case("from a Node parent", TO_TRIO)],
    ),
    "node-stream-back": Work(
        "… small messages towards the parent",
        "stream_back",
        "with-node",
        ["node-json"],
        THOUSANDS | CPU,
        [Case("from a Node child", TO_NODE), Case("to a Node parent", TO_TRIO)],
    ),
    "node-handles": Work(
        "… TCP sockets towards the child",
        "handles",
        "with-node",
        ["node-json"],
        THOUSANDS,
        [Case("to a Node child", TO_NODE), Case("from a Node parent", TO_TRIO)],
        count=SOCKETS,
        warm_up=COMPILED,
    ),
    "node-handles-back": Work(
        "… TCP sockets towards the parent",
        "handles_back",
        "with-node",
        ["node-json"],
        THOUSANDS,
        [Case("from a Node child", TO_NODE), Case("to a Node parent", TO_TRIO)],
        count=SOCKETS,
        warm_up=COMPILED,
    ),
}
