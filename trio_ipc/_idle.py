"""What is left to do until the event loop has nothing else to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable


class Idle(trio.abc.Instrument):
    """Calls functions once, as soon as no task can run.

    Trio knows `trio.testing.wait_all_tasks_blocked`, but `trio.testing` takes as long to import as
    all of Trio, and a child is to start fast.
    """

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._functions: dict[Callable[[], None], None] = {}
        self._users = 0

    @classmethod
    def of_this_run(cls) -> Idle:
        try:
            return _idle.get()
        except LookupError:
            idle = cls()
            _idle.set(idle)
            return idle

    def enter(self) -> None:
        """Somebody may call `call` from now on."""
        if not self._users:
            trio.lowlevel.add_instrument(self)
        self._users += 1

    def leave(self, function: Callable[[], None]) -> None:
        """What `call` was given will not be called, either."""
        self._functions.pop(function, None)
        self._users -= 1
        if not self._users:
            trio.lowlevel.remove_instrument(self)

    def call(self, function: Callable[[], None]) -> None:
        self._functions[function] = None

    def before_io_wait(self, timeout: float) -> None:
        # The loop has made up its mind how long to sleep: a task that was woken here would sleep as
        # long.
        if timeout > 0 and self._functions:
            self._token.run_sync_soon(self._call_all, idempotent=True)

    def _call_all(self) -> None:
        functions, self._functions = self._functions, {}
        for function in functions:
            function()


_idle: trio.lowlevel.RunVar[Idle] = trio.lowlevel.RunVar("trio_ipc.idle")
