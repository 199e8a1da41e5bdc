"""A child or a parent that is lost at any step of a conversation, in any way: each call comes to
one clear end, nothing is left behind, and the clients of lost handles see their connections end.

Each cell once; ``python -m tests.soak kill-matrix`` runs each many times.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from trio_ipc import _child

from .kills.matrix import CHILD_CELLS, PARENT_CELLS, Cell, run_child_cell, run_parent_cell
from .soak._held import adopting_orphans

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")


@pytest.fixture(autouse=True)
def _orphans_are_ours() -> Iterator[None]:
    with adopting_orphans():
        yield


def name(value: object) -> str:
    return value.name if isinstance(value, Cell) else str(value)


@pytest.mark.parametrize("cell", CHILD_CELLS, ids=name)
async def test_a_child_is_lost(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is waited for so long will not come here.
    monkeypatch.setattr(_child, "EXIT_TO_EOF", 0.05)
    await run_child_cell(cell, check=CHILD_CELLS.index(cell) % 2 == 1)


@pytest.mark.parametrize("cell", PARENT_CELLS, ids=name)
async def test_a_parent_is_lost(cell: Cell) -> None:
    await run_parent_cell(cell)
