"""The n-th system call fails: every call of the canonical conversation, in every way it can."""

from __future__ import annotations

import trio

from ..failing_calls import Fault
from ..fault_runs import IN_PROCESS, converse_with, count_calls
from . import Run


def every_call(run: Run) -> None:
    """Each call of a conversation fails once, with each errno that it can give."""
    faults = [(setting, each) for setting in IN_PROCESS for each in trio.run(_faults, setting)]
    run.random.shuffle(faults)
    for number in run.cases(quick=len(faults) // 10, full=len(faults)):
        setting, fault = faults[number % len(faults)]
        with run.case(f"{setting}, {fault}"):
            trio.run(converse_with, setting, fault)


def failing_streaks(run: Run) -> None:
    """A call fails from some point on, many times in a row."""
    faults = [(setting, each) for setting in IN_PROCESS for each in trio.run(_faults, setting)]
    for _ in run.cases(quick=50, full=2000):
        setting, fault = run.random.choice(faults)
        fault = fault._replace(more=run.random.choice((1, 2, 5, 20)))
        with run.case(f"{setting}, {fault}"):
            trio.run(converse_with, setting, fault)


async def _faults(setting: str) -> list[Fault]:
    await count_calls(setting)  # what is imported only when it is used counts once
    return (await count_calls(setting)).faults()


SCENARIOS = {"failing calls": every_call, "failing streaks": failing_streaks}
