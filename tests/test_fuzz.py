"""Conversations with a peer who says anything at all, with real descriptors.

Some of them; ``python -m tests.soak fuzz-native fuzz-json fuzz-advanced`` has many more. And what a
coverage-guided fuzzer has gathered; ``python -m tests.fuzzing tests/fuzzing/corpus`` goes on.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from .fuzzing.conversation import PROTOCOLS, Bystander, converse, open_pool
from .fuzzing.wires import make_input, run_input

CONVERSATIONS = 1500
CORPUS = Path(__file__).parent / "fuzzing" / "corpus"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_whatever_a_peer_says(protocol: str) -> None:
    first = random.randrange(2**32)
    seen: Counter[str] = Counter()
    with open_pool() as pool, ExitStack() as stack:
        bystander = Bystander(stack)
        for number in range(CONVERSATIONS):
            seed = f"{protocol} {first} {number}"
            print(seed)  # of a test that fails, the last line is the seed
            seen += await converse(protocol, seed, pool)
            bystander.check()
    # It is no test if nothing comes through, or nothing is refused.
    assert seen["messages"] > 100
    assert seen["handles"] > 10
    assert seen["ProtocolError"] > 100
    assert seen["EndOfChannel"] > 10


def test_what_was_gathered() -> None:
    paths = sorted(CORPUS.iterdir())
    assert paths
    for path in paths:
        print(path.name)  # of a test that fails, the last line is the file
        run_input(path.read_bytes())


def test_the_protocols_alone() -> None:
    first = random.randrange(2**32)
    for number in range(1000):
        seed = f"{first} {number}"
        print(seed)
        run_input(make_input(random.Random(seed)))
