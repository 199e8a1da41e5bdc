"""The figures, in a file of pyperf's, which its own commands understand too.

Every benchmark in it is one figure of one peer; every run in that is one generation of processes.
Values of the same index were taken in the same round.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyperf  # type: ignore[import-untyped]

from ..measuring.turns import Samples
from ..works import WORKS, Case, Metric, Work

__all__ = ["Cell", "Results", "Summary"]


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

    @property
    def spread(self) -> float:
        """Half of the distance of the quartiles, as a part of the median."""
        return (self.high - self.low) / 2 / self.median


@dataclass(frozen=True)
class Cell:
    """One figure of one peer.

    Attributes:
      costs: in seconds or bytes, one for each round.
      ratios: the peer's cost by ours, in each round; empty for ourselves, and where it would say
          nothing.
    """

    metric: Metric
    costs: Sequence[float]
    ratios: Sequence[float]

    @property
    def shown(self) -> Summary:
        return Summary.of([self.metric.convert(cost) for cost in self.costs])

    @property
    def ratio(self) -> Summary | None:
        return Summary.of(self.ratios) if self.ratios else None


class Results:
    """All figures of one invocation."""

    def __init__(self, machine: Mapping[str, str]) -> None:
        self.machine = dict(machine)
        self._suite: list[pyperf.Benchmark] = []
        self._costs: dict[tuple[str, str, str, str], list[float]] = {}

    def __bool__(self) -> bool:
        return bool(self._costs)

    def add(self, name: str, case: Case, samples: Samples) -> None:
        for (metric, peer), generations in samples.items():
            key = {"work": name, "case": case.label or "-", "metric": metric, "peer": peer}
            metadata = {
                "name": ", ".join(part for part in key.values() if part != "-"),
                "unit": WORKS[name].metrics[metric].kind,
                **key,
                **self.machine,
            }
            runs = [
                pyperf.Run(values, metadata=metadata, collect_metadata=False)
                for values in generations
            ]
            self._add(pyperf.Benchmark(runs))

    def _add(self, benchmark: pyperf.Benchmark) -> None:
        metadata = benchmark.get_metadata()
        key = tuple(metadata[part] for part in ("work", "case", "metric", "peer"))
        self._suite.append(benchmark)
        self._costs[key] = list(benchmark.get_values())

    def save(self, path: str) -> None:
        pyperf.BenchmarkSuite(self._suite).dump(path, replace=True)

    @classmethod
    def load(cls, path: str) -> Results:
        suite = pyperf.BenchmarkSuite.load(path).get_benchmarks()
        own = {"name", "unit", "work", "case", "metric", "peer"}
        metadata = suite[0].get_metadata()
        results = cls({name: metadata[name] for name in metadata if name not in own})
        for benchmark in suite:
            results._add(benchmark)
        return results

    def works(self) -> Iterator[tuple[str, Work]]:
        measured = {work for work, *_ in self._costs}
        return ((name, work) for name, work in WORKS.items() if name in measured)

    def cases(self, name: str) -> list[Case]:
        measured = {case for work, case, *_ in self._costs if work == name}
        return [case for case in WORKS[name].cases if (case.label or "-") in measured]

    def peers(self, name: str) -> list[str]:
        """Ourselves first."""
        work = WORKS[name]
        measured = {peer for work_name, *_, peer in self._costs if work_name == name}
        return [peer for peer in (work.ours, *work.rivals) if peer in measured]

    def metrics(self, name: str) -> list[str]:
        measured = {metric for work, _, metric, _ in self._costs if work == name}
        return [metric for metric in WORKS[name].metrics if metric in measured]

    def cell(self, name: str, case: Case, metric: str, peer: str) -> Cell | None:
        """None where the peer has no such figure."""
        work = WORKS[name]
        costs = self._costs.get((name, case.label or "-", metric, peer))
        if costs is None:
            return None
        ratios: list[float] = []
        if peer != work.ours and work.metrics[metric].compared:
            ours = self._costs[name, case.label or "-", metric, work.ours]
            ratios = [theirs / mine for theirs, mine in zip(costs, ours, strict=True)]
        return Cell(work.metrics[metric], costs, ratios)

    def cells(self) -> Iterator[tuple[str, Case, str, str, Cell]]:
        for name, _ in self.works():
            for metric in self.metrics(name):
                for case in self.cases(name):
                    for peer in self.peers(name):
                        cell = self.cell(name, case, metric, peer)
                        if cell is not None:
                            yield name, case, metric, peer, cell

    def skipped(self) -> set[str]:
        """Peers that were not installed."""
        wanted = {peer for name, work in self.works() for peer in (work.ours, *work.rivals)}
        return wanted - {peer for *_, peer in self._costs}
