"""The results at a glance, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..peers.catalogue import PEERS
from ..works import Case, Work
from . import words
from .results import Cell, Results

__all__ = ["show"]

# Where the output is no terminal, nobody wraps it.
WIDTH = 150
# A table with more columns than these stays readable only with its figures below each other.
WIDE = 4


def show(results: Results) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for name, text in results.machine.items():
        console.print(f"{name + ':':13}{text}", highlight=False)
    for name, work in results.works():
        for metrics in _tables(work, results.metrics(name)):
            console.print(_table(results, name, work, metrics))
    console.print(words.explanation(), highlight=False)
    for peer in sorted(results.skipped()):
        console.print(f"Not installed: {PEERS[peer].title}", highlight=False)
    rows = words.behind(results)
    console.print(f"\nBehind in {len(rows)} places:" if rows else "\nBehind nowhere.")
    for value, place in rows:
        console.print(f"  {value:5.2f}×  {place}", highlight=False)


def _tables(work: Work, metrics: list[str]) -> list[list[str]]:
    """Several figures stand in one table if there is only one case of each."""
    return [metrics] if len(work.cases) == 1 else [[metric] for metric in metrics]


def _table(results: Results, name: str, work: Work, metrics: Sequence[str]) -> Table:
    columns = [(case, metric) for metric in metrics for case in results.cases(name)]
    table = Table(title=f"{name}: {work.title}", title_justify="left", show_lines=False)
    table.add_column("")
    for case, metric in columns:
        table.add_column(words.column(case, work.metrics[metric]), justify="right")
    for peer in results.peers(name):
        style = "bold" if peer == work.ours else ""
        cells = [_cell(results, name, case, metric, peer, len(columns)) for case, metric in columns]
        table.add_row(PEERS[peer].title, *cells, style=style)
    return table


def _cell(results: Results, name: str, case: Case, metric: str, peer: str, columns: int) -> Text:
    cell = results.cell(name, case, metric, peer)
    if cell is None:
        return Text("–", style="dim")
    text = Text()
    if cell.ratio is not None:
        text.append(words.ratio(cell), style=_colour(cell))
        text.append(f" ±{100 * cell.ratio.spread:.0f} %", style="dim")
        text.append("\n" if columns > WIDE else "  ")
    return text.append(words.figure(cell))


def _colour(cell: Cell) -> str:
    assert cell.ratio is not None
    if cell.ratio.low >= 1:
        return "bold green"
    return "bold red" if cell.ratio.high < 1 else "bold yellow"
