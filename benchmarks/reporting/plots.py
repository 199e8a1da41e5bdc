"""The results as SVG, to be read on light and on dark pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ..peers.catalogue import PEERS
from ..works import WORKS, Case, Work
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
    """Write a file for each work."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, work in results.works():
            for metric in work.metrics:
                path = Path(directory, _file_name(name, work, metric))
                figure = _figure(results, name, work, metric)
                if figure is not None:
                    _save(figure, path)
        linear = list(_linear_series(results))
        if linear:
            _save(_linearity(linear), Path(directory, "linearity.svg"))


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, transparent=True, metadata={"Date": None})


def _file_name(name: str, work: Work, metric: str) -> str:
    return f"{name}.svg" if len(work.metrics) == 1 else f"{name}-{metric}.svg"


def _figure(results: Results, name: str, work: Work, metric: str) -> Figure | None:
    if not work.metrics[metric].compared:
        return None
    if work.x_label:
        return _curves(results, name, work, metric)
    return _ratios(results, name, work, metric)


# Ratios -----------------------------------------------------------------------------------------


def _ratios(results: Results, name: str, work: Work, metric: str) -> Figure | None:
    """A panel for each case; a bar for each peer, from one to how many times as fast we are."""
    cases = results.cases(name)
    rivals = [peer for peer in results.peers(name) if peer != work.ours]
    if not rivals:
        return None
    figure = Figure(figsize=(4 + 2.2 * len(cases), 0.8 + 0.3 * len(rivals)))
    panels = figure.subplots(1, len(cases), sharey=True, squeeze=False)[0]
    for panel, case in zip(panels, cases, strict=True):
        _bars(panel, results, name, case, metric, rivals)
    panels[0].set_yticks(range(len(rivals)), [PEERS[peer].title for peer in rivals])
    panels[0].invert_yaxis()
    title = work.metrics[metric].title
    figure.suptitle(f"{name}{': ' if title else ''}{title}, how many times as fast as …", color=INK)
    return figure


def _bars(
    panel: Axes, results: Results, name: str, case: Case, metric: str, rivals: Sequence[str]
) -> None:
    highest, lowest = 1.0, 1.0
    for row, peer in enumerate(rivals):
        cell = results.cell(name, case, metric, peer)
        if cell is None or cell.ratio is None:
            continue
        ratio = cell.ratio
        highest, lowest = max(highest, ratio.high), min(lowest, ratio.low)
        colour = AHEAD if ratio.median >= 1 else BEHIND
        panel.barh(row, ratio.median - 1, left=1, height=0.6, color=colour, alpha=0.75)
        panel.plot([ratio.low, ratio.high], [row, row], color=INK, linewidth=1.5)
        panel.annotate(
            words.ratio(cell),
            (max(ratio.high, 1), row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
    panel.set_xscale("log")
    panel.set_xlim(lowest / 1.3, highest * 2.2)
    panel.axvline(1, color=INK, linewidth=1)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.tick_params(axis="y", length=0)
    panel.set_title(case.label, fontsize=10)


# Curves -----------------------------------------------------------------------------------------


def _curves(results: Results, name: str, work: Work, metric: str) -> Figure:
    """Costs by size, both in powers of ten."""
    figure = Figure(figsize=(8, 4.5))
    axes = figure.subplots()
    for colour, peer in zip(COLOURS, results.peers(name), strict=False):
        points = _points(results, name, metric, peer)
        if not points:
            continue
        xs = [x for x, _ in points]
        middles = [summary.median for _, summary in points]
        ours = peer == work.ours
        axes.plot(
            xs,
            middles,
            marker="o",
            markersize=4,
            color=colour,
            linewidth=2.5 if ours else 1.2,
            label=PEERS[peer].title,
            zorder=3 if ours else 2,
        )
        lows, highs = [s.low for _, s in points], [s.high for _, s in points]
        axes.fill_between(xs, lows, highs, color=colour, alpha=0.15, linewidth=0)
    axes.set(xscale="log", yscale="log", xlabel=work.x_label, ylabel=work.metrics[metric].label)
    axes.set_title(f"{name}: {work.metrics[metric].title or work.title}", fontsize=10)
    axes.grid(True)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


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
