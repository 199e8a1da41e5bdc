"""The long tests: ``python -m tests.soak [NAME ...]``, or ``tox -e soak -- [NAME ...]``.

Each module of this package whose name has no underscore in front has scenarios: a dict named
``SCENARIOS`` from names to functions. Nothing else has to know of them::

    def flood(run: Run) -> None:
        \"\"\"The first line of this is what --list says.\"\"\"
        for number in run.cases(quick=200, full=10_000):
            with run.case(f"flood {number}"):
                trio.run(one_conversation, run.random)

    SCENARIOS = {"flood": flood}

A scenario is a synchronous function, which calls `trio.run` itself, as often as it likes. What it
is given, the `Run`, has

``run.cases(quick=, full=)``
    the numbers of the cases to run: so many, or with ``--minutes`` until the time is up. It counts
    nothing, but tells the progress bar how long the way is.
``with run.case(name):``
    one case. It is counted; an exception in it is counted as a failure, kept with its traceback,
    and goes no further. It works in async functions, too: `trio.Cancelled` passes through.
``run.count(number)``
    more cases, which somebody else has run: a child, say.
``run.fail(name, text)``
    one more failure.
``run.figure(name, value)``
    something worth telling beside the counts: messages, handles. Of numbers under one name the
    sum is told.
``run.check(name, holds, text)``
    a failure unless ``holds``.
``run.random``, ``run.quick``
    a `random.Random` of the scenario's own: the same for the same ``--seed``, whatever else runs.

Before and after each scenario the frame counts what the process holds: descriptors, children that
run and that nobody has waited for, threads, objects of the library. More of any of them than before
is a failure of the scenario. For its time it adopts orphans (Linux), so a grandchild that has lost
its parent is a child that is left. How much the memory has grown since the first tenth of the
cases is told, not judged: a scenario that knows what it may be has `run.grown()`, in bytes.

What a scenario shares with the quick tests of the suite belongs to neither: a module in ``tests/``.
"""

from __future__ import annotations

from ._run import Run

__all__ = ["Run"]
