"""The results as tables on a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..peers.catalogue import PEERS
from ..works import Case
from . import words
from .results import Results

__all__ = ["replace_in", "text"]

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def text(results: Results) -> str:
    return "\n".join(_lines(results))


def replace_in(path: str, results: Results) -> None:
    """Put the tables between the two marks of this page."""
    page = Path(path).read_text(encoding="utf-8")
    if BEGIN not in page or END not in page:
        raise SystemExit(f"{path} has no {BEGIN} and {END}")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    new = f"{before}{BEGIN}\n{text(results)}\n{END}{after}"
    Path(path).write_text(new, encoding="utf-8")


def _lines(results: Results) -> Iterator[str]:
    machine = results.machine
    told = ("cpu", "kernel", "python", "trio", "msgspec", "node", "bun", "commit", "load_before")
    yield "Taken with " + ", ".join(
        f"{name.replace('_', ' ')} {machine[name]}" for name in told if name in machine
    )
    yield f"({machine['effort']}). {words.explanation()}"
    for name, work in results.works():
        columns = [
            (case, metric) for metric in results.metrics(name) for case in results.cases(name)
        ]
        yield f"\n**{name}**: {work.title}.\n"
        heads = [
            words.column(case, work.metrics[metric]).replace("\n", "; ") for case, metric in columns
        ]
        yield _row("", *heads)
        yield _row("---", *["---:"] * len(heads))
        for peer in results.peers(name):
            yield _row(
                PEERS[peer].title,
                *(_cell(results, name, case, metric, peer) for case, metric in columns),
            )


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(results: Results, name: str, case: Case, metric: str, peer: str) -> str:
    cell = results.cell(name, case, metric, peer)
    if cell is None:
        return "–"
    if cell.ratio is None:
        return words.figure(cell)
    return f"**{words.ratio(cell)}** {words.figure(cell)}"
