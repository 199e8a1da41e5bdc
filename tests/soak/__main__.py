"""``python -m tests.soak``: run the long tests, and say what came out."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import random
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from trio_ipc.testing import check_no_leaks

from . import Run, __path__ as package_path
from ._held import adopting_orphans, load_library, take_stock, take_stock_after
from ._progress import make_progress

Scenario = Callable[[Run], None]


def find_scenarios() -> dict[str, Scenario]:
    found: dict[str, Scenario] = {}
    for module in pkgutil.iter_modules(package_path):
        if not module.name.startswith("_"):
            for name, scenario in importlib.import_module(
                f"{__package__}.{module.name}"
            ).SCENARIOS.items():
                assert name not in found, f"two scenarios are named {name!r}"
                found[name] = scenario
    return found


def main(args: Sequence[str] | None = None, scenarios: dict[str, Scenario] | None = None) -> int:
    """Returns the exit status."""
    found = find_scenarios() if scenarios is None else scenarios
    options = _parse(args, found)
    if options.list:
        for name, scenario in found.items():
            print(f"{name:24}{(scenario.__doc__ or '').partition(chr(10))[0]}")
        return 0
    seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    load_library()
    rows: list[dict[str, Any]] = []
    for name in options.names or found:
        rows.append(_run(name, found[name], seed, options))
        if rows[-1]["interrupted"]:
            break
    _print_table(rows)
    _print_failures(rows, seed)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"seed": seed, "quick": options.quick, "scenarios": rows}, file, indent=2)
    return int(any(row["failures"] for row in rows))


def _parse(args: Sequence[str] | None, found: dict[str, Scenario]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description="Run the long tests of trio_ipc."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="run these; all, if none is named")
    parser.add_argument("--seed", type=int, help="of what is left to chance; it is printed")
    parser.add_argument("--quick", action="store_true", help="few cases of each")
    parser.add_argument("--minutes", type=float, metavar="M", help="run each for so long")
    parser.add_argument("--json", metavar="FILE", help="write what came out")
    parser.add_argument("--list", action="store_true", help="tell what there is, and do nothing")
    options = parser.parse_args(args)
    for name in options.names:
        if name not in found:
            parser.error(f"no scenario is named {name!r}: there are {', '.join(found)}")
    return options


def _run(name: str, scenario: Scenario, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    progress = make_progress(name)
    run = Run(name, seed, quick=options.quick, minutes=options.minutes, progress=progress)
    before = take_stock()
    begun = time.monotonic()
    interrupted = False
    with adopting_orphans(), progress.shown():
        try:
            with check_no_leaks():
                scenario(run)
        except Exception:
            run.fail("the scenario itself", traceback.format_exc())
        except KeyboardInterrupt:
            # What came out so far is still worth telling.
            interrupted = True
            run.fail("the scenario itself", "interrupted")
        held = take_stock_after(before).growth(before)
    grown = run.grown()
    if held:
        run.fail("what is held", ", ".join(f"{number} {name}" for name, number in held.items()))
    if not run.count_of_cases:
        run.fail("the scenario itself", "no case was run")
    return {
        "name": name,
        "cases": run.count_of_cases,
        "failures": run.count_of_failures,
        "interrupted": interrupted,
        "held": held,
        "grown": grown,
        "seconds": round(time.monotonic() - begun, 1),
        "figures": run.figures,
        "texts": [failure._asdict() for failure in run.failures],
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    heads = ("scenario", "cases", "failures", "held more", "memory", "seconds", "")
    lines = [heads, *map(_texts, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        cells = [
            text.rjust(width) if column in (1, 2, 4, 5) else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _texts(row: dict[str, Any]) -> tuple[str, ...]:
    figures = row["figures"].items()
    return (
        row["name"],
        f"{row['cases']:,}",
        f"{row['failures']:,}",
        ", ".join(f"{number} {name}" for name, number in row["held"].items()) or "nothing",
        f"{row['grown'] / 2**20:+.1f} MiB",
        f"{row['seconds']:,}",
        ", ".join(f"{v if isinstance(v, str) else format(v, ',')} {name}" for name, v in figures),
    )


def _print_failures(rows: list[dict[str, Any]], seed: int) -> None:
    for row in rows:
        for failure in row["texts"]:
            print(f"\n{row['name']}: {failure['case']}\n{failure['text'].rstrip()}")
    failed = [row["name"] for row in rows if row["failures"]]
    if failed:
        command = ["python", "-m", "tests.soak", *failed, "--seed", str(seed)]
        print(f"\nto run what failed again: {shlex.join(command)}")


if __name__ == "__main__":
    sys.exit(main())
