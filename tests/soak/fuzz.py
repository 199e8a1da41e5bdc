"""Conversations with a peer who says anything at all, with real descriptors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack

import trio

from ..fuzzing.conversation import PROTOCOLS, Bystander, converse, open_pool
from . import Run


def _make_scenario(protocol: str) -> Callable[[Run], None]:
    def scenario(run: Run) -> None:
        log = logging.getLogger("trio_ipc")
        before = log.level
        # Of each handle that is on its way when the peer goes, there is a warning.
        log.setLevel(logging.ERROR)
        try:
            trio.run(_fuzz, run, protocol)
        finally:
            log.setLevel(before)

    scenario.__doc__ = f"200,000 conversations with a peer who says anything: {protocol}."
    return scenario


async def _fuzz(run: Run, protocol: str) -> None:
    first = run.random.randrange(2**32)
    with open_pool() as pool, ExitStack() as stack:
        bystander = Bystander(stack)
        for number in run.cases(quick=2_000, full=200_000):
            # The name is the whole seed: `converse` with it is the same conversation again.
            seed = f"{protocol} {first} {number}"
            with run.case(seed):
                for name, count in (await converse(protocol, seed, pool)).items():
                    run.figure(name, count)
                bystander.check()


SCENARIOS = {f"fuzz-{protocol}": _make_scenario(protocol) for protocol in PROTOCOLS}
