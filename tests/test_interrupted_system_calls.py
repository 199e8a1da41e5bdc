"""EINTR from the kernel: a timer's signals interrupt the system calls of both sides, whichever are
under way, while messages and handles flow. Everything arrives, once, and nothing is cut."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
import trio

from .ticking_driver import ENOUGH

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("serialization", ["msgpack", "json", "advanced"])
async def test_signals_interrupt_both_sides(serialization: str) -> None:
    if serialization == "advanced":
        pytest.importorskip("v8serialize")
    seed = str(random.randrange(2**32))
    print(f"seed {seed}")
    done = await trio.run_process(
        [sys.executable, "-m", "tests.ticking_driver", "run", serialization, seed],
        cwd=ROOT,
        capture_stdout=True,
    )
    for seen in json.loads(done.stdout):
        assert seen["signals"] >= ENOUGH
        assert seen["received"] > 100
        assert seen["handles received"] > 10
