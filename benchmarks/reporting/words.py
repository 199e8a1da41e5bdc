"""Figures as words, the same in the terminal and on a page."""

from __future__ import annotations

from ..works import Case, Metric
from .results import Cell, Results

__all__ = ["behind", "column", "digits", "explanation", "figure", "ratio"]

# Where a ratio is more than noise.
BEHIND = 0.97


def digits(value: float) -> str:
    """Three of them, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def figure(cell: Cell) -> str:
    return f"{digits(cell.shown.median)} {cell.metric.label}"


def ratio(cell: Cell) -> str:
    assert cell.ratio is not None
    return f"{digits(cell.ratio.median)}×"


def column(case: Case, metric: Metric) -> str:
    return "\n".join(part for part in (metric.title, case.label) if part)


def behind(results: Results) -> list[tuple[float, str]]:
    """Where a peer does better than we do, the worst first."""
    rows = []
    for name, case, metric, peer, cell in results.cells():
        if cell.ratio is not None and cell.ratio.median < BEHIND:
            title = cell.metric.title or metric
            place = ", ".join(part for part in (name, case.label, title) if part)
            rows.append((cell.ratio.median, f"{place}: {peer}"))
    return sorted(rows)


def explanation() -> str:
    return (
        "2.00× means that trio_ipc is twice as fast, or takes half as much, as that peer; below 1"
        " it is behind. A ratio is made in each round, of slices that were run in turns; shown are"
        " medians, and ± is half the distance of the quartiles. k = 1000, MB = 1000² bytes."
    )
