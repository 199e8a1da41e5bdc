"""What holds for every test: it leaves nothing behind, and it ends."""

from __future__ import annotations

import functools
import gc
import inspect
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio

from trio_ipc.testing import check_no_leaks

# Seconds after which a test hangs. No test is meant to come near it, on whatever machine.
LIMIT = 120


def pytest_configure() -> None:
    # Who is started in the background by a shell without job control ignores Ctrl-C, and passes
    # that on; the tests send it to themselves and to their children.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Descriptors, children, threads and resource warnings, after every test."""
    # What the traceback of a test that failed holds is that test's affair, not this one's.
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        vars(sys).pop(name, None)
    with check_no_leaks():
        yield


def bound(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def bounded(*args: Any, **kwargs: Any) -> None:
        with trio.fail_after(LIMIT):
            await test(*args, **kwargs)

    bounded.is_bounded = True  # type: ignore[attr-defined]
    return bounded


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not isinstance(item, pytest.Function) or "autojump_clock" in item.fixturenames:
            continue
        holder, name = item, "obj"
        if hasattr(item.obj, "hypothesis"):
            holder, name = item.obj.hypothesis, "inner_test"
        test = getattr(holder, name)
        if inspect.iscoroutinefunction(test) and not hasattr(test, "is_bounded"):
            setattr(holder, name, bound(test))


def pytest_collection_finish() -> None:
    # The check of leaks collects garbage around each test. What is there by now stays for the
    # whole session, and need not be looked at each time.
    gc.collect()
    gc.freeze()
