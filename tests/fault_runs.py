"""Where the conversation takes place: in a pair, in two scopes, between two who speak Node's way.

All of it is in this process, where each call of either side can be made to fail.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio

import trio_ipc
from trio_ipc import _process

from .both_ends import children_are_fake, spawn
from .failing_calls import Calls, Fault, failing
from .fault_conversation import Side, errors_of, verdict

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

# Seconds. Nothing waits for that long unless it waits for ever.
HANGS = 20

Setting = Callable[[Side, Side], Awaitable[None]]


async def in_a_pair(a: Side, b: Side) -> None:
    first, second = trio_ipc.open_channel_pair(10)
    with first, second:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.converse, first)
            nursery.start_soon(b.converse, second)


async def in_two_scopes(a: Side, b: Side) -> None:
    """`open_child` and `open_parent`, with the end of a child that does nothing.

    Each is left when its own side is done, as it is in two processes.
    """
    opened = trio.Event()
    process: list[trio.Process] = []

    async def spawn_and_tell(*args: Any) -> trio.Process:
        process.append(await spawn(*args))
        opened.set()
        return process[0]

    async def child() -> None:
        await opened.wait()
        kept = os.environ[_process.CHANNEL].partition(":")[0]
        async with process[0].stdin:  # type: ignore[union-attr]
            try:
                async with trio_ipc.open_parent() as channel:
                    await b.converse(channel)
            except trio_ipc.NoParent as exc:
                if isinstance(exc.__cause__, OSError):
                    os.close(int(kept))  # what is not a channel of ours is not ours to close
                raise

    with children_are_fake(spawn_and_tell):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            async with trio_ipc.open_child(["cat"], grace_period=0.2) as channel:
                await a.converse(channel)


async def in_node_protocol(a: Side, b: Side) -> None:
    """Each takes the other one for its Node parent."""
    ends = socket.socketpair()

    async def run(side: Side, end: socket.socket) -> None:
        number = end.detach()
        os.environ["NODE_CHANNEL_FD"] = str(number)
        try:
            async with trio_ipc.open_parent() as channel:
                await side.converse(channel)
        except trio_ipc.NoParent:
            os.close(number)  # what is not a channel of ours is not ours to close
            raise
        finally:
            if os.environ.pop("NODE_CHANNEL_FD", None) is not None:
                os.close(number)  # cancelled before it was taken up

    # Whoever ends first ends both: there is no half-closing.
    spoken = [trio.Event(), trio.Event()]
    for side, mine, theirs in ((a, *spoken), (b, *reversed(spoken))):

        async def wait_for_the_other(
            side: Side = side, mine: trio.Event = mine, theirs: trio.Event = theirs
        ) -> None:
            mine.set()
            if not (side.errors or side.ended):
                await theirs.wait()

        side.before_goodbye = wait_for_the_other
    async with trio.open_nursery() as nursery:
        # The variable is taken up before the first checkpoint of the other one.
        nursery.start_soon(run, a, ends[0])
        nursery.start_soon(run, b, ends[1])


IN_PROCESS: dict[str, Setting] = {
    "a pair": in_a_pair,
    "two scopes": in_two_scopes,
    "Node's protocol": in_node_protocol,
}


@contextmanager
def nothing_is_left() -> Iterator[None]:
    """Descriptors, children and tasks, and what the garbage collector complains of."""
    gc.collect()
    tasks = trio.lowlevel.current_statistics().tasks_living
    before = sorted(os.listdir("/dev/fd"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert not caught, [str(each.message) for each in caught]
    assert sorted(os.listdir("/dev/fd")) == before, "descriptors"
    assert trio.lowlevel.current_statistics().tasks_living == tasks, "tasks"
    try:
        left = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return
    raise AssertionError(f"a child is left: {left}")


async def count_calls(setting: str) -> Calls:
    """Once without a fault."""
    calls, outcome = await _converse(setting, None)
    assert outcome == "nothing", outcome
    return calls


async def converse_with(setting: str, fault: Fault) -> str:
    """Once with this fault; what it came to, in the names of the exceptions."""
    with nothing_is_left():
        _, outcome = await _converse(setting, fault)
    return outcome


async def _converse(setting: str, fault: Fault | None) -> tuple[Calls, str]:
    allowed = None if fault is None else fault.failure
    a, b = (Side(name, node=setting == "Node's protocol", allowed=allowed) for name in "ab")
    raised: set[str] = set()
    try:
        with failing(fault) as calls:
            try:
                with trio.fail_after(HANGS):
                    await IN_PROCESS[setting](a, b)
            except Exception as exc:
                raised = set(_names_of_documented(exc, allowed))
        if raised:
            a.check_things()
            b.check_things()
        else:
            verdict(a, b)
    finally:
        a.close()
        b.close()
    return calls, ", ".join(sorted({*raised, *errors_of(a, b)})) or "nothing"


def _names_of_documented(exc: BaseException, allowed: int | None) -> Iterator[str]:
    """What opening a channel, or leaving it, may raise."""
    if isinstance(exc, BaseExceptionGroup):
        for each in exc.exceptions:
            yield from _names_of_documented(each, allowed)
    elif isinstance(exc, trio_ipc.NoParent) or (isinstance(exc, OSError) and exc.errno == allowed):
        yield type(exc).__name__
    else:
        raise exc
