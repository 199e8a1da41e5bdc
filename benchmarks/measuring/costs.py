"""What is read off a contestant in one turn: seconds or bytes, of which less is better."""

from __future__ import annotations

import time

from . import clients
from .processes import cpu_seconds, forget_peak, peak_memory, private_memory, resident_memory
from .program import Program

__all__ = ["after_silence", "busy_and_idle", "duration", "growth", "served"]

# Seconds of silence: in which processes come to rest, after which they sleep, and those that count.
REST = 0.1
PAUSE = 0.02
IDLE = 0.3
# CPU seconds in one second that are as good as none: 0.001 %.
NEXT_TO_NOTHING = 1e-5


def duration(program: Program, count: int) -> dict[str, float]:
    """By the clock, and of CPU: a busy machine disturbs that less."""
    before = cpu_seconds(program.pids)
    seconds = program.run(count)
    cpu = cpu_seconds(program.pids) - before
    return {"time": seconds / count, "cpu": cpu / count}


def after_silence(program: Program, count: int) -> dict[str, float]:
    """One operation now and then, when everything has gone to sleep."""
    seconds = 0.0
    for _ in range(count):
        time.sleep(PAUSE)
        seconds += program.run(1)
    return {"time": seconds / count}


def growth(program: Program, count: int) -> dict[str, float]:
    """How far above what they had the processes are at their highest, all together."""
    program.run(0)  # a small message, so that all is imported and ready
    before = sum(map(resident_memory, program.pids))
    for pid in program.pids:
        forget_peak(pid)
    program.run(count)
    return {"memory": sum(map(peak_memory, program.pids)) - before}


def busy_and_idle(program: Program, count: int) -> dict[str, float]:
    seconds = program.run(count) / count
    time.sleep(REST)
    before = cpu_seconds(program.pids)
    start = time.perf_counter()
    time.sleep(IDLE)
    cpu = cpu_seconds(program.pids) - before
    idle = time.perf_counter() - start
    children = program.pids[1:]
    memory = sum(map(private_memory, children)) / len(children)
    return {"time": seconds, "cpu": max(cpu / idle, NEXT_TO_NOTHING), "memory": memory}


def served(program: Program, count: int) -> dict[str, float]:
    """So many connections, made by clients in a process of their own."""
    assert program.port is not None
    before = cpu_seconds(program.pids)
    seconds, clients_cpu = clients.connect(program.port, count)
    cpu = cpu_seconds(program.pids) - before
    return {"time": seconds / count, "cpu": cpu / count, "clients": clients_cpu / count}
