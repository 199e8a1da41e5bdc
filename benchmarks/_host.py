"""A process of its own for each contestant.

None can disturb another: not by its garbage, not by its memory, not by what waits in its event
loop; and one that is not asked to run uses no CPU. The `Host` here asks over the standard streams
of `main` there, a line of JSON each way, with nothing of what is measured.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncRun", "Contestant", "Host", "Run"]

# Seconds that an answer may take, and that the end may take.
PATIENCE = 300.0
GRACE = 10.0

# Do something so many times and say how many seconds that took.
Run = Callable[[int], float]
AsyncRun = Callable[[int], Awaitable[float]]


@dataclass(frozen=True)
class Contestant:
    """Something to measure.

    Attributes:
      maker: a function at the top level of a module, that makes a context manager, async or not,
          of a `Run` or an `AsyncRun`. It runs in a `Host`.
      args: its arguments, as JSON knows them.
      cpus: how many CPUs it and its peer have: 1 to share, 2 for one each; None for any that the
          kernel sees fit.
      count: how many operations to do in one turn, with no others before; None to find out.
      warm_up: how many turns come before the first one that counts.
    """

    maker: Callable[..., AbstractContextManager[Any] | AbstractAsyncContextManager[Any]]
    args: tuple[Any, ...] = ()
    cpus: int | None = None
    count: int | None = None
    warm_up: int = 1

    def __str__(self) -> str:
        return f"{self.maker.__module__}.{self.maker.__qualname__}{self.args or '()'}"


class Host:
    """Runs a contestant in a process of its own, which ends with the ``with`` block."""

    def __init__(self, contestant: Contestant) -> None:
        self.contestant = contestant

    def __enter__(self) -> Self:
        maker = self.contestant.maker
        order = {
            "maker": [maker.__module__, maker.__qualname__],
            "args": self.contestant.args,
            "cpus": self.contestant.cpus,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # so that it can be killed with all that it has started
        )
        return self

    def run(self, count: int) -> Any:
        """Let it run, and wait for what it answers: seconds, in a `contest`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(b"%d\n" % count)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # there will be no answer
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            raise TimeoutError(f"no answer from {self.contestant} in {PATIENCE:g} s")
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.contestant} has died; its last words are above")
        return json.loads(answer)

    def __exit__(self, *exc_info: object) -> None:
        """Ask it to leave, and kill whatever is left after that."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        deadline = time.monotonic() + GRACE
        # All that it has started has the same standard output: its end is the end of them all.
        while select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
            if not os.read(self._process.stdout.fileno(), 65536):
                break
        else:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.stdout.close()
        self._process.wait()


def main() -> None:
    """The other side: do what is asked until nobody asks any more."""
    order = json.loads(sys.argv[1])
    module, name = order["maker"]
    context = getattr(importlib.import_module(module), name)(*order["args"])
    cpus = sorted(os.sched_getaffinity(0))
    if order["cpus"]:
        os.sched_setaffinity(0, cpus[-1:])  # the peer, which is started below, inherits it
    ours = cpus[:1] if order["cpus"] == 2 else []
    if isinstance(context, AbstractAsyncContextManager):
        trio.run(_serve_async, context, ours)
    else:
        _serve(context, ours)


def _serve(context: AbstractContextManager[Run], cpus: list[int]) -> None:
    with context as run:
        if cpus:
            os.sched_setaffinity(0, cpus)
        for line in sys.stdin:
            _answer(run(int(line)))


async def _serve_async(context: AbstractAsyncContextManager[AsyncRun], cpus: list[int]) -> None:
    async with context as run:
        if cpus:
            os.sched_setaffinity(0, cpus)
        while True:
            await trio.lowlevel.wait_readable(sys.stdin)
            line = sys.stdin.readline()
            if not line:
                break
            _answer(await run(int(line)))


def _answer(result: object) -> None:
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
