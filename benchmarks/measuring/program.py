"""A contestant's program, as it is run from here: see contestant.py for what it says."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Program"]

ROOT = Path(__file__).parents[2]
# Seconds that an answer may take, and that the end may take.
PATIENCE = 300.0
GRACE = 10.0


class Program:
    """Runs with the ``with`` block, in a session of its own.

    Attributes:
      pids: the processes that take part: the parent first, if it is one of them.
      port: where it serves, if it does.
    """

    def __init__(self, title: str, command: Sequence[str]) -> None:
        self.title = title
        self._command = command
        self.pids: list[int] = []
        self.port: int | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # so that it can be killed with all that it has started
        )
        return self

    def wait_ready(self) -> None:
        """Apart from the start, so that several can start at once."""
        introduction = self._answer()
        self.pids = introduction["pids"]
        self.port = introduction.get("port")

    def run(self, count: int) -> float:
        """Have it do so many operations; the seconds that it took."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"%d\n" % count)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # there will be no answer
        seconds: float = self._answer()
        return seconds

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            raise TimeoutError(f"no answer from {self.title} in {PATIENCE:g} s")
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.title} has died; its last words are above")
        return json.loads(answer)

    def __exit__(self, *exc_info: object) -> None:
        """Ask it to leave, and kill whatever is left after that."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        deadline = time.monotonic() + (GRACE if exc_info[0] is None else 0)
        # All that it has started has the same standard output: its end is the end of them all.
        while select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
            if not os.read(self._process.stdout.fileno(), 65536):
                break
        else:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.stdout.close()
        self._process.wait()
