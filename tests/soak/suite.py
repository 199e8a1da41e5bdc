"""The other tests, all of them, again and again: one that fails now and then is found here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from . import Run

ROOT = Path(__file__).parents[2]
# The names, the reasons, and what pytest shows of the last ones.
TOLD = 20_000


def suite(run: Run) -> None:
    """All tests that pytest collects, 20 times in a row."""
    for number in run.cases(quick=1, full=20):
        with run.case(f"run {number}"):
            run.figure("tests passed", _passed(_pytest("--no-header", "--color=no", "-ra")))


def _pytest(*args: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "--quiet", *args],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    assert ended.returncode == 0, f"exit status {ended.returncode}\n{ended.stdout[-TOLD:]}"
    return ended.stdout


def _passed(output: str) -> int:
    found = re.search(r"^(\d+) passed", output, re.MULTILINE)
    assert found is not None, output[-TOLD:]
    return int(found[1])


SCENARIOS = {"suite": suite}
