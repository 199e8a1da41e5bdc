"""Much of everything: by the million, the hundred and the hour; and peers that stop or attack."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AsyncExitStack
from statistics import mean

import trio

import trio_ipc

from ..load import workers
from ..load.carousel import Carousel
from ..load.crowd import Crowd
from ..load.full import send_large_both_ways
from ..load.hostile import GUESTS, open_party
from ..load.mixed import Stock, growth, open_household
from ..load.stopped import WAYS, pause_all
from ..load.talking import KINDS, Conversation, open_kind
from . import Run

# Messages, or handles, of one child.
ROUND = 100_000
QUICK_ROUND = 2_000
# Of ``max_buffer_size``: where every message waits for the one before, it takes much longer.
SIZES = (1000, math.inf, 1000, math.inf, 10, 1000, math.inf, 1000, math.inf, 1)
# Seconds that a case may take, on whatever machine; what takes longer hangs.
LIMIT = 3600
# Bytes by which the memory may have grown since the first tenth: what the allocator keeps of
# messages of different sizes, and nothing for each.
MOST_GROWTH = 4 * 1024 * 1024


def messages(run: Run) -> None:
    """10,000,000 messages to a child and back: their order and content, at both ends."""
    _run_conversations(run, ["function"], run.cases(quick=2, full=100), handles=0)


def messages_node(run: Run) -> None:
    """The same with Node children: 1,000,000 in JSON, 1,000,000 in its advanced serialization."""
    _run_conversations(run, ["json", "advanced"], run.cases(quick=2, full=20), handles=0)


def handles_node(run: Run) -> None:
    """100,000 handles to a Node child and back, one to a message."""
    _run_conversations(run, ["json", "advanced"], run.cases(quick=2, full=20), handles=1)


def _run_conversations(run: Run, kinds: list[str], numbers: Iterator[int], handles: int) -> None:
    count = QUICK_ROUND if run.quick else ROUND
    if handles:
        count //= 20

    async def main() -> None:
        for number in numbers:
            kind, size = kinds[number % len(kinds)], SIZES[number // len(kinds) % len(SIZES)]
            case = f"round {number}, {kind}, max_buffer_size={size}"
            with run.case(case), trio.fail_after(LIMIT):
                async with open_kind(kind, "send_back", max_buffer_size=size) as child:
                    talk = Conversation(child, kind, handles=handles)
                    await talk.exchange(count)
                    await talk.compare_sums()
                for name, seen in talk.seen.items():
                    run.figure(name, seen)

    trio.run(main)
    _check_memory(run)


def handles(run: Run) -> None:
    """1,000,000 handles to a child and back, of different kinds, up to 16 in a message."""
    count = QUICK_ROUND if run.quick else ROUND

    async def main() -> None:
        for number in run.cases(quick=2, full=10):
            size = SIZES[number % len(SIZES)]
            case = f"round {number}, max_buffer_size={size}"
            with run.case(case), trio.fail_after(LIMIT):
                async with trio_ipc.open_child(
                    workers.return_handles, max_buffer_size=size
                ) as child:
                    await Carousel(child, run.random).run(count)
                run.figure("handles there, and as many back", count)

    trio.run(main)
    _check_memory(run)


def many_children(run: Run) -> None:
    """200 children at once, of all kinds, who all talk, and end in different ways; 5 times."""

    async def main(number: int) -> None:
        crowd = Crowd(KINDS, 20 if run.quick else 200, run.random)
        with run.case(f"round {number}"), trio.fail_after(LIMIT):
            await crowd.run(100 if run.quick else 500)
        for name, seen in crowd.seen.items():
            run.figure(name, seen)

    for number in run.cases(quick=1, full=5):
        trio.run(main, number)


def both_full(run: Run) -> None:
    """Both sides send 16 MiB at once, again and again: each kind, and before either receives."""

    async def main() -> None:
        kinds = ("function", "script", "json", "advanced")
        for number in run.cases(quick=4, full=80):
            kind, before = kinds[number % len(kinds)], number // len(kinds) % 2 == 1
            case = f"round {number}, {kind}, one before any is received: {before}"
            with run.case(case), trio.fail_after(LIMIT):
                count = 2 if run.quick else 20
                await send_large_both_ways(kind, count, before=before)
                run.figure("messages of 16 MiB", 2 * count)

    trio.run(main)


def hostile_beside(run: Run) -> None:
    """A hostile child of each sort beside ten good ones, who exchange 300 messages each; twice."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            party = await open_party(stack, 3 if run.quick else 10)
            for number in run.cases(quick=len(GUESTS), full=2 * len(GUESTS)):
                guest = GUESTS[number % len(GUESTS)]
                with run.case(str(guest)), trio.fail_after(LIMIT):
                    await party.endure(guest, 100 if run.quick else 300)
        for name, seen in party.seen.items():
            run.figure(name, seen)

    trio.run(main)
    _check_memory(run)


def stopped_minute(run: Run) -> None:
    """Peers that are stopped, or do not listen, for a whole minute, and then go on; 3 times."""
    for number in run.cases(quick=1, full=3):
        with run.case(f"round {number}"):
            for name, seen in trio.run(pause_all, WAYS, 2 if run.quick else 60).items():
                run.figure(name, seen)


def mixed(run: Run) -> None:
    """2,000 children of all kinds that live and die beside four that live on: nothing may grow."""

    async def main() -> None:
        stocks: list[dict[str, Stock]] = []
        async with open_household(run.random) as household:
            await household.warm_up()
            await household.round(8, 200, run.case)
            for number in run.cases(quick=2, full=50):
                with trio.fail_after(LIMIT):
                    await household.round(8 if run.quick else 40, 2000, run.case)
                    before = stocks[0] if stocks else await household.take_stock()
                    stocks.append(await household.take_stock_after(before))
                for name, each in growth(stocks[0], stocks[-1]).items():
                    run.fail(f"round {number}", f"{name} holds more: {each}")
        for name, seen in household.seen.items():
            run.figure(name, seen)
        run.figure("unix sockets in the kernel", str(stocks[-1]["parent"].sockets))
        _tell_of_memory(run, stocks)

    trio.run(main)


def _tell_of_memory(run: Run, stocks: list[dict[str, Stock]]) -> None:
    """The mean of each third of the time, and no more in the last one than in the first."""
    for name in stocks[0]:
        sizes = [stock[name].resident for stock in stocks]
        third = -(-len(sizes) // 3)
        thirds = [mean(sizes[begin : begin + third]) for begin in range(0, len(sizes), third)]
        text = ", ".join(f"{each / 2**20:.2f}" for each in thirds)
        run.figure(f"MiB of the {name}", text)
        run.check("memory", thirds[-1] - thirds[0] < MOST_GROWTH, f"of the {name}: {text} MiB")


def _check_memory(run: Run) -> None:
    run.check("memory", run.grown() < MOST_GROWTH, f"grown by {run.grown():,} bytes")


SCENARIOS = {
    "messages": messages,
    "messages-node": messages_node,
    "handles": handles,
    "handles-node": handles_node,
    "many-children": many_children,
    "both-full": both_full,
    "hostile-beside": hostile_beside,
    "stopped-minute": stopped_minute,
    "mixed": mixed,
}
