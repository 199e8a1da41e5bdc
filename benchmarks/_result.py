"""What was measured, and what it is measured against. No figures are made here."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Line", "Report", "Series", "Summary", "Target", "Unit", "at_least", "at_most"]


@dataclass(frozen=True)
class Summary:
    """The median of some samples, and the quartiles, between which half of them lie."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Summary:
        if len(samples) < 2:
            return cls(samples[0], samples[0], samples[0])
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Target:
    """Where a ratio should lie, or a figure that is compared with nothing."""

    low: float = -math.inf
    high: float = math.inf

    def met(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"≤ {self.high:g}" if self.high < math.inf else f"≥ {self.low:g}"


def at_most(value: float) -> Target:
    return Target(high=value)


def at_least(value: float) -> Target:
    return Target(low=value)


@dataclass(frozen=True)
class Unit:
    """How the seconds that one operation took are shown.

    Args:
      label: its name.
      scale: one second in this unit; for a rate, one operation per second in this unit.
      rate: whether it is something per second, of which more is better.
    """

    label: str
    scale: float
    rate: bool = False

    def convert(self, seconds: float) -> float:
        return self.scale / seconds if self.rate else self.scale * seconds


@dataclass(frozen=True)
class Line:
    """One line of the result. Samples of the same index were taken in the same round."""

    what: str
    unit: str
    ours: Sequence[float]
    against: str = ""
    theirs: Sequence[float] = ()
    target: Target | None = None

    @property
    def compared(self) -> Sequence[float]:
        """What the target is about: the ratio in each round, or our figure if it stands alone."""
        if not self.theirs:
            return self.ours
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    @property
    def met(self) -> bool | None:
        """None if there is no target."""
        if self.target is None:
            return None
        return self.target.met(statistics.median(self.compared))


@dataclass(frozen=True)
class Series:
    """A table of its own, for what is measured at several sizes."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Report:
    """All that one benchmark has to say."""

    lines: Sequence[Line]
    series: Sequence[Series] = ()
    notes: Sequence[str] = ()
