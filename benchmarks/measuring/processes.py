"""What Linux knows of processes, and lets one tell it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from time import clock_gettime

__all__ = ["cpu_seconds", "forget_peak", "peak_memory", "pin", "private_memory", "resident_memory"]


def pin(pids: Iterable[int], cpus: int) -> None:
    """Give all of them one CPU, or the first of them one and the others another."""
    usable = sorted(os.sched_getaffinity(0))
    for index, pid in enumerate(pids):
        cpu = usable[0] if cpus == 1 or index == 0 else usable[-1]
        for thread in os.listdir(f"/proc/{pid}/task"):
            try:
                os.sched_setaffinity(int(thread), [cpu])
            except ProcessLookupError:
                pass  # a thread that has just ended


def cpu_seconds(pids: Iterable[int]) -> float:
    """What they have used, to the nanosecond."""
    # clock_getcpuclockid(3), which Python does not have, makes the number of the clock this way.
    return sum(clock_gettime((~pid << 3) | 2) for pid in pids)


def resident_memory(pid: int) -> int:
    return _sum(f"/proc/{pid}/status", "VmRSS:".__eq__)


def peak_memory(pid: int) -> int:
    return _sum(f"/proc/{pid}/status", "VmHWM:".__eq__)


def forget_peak(pid: int) -> None:
    """The peak is from now on what is resident now."""
    with open(f"/proc/{pid}/clear_refs", "w") as file:
        file.write("5")


def private_memory(pid: int) -> int:
    """What the machine would have back if it ended: bytes that it shares with nobody."""
    return _sum(f"/proc/{pid}/smaps_rollup", ("Private_Clean:", "Private_Dirty:").__contains__)


def _sum(path: str, wanted: Callable[[str], bool]) -> int:
    with open(path) as file:
        lines = [line.split() for line in file]
    return sum(1024 * int(line[1]) for line in lines if wanted(line[0]))
