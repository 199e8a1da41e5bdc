"""Children that are killed at random moments, while messages and handles flow.

Few of them; ``python -m tests.soak random-kills`` has thousands.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import pytest
import trio

from .kills.flow import BARE, kill_at_random, send_back

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bare child is Linux's")

AT_ONCE = 4


@pytest.mark.parametrize(("target", "count"), [(BARE, 200), (send_back, 10)], ids=["bare", "trio"])
async def test_children_are_killed_at_random(
    target: list[str] | Callable[..., object], count: int
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    numbers = iter(range(count))
    flown: set[str] = set()

    async def work() -> None:
        for number in numbers:
            flown.update(await kill_at_random(target, random.Random(f"{seed} {number}")))

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(work)
    assert flown == {"messages", "handles"}
