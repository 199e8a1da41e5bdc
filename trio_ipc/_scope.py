"""How a block is entered, tasks run beside it, and exceptions leave it: bare."""

from __future__ import annotations

import sys
import warnings
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, NoReturn, TypeVar

import trio

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from types import TracebackType

T = TypeVar("T")


class Opening(AbstractAsyncContextManager[T]):
    """What a function gives that opens a channel for a block, before the block is entered.

    It has nothing but what makes it a context manager, and says so to those who take it for the
    channel.

    Args:
      usage: how it is to be used.
      scope: the context manager of the block.
    """

    def __init__(self, usage: str, scope: AbstractAsyncContextManager[T]) -> None:
        self._usage = usage
        self._scope = scope
        self._is_entered = False
        self._is_misused = False

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> T:
        if self._is_entered:
            raise RuntimeError(f"this was entered before; each block needs its own: {self._usage}")
        self._is_entered = True
        try:
            trio.lowlevel.current_task()
        except RuntimeError as exc:
            raise RuntimeError(
                "this is no task of Trio's: call it from a function that trio.run() runs. asyncio"
                " can't run it"
            ) from exc
        return await self._scope.__aenter__()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._scope.__aexit__(exc_type, exc_value, traceback)

    def _misuse(self, kind: type[Exception], subject: str = "this") -> Exception:
        self._is_misused = True
        return kind(f"{subject} is no channel yet, but opens one: {self._usage}")

    def __await__(self) -> NoReturn:
        raise self._misuse(TypeError)

    def __enter__(self) -> NoReturn:
        raise self._misuse(TypeError)

    def __exit__(self, *_: object) -> None:
        raise AssertionError("it can't be entered")  # pragma: no cover

    def __getattr__(self, name: str) -> NoReturn:
        raise self._misuse(AttributeError, f"what has no {name!r}")

    def __del__(self) -> None:
        if not (self._is_entered or self._is_misused):
            warnings.warn(
                f"what opens a channel was never entered, so that nothing was opened:"
                f" {self._usage}",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )


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
