"""Children and parents that are lost at each step of a conversation, in each way, many times."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from ..kills.matrix import (
    CHILD_CELLS,
    MORE_PARENT_CELLS,
    PARENT_CELLS,
    Cell,
    run_child_cell,
    run_parent_cell,
)
from . import Run

# Rounds of all cells, and how many cells run at once. A few more than there are processors, because
# most of what each does is waiting.
ROUNDS = 50
AT_ONCE = 8


def kill_matrix(run: Run) -> None:
    """Steps of a conversation x what happens to the child, or SIGKILL to the parent: 50 x each."""
    _run_cells(run, CHILD_CELLS + PARENT_CELLS, ROUNDS)


def kill_matrix_parents(run: Run) -> None:
    """The same for all else that may happen to a parent: 5 x each."""
    _run_cells(run, MORE_PARENT_CELLS, ROUNDS // 10)


def _run_cells(run: Run, cells: list[Cell], rounds: int) -> None:
    numbers = run.cases(quick=len(cells), full=rounds * len(cells))
    order = list(cells)
    while True:
        # Each round is a run of Trio of its own, so that what it leaves behind is left for good.
        run.random.shuffle(order)
        batch = [cell for cell, _ in zip(order, numbers, strict=False)]
        if not batch:
            return
        trio.run(_run_batch, run, iter(batch))


async def _run_batch(run: Run, cells: Iterator[Cell]) -> None:
    async def work() -> None:
        for cell in cells:
            with run.case(cell.name):
                if cell.lost == "parent":
                    await run_parent_cell(cell)
                else:
                    await run_child_cell(cell, check=run.random.random() < 0.5)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(work)


SCENARIOS = {"kill-matrix": kill_matrix, "kill-matrix-parents": kill_matrix_parents}
