"""Messages and handles in a storm: many tasks at both ends, half of whose calls are cancelled.

Short ones; ``python -m tests.soak storm-pair storm-child storm-node`` has long ones.
"""

from __future__ import annotations

import math
import random

import pytest

from .node_peers.raw import open_twins
from .storm import storm_between, storm_in_pair, storm_with_child


@pytest.fixture
def seed() -> str:
    seed = str(random.randrange(2**32))
    print(f"seed {seed}")
    return seed


@pytest.mark.parametrize("size", [0, 1, 10, math.inf])
async def test_both_ends_in_one_process(size: float, seed: str) -> None:
    seen = await storm_in_pair(seed, 3_000, max_buffer_size=size)
    assert seen["sends cancelled"] > 100
    assert seen["receives cancelled"] > 100
    assert seen["handles received"] > 10


@pytest.mark.parametrize("size", [1, 1000])
async def test_one_end_in_a_child(size: float, seed: str) -> None:
    seen = await storm_with_child(seed, 3_000, max_buffer_size=size)
    assert seen["sends cancelled"] > 100
    assert seen["receives cancelled"] > 100
    assert seen["handles received"] > 10


@pytest.mark.parametrize("size", [4, 1000])
async def test_both_ends_speak_as_node_does(size: float, seed: str) -> None:
    async with open_twins(max_buffer_size=size) as (a, b):
        seen = await storm_between(a, b, seed, 3_000, protocol="node")
    assert seen["sends cancelled"] > 100
    assert seen["handles received"] > 10
