"""The frame of the long tests: what it counts, and when it says that something failed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from .soak import Run
from .soak.__main__ import find_scenarios, main


def run(scenario: Any, *args: str) -> int:
    return main(["--quick", *args], {"it": scenario})


def test_a_scenario_without_failures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def scenario(run: Run) -> None:
        for _ in run.cases(quick=3, full=1000):
            with run.case("a case"):
                run.figure("messages", 2)
        run.count(10)

    path = tmp_path / "out.json"
    assert run(scenario, "--seed", "7", "--json", str(path)) == 0
    assert "seed 7" in capsys.readouterr().out
    [row] = json.loads(path.read_text())["scenarios"]
    assert (row["cases"], row["failures"], row["held"]) == (13, 0, {})
    assert row["figures"] == {"messages": 6}


def test_a_case_that_raises_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    def scenario(run: Run) -> None:
        for number in run.cases(quick=3, full=1000):
            with run.case(f"case {number}"):
                assert number != 1, "one is bad"

    assert run(scenario, "--seed", "7") == 1
    out = capsys.readouterr().out
    assert "it: case 1" in out
    assert "one is bad" in out
    assert "python -m tests.soak it --seed 7" in out


def test_what_is_left_behind_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    left: list[int] = []

    def scenario(run: Run) -> None:
        left.extend(os.pipe())
        run.count(1)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.soak._held.PATIENCE", 0)
            patch.setattr("trio_ipc.testing._check_leaks.PATIENCE", 0)
            assert run(scenario) == 1
    finally:
        for fd in left:
            os.close(fd)
    assert "2 fds" in capsys.readouterr().out


def test_nothing_that_was_run_is_a_failure() -> None:
    assert run(lambda run: None) == 1


def test_an_interrupt_tells_what_came_out_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    def scenario(run: Run) -> None:
        for number in run.cases(quick=5, full=5):
            with run.case("a case"):
                if number == 3:
                    raise KeyboardInterrupt

    assert main([], {"it": scenario, "another": scenario}) == 1
    out = capsys.readouterr().out
    assert "interrupted" in out
    assert "another" not in out
    assert out.splitlines()[2].split()[:3] == ["it", "3", "1"]


def test_the_same_seed_is_the_same_chance() -> None:
    drawn: list[float] = []

    def scenario(run: Run) -> None:
        drawn.append(run.random.random())
        run.count(1)

    for seed in ("1", "1", "2"):
        run(scenario, "--seed", seed)
    assert drawn[0] == drawn[1] != drawn[2]


def test_minutes_and_not_cases() -> None:
    seen: list[int] = []

    def scenario(run: Run) -> None:
        run.count(1)
        seen.extend(run.cases(quick=10**9, full=10**9))

    assert run(scenario, "--minutes", "0.001") == 0
    assert len(seen) < 10**9


def test_every_scenario_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    out = capsys.readouterr().out
    for name, scenario in find_scenarios().items():
        assert name in out
        assert scenario.__doc__
