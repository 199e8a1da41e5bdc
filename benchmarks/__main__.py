"""``python -m benchmarks``: run the benchmarks and print what came out."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import (
    handles,
    idle,
    linear,
    node_handles,
    node_round_trip,
    node_stream,
    payload,
    round_trip,
    startup,
    stream,
)
from ._machine import describe
from ._measure import Effort
from ._result import Line, Report

BENCHMARKS: Mapping[str, Callable[[Effort], Report]] = {
    "round-trip": round_trip.measure,
    "round-trip-apart": round_trip.measure_apart,
    "round-trip-pinned": round_trip.measure_pinned,
    "round-trip-paused": round_trip.measure_paused,
    "idle": idle.measure,
    "stream": stream.measure,
    "stream-awaited": stream.measure_awaited,
    "payload-10MB": payload.measure_10mb,
    "payload-100kB": payload.measure_100kb,
    "linear-size": linear.measure_size,
    "linear-count": linear.measure_count,
    "handles": handles.measure,
    "startup": startup.measure,
    "node-round-trip": node_round_trip.measure,
    "node-round-trip-apart": node_round_trip.measure_apart,
    "node-round-trip-pinned": node_round_trip.measure_pinned,
    "node-round-trip-child": node_round_trip.measure_child,
    "node-stream": node_stream.measure,
    "node-stream-awaited": node_stream.measure_awaited,
    "node-stream-child": node_stream.measure_child,
    "node-handles": node_handles.measure,
    "node-handles-child": node_handles.measure_child,
}


def main() -> int:
    options = _parse()
    if options.list:
        for name, measure in BENCHMARKS.items():
            print(f"{name:24}{measure.__doc__}")
        return 0
    if sys.platform != "linux":
        print("These benchmarks need Linux: they pin processes and read /proc.", file=sys.stderr)
        return 1
    print_tables = None if options.json == "-" else _load_tables()
    machine = describe()
    reports = _run(options.only or list(BENCHMARKS), options.quick)
    if print_tables is not None:
        print_tables(machine, list(reports.values()))
    if options.json:
        _write_json(options.json, machine, reports)
    missed = any(line.met is False for report in reports.values() for line in report.lines)
    return 1 if options.strict and missed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure trio_ipc beside what else could be used, in turns.",
    )
    parser.add_argument("--quick", action="store_true", help="in less than a minute, and rougher")
    parser.add_argument("--list", action="store_true", help="tell what there is, and do nothing")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=list(BENCHMARKS), help="run these"
    )
    parser.add_argument("--json", metavar="FILE", help="write all samples; - for standard output")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a target is missed")
    return parser.parse_args()


def _load_tables() -> Callable[[Mapping[str, str], Sequence[Report]], None]:
    try:
        from ._table import print_tables
    except ModuleNotFoundError as exc:
        sys.exit(f'{exc.name} is not installed: python -m pip install -e ".[bench]"')
    return print_tables


def _run(names: Sequence[str], quick: bool) -> dict[str, Report]:
    """One after the other: each has its contestants run in turns."""
    reports = {}
    for number, name in enumerate(names, 1):
        progress = _Progress(f"[{number}/{len(names)}] {name}")
        reports[name] = BENCHMARKS[name](Effort(quick, progress.show))
        progress.finish()
    return reports


class _Progress:
    """One line on stderr for each benchmark, which moves if it is a terminal."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._moves = sys.stderr.isatty()
        if not self._moves:
            print(title, file=sys.stderr, flush=True)

    def show(self, text: str) -> None:
        if self._moves:
            print(f"\r\x1b[K{self._title}: {text}", end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        if self._moves:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _write_json(path: str, machine: Mapping[str, str], reports: Mapping[str, Report]) -> None:
    data = {
        "machine": machine,
        "benchmarks": {
            name: {
                "lines": [_plain(line) for line in report.lines],
                "series": [vars(series) for series in report.series],
                "notes": list(report.notes),
            }
            for name, report in reports.items()
        },
    }
    text = json.dumps(data, indent=2, ensure_ascii=False)
    if path == "-":
        print(text)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")


def _plain(line: Line) -> dict[str, Any]:
    return {
        "what": line.what,
        "unit": line.unit,
        "ours": list(line.ours),
        "against": line.against or None,
        "theirs": list(line.theirs) or None,
        "compared": statistics.median(line.compared),
        "target": None if line.target is None else str(line.target),
        "met": line.met,
    }


if __name__ == "__main__":
    sys.exit(main())
