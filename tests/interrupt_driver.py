"""Interrupts a run of open_child and open_parent in many places; a script of its own, because a
Ctrl-C is for a whole process.

For each place it says what is wrong, if anything is, and at the end how many interrupts came.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import trio

import trio_ipc
from tests import scope_children as children
from tests.both_ends import open_both_ends
from tests.sweep import AtStep, ctrl_c
from trio_ipc.testing import check_no_leaks

PACKAGE = os.path.dirname(trio_ipc.__file__) + os.sep
Place = tuple[str, int]

# What is run ------------------------------------------------------------------------------------


async def both_sides() -> None:
    """All that two scopes and their channels do, in a few milliseconds."""
    one, other = socket.socketpair()
    with one, other:
        async with open_both_ends() as (child, parent):
            for sender, receiver in ((child, parent), (parent, child)):
                sender.send_nowait("now")
                await sender.send("soon", one, keep_open=True)
                assert await receiver.receive() == "now"
                with (await receiver.receive()).handle:
                    pass
                with trio.move_on_after(0.001):
                    await receiver.receive()
                with sender.send_channel.clone() as clone:
                    await clone.drain()
            await parent.send_channel.aclose()
            assert [message async for message in child] == []


# Protected, because a handle that was received is the caller's: that it is lost to a Ctrl-C before
# he could close it is no fault of the library's.
@trio.lowlevel.enable_ki_protection
async def a_function_child() -> None:
    """Until it is interrupted, there are always messages and handles under way."""
    one, other = socket.socketpair()
    with one, other:
        async with trio_ipc.open_child(children.echo) as child:
            for _ in range(3):
                await child.send("x", one, keep_open=True)
            async for _, handle in child:
                handle.close()
                await child.send("x", one, keep_open=True)


# How it is interrupted --------------------------------------------------------------------------


@contextmanager
def traced(tracer: Callable[[Place], None]) -> Iterator[None]:
    """Call ``tracer`` for each line of the package, before it is run."""

    def local(frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            tracer((frame.f_code.co_filename[len(PACKAGE) :], frame.f_lineno))
        return local

    def trace(frame: FrameType, event: str, _: object) -> Any:
        return local if frame.f_code.co_filename.startswith(PACKAGE) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def places_of(function: Callable[[], Any]) -> list[Place]:
    found: dict[Place, None] = {}
    with traced(lambda place: found.setdefault(place)):
        trio.run(function)
    return list(found)


def run_once(function: Callable[[], Any], where: object, *instruments: Any) -> bool:
    """Whether it was interrupted; says what was wrong."""
    interrupted = False
    try:
        with check_no_leaks():
            try:
                trio.run(function, instruments=instruments)
            except KeyboardInterrupt:
                interrupted = True
    except BaseException as exc:
        print(f"{where}: {exc!r}")
        traceback.print_exc()
    return interrupted


def interrupt_at_lines(part: int, parts: int) -> int:
    """Before each line of the package, the first time that it is run."""
    count = 0
    for place in places_of(both_sides)[part::parts]:
        armed = [True]

        def interrupt(here: Place, place: Place = place, armed: list[bool] = armed) -> None:
            if here == place and armed:
                armed.clear()
                ctrl_c()

        with traced(interrupt):
            count += run_once(both_sides, place)
    return count


def interrupt_at_steps() -> int:
    """Between two steps of whatever tasks there are, which Trio takes for the main task's."""
    for count in itertools.count():
        instrument = AtStep(count + 1, ctrl_c, all_tasks=True)
        if not run_once(both_sides, f"step {count + 1}", instrument):
            assert instrument.left > 0
            return count
    raise AssertionError("not reached")


def interrupt_at_times(seed: int, rounds: int) -> int:
    """By a real signal, whenever it comes."""
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    chance = random.Random(seed)
    count = 0
    for number in range(rounds):
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.001, 0.5))
        count += run_once(a_function_child, f"round {number} of seed {seed}")
    return count


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.collect()
    gc.freeze()
    how = {"lines": interrupt_at_lines, "steps": interrupt_at_steps, "times": interrupt_at_times}
    print(how[sys.argv[1]](*map(int, sys.argv[2:])), "interrupts")  # type: ignore[operator]
