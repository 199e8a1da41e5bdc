"""Messages and handles that flow both ways, until the child is killed at some moment."""

from __future__ import annotations

import math
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

import trio_ipc

if TYPE_CHECKING:
    from .matrix import Connections

BARE = [sys.executable, "-I", "-S", str(Path(__file__).with_name("bare_child.py"))]

# Streams that go to and fro.
STREAMS = 3
# Seconds in which the kill comes.
SOON = 0.005
# Seconds. Far above what anything here needs, on whatever machine: what takes longer hangs.
LIMIT = 40


async def send_back(parent: trio_ipc.Channel[Any, Any]) -> None:
    """A function child that does the same as the bare one, and the messages as well."""

    async def count() -> None:
        for number in range(10**9):
            await parent.send(b"%d" % number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        async for message in parent:
            if isinstance(message, list):
                await parent.send(message)


async def kill_at_random(target: Any, chance: random.Random) -> Counter[str]:
    """Run one child of this kind, and kill it; how many of what had flown until then.

    Raises:
      AssertionError: something is not as it should be.
    """
    from .matrix import assert_ended, connections

    flow = Flow(chance)
    with connections(STREAMS) as made:
        with trio.move_on_after(LIMIT) as scope:
            await flow.run(target, made)
        assert not scope.cancelled_caught, f"it hangs, after {flow.seen}"
        # Those that are in nobody's hands were closed, wherever they were.
        for stream in flow.held:
            await stream.aclose()
        await assert_ended(made.far, "our")
    return flow.seen


class Flow:
    """What goes through one channel."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        # Nobody else has them.
        self.held: set[trio.SocketStream] = set()
        self.seen: Counter[str] = Counter()
        self._first = trio.Event()
        self._ended = trio.Event()

    async def run(self, target: Any, made: Connections) -> None:
        check = self._chance.random() < 0.5
        failure: trio_ipc.ChildFailed | None = None
        async with trio.open_nursery() as nursery:
            try:
                async with trio_ipc.open_child(
                    target, max_buffer_size=math.inf, check=check
                ) as child:
                    nursery.start_soon(self._kill, child.pid)
                    for sock in made.near:
                        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
                        self.held.add(stream)
                        nursery.start_soon(self._send, child, stream)
                    nursery.start_soon(self._send_numbers, child)
                    nursery.start_soon(self._receive, child, nursery)
                    # When the block is left, what is unread is dropped.
                    await self._ended.wait()
            except trio_ipc.ChildFailed as exc:
                failure = exc
        assert child.process.returncode == -signal.SIGKILL
        assert (failure is not None) == check, failure

    async def _kill(self, pid: int) -> None:
        if self._chance.random() < 0.8:
            with trio.move_on_after(LIMIT / 2):
                await self._first.wait()
        pause = self._chance.uniform(0, SOON)

        def kill() -> None:
            # From a thread, so that it comes at any moment for the event loop, too.
            time.sleep(pause)
            os.kill(pid, signal.SIGKILL)

        await trio.to_thread.run_sync(kill)

    async def _send(self, child: trio_ipc.Channel[Any, Any], stream: trio.SocketStream) -> None:
        try:
            await child.send([1, stream])
        except trio.BrokenResourceError:
            assert stream.socket.fileno() >= 0, "it was not sent, and yet is gone"
        except trio.ClosedResourceError:
            # The child is dead and the block left before this task had its turn.
            assert stream.socket.fileno() >= 0, "it was not sent, and yet is gone"
        else:
            assert stream.socket.fileno() < 0, "it was sent, and yet is here"
            self.held.discard(stream)
            self.seen["handles"] += 1

    async def _send_numbers(self, child: trio_ipc.Channel[Any, Any]) -> None:
        try:
            while True:
                await child.send(b"x" * self._chance.randrange(2000))
                self.seen["messages"] += 1
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _receive(self, child: trio_ipc.Channel[Any, Any], nursery: trio.Nursery) -> None:
        expected = 0
        try:
            while True:
                message = await child.receive()
                self._first.set()
                if isinstance(message, bytes):
                    assert int(message) == expected, f"{message!r} and not {expected}"
                    expected += 1
                    self.seen["messages"] += 1
                else:
                    self.held.add(message[1])
                    self.seen["handles"] += 1
                    nursery.start_soon(self._send, child, message[1])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self._ended.set()
