"""``python -m benchmarks.contestant MODULE WORK OPTIONS``: one peer that does one work.

Every contestant is a program like this one, or like peers/javascript/parent.js. None can disturb
another: not by its garbage, not by its memory, not by what waits in its event loop; and one that is
not asked to run uses no CPU.

It tells who takes part in a line of JSON, as in `Running`. Then, for each number that it reads from
the standard input, it writes the seconds that so many operations took.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = ["AsyncRun", "Maker", "Run", "Running", "as_options"]

# Do something so many times and say how many seconds that took.
Run = Callable[[int], float]
AsyncRun = Callable[[int], Awaitable[float]]


@dataclass(frozen=True)
class Running:
    """A contestant that is ready.

    Attributes:
      run: a `Run` if it comes from a ``with`` block, an `AsyncRun` if from an ``async with``; None
          if others are to make it work, through its port.
      children: the process ids of the other side.
      parent: whether this process itself takes part.
      port: where it serves TCP on 127.0.0.1.
    """

    run: Run | AsyncRun | None
    children: list[int] = field(default_factory=list)
    parent: bool = True
    port: int | None = None

    def introduce(self) -> None:
        ours = [os.getpid()] if self.parent else []
        _say({"pids": ours + self.children, "port": self.port})


# What a module of peers/ has for each work that it can do, in a dict named WORKS.
Maker: TypeAlias = (
    "Callable[..., AbstractContextManager[Running] | AbstractAsyncContextManager[Running]]"
)


def main() -> None:
    module, work, options = sys.argv[1:]
    context = importlib.import_module(module).WORKS[work](**as_options(options))
    if isinstance(context, AbstractAsyncContextManager):
        import trio  # a peer that does without has no use for it in its memory

        trio.run(_serve_async, context)
    else:
        _serve(context)


def as_options(text: str) -> dict[str, Any]:
    options: dict[str, Any] = json.loads(text)
    return options


def _serve(context: AbstractContextManager[Running]) -> None:
    with context as running:
        running.introduce()
        for line in sys.stdin:
            assert running.run is not None
            _say(running.run(int(line)))


async def _serve_async(context: AbstractAsyncContextManager[Running]) -> None:
    import trio

    async with context as running:
        running.introduce()
        while True:
            await trio.lowlevel.wait_readable(sys.stdin)
            line = sys.stdin.readline()
            if not line:
                break
            assert running.run is not None
            seconds = running.run(int(line))
            assert not isinstance(seconds, float)
            _say(await seconds)


def _say(something: object) -> None:
    print(json.dumps(something), flush=True)


if __name__ == "__main__":
    main()
