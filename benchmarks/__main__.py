"""``python -m benchmarks``: run the benchmarks and show what came out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .measuring.machine import describe
from .measuring.turns import FULL, QUICK, Turns
from .peers.catalogue import PEERS
from .works import WORKS

if TYPE_CHECKING:
    from .reporting.results import Results

# They read /proc, pin processes, and time their children to the nanosecond.
PLATFORM = "linux"


def main() -> int:
    options = _parse()
    if options.list:
        _list()
        return 0
    if sys.platform != PLATFORM:
        print(f"These benchmarks need {PLATFORM}.", file=sys.stderr)
        return 1
    try:
        _report(options)
    except ModuleNotFoundError as exc:
        sys.exit(f'{exc.name} is not installed: python -m pip install -e ".[bench]"')
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure trio_ipc beside what else could be used, in turns.",
    )
    parser.add_argument("--quick", action="store_true", help="in about a minute, and rougher")
    parser.add_argument("--list", action="store_true", help="tell what there is, and do nothing")
    parser.add_argument(
        "--only", nargs="+", metavar="WORK", choices=list(WORKS), help="do these works alone"
    )
    parser.add_argument("--json", metavar="FILE", help="write all samples, as pyperf does")
    parser.add_argument("--from", metavar="FILE", dest="source", help="measure nothing: read these")
    parser.add_argument("--plot", metavar="DIR", help="draw them, as SVG")
    parser.add_argument(
        "--table",
        metavar="PAGE",
        nargs="?",
        const="-",
        help="print the tables as Markdown, or put them between the marks of this page",
    )
    return parser.parse_args()


def _list() -> None:
    for name, work in WORKS.items():
        print(f"{name:18}{work.title}")
        cases = ", ".join(case.label for case in work.cases if case.label)
        if cases:
            print(f"{'':18}  at {cases}")
        print(f"{'':18}  by {'; '.join(PEERS[peer].title for peer in (work.ours, *work.rivals))}")
    print("\nPeers, and how each does it:")
    for peer in PEERS.values():
        missing = peer.missing()
        print(f"  {peer.title:29}{f'skipped: no {missing} here' if missing else peer.how}")


def _report(options: argparse.Namespace) -> None:
    from .reporting import markdown, terminal
    from .reporting.results import Results

    if options.source:
        results = Results.load(options.source)
    else:
        results = _measure(options.only or list(WORKS), options.quick)
    if not results:
        return
    if options.json:
        results.save(options.json)
    if options.plot:
        from .reporting import plots

        plots.draw(results, options.plot)
    if options.table is None:
        terminal.show(results)
    elif options.table == "-":
        print(markdown.text(results, options.plot))
    else:
        markdown.replace_in(options.table, results, options.plot)


def _measure(names: Sequence[str], quick: bool) -> Results:
    """One case after the other, until Ctrl-C: each has its contestants run in turns."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from .reporting.results import Results

    results = Results({**describe(), "effort": "--quick" if quick else "in full"})
    effort = QUICK if quick else FULL
    with Progress(
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task("")
        all_turns = [
            (name, case, Turns(WORKS[name], case, effort, lambda: progress.advance(task)))
            for name in names
            for case in WORKS[name].cases
            if case.quick or not quick
        ]
        progress.update(task, total=sum(len(turns) for *_, turns in all_turns))
        try:
            for name, case, turns in all_turns:
                progress.update(task, description=f"{name} {case.label}")
                if not progress.console.is_terminal:
                    progress.console.print(f"{name} {case.label}")
                results.add(name, case, turns.take())
        except KeyboardInterrupt:
            progress.console.print("stopped: this is what came out so far")
            results.machine["effort"] += ", stopped"
    return results


if __name__ == "__main__":
    sys.exit(main())
