"""The result, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from ._result import Line, Report, Series, Summary

__all__ = ["print_tables"]

# Where the output is no terminal, nobody wraps it.
WIDTH = 150


def print_tables(machine: Mapping[str, str], reports: Sequence[Report]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for name, value in machine.items():
        console.print(f"{name + ':':13}{value}", highlight=False)
    console.print(_results([line for report in reports for line in report.lines]))
    for report in reports:
        for series in report.series:
            console.print(_series(series))
    for note in {note: None for report in reports for note in report.notes}:
        console.print(note)
    console.print(
        "Medians, with the quartiles in brackets. A ratio is made in each round, of slices that"
        " were run in turns.\nk = 1000, MB = 1000² bytes, MiB = 1024² bytes.",
        highlight=False,
    )


def _results(lines: Sequence[Line]) -> Table:
    table = Table("", "trio_ipc", "against", "theirs", "ratio", "target", "", title="trio_ipc")
    before = ""
    for line in lines:
        table.add_row(
            "" if line.what == before else line.what,
            f"{_show(line.ours)} {line.unit}",
            line.against,
            f"{_show(line.theirs)} {line.unit}" if line.theirs else "",
            _show(line.compared) if line.theirs else "",
            "" if line.target is None else str(line.target),
            {True: "[green]met", False: "[red]not met", None: ""}[line.met],
        )
        before = line.what
    return table


def _show(samples: Sequence[float]) -> str:
    summary = Summary.of(samples)
    return f"{_digits(summary.median)} [dim]({_digits(summary.low)}-{_digits(summary.high)})[/]"


def _digits(value: float) -> str:
    """Three of them, or all before the point."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _series(series: Series) -> Table:
    table = Table(title=series.title)
    for column in series.columns:
        table.add_column(column, justify="right")
    for row in series.rows:
        table.add_row(*row)
    return table
