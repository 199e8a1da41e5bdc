"""How things are compared on a machine that is busy with others.

The absolute figures of a shared machine are worth little: they double when somebody else compiles.
So all contestants take turns in short slices; a ratio is made of slices of the same round, which
saw the same machine; and the median of these ratios is what counts. The order is reversed from
round to round, so that nobody always runs on what another has left behind, and who gets its turn
first runs a little untimed: what a pause costs is another question.

What a pair of processes got by chance, or has learnt, it keeps: so there are several generations of
all contestants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ._host import Contestant, Host
from ._result import Line, Target, Unit

__all__ = ["Effort", "Rival", "contest"]


@dataclass(frozen=True)
class Effort:
    """How much time to spend, and how to tell where we are."""

    quick: bool
    progress: Callable[[str], None]

    @property
    def slice(self) -> float:
        """Seconds for which one contestant runs at a time."""
        return 0.05 if self.quick else 0.15

    @property
    def generations(self) -> int:
        return 2 if self.quick else 3

    def rounds(self, quick: int = 3, full: int = 7) -> Iterator[int]:
        """Count the rounds, and tell."""
        rounds = quick if self.quick else full
        for number in range(rounds):
            self.progress(f"round {number + 1} of {rounds}")
            yield number


@dataclass(frozen=True)
class Rival:
    """Whom we are compared with, and what the ratio should be."""

    name: str
    contestant: Contestant
    target: Target | None = None


def contest(
    what: str,
    ours: Contestant,
    rivals: Sequence[Rival],
    unit: Unit,
    effort: Effort,
    generations: int | None = None,
) -> list[Line]:
    """Let all run in turns; one line for each rival."""
    contestants = [ours, *(rival.contestant for rival in rivals)]
    samples: list[list[float]] = [[] for _ in contestants]
    for _ in range(generations or effort.generations):
        _run_generation(contestants, unit, effort, samples)
    return [
        Line(what, unit.label, samples[0], rival.name, theirs, rival.target)
        for rival, theirs in zip(rivals, samples[1:], strict=True)
    ]


def _run_generation(
    contestants: Sequence[Contestant], unit: Unit, effort: Effort, samples: Sequence[list[float]]
) -> None:
    effort.progress("starting")
    with ExitStack() as stack:
        hosts = [stack.enter_context(Host(contestant)) for contestant in contestants]
        counts = [_calibrate(host, effort.slice) for host in hosts]
        for number in effort.rounds():
            for index in _there_and_back(len(hosts), number):
                samples[index].append(unit.convert(_turn(hosts[index], counts[index])))


def _there_and_back(length: int, number: int) -> Sequence[int]:
    order = range(length)
    return order[::-1] if number % 2 else order


def _turn(host: Host, count: int) -> float:
    """Seconds for one operation."""
    if host.contestant.count is None:
        host.run(count // 3 + 1)
    seconds: float = host.run(count)
    return seconds / count


def _calibrate(host: Host, seconds: float) -> int:
    """How many operations take so long. Warms everything up besides."""
    for _ in range(host.contestant.warm_up):
        host.run(host.contestant.count or 1)  # which waits for the peer to start
    if host.contestant.count is not None:
        return host.contestant.count
    count = 1
    while (took := host.run(count)) < seconds / 2:
        count = min(count * 8, int(count * seconds / took) + 1)
    return max(1, int(count * seconds / took))
