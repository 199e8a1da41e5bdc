"""A hostile child beside good ones: it costs its parent one channel, and bounded memory."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import trio

import trio_ipc

from ..handle_workers import close
from ..soak._held import resident_bytes
from .hostile_child import SPEAKERS
from .talking import Conversation, open_kind

CHILD = str(Path(__file__).with_name("hostile_child.py"))

# What the hostile child's channel takes: two of each are the most that may be here, with what is
# incomplete and unwritten.
LIMITS = {"max_buffer_size": 100, "max_message_size": 1024 * 1024, "max_handles": 16}
# Bytes that it may cost: those, and what the allocator and the good ones need besides.
MOST_MEMORY = 24 * 1024 * 1024
# Descriptors: what may be under way in a channel, one read, and those that the good ones have.
MOST_DESCRIPTORS = 256 + 253 + 100

# Messages of each good child between two looks.
STEP = 50

ROLES = [
    (protocol, role)
    for protocol, speaker in SPEAKERS.items()
    for role in vars(speaker)
    if not role.startswith("_")
]
# What certainly breaks a rule, as soon as it is heard. What remains breaks none, or does only if
# it is faster than its parent.
UNLAWFUL = {
    "native": {
        "noise_first", "noise", "oversized", "oversized_greeting", "deep",
        "too_many_handles", "surplus_handles",
    },
    "json": {"noise", "endless_line", "empty_lines"},
    "advanced": {"noise", "oversized"},
}  # fmt: skip


class Guest(NamedTuple):
    """Who it is, and whether its parent receives what it sends."""

    protocol: str
    role: str
    heard: bool

    def __str__(self) -> str:
        return f"{self.protocol} {self.role}, {'heard' if self.heard else 'not heard'}"


GUESTS = [Guest(*role, heard) for role in ROLES for heard in (True, False)]


class Party:
    """The good children, who talk all the time.

    Attributes:
      seen: how many messages of theirs, and how the hostile ones ended.
    """

    def __init__(self, talks: Sequence[Conversation]) -> None:
        self._talks = talks
        self.seen: Counter[str] = Counter()

    async def endure(self, guest: Guest, messages: int) -> None:
        """Each of the good children exchanges so many messages while this guest is there.

        Raises:
          AssertionError: one was disturbed, or it cost too much.
        """
        before = resident_bytes(), len(os.listdir("/dev/fd"))
        visit = Visit(guest)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visit.run)
            await visit.opened.wait()
            async with trio.open_nursery() as talking:
                for talk in self._talks:
                    talking.start_soon(self._talk, talk, messages, before)
            await visit.leave()
        assert len(os.listdir("/dev/fd")) == before[1]
        self.seen[visit.outcome] += 1

    async def _talk(self, talk: Conversation, messages: int, before: tuple[int, int]) -> None:
        for _ in range(0, messages, STEP):
            await talk.exchange(STEP)
            grown = resident_bytes() - before[0]
            assert grown < MOST_MEMORY, f"{grown:,} bytes"
            more = len(os.listdir("/dev/fd")) - before[1]
            assert more < MOST_DESCRIPTORS, f"{more} descriptors"
        self.seen["messages of the good"] += messages


class Visit:
    """Of one hostile child, and its parent's part in it.

    Attributes:
      outcome: how its channel ended.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self.opened = trio.Event()
        self._ended = trio.Event()
        self._scope = trio.CancelScope()
        self.outcome = "none"
        self.invalid = 0

    async def leave(self) -> None:
        """Send it away; one that breaks the rules has to have ended its channel before."""
        protocol, role, heard = self._guest
        if heard and role in UNLAWFUL[protocol]:
            await self._ended.wait()
            assert self.outcome == "ProtocolError", self.outcome
        self._scope.cancel()

    async def run(self) -> None:
        protocol, role, _ = self._guest
        options: dict[str, Any] = {} if protocol == "native" else {"serialization": protocol}
        with self._scope:
            async with trio_ipc.open_child(
                [sys.executable, "-I", "-S", CHILD, protocol, role],
                protocol="native" if protocol == "native" else "node",
                check=False,
                grace_period=0.05,
                **options,
                **LIMITS,
            ) as child:
                self.opened.set()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send, child)
                    if self._guest.heard:
                        nursery.start_soon(self._receive, child)
                    await trio.sleep_forever()
        assert child.process.returncode is not None
        if self.outcome == "none":
            self.outcome = "held out"

    async def _send(self, child: trio_ipc.Channel[Any, Any]) -> None:
        try:
            while True:
                await child.send([1, "x" * 1000])
        except trio.BrokenResourceError as exc:
            if not self._guest.heard:  # else who receives knows more
                self._end(exc)

    async def _receive(self, child: trio_ipc.Channel[Any, Any]) -> None:
        while not self._ended.is_set():
            try:
                message = await child.receive()
            except trio_ipc.InvalidMessage:
                self.invalid += 1
            except (trio.BrokenResourceError, trio.EndOfChannel) as exc:
                self._end(exc)
            else:
                if isinstance(message, trio_ipc.HandleMessage):
                    close(message.handle)
                elif isinstance(message, list):
                    close(message[1])

    def _end(self, error: Exception) -> None:
        self.outcome = type(error).__name__
        self._ended.set()


async def open_party(stack: AsyncExitStack, count: int) -> Party:
    """So many good function children."""
    talks = []
    for _ in range(count):
        child = await stack.enter_async_context(open_kind("function", "send_back"))
        talks.append(Conversation(child, "function", handles=25))
    return Party(talks)
