"""A peer that is stopped for a while, or does not listen: then all goes on as before."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import trio

import trio_ipc

from ..soak._held import resident_bytes
from .talking import open_kind
from .words import Sum, message_of

# The kind of the child, and who pauses: the child is stopped by a signal; it is deaf, which is to
# say that it runs, but neither sends nor receives; or nobody here hears it, nor says anything.
WAYS = [
    ("function", "stopped"),
    ("function", "deaf"),
    ("function", "unheard"),
    ("script", "stopped"),
    ("json", "stopped"),
    ("json", "deaf"),
    ("json", "unheard"),
    ("advanced", "stopped"),
]
# Messages that come before the pause, and after it.
AROUND = 1000
# A native message in so many has a handle. None towards Node: whoever is stopped acknowledges none.
HANDLES = 40
# Seconds of CPU time that a pause of all of them may cost, and how much of its length besides.
MOST_CPU = 0.1, 0.02
# Bytes by which the memory may grow in a pause, after the buffers have filled.
MOST_GROWTH = 1024 * 1024


class Pause:
    """One child, both directions at once, and a pause in the middle of it.

    Attributes:
      held: set when the pause has begun, and whoever may send can send no more.
      resumed: set it, and the pause ends.
      seen: messages of both directions.
    """

    def __init__(self, kind: str, way: str) -> None:
        self._kind = kind
        self._way = way
        self._said = Sum()
        self._heard = Sum()
        self._report: dict[str, Any] = {}
        self._is_heard = True
        self.held = trio.Event()
        self.resumed = trio.Event()
        self.seen: Counter[str] = Counter()

    async def run(self) -> None:
        """Talk, pause, and talk on.

        Raises:
          AssertionError: something was lost or has changed, or the child has burnt CPU time.
        """
        async with open_kind(self._kind, "send_and_receive", stdin=subprocess.PIPE) as child:
            assert child.process.stdin is not None
            async with child.process.stdin, trio.open_nursery() as nursery:
                nursery.start_soon(self._send, child)
                nursery.start_soon(self._receive, child)
        assert self._report["heard"] == self._said.told(), "the child has not heard all of it"
        assert self._report["told"] == self._heard.told(), "not all that the child said has come"
        assert self._report["cpu"] < MOST_CPU[0], f"the child has used {self._report['cpu']} s"
        self.seen["messages"] = self._said.count + self._heard.count

    async def _send(self, child: trio_ipc.ChildChannel[Any, Any]) -> None:
        while self._heard.count < AROUND:
            await self._say(child)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pause, child)
            while not self.resumed.is_set():
                if self._way == "unheard":
                    await self.resumed.wait()
                else:
                    await self._say(child)
        goal = self._heard.count + AROUND
        while self._heard.count < goal:
            await self._say(child)
        await child.send({"do": "stop"})

    async def _say(self, child: trio_ipc.ChildChannel[Any, Any]) -> None:
        message = message_of(self._said.count)
        self._said.add(message)
        native = self._kind in ("function", "script")
        if native and message[0] % HANDLES == 0:
            near, far = socket.socketpair()
            with near:
                far.setblocking(False)
                await child.send([*message, far])
        else:
            await child.send(message)

    async def _pause(self, child: trio_ipc.ChildChannel[Any, Any]) -> None:
        if self._way == "stopped":
            child.process.send_signal(signal.SIGSTOP)
        elif self._way == "deaf":
            await child.send({"do": "pause"})
        self._is_heard = self._way != "unheard"
        while self._is_heard and not child.statistics().tasks_waiting_send:
            await trio.lowlevel.checkpoint()
        self.held.set()
        await self.resumed.wait()
        self._is_heard = True
        if self._way == "stopped":
            child.process.send_signal(signal.SIGCONT)
        elif self._way == "deaf":
            assert child.process.stdin is not None
            await child.process.stdin.send_all(b"go on")

    async def _receive(self, child: trio_ipc.ChildChannel[Any, Any]) -> None:
        async for message in child:
            if isinstance(message, dict):
                self._report = message
                return
            self._heard.add(message)
            if not self._is_heard:
                await self.resumed.wait()


async def pause_all(ways: Sequence[tuple[str, str]], seconds: float) -> Counter[str]:
    """All of these at the same time, for so many seconds; what was seen.

    Raises:
      AssertionError: something was lost, CPU time was burnt, or memory filled.
    """
    pauses = [Pause(*way) for way in ways]
    async with trio.open_nursery() as nursery:
        for each in pauses:
            nursery.start_soon(each.run)
        for each in pauses:
            await each.held.wait()
        memory = resident_bytes()
        before = time.process_time()
        await trio.sleep(seconds)
        used = time.process_time() - before
        grown = resident_bytes() - memory
        for each in pauses:
            each.resumed.set()
    assert used < MOST_CPU[0] + MOST_CPU[1] * seconds, f"{used:.2f} s of CPU time"
    assert grown < MOST_GROWTH, f"{grown:,} bytes"
    seen = sum((each.seen for each in pauses), Counter[str]())
    seen["milliseconds of CPU time"] = round(used * 1000)
    seen["seconds of pause"] = round(seconds * len(pauses))
    return seen
