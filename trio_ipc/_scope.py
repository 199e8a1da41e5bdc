"""How tasks run beside a block, and exceptions leave it: bare."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

__all__ = ["in_background"]


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def in_background(*tasks: Callable[[], Awaitable[None]]) -> AsyncGenerator[None, None]:
    """Run tasks beside the block, until it is left; they outlive its cancellation.

    The body's exception never goes through the nursery, which would wrap each in a group; so a
    group that comes out is the user's own.
    """
    error: BaseException | None = None
    stop = trio.CancelScope(shield=True)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run_all, tasks, stop)
            try:
                yield
            except BaseException as exc:
                error = exc
            stop.cancel()
    except BaseExceptionGroup as group:
        interrupts = group.subgroup(KeyboardInterrupt)
        if interrupts is None:
            raise
        raise KeyboardInterrupt from group
    if error is not None:
        raise error


# A task does not inherit this protection. A Ctrl-C that ended one of them would be missed by those
# that wait for it; so it is the block's affair.


@trio.lowlevel.enable_ki_protection
async def _run_all(
    tasks: tuple[Callable[[], Awaitable[None]], ...], stop: trio.CancelScope
) -> None:
    with stop:
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(_run, task, name=task)


@trio.lowlevel.enable_ki_protection
async def _run(task: Callable[[], Awaitable[None]]) -> None:
    await task()
