"""Children of all kinds, who live as they like and end as they must; and what is left of them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import trio

import trio_ipc

from ..soak._held import Held, library_objects, resident_bytes, take_stock
from ..storm import storm_in_pair, storm_with_child
from .crowd import cause_end, options_for, statuses_after
from .talking import KINDS, Conversation, open_kind

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

# How often each kind comes: Node's start more slowly.
WEIGHTS = (4, 2, 2, 1)
ENDS = ("closed", "exits", "killed", "stopped and killed", "kills itself", "fails", "cancelled")
# A life in so many is a storm, half of whose calls are cancelled.
STORM_EVERY = 10
# Lives that go on at the same time.
AT_ONCE = 5
# Seconds that what has ended may take to be gone.
PATIENCE = 10
# What a channel may say to those who are in a call of it when its child ends.
NEWS = (trio.BrokenResourceError, trio.EndOfChannel, trio_ipc.ChildFailed)


class Life(NamedTuple):
    """Of one child.

    Attributes:
      middle: whether it ends while both sides are talking.
    """

    kind: str
    end: str
    middle: bool
    check: bool
    messages: int
    handles: int


def any_life(chance: random.Random) -> Life:
    return Life(
        chance.choices(KINDS, WEIGHTS)[0],
        chance.choice(ENDS),
        chance.random() < 0.5,
        chance.random() < 0.5,
        int(2 ** chance.uniform(4, 11)),
        chance.choice((0, 5, 50)),
    )


async def live(life: Life, chance: random.Random) -> Counter[str]:
    """From the start of the child to its end; what was seen.

    Raises:
      AssertionError: something was lost, has changed, or is left.
    """
    talks: list[Conversation] = []
    children: list[trio_ipc.ChildChannel[Any, Any]] = []
    with trio.CancelScope() as scope:
        try:
            async with open_kind(
                life.kind, "send_back", check=life.check, **options_for(life.end)
            ) as child:
                children.append(child)
                talks.append(Conversation(child, life.kind, handles=life.handles))
                await _talk(life, child, talks[0], chance, scope)
        except NEWS:
            pass
        except BaseExceptionGroup as group:
            _, others = group.split(NEWS)
            if others is not None:
                raise others from None
    await talks[0].see_off()
    status = children[0].process.returncode
    # One that ends while it is talked to has a second to exit, before it is helped along.
    late = (-signal.SIGTERM,) if life.middle else ()
    assert status in (*statuses_after(life.kind, life.end), *late), f"status {status}"
    return talks[0].seen + Counter({"children": 1, life.end: 1})


async def _talk(
    life: Life,
    child: trio_ipc.ChildChannel[Any, Any],
    talk: Conversation,
    chance: random.Random,
    scope: trio.CancelScope,
) -> None:
    async with trio.open_nursery() as nursery:
        if life.middle and life.end != "closed":
            goal = chance.randint(1, life.messages)
            nursery.start_soon(_end_when, talk, goal, child, life.end, scope)
        await talk.exchange(life.messages)
        await talk.compare_sums()
    if life.end != "closed":
        await _end(child, life.end, scope)


async def _end_when(
    talk: Conversation,
    goal: int,
    child: trio_ipc.ChildChannel[Any, Any],
    end: str,
    scope: trio.CancelScope,
) -> None:
    await talk.wait_heard(goal)
    await _end(child, end, scope)


async def _end(child: trio_ipc.ChildChannel[Any, Any], end: str, scope: trio.CancelScope) -> None:
    if end == "cancelled":
        scope.cancel()
        await trio.lowlevel.checkpoint()
    elif child.process.returncode is None:
        await cause_end(child, end)


class Household:
    """Children that live as long as this does, and those that come and go beside them.

    Attributes:
      seen: how many of what, in all.
    """

    def __init__(
        self, chance: random.Random, elders: Sequence[Elder], *, are_all_ours: bool
    ) -> None:
        self._chance = chance
        self._elders = elders
        self._are_all_ours = are_all_ours
        self.seen: Counter[str] = Counter()

    async def warm_up(self) -> None:
        """What is done for the first time leaves something behind, once."""
        await storm_in_pair("once", 600, max_buffer_size=10)
        for elder in self._elders:
            await elder.talk.exchange(200)

    async def round(self, lives: int, messages: int, report: Callable[[str], Any]) -> None:
        """So many lives, while each of the elders exchanges so many messages.

        Args:
          report: is given the name of a life, and counts what goes wrong in its context.
        """
        numbers = iter(range(lives))

        async def work() -> None:
            for _ in numbers:
                seed = self._chance.random()
                with report(f"a life of seed {seed}"):
                    self.seen += await any_kind_of_life(seed)

        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(work)
            for elder in self._elders:
                nursery.start_soon(elder.talk.exchange, messages)
        for elder in self._elders:
            await elder.talk.compare_sums()
            self.seen += elder.talk.seen
            elder.talk.seen.clear()

    async def take_stock(self) -> dict[str, Stock]:
        """What each of the processes of ours holds now, by its name."""
        found = {"parent": Stock(take_stock(), resident_bytes(), objects=library_objects())}
        if self._are_all_ours:
            found["parent"] = found["parent"]._replace(sockets=unix_sockets())
        for elder in self._elders:
            if elder.kind in ("function", "script"):
                await elder.child.send({"do": "held"})
                *held, resident = await elder.child.receive()
                found[elder.kind] = Stock(Held(*held), resident)
        return found

    async def take_stock_after(self, before: dict[str, Stock]) -> dict[str, Stock]:
        """The same, when what is about to end has ended."""
        deadline = trio.current_time() + PATIENCE
        while True:
            now = await self.take_stock()
            if not growth(before, now) or trio.current_time() > deadline:
                return now
            await trio.sleep(0.05)


class Elder(NamedTuple):
    """A child that lives long."""

    kind: str
    child: trio_ipc.ChildChannel[Any, Any]
    talk: Conversation


class Stock(NamedTuple):
    """What a process holds, its memory in bytes, the Unix sockets of all of them, if they can be
    told from those of others, and in the parent how many objects of each type."""

    held: Held
    resident: int
    sockets: int = 0
    objects: Counter[str] | None = None


def growth(before: dict[str, Stock], now: dict[str, Stock]) -> dict[str, dict[str, Any]]:
    """What there is more of than there was, by process; the memory does not count."""
    found: dict[str, dict[str, Any]] = {
        name: now[name].held.growth(before[name].held) for name in now
    }
    for name, each in found.items():
        if now[name].sockets > before[name].sockets:
            each["sockets"] = now[name].sockets - before[name].sockets
        if "objects" in each:
            more = (now[name].objects or Counter()) - (before[name].objects or Counter())
            each["objects"] = dict(more)
    return {name: each for name, each in found.items() if each}


def unix_sockets() -> int:
    """All that the kernel has in our network namespace, those in nobody's hands included."""
    with contextlib.suppress(OSError), open("/proc/self/net/unix", "rb") as file:
        return len(file.readlines()) - 1
    return 0


