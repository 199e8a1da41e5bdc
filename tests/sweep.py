"""Something happens at each step of an operation in turn: a cancellation, or Ctrl-C."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


class AtStep(trio.abc.Instrument):
    """Do something after the n-th step of the task that makes this."""

    def __init__(self, step: int, happen: Callable[[], object]) -> None:
        self.step = step
        self.happen = happen
        self.seen = 0
        self.task = trio.lowlevel.current_task()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.seen += 1
            if self.seen == self.step:
                self.happen()


async def cancel_sweep(
    operation: Callable[[], Awaitable[object]],
    check: Callable[[bool], Awaitable[object]],
    *,
    limit: int = 2000,
) -> int:
    """Cancel ``operation`` before its first step, before its second, and so on until it is over
    before its turn comes. ``check`` is told each time whether the cancellation came out.

    Returns the number of steps.
    """
    for step in range(limit):
        with trio.CancelScope() as scope:
            if step == 0:
                scope.cancel()
            instrument = AtStep(step, scope.cancel)
            trio.lowlevel.add_instrument(instrument)
            try:
                await operation()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        await check(scope.cancelled_caught)
        if instrument.seen < step:
            return step
    raise AssertionError("the operation is never over")
