"""The results as SVG, to be read on light and on dark pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from ..peers.catalogue import PEERS
from ..works import WORKS, Case
from . import words
from .results import Results, Summary

__all__ = ["draw"]

# In the middle between black and white: seen on both.
INK = "#808890"
AHEAD, BEHIND = "#2f9e62", "#d9534f"
# Ours first; all of the same lightness.
COLOURS = (
    "#e8871e",
    "#3d8bd4",
    "#7a6fd0",
    "#2f9e62",
    "#8a9a1e",
    "#d9534f",
    "#b565a7",
    "#1fa2a8",
    INK,
)
# From one version of matplotlib to the next, their keys have another type.
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trio_ipc",  # the same figures make the same file
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def draw(results: Results, directory: str) -> None:
    """Write a file for each work, and one for all that grows."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, work in results.works():
            figure = (_curves if work.x_label else _ratios)(results, name)
            if figure is not None:
                _save(figure, Path(directory, f"{name}.svg"))
        linear = list(_linear_series(results))
        if linear:
            _save(_linearity(linear), Path(directory, "linearity.svg"))


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, transparent=True, metadata={"Date": None})


# Of a peer that has no such figure.
NOTHING = Summary(1, 1, 1)

# Ratios -----------------------------------------------------------------------------------------


# The title of a panel, and what its bars are called.
Panel = tuple[str, list[tuple[str, Summary]]]


def _ratios(results: Results, name: str) -> Figure | None:
    """A bar for each ratio, from one to how many times as fast we are."""
    panels = _panels(results, name)
    if not panels:
        return None
    columns = len(results.cases(name)) if len(panels) > 2 else len(panels)
    rows, bars = len(panels) // columns, max(len(bars) for _, bars in panels)
    figure = Figure(figsize=(2.4 + 2.2 * columns, 0.5 + rows * (0.6 + 0.26 * bars)))
    grid = figure.subplots(rows, columns, squeeze=False)
    for place, (axes, (title, ratios)) in enumerate(zip(grid.flat, panels, strict=True)):
        _bars(axes, ratios, named=place % columns == 0)
        axes.set_ylim(bars - 0.5, -0.5)
        axes.set_title(title, fontsize=9)
    figure.suptitle(f"{name}: how many times as fast as …", fontsize=10, color=INK)
    return figure


def _panels(results: Results, name: str) -> list[Panel]:
    """One for each figure and case, with a bar for each peer; for a single peer, one for each
    figure, with a bar for each case."""
    work = WORKS[name]
    cases = results.cases(name)
    metrics = [metric for metric in results.metrics(name) if work.metrics[metric].compared]
    rivals = [peer for peer in results.peers(name) if peer != work.ours]

    def ratio(metric: str, case: Case, peer: str) -> Summary:
        cell = results.cell(name, case, metric, peer)
        return NOTHING if cell is None or cell.ratio is None else cell.ratio

    if len(rivals) == 1:
        [peer] = rivals
        return [
            (
                work.metrics[metric].title or PEERS[peer].title,
                [(case.label, ratio(metric, case, peer)) for case in cases],
            )
            for metric in metrics
        ]
    return [
        (
            words.column(case, work.metrics[metric]),
            [(PEERS[peer].title, ratio(metric, case, peer)) for peer in rivals],
        )
        for metric in metrics
        for case in cases
        if rivals
    ]


