"""The results on a page: a drawing for each work, with its table folded away below."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..peers.catalogue import PEERS
from ..works import WORKS, Case
from . import words
from .results import Results

__all__ = ["BEGIN", "END", "replace_in", "text"]

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def text(results: Results, drawings: str | None = None, page: str = "") -> str:
    """All of it, with the drawings of this directory, as seen from the page."""
    return "\n".join(_lines(results, drawings, os.path.dirname(page)))


def replace_in(page: str, results: Results, drawings: str | None = None) -> None:
    """Put it between the two marks of this page."""
    old = Path(page).read_text(encoding="utf-8")
    if BEGIN not in old or END not in old:
        raise SystemExit(f"{page} has no {BEGIN} and {END}")
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    new = f"{before}{BEGIN}\n{text(results, drawings, page)}\n{END}{after}"
    Path(page).write_text(new, encoding="utf-8")


def _lines(results: Results, drawings: str | None, start: str) -> Iterator[str]:
    told = [f"{name.replace('_', ' ')} {value}" for name, value in results.machine.items()]
    yield f"Taken with: {', '.join(told)}."
    yield f"\n{words.explanation()}"
    for name, work in results.works():
        yield f"\n### {name}\n"
        yield f"{work.title[0].upper()}{work.title[1:]}.\n"
        yield from _drawing(name, drawings, start)
        yield "<details><summary>Figures</summary>\n"
        yield from _table(results, name)
        yield "\n</details>"
    yield "\n### linearity\n"
    yield "What each byte, message or child costs, beside what it costs where they are few.\n"
    yield from _drawing("linearity", drawings, start)
    yield from _behind(results)


def _drawing(name: str, drawings: str | None, start: str) -> Iterator[str]:
    if drawings is not None and Path(drawings, f"{name}.svg").is_file():
        path = os.path.relpath(Path(drawings, f"{name}.svg"), start or None)
        yield f"![{name}]({path})\n"


def _table(results: Results, name: str) -> Iterator[str]:
    metrics = WORKS[name].metrics
    columns = [(case, m) for m in results.metrics(name) for case in results.cases(name)]
    heads = [words.column(case, metrics[metric]) for case, metric in columns]
    yield _row("", *(head.replace("\n", "; ") for head in heads))
    yield _row("---", *["---:"] * len(heads))
    for peer in results.peers(name):
        cells = [_cell(results, name, case, metric, peer) for case, metric in columns]
        yield _row(PEERS[peer].title, *cells)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(results: Results, name: str, case: Case, metric: str, peer: str) -> str:
    cell = results.cell(name, case, metric, peer)
    if cell is None:
        return "–"
    if cell.ratio is None:
        return words.figure(cell)
    return f"**{words.ratio(cell)}** {words.figure(cell)}"


def _behind(results: Results) -> Iterator[str]:
    yield "### Where trio_ipc is behind\n"
    rows = words.behind(results)
    if not rows:
        yield "Nowhere."
        return
    yield f"<details><summary>In {len(rows)} places, the worst first</summary>\n"
    yield from (f"* {value:.2f}×: {place}" for value, place in rows)
    yield "\n</details>"