def are_all_ours() -> bool:
    """Whether nobody else makes some there: so it is under ``unshare --net``."""
    links = [f"/dev/fd/{name}" for name in os.listdir("/dev/fd")]
    ours = sum(os.path.islink(link) and "socket:" in os.readlink(link) for link in links)
    return unix_sockets() <= ours


async def any_kind_of_life(seed: float) -> Counter[str]:
    """A child's, all of which follows from the seed."""
    chance = random.Random(seed)
    if chance.randrange(STORM_EVERY):
        life = any_life(chance)
        try:
            return await live(life, chance)
        except Exception as exc:
            raise AssertionError(str(life)) from exc
    seen = await storm_with_child(str(seed), 600, max_buffer_size=chance.choice((0, 1, 10, 1000)))
    return Counter(
        {
            "children": 1,
            "messages": seen["received"],
            "handles": seen["handles received"],
            "calls cancelled": seen["sends cancelled"] + seen["receives cancelled"],
        }
    )


@contextlib.asynccontextmanager
async def open_household(chance: random.Random) -> AsyncIterator[Household]:
    """With one elder of each kind."""
    alone = are_all_ours()
    async with contextlib.AsyncExitStack() as stack:
        elders = []
        for kind in KINDS:
            child = await stack.enter_async_context(open_kind(kind, "send_back"))
            elders.append(Elder(kind, child, Conversation(child, kind, handles=20)))
        yield Household(chance, elders, are_all_ours=alone)