def _bars(axes: Axes, ratios: Sequence[tuple[str, Summary]], named: bool) -> None:
    for row, (_, ratio) in enumerate(ratios):
        if ratio is NOTHING:
            continue
        colour = AHEAD if ratio.median >= 1 else BEHIND
        axes.barh(row, ratio.median - 1, left=1, height=0.6, color=colour, alpha=0.75)
        axes.plot([ratio.low, ratio.high], [row, row], color=INK, linewidth=1.5)
        axes.annotate(
            f"{words.digits(ratio.median)}×",
            (max(ratio.high, 1), row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
    lowest = min(1.0, *(ratio.low for _, ratio in ratios))
    highest = max(1.0, *(ratio.high for _, ratio in ratios))
    axes.set_xscale("log")
    axes.set_xlim(lowest / 1.3, highest * (highest / lowest) ** 0.4 * 1.5)
    axes.axvline(1, color=INK, linewidth=1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", length=0)
    axes.set_yticks(range(len(ratios)), [title if named else "" for title, _ in ratios])


# Curves -----------------------------------------------------------------------------------------


def _curves(results: Results, name: str) -> Figure:
    """A panel for each figure: costs by size, both in powers of ten."""
    metrics = results.metrics(name)
    figure = Figure(figsize=(5 + 3 * len(metrics), 3.9))
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        for colour, peer in zip(COLOURS, results.peers(name), strict=False):
            _curve(panel, results, name, metric, peer, colour)
        shown = WORKS[name].metrics[metric]
        panel.set(xscale="log", yscale="log", xlabel=WORKS[name].x_label, ylabel=shown.label)
        sizes = [(case.x, case.label) for case in results.cases(name) if case.x is not None]
        panel.set_xticks([x for x, _ in sizes], [label for _, label in sizes], rotation=45)
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_title(shown.title, fontsize=9)
        panel.grid(True)
    panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(f"{name}: {WORKS[name].title}", fontsize=10, color=INK)
    return figure


def _curve(panel: Axes, results: Results, name: str, metric: str, peer: str, colour: str) -> None:
    points = _points(results, name, metric, peer)
    xs = [x for x, _ in points]
    ours = peer == WORKS[name].ours
    panel.plot(
        xs,
        [summary.median for _, summary in points],
        marker="o",
        markersize=4,
        color=colour,
        linewidth=2.5 if ours else 1.2,
        label=PEERS[peer].title,
        zorder=3 if ours else 2,
    )
    lows, highs = [summary.low for _, summary in points], [summary.high for _, summary in points]
    panel.fill_between(xs, lows, highs, color=colour, alpha=0.15, linewidth=0)


def _points(results: Results, name: str, metric: str, peer: str) -> list[tuple[float, Summary]]:
    points = []
    for case in results.cases(name):
        cell = results.cell(name, case, metric, peer)
        if cell is not None and case.x is not None:
            points.append((case.x, cell.shown))
    return points


# Linearity --------------------------------------------------------------------------------------

# A work, its figure, the size below which what is the same for all sizes weighs too much, whether
# the cost is that of all (and not of each) and what to call it.
LINEAR = (
    ("payload", "time", 1e6, True, "time per byte of a message"),
    ("payload-memory", "memory", 1e6, True, "memory per byte of a message"),
    ("queue", "time", 100, False, "time per waiting message"),
    ("children", "time", 1, False, "time per round trip, by children"),
    ("children", "cpu", 1, True, "CPU per idle child"),
    ("children", "memory", 1, False, "memory per idle child"),
)

Series = tuple[str, list[float], list[float]]


def _linear_series(results: Results) -> Iterator[Series]:
    measured = {name for name, _ in results.works()}
    for name, metric, least, of_all, title in LINEAR:
        if name not in measured:
            continue
        points = []
        for case in results.cases(name):
            cell = results.cell(name, case, metric, WORKS[name].ours)
            if cell is not None and case.x is not None and case.x >= least:
                cost = Summary.of(cell.costs).median
                points.append((case.x, cost / case.x if of_all else cost))
        if len(points) > 1:
            first_x, first = points[0]
            yield title, [x / first_x for x, _ in points], [cost / first for _, cost in points]


def _linearity(series: Sequence[Series]) -> Figure:
    """Ours alone: what each byte, message or child costs, beside what it costs at the smallest."""
    figure = Figure(figsize=(8, 3.8))
    axes = figure.subplots()
    for colour, (title, xs, ys) in zip(COLOURS, series, strict=False):
        axes.plot(xs, ys, marker="o", markersize=4, color=colour, label=title)
    axes.axhline(1, color=INK, linewidth=1)
    axes.set(xscale="log", xlabel="times as large, or as many", ylabel="cost of each")
    axes.set_ylim(0, max(2.0, *(max(ys) * 1.1 for _, _, ys in series)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title("trio_ipc: flat is linear", fontsize=10)
    axes.grid(True)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
