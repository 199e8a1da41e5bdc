"""Something happens at each step of an operation in turn: a cancellation, or Ctrl-C."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType

import trio

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

# Of an operation that is ever over.
MOST_STEPS = 2000
# What makes it happen, as soon as Trio's event loop is told.
Strike = Callable[[], object]


class AtStep(trio.abc.Instrument):
    """Do something after the n-th step of the task that makes this, or of ``all_tasks`` together.

    As a context manager it counts the steps of the block; with n = 0, it happens before the first.
    """

    def __init__(self, step: int, happen: Strike, *, all_tasks: bool = False) -> None:
        self.left = step
        self._happen = happen
        self._task = None if all_tasks else trio.lowlevel.current_task()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._task is None or task is self._task:
            self.left -= 1
            if self.left == 0:
                self._happen()

    @trio.lowlevel.enable_ki_protection  # or else Ctrl-C would come out here
    def __enter__(self) -> None:
        if self.left == 0:
            self._happen()
        trio.lowlevel.add_instrument(self)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        trio.lowlevel.remove_instrument(self)


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


# The causes --------------------------------------------------------------------------------------


class SiblingFailed(Exception):
    pass


@asynccontextmanager
async def cancelled() -> AsyncIterator[Strike]:
    with trio.CancelScope() as scope:
        yield scope.cancel


@asynccontextmanager
async def too_late() -> AsyncIterator[Strike]:
    with trio.CancelScope() as scope:

        def expire() -> None:
            scope.deadline = trio.current_time() - 1

        yield expire


@asynccontextmanager
async def beside_a_failure() -> AsyncIterator[Strike]:
    now = trio.Event()

    async def fail() -> None:
        await now.wait()
        raise SiblingFailed

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            yield now.set
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if group.split(SiblingFailed)[1] is not None:
            raise


@asynccontextmanager
async def interrupted() -> AsyncIterator[Strike]:
    """By a real SIGINT, which Trio delivers to the main task: only that one may use this."""
    try:
        yield ctrl_c
        await trio.lowlevel.checkpoint()  # here at the latest
    except KeyboardInterrupt:
        pass


Cause = Callable[[], AbstractAsyncContextManager[Strike]]
CAUSES: list[Cause] = [cancelled, too_late, beside_a_failure, interrupted]


# The sweep ---------------------------------------------------------------------------------------


async def strike_at(
    step: int,
    operation: Callable[[AtStep], Awaitable[object]],
    cause: Cause,
    *,
    all_tasks: bool = False,
) -> tuple[bool, bool]:
    """Run an operation that is struck at this step of it; 0 is before the first. It enters what it
    is given where its steps begin to count.

    Returns whether that ended it, and whether it was over before.
    """
    ended = True
    async with cause() as strike:
        at_step = AtStep(step, strike, all_tasks=all_tasks)
        await operation(at_step)
        ended = False
    return ended, at_step.left > 0


async def sweep(
    operation: Callable[[AtStep], Awaitable[object]],
    check: Callable[[bool], Awaitable[object]],
    cause: Cause = cancelled,
    *,
    all_tasks: bool = False,
) -> int:
    """Strike an operation at each of its steps in turn, until it is over before. ``check`` is told
    each time whether it was ended.

    Returns the number of steps.
    """
    for step in range(MOST_STEPS):
        ended, over = await strike_at(step, operation, cause, all_tasks=all_tasks)
        await check(ended)
        if over:
            return step
    raise AssertionError("the operation is never over")


async def cancel_sweep(
    operation: Callable[[], Awaitable[object]],
    check: Callable[[bool], Awaitable[object]],
    prepare: Callable[[], object] = lambda: None,
    *,
    all_tasks: bool = False,
) -> int:
    """Cancel ``operation`` at each of its steps; ``prepare`` comes before it each time."""

    async def prepared(at_step: AtStep) -> None:
        prepare()
        with at_step:
            await operation()

    return await sweep(prepared, check, all_tasks=all_tasks)
