"""The benchmarks run: every work, by every peer that is installed, and what shows the figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measuring.turns import Effort, Samples, Turns
from benchmarks.peers.catalogue import PEERS
from benchmarks.works import WORKS, Case, Work

# One turn for everybody, as short as can be.
BRIEF = Effort(slice=0.001, rounds=1, generations=1, warm_up=False)

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="they read /proc")


def _brief_cases(work: Work) -> list[Case]:
    """The first, and the first with each side of a Node process."""
    cases = {case.options.get("role"): case for case in reversed(work.cases) if case.quick}
    return list(cases.values())


@linux_only
@pytest.mark.parametrize("name", WORKS)
def test_every_peer_does_the_work(name: str) -> None:
    work = WORKS[name]
    for case in _brief_cases(work):
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1

        turns = Turns(work, case, BRIEF, advance)
        samples = turns.take()
        assert done == len(turns)
        here = {peer for peer in work.peers(case) if PEERS[peer].missing() is None}
        assert {(metric, peer) for metric in work.metrics for peer in here} == set(samples)
        for figures in samples.values():
            assert len(figures) == 1
            assert len(figures[0]) == 1
            assert figures[0][0] > 0


def test_peers_are_used_and_known() -> None:
    used = {peer for work in WORKS.values() for peer in (work.ours, *work.rivals)}
    assert used == set(PEERS)


def _figures(work: Work) -> Samples:
    """As if everybody were there, and each twice as slow as the one before."""
    return {
        (metric, peer): [[0.001 * 2**place, 0.0011 * 2**place], [0.0012 * 2**place]]
        for metric in work.metrics
        for place, peer in enumerate((work.ours, *work.rivals))
    }


def test_results_survive_their_file_and_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyperf")
    pytest.importorskip("rich")
    from benchmarks.reporting import markdown, terminal
    from benchmarks.reporting.results import Results

    results = Results({"python": "3", "effort": "made up"})
    for name, work in WORKS.items():
        for case in work.cases:
            results.add(name, case, _figures(work))
    path = tmp_path / "results.json"
    results.save(str(path))
    loaded = Results.load(str(path))
    assert loaded.machine == results.machine
    assert list(loaded.cells()) == list(results.cells())
    cell = loaded.cell("round-trip", WORKS["round-trip"].cases[0], "time", "node-advanced")
    assert cell is not None
    assert cell.ratio is not None
    assert cell.ratio.median == pytest.approx(4)
    assert cell.shown.median == pytest.approx(4400)

    terminal.show(loaded)
    shown = capsys.readouterr().out
    assert "4.00×" in shown
    assert "Behind nowhere." in shown
    page = tmp_path / "page.md"
    page.write_text(f"before\n{markdown.BEGIN}\nold\n{markdown.END}\nafter\n", encoding="utf-8")
    markdown.replace_in(str(page), loaded)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "**4.00×** 4,400 µs" in text
    assert "old" not in text


def test_a_file_is_drawn_and_told_by_the_command(tmp_path: Path) -> None:
    pytest.importorskip("pyperf")
    pytest.importorskip("rich")
    pytest.importorskip("matplotlib")
    from benchmarks.reporting.results import Results

    results = Results({"python": "3", "effort": "made up"})
    for name in ("round-trip", "payload", "children"):
        for case in WORKS[name].cases:
            results.add(name, case, _figures(WORKS[name]))
    path, drawn = tmp_path / "results.json", tmp_path / "drawn"
    results.save(str(path))
    command = [sys.executable, "-m", "benchmarks", "--from", str(path)]
    output = subprocess.run(
        [*command, "--plot", str(drawn), "--table"],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    ).stdout
    assert "| trio_ipc | 1,100 µs |" in output
    assert {path.name for path in drawn.iterdir()} == {
        "round-trip.svg",
        "payload.svg",
        "children.svg",
        "linearity.svg",
    }
    for path in drawn.iterdir():
        assert "</svg>" in path.read_text(encoding="utf-8")
