"""The life of a child, from the spawn to the reap."""

from __future__ import annotations

import signal

import trio

from ._connection import Connection
from ._errors import ChildFailed

__all__ = ["Child"]

# Seconds. A child's last bytes are there before it has exited, unless an orphan of its own holds
# its end open: then nobody waits for it for ever.
EXIT_TO_EOF = 1.0


class Child:
    """A process, and our end of the channel to it.

    Attributes:
      block: the cancel scope around the user's block; cancelled when the child fails.
    """

    def __init__(self, connection: Connection, process: trio.Process, check: bool) -> None:
        self.connection = connection
        self.process = process
        self.block = trio.CancelScope()
        self._check = check
        self._exited = trio.Event()
        self._settled = trio.Event()
        self._signalled = False

    async def supervise(self) -> None:
        """Wait for its end, take in its last words, and cancel the block if it failed."""
        await self.process.wait()
        self._exited.set()
        connection = self.connection
        with trio.move_on_after(EXIT_TO_EOF):
            while not connection.gone.is_set():
                if not connection.look():
                    await connection.gone.wait()
                await trio.lowlevel.checkpoint()
        connection.lose()
        if self.failure() is not None:
            self.block.cancel()
        connection.settle(f"child {self.process.pid} ({self._how_it_ended()})")
        self._settled.set()

    async def watch_for_loss(self) -> None:
        """A child that closes its end and stays alive must not be waited for in `receive`."""
        await self.connection.gone.wait()
        with trio.move_on_after(EXIT_TO_EOF):
            await self._settled.wait()
        self.connection.settle()

    def _how_it_ended(self) -> str:
        code = self.process.returncode
        assert code is not None
        return f"killed by signal {-code}" if code < 0 else f"exit status {code}"

    def failure(self) -> ChildFailed | None:
        """What the scope is to raise about a child that has exited."""
        code = self.process.returncode
        text = self.connection.wire.failure_text
        if not self._check or not code or (self._signalled and text is None):
            return None
        return ChildFailed(code, self.process.args, text)

    async def finish(self, grace_period: float, *, polite: bool) -> None:
        """Let it finish, make it finish, reap it: bounded, and not to be cancelled.

        Ctrl-C hastens it, and is raised when the child is reaped.
        """
        connection = self.connection
        connection.sink()
        connection.wire.end()
        connection.push()
        interrupt: KeyboardInterrupt | None = None
        steps: list[tuple[int | None, float]] = [
            (None, grace_period if polite else 0),
            (signal.SIGTERM, grace_period),
            (signal.SIGKILL, float("inf")),
        ]
        while not self._settled.is_set():
            number, patience = steps.pop(0) if steps else (None, float("inf"))
            if number is not None and not self._exited.is_set():
                self._signalled = True
                self.process.send_signal(number)
            try:
                await self._wait_settled(patience)
            except KeyboardInterrupt as exc:
                interrupt = exc
        connection.shut()
        if interrupt is not None:
            raise interrupt

    async def _wait_settled(self, patience: float) -> None:
        with trio.CancelScope(deadline=trio.current_time() + patience, shield=True):
            await self._exited.wait()
        if self._exited.is_set():
            with trio.CancelScope(shield=True):
                await self._settled.wait()
