"""The child's end consumes its variables and marks its descriptor close-on-exec: neither its own
children nor its siblings inherit anything of a channel."""

from __future__ import annotations

import os
import subprocess
import warnings
from pathlib import Path

import pytest
import trio

import trio_ipc

from . import meaning_children as children
from .meaning_helpers import open_pair, script

# What tells a child of a channel, ours or Node's.
VARIABLES = [
    "TRIO_IPC_CHANNEL",
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NODE_UNIQUE_ID",
]


@pytest.fixture
def stale_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a child of Node or of ours that has not consumed its own."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "3")


@pytest.mark.usefixtures("stale_variables")
@pytest.mark.parametrize("given", [False, True])
async def test_a_function_child_consumes_its_variables(given: bool) -> None:
    env = {**os.environ, "SOMETHING": "else"} if given else None
    async with trio_ipc.open_child(children.report_environment, VARIABLES, env=env) as child:
        report = await child.receive()
    assert report["variables"] == report["variables of a grandchild"] == []
    assert report["inheritable"] is False


@pytest.mark.usefixtures("stale_variables")
async def test_a_script_consumes_its_variables(tmp_path: Path) -> None:
    source = f"""
        import trio, trio_ipc
        from tests import meaning_children as children

        async def main():
            async with trio_ipc.open_parent() as parent:
                await children.report_environment(parent, {VARIABLES!r})

        trio.run(main)
    """
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    async with trio_ipc.open_child(script(tmp_path, source), env=env) as child:
        report = await child.receive()
    assert report["variables"] == report["variables of a grandchild"] == []
    assert report["inheritable"] is False


async def test_a_grandchild_inherits_no_channel() -> None:
    # Not even one that is started with all that can be inherited.
    async with trio_ipc.open_child(children.list_what_a_grandchild_inherits) as child:
        report = await child.receive()
    assert report["channel"].startswith("socket:")
    assert report["inherited"]
    assert report["channel"] not in report["inherited"]


async def test_the_parents_ends_are_closed_on_exec() -> None:
    with open_pair() as (a, b):
        async with trio_ipc.open_child(children.echo) as child:
            for channel in (a, b, child):
                assert os.get_inheritable(channel.fileno()) is False


async def test_siblings_hold_nothing_of_each_other() -> None:
    # If one did, another would not see the end of its own channel.
    opened: list[trio_ipc.ChildChannel[object, object]] = []
    all_open, all_done = trio.Event(), trio.Event()

    async def run() -> None:
        async with trio_ipc.open_child(children.echo, grace_period=float("inf")) as child:
            await child.send("x")
            assert await child.receive() == "x"
            opened.append(child)
            if len(opened) == 4:
                all_open.set()
            await all_done.wait()

    async with trio.open_nursery() as nursery:
        for _ in range(4):  # at the same time
            nursery.start_soon(run)
        await all_open.wait()
        for child in opened:
            child.close()
            assert await child.process.wait() == 0
        all_done.set()


async def test_the_childs_end_is_not_kept_by_the_parent() -> None:
    async with trio_ipc.open_child(["true"]) as child:
        with pytest.raises(trio.BrokenResourceError):  # which takes no second, as with an orphan
            await child.receive()
        assert child.process.returncode == 0


def test_a_forked_process_holds_no_end() -> None:
    with open_pair() as (a, b):
        # Forking beside threads is not what we do here either: nothing of Trio runs in the child.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if not pid:
            os._exit(0 if a.fileno() == b.fileno() == -1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        a.send_nowait("still")
        assert b.receive_nowait() == "still"


async def test_standard_streams_are_left_alone() -> None:
    async with trio_ipc.open_child(
        children.report_environment, VARIABLES, stdin=subprocess.DEVNULL
    ) as child:
        report = await child.receive()
        assert report["number"] > 2
        assert child.fileno() > 2
