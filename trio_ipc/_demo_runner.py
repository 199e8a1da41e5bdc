"""What stands around the steps of the demo: running, timing, printing, and the proof at the end.

It knows nothing of what the steps do.
"""

from __future__ import annotations

import os
import platform
import sys
import textwrap
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TextIO

import msgspec
import trio

from ._version import __version__

Say = Callable[[object], None]
Seen = dict[str, Any]

# Seconds. Every step takes a fraction of one; a machine under load may need its time.
PATIENCE = 30


class Unfulfilled(Exception):
    """A step did not do what it says."""


def expect(fulfilled: bool, claim: str) -> None:
    """An ``assert`` that ``python -O`` leaves in place.

    Raises:
      Unfulfilled: with the claim, if it does not hold.
    """
    if not fulfilled:
        raise Unfulfilled(f"this does not hold: {claim}")


class Step(msgspec.Struct, frozen=True):
    """One thing to show.

    Attributes:
      name: one word, for the summary.
      title: what it claims, for the reader.
      perform: does it, says what happens, and returns what was seen; it raises if the claim does
          not hold.
      patience: seconds that it may take.
    """

    name: str
    title: str
    perform: Callable[[Say], Awaitable[Seen]]
    patience: float = PATIENCE


class Result(msgspec.Struct, frozen=True):
    """How a step went; ``error`` says why it failed."""

    name: str
    ok: bool
    seconds: float
    seen: Seen
    error: str | None = None


class Count(msgspec.Struct, frozen=True):
    """What there was before the first step and after the last one."""

    before: int
    after: int


class Versions(msgspec.Struct, frozen=True):
    """What the demo ran with."""

    python: str = platform.python_version()
    trio: str = trio.__version__
    trio_ipc: str = __version__


class Report(msgspec.Struct, frozen=True):
    """The whole demo, as ``--json`` prints it."""

    ok: bool
    seconds: float
    steps: list[Result]
    descriptors: Count
    children: Count
    versions: Versions
    platform: str

    def to_json(self) -> str:
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()


class Console:
    """Prints for a person, line by line as it happens; ``file`` None prints nothing."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        self._colour = file is not None and _wants_colour(file)

    def introduce(self) -> None:
        versions = msgspec.structs.asdict(Versions())
        shown = ", ".join(f"{name} {version}" for name, version in versions.items())
        self._print(f"{shown}, {platform.platform()}")

    def say(self, text: object = "") -> None:
        """Print below the title of a step."""
        self._print(textwrap.indent(str(text), "   "))

    def title(self, text: str) -> None:
        self._print("\n" + self._paint(text, "1"))

    def verdict(self, ok: bool, text: str) -> None:
        self.say(self._paint(text, "32" if ok else "1;31"))

    def _paint(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colour else text

    def _print(self, text: str) -> None:
        if self._file is None:
            return
        try:
            print(text, file=self._file, flush=True)
        except BrokenPipeError:
            # Who reads has seen enough, as with `| head`. The steps are still to be judged; and
            # what is left in the buffer must go somewhere when the interpreter exits.
            with open(os.devnull, "wb") as devnull:
                os.dup2(devnull.fileno(), self._file.fileno())
            self._file = None


def _wants_colour(file: TextIO) -> bool:
    environ = os.environ
    return file.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


async def run_steps(steps: Iterable[Step], console: Console) -> Report:
    """Run them all, those after a failed one, too, and see that they leave nothing behind."""
    before = count_descriptors(), count_children()
    start = time.perf_counter()
    results: list[Result] = []
    for step in steps:
        console.title(f"{len(results) + 1}. {step.title}")
        results.append(await run_step(step, console))
    seconds = time.perf_counter() - start
    after = count_descriptors(), count_children()
    descriptors, children = map(Count, before, after)
    report = Report(
        ok=before == after and all(result.ok for result in results),
        seconds=round(seconds, 3),
        steps=results,
        descriptors=descriptors,
        children=children,
        versions=Versions(),
        platform=platform.platform(),
    )
    _show_proof(report, before == after, console)
    return report


async def run_step(step: Step, console: Console) -> Result:
    """Run one; if it fails, say why."""
    start = time.perf_counter()
    seen: Seen = {}
    error = None
    try:
        with trio.fail_after(step.patience):
            seen = await step.perform(console.say)
    except trio.TooSlowError:
        error = f"it was not done after {step.patience:g} s"
    except (Unfulfilled, OSError) as exc:  # these speak for themselves
        error = str(exc)
    except Exception:
        error = traceback.format_exc().rstrip()
    seconds = round(time.perf_counter() - start, 3)
    if error is None:
        console.verdict(True, f"ok, {seconds:.2f} s")
    else:
        console.verdict(False, f"FAILED after {seconds:.2f} s: {error}")
    return Result(step.name, error is None, seconds, seen, error)


def _show_proof(report: Report, nothing_left: bool, console: Console) -> None:
    console.title("The proof: nothing is left behind")
    for what, count in ("open descriptors", report.descriptors), ("children", report.children):
        console.say(f"{what:<17} {count.before:>3} before, {count.after:>3} after")
    console.verdict(nothing_left, "ok" if nothing_left else "FAILED: something is left behind")
    console.title(f"{report.seconds:.2f} s altogether")
    for result in report.steps:
        console.say(f"{result.name:<17} {result.seconds:>5.2f} s")
    if report.ok:
        console.verdict(True, "Every step did what it says.")
    else:
        failed = [result.name for result in report.steps if not result.ok]
        failed += [] if nothing_left else ["the proof"]
        console.verdict(False, f"FAILED: {', '.join(failed)}")


def count_descriptors() -> int:
    """The open descriptors of this process."""
    return len(os.listdir("/dev/fd")) - 1  # the listing needs one itself


def count_children() -> int:
    """The children of this process, those that nobody has waited for included."""
    if sys.platform == "win32":
        raise NotImplementedError
    if os.path.exists("/proc/thread-self/children"):
        return sum(map(_count_children_of_thread, os.listdir("/proc/self/task")))
    # Elsewhere nobody says how many there are, but whether there are any.
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return 0
    return 1


def _count_children_of_thread(thread: str) -> int:
    try:
        with open(f"/proc/self/task/{thread}/children") as file:
            return len(file.read().split())
    except (FileNotFoundError, ProcessLookupError):  # the thread has just ended
        return 0
