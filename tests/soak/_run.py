"""What a scenario is given."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ._held import resident_bytes
from ._progress import Progress

# Of each scenario so many failures are kept with their texts; the others are only counted.
KEPT = 20


class Failure(NamedTuple):
    case: str
    text: str


class Run:
    """One run of one scenario. What it is for is explained in ``__init__.py``."""

    def __init__(
        self, name: str, seed: int, *, quick: bool, minutes: float | None, progress: Progress
    ) -> None:
        self.name = name
        self.random = random.Random(f"{seed} {name}")
        self.quick = quick
        self.count_of_cases = 0
        self.count_of_failures = 0
        self.failures: list[Failure] = []
        self.figures: dict[str, float | str] = {}
        self._progress = progress
        self._ends = None if minutes is None else time.monotonic() + 60 * minutes
        self._warm: int | None = None
        self._warm_at: float = 0

    def cases(self, *, quick: int, full: int) -> Iterator[int]:
        """The numbers of the cases to run."""
        total = quick if self.quick else full
        if self._ends is None:
            self._warm_at = self.count_of_cases + total / 10
            self._progress.expect(total)
            yield from range(total)
            return
        begun = time.monotonic()
        self._warm_at = float("inf")
        self._progress.expect(None)
        number = 0
        while time.monotonic() < self._ends:
            yield number
            number += 1
            if self._warm is None and time.monotonic() > begun + (self._ends - begun) / 10:
                self._warm = resident_bytes()

    @contextmanager
    def case(self, name: str) -> Iterator[None]:
        """One case, whose exception is a failure."""
        try:
            yield
        except Exception:
            self.fail(name, traceback.format_exc())
        self.count(1)

    def count(self, number: int) -> None:
        """So many cases were run."""
        self.count_of_cases += number
        if self._warm is None and self.count_of_cases >= self._warm_at:
            self._warm = resident_bytes()
        self._progress.advance(number)

    def fail(self, case: str, text: str) -> None:
        """Something was not as it should be."""
        self.count_of_failures += 1
        if len(self.failures) < KEPT:
            self.failures.append(Failure(case, text))
        # In the traceback of a group the last lines are only frames around nothing.
        lines = [line for each in text.splitlines() if (line := each.strip(" |+-"))]
        self._progress.failed(": ".join([case, *lines[-1:]]))

    def check(self, case: str, holds: bool, text: str) -> None:
        """Something is as it should be, or is not."""
        if not holds:
            self.fail(case, text)

    def figure(self, name: str, value: float | str) -> None:
        """Something worth telling; numbers are added up."""
        before = self.figures.get(name, 0)
        if isinstance(value, str) or isinstance(before, str):
            self.figures[name] = value
        else:
            self.figures[name] = before + value

    def grown(self) -> int:
        """By how many bytes the memory has grown since the first tenth of the cases."""
        return 0 if self._warm is None else resident_bytes() - self._warm
