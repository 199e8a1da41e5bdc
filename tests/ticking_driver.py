"""Storms between two processes, each of which a timer interrupts all the time: whatever system call
is under way gets EINTR. A program of its own, because signals are for a whole process.

It says at the end how many signals came to each side, and what went through the channels.
"""

from __future__ import annotations

import atexit
import json
import random
import signal
import sys
from collections import Counter
from typing import Any

import trio

import trio_ipc

from .storm import Side, check_both

# Seconds between signals.
INTERVAL = 0.0003
# Signals that each side is to get at least, in as many rounds as that takes.
ENOUGH = 1000
MESSAGES = 600

Parent = trio_ipc.Channel[Any, Any]


def start_ticking() -> Counter[str]:
    """From now on there is a signal again and again; how many there were is counted."""
    seen: Counter[str] = Counter()

    def tick(*_: object) -> None:
        seen["signals"] += 1

    signal.signal(signal.SIGALRM, tick)
    signal.siginterrupt(signal.SIGALRM, True)  # no SA_RESTART
    signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)  # before the handler is taken away
    return seen


async def storm(parent: Parent, seed: str, protocol: str) -> None:
    """What the child does."""
    signals = start_ticking()
    side = Side(parent, random.Random(seed), MESSAGES, handles=0.3, protocol=protocol)
    await side.run()
    await parent.send({**side.seen, **signals})


async def storm_with_child(seed: str, serialization: str) -> tuple[Counter[str], Counter[str]]:
    """What was seen here and in the child."""
    open_child: Any = trio_ipc.open_child
    if serialization == "msgpack":
        scope = open_child(storm, f"{seed} child", "native", max_buffer_size=10)
        protocol = "native"
    else:
        command = [sys.executable, "-m", __spec__.name, "child", f"{seed} child"]
        scope = open_child(command, protocol="node", serialization=serialization)
        protocol = "node"
    async with scope as child:
        side = Side(
            child,
            random.Random(seed),
            MESSAGES,
            handles=0.3,
            protocol=protocol,
            expects_words=True,
        )
        await side.run()
    words: Counter[str] = Counter(side.words)
    check_both(side.seen, words)
    return side.seen, words


async def run(serialization: str, seed: str) -> None:
    here, there = start_ticking(), Counter[str]()
    while min(here["signals"], there["signals"]) < ENOUGH:
        here["children"] += 1
        seen, words = await storm_with_child(f"{seed} {here['children']}", serialization)
        here += seen
        there += words
    # Trio's own end is not made for signals: it closes what they are written to.
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(json.dumps([here, there]))


async def be_child(seed: str) -> None:
    async with trio_ipc.open_parent() as parent:
        await storm(parent, seed, "node")


if __name__ == "__main__":
    how: dict[str, Any] = {"run": run, "child": be_child}
    trio.run(how[sys.argv[1]], *sys.argv[2:])
