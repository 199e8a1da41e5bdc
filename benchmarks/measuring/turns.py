"""How things are compared on a machine that is busy with others.

The absolute figures of a shared machine are worth little: they double when somebody else compiles.
So all contestants take turns in short slices, A B C C B A A B C …; a ratio is made of slices of the
same round, which saw the same machine; and the median of these ratios is what counts. The order is
reversed from round to round, so that nobody always runs on what another has left behind, and who
gets its turn first runs a little untimed.

What a pair of processes got by chance, or has learnt, it keeps: so there are several generations of
all contestants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ..peers.catalogue import PEERS
from ..works import Case, Work
from . import clients
from .processes import pin
from .program import Program

__all__ = ["FULL", "QUICK", "Effort", "Samples", "Turns"]


@dataclass(frozen=True)
class Effort:
    """How much time to spend.

    Attributes:
      slice: seconds that one turn takes.
      rounds: how often everybody gets a turn in one generation.
      generations: how often everybody is started.
      warm_up: whether to wait until everybody is as fast as it gets.
    """

    slice: float
    rounds: int
    generations: int
    warm_up: bool


FULL = Effort(slice=0.1, rounds=5, generations=3, warm_up=True)
QUICK = Effort(slice=0.02, rounds=2, generations=1, warm_up=False)

# By metric and peer: a list for each generation, of a figure for each round.
Samples = dict[tuple[str, str], list[list[float]]]


class Turns:
    """One case of a work, by all peers that are installed.

    Args:
      advance: called after each turn, of which there are ``len(turns)``.
    """

    def __init__(self, work: Work, case: Case, effort: Effort, advance: Callable[[], None]) -> None:
        self._work = work
        self._case = case
        self._effort = effort
        self._advance = advance
        self._names = [name for name in work.peers(case) if PEERS[name].missing() is None]
        self._rounds = 1 if work.fresh else effort.rounds
        self._samples: Samples = {
            (metric, name): [] for metric in work.metrics for name in self._names
        }

    def __len__(self) -> int:
        return self._effort.generations * self._rounds * len(self._names)

    def take(self) -> Samples:
        for _ in range(self._effort.generations):
            for figures in self._samples.values():
                figures.append([])
            if self._work.fresh:
                self._one_at_a_time()
            else:
                self._all_together()
        return self._samples

    def _one_at_a_time(self) -> None:
        assert self._work.count is not None
        for name in self._names:
            with self._program(name) as program:
                program.wait_ready()
                self._turn(name, program, self._work.count)

    def _all_together(self) -> None:
        with ExitStack() as stack:
            programs = [stack.enter_context(self._program(name)) for name in self._names]
            counts = [self._prepare(program) for program in programs]
            for number in range(self._rounds):
                for index in _there_and_back(len(programs), number):
                    program, count = programs[index], counts[index]
                    if self._work.count is None:
                        _work(program, count // 3 + 1)
                    self._turn(self._names[index], program, count)

    def _program(self, name: str) -> Program:
        work, peer = self._work, PEERS[name]
        command = peer.command(work.doing, self._case.options)
        return Program(f"{peer.title} ({work.doing})", command)

    def _turn(self, name: str, program: Program, count: int) -> None:
        figures = self._work.measure(program, count)
        for metric in self._work.metrics:
            self._samples[metric, name][-1].append(figures[metric])
        self._advance()

    def _prepare(self, program: Program) -> int:
        """Warm it up, and say how many operations take as long as a turn should."""
        program.wait_ready()
        count = self._work.count
        _work(program, count or 1)  # which waits for the other side to start
        if self._case.cpus is not None:
            pin(program.pids, self._case.cpus)
        if count is None:
            return _calibrate(program, self._effort.slice)
        if self._effort.warm_up:
            for _ in range(self._work.warm_up // count):
                _work(program, count)
        return count


def _there_and_back(length: int, number: int) -> Sequence[int]:
    order = range(length)
    return order[::-1] if number % 2 else order


def _work(program: Program, count: int) -> float:
    if program.port is None:
        return program.run(count)
    return clients.connect(program.port, count)[0]


def _calibrate(program: Program, seconds: float) -> int:
    """How many operations take so long. Warms everything up besides."""
    count = 1
    while (took := _work(program, count)) < seconds / 2:
        count = min(count * 8, int(count * seconds / took) + 1)
    return max(1, int(count * seconds / took))
