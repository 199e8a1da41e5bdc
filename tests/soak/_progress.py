"""How far a scenario is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds between two lines where no bar can be drawn.
INTERVAL = 15


class Progress:
    """Of one scenario, as text."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._total: int | None = None
        self._done = 0
        self._failures = 0
        self._said = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator[None]:
        yield

    def expect(self, number: int | None) -> None:
        """So many cases more; None if time decides."""
        self._total = None if number is None else self._done + number

    def advance(self, number: int) -> None:
        self._done += number
        if time.monotonic() > self._said + INTERVAL:
            self._said = time.monotonic()
            self._say(f"{self._done:,}" + ("" if self._total is None else f" of {self._total:,}"))

    def failed(self, case: str) -> None:
        self._failures += 1
        self._say(f"failed: {case}")

    def _say(self, text: str) -> None:
        print(f"{self._name}: {text}", file=sys.stderr, flush=True)


class Bar(Progress):
    """Of one scenario, as a bar."""

    def __init__(self, name: str, rich: Any) -> None:
        super().__init__(name)
        columns = (
            "{task.description}",
            rich.BarColumn(),
            "{task.completed:,.0f} of {task.fields[of]}",
            "{task.fields[failures]}",
            rich.TimeElapsedColumn(),
            rich.TimeRemainingColumn(),
        )
        self._bar = rich.Progress(*columns, console=rich.Console(stderr=True), transient=True)
        self._task = self._bar.add_task(name, total=None, of="?", failures="")

    @contextmanager
    def shown(self) -> Iterator[None]:
        with self._bar:
            yield

    def expect(self, number: int | None) -> None:
        super().expect(number)
        of = "?" if self._total is None else f"{self._total:,}"
        self._bar.update(self._task, total=self._total, of=of)

    def advance(self, number: int) -> None:
        self._done += number
        self._bar.update(self._task, completed=self._done)

    def failed(self, case: str) -> None:
        super().failed(case)
        self._bar.update(self._task, failures=f"{self._failures} failed")

    def _say(self, text: str) -> None:
        self._bar.console.print(f"{self._name}: {text}", markup=False, highlight=False)


def make_progress(name: str) -> Progress:
    if sys.stderr.isatty():
        try:
            from . import _rich
        except ModuleNotFoundError:
            pass  # it is in the extra `bench`
        else:
            return Bar(name, _rich)
    return Progress(name)
