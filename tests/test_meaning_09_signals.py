"""A parent that dies ends its children; Ctrl-C is the parent's affair alone; and SIGTERM cancels a
function child, so that its ``finally`` blocks run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio

import trio_ipc

from . import meaning_children as children
from .meaning_helpers import (
    PATIENCE,
    assert_reaped,
    open_child_aside,
    open_driver,
    open_pair,
    script,
    settle,
)

DRIVER = """
    import os, signal, sys, trio, trio_ipc
    from tests import meaning_children as children

    async def main():
        async with trio_ipc.open_child({target}) as child:
            {body}

    trio.run(main)
"""


def driver(target: str, body: str) -> str:
    """A parent, as a script."""
    return DRIVER.format(target=target, body=body)


# A parent that dies ------------------------------------------------------------------------------


# What `children.live_until_cancelled` says in the end, in whatever order its tasks run.
CANCELLED = ["Cancelled", "finally", "finally in another task"]


@pytest.mark.parametrize("child", ["sleep", "receive", "receive_nothing_and_send", "other-scope"])
async def test_a_function_child_whose_parent_dies_is_cancelled(child: str, tmp_path: Path) -> None:
    source = driver(f"children.live_until_cancelled, {child!r}", "await trio.sleep_forever()")
    async with open_driver(source, tmp_path) as (process, aside):
        assert await aside.hear() == "begun"
        process.kill()
        # Whatever is still to come comes from the child, and it ends.
        said = sorted(await aside.hear_all())
    # Who is in a call of the channel may hear of it there first.
    assert said in (CANCELLED, ["BrokenResourceError", *CANCELLED[1:]])
    assert said == CANCELLED or child.startswith("receive")


async def test_a_function_child_whose_parent_dies_may_finish_behind_a_shield(
    tmp_path: Path,
) -> None:
    # What had arrived can still be received.
    source = driver(
        "children.receive_after_the_death",
        """
            await child.send("x")
            print("sent", flush=True)
            await trio.sleep_forever()
""",
    )
    async with open_driver(source, tmp_path) as (process, aside):
        assert {await aside.hear(), await aside.hear()} == {"begun", "sent"}
        process.kill()
        assert await aside.hear_all() == ["x", "BrokenResourceError"]


async def test_a_script_whose_parent_dies_sees_it(tmp_path: Path) -> None:
    script(
        tmp_path,
        """
        import trio, trio_ipc

        async def main():
            async with trio_ipc.open_parent() as parent:
                print("begun", flush=True)
                try:
                    await parent.receive()
                except trio.BrokenResourceError as exc:
                    print(type(exc).__name__, exc, flush=True)
                try:
                    await parent.send("x")
                except trio.BrokenResourceError as exc:
                    print(type(exc).__name__, exc, flush=True)
            print("left", flush=True)

        trio.run(main)
        """,
    )
    source = driver(repr(str(tmp_path / "child.py")), "await trio.sleep_forever()")
    async with open_driver(source, tmp_path) as (process, aside):
        assert await aside.hear() == "begun"
        process.kill()
        assert await aside.hear_all() == [
            "BrokenResourceError the parent went away without closing its channel",
            "BrokenResourceError the parent is gone",
            "left",
        ]


async def test_a_parent_that_dies_ends_the_children_of_its_children(tmp_path: Path) -> None:
    source = driver("children.have_a_child", "await trio.sleep_forever()")
    async with open_driver(source, tmp_path) as (process, aside):
        assert await aside.hear() == "begun"
        process.kill()
        assert sorted(await aside.hear_all()) == CANCELLED


async def test_a_parent_that_ends_without_leaving_the_block_ends_the_child(tmp_path: Path) -> None:
    source = driver(
        "children.live_until_cancelled, 'sleep'",
        "await trio.to_thread.run_sync(sys.stdin.readline); os._exit(0)",
    )
    async with open_driver(source, tmp_path) as (_, aside):
        assert await aside.hear() == "begun"
        await aside.say()
        assert sorted(await aside.hear_all()) == CANCELLED


# Ctrl-C ---------------------------------------------------------------------------------------


async def test_ctrl_c_in_a_terminal_reaches_the_parent_alone(tmp_path: Path) -> None:
    # The parent takes it for something else than its end, and the child does not notice.
    source = driver(
        "children.echo",
        """
            await child.send("there?")
            with trio.open_signal_receiver(signal.SIGINT) as signals:
                print(await child.receive(), flush=True)
                async for _ in signals:
                    await child.send("still there?")
                    print(await child.receive(), flush=True)
""",
    )
    async with open_driver(source, tmp_path) as (process, aside):
        assert await aside.hear() == "there?"
        for _ in range(3):
            os.killpg(process.pid, signal.SIGINT)
            assert await aside.hear() == "still there?"
        process.terminate()
        await aside.hear_all()


async def test_ctrl_c_in_a_terminal_cancels_the_child_by_way_of_the_parent(
    tmp_path: Path,
) -> None:
    source = """
        import trio, trio_ipc
        from tests import meaning_children as children

        async def main():
            async with trio_ipc.open_child(children.live_until_cancelled, "sleep") as child:
                await trio.sleep_forever()

        try:
            trio.run(main)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    async with open_driver(source, tmp_path) as (process, aside):
        assert await aside.hear() == "begun"
        os.killpg(process.pid, signal.SIGINT)
        *said, last = await aside.hear_all()
        assert sorted(said) == CANCELLED
        assert last == "interrupted"
        assert await process.wait() == 0


def test_ctrl_c_comes_out_bare_of_a_wait_for_the_kernel() -> None:
    """Outside of a scope, who waits for room looks for what the peer says, too: in two tasks."""
    large = bytes(4_000_000)

    @trio.lowlevel.enable_ki_protection
    async def interrupt() -> None:
        await settle()
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        with trio.fail_after(PATIENCE), open_pair() as (a, b):
            a.send_nowait(large)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(interrupt)
                with pytest.raises(KeyboardInterrupt):
                    await a.drain()
            assert await b.receive() == large

    trio.run(main)


async def test_a_function_childs_own_children_do_not_ignore_ctrl_c() -> None:
    async with open_child_aside(children.how_a_grandchild_takes_sigint) as (_, aside):
        assert await aside.hear() == "default_int_handler"


# SIGTERM ---------------------------------------------------------------------------------------


async def test_sigterm_cancels_a_function_child() -> None:
    async with open_child_aside(children.live_until_cancelled, "sleep", check=False) as (
        child,
        aside,
    ):
        assert await aside.hear() == "begun"
        child.process.terminate()
        assert sorted(await aside.hear_all()) == CANCELLED
        with pytest.raises(trio.EndOfChannel):  # it said goodbye
            await child.receive()
    assert_reaped(child.process, 128 + signal.SIGTERM)


async def test_sigterm_does_not_interrupt_what_is_shielded() -> None:
    async with open_child_aside(children.shield_until_told, check=False) as (child, aside):
        assert await aside.hear() == "begun"
        child.process.terminate()
        child.process.terminate()
        await child.send("a message")
        assert await aside.hear() == "a message"
        await child.send("another")
        assert await aside.hear_all() == ["another", "finally"]
    assert_reaped(child.process, 128 + signal.SIGTERM)


async def test_a_function_child_may_handle_sigterm_itself() -> None:
    async with open_child_aside(children.handle_sigterm, check=False) as (child, aside):
        assert await aside.hear() == "begun"
        child.process.terminate()
        assert await aside.hear() == "SIGTERM"
    assert child.process.returncode is not None


async def test_what_a_cancelled_function_child_had_sent_arrives() -> None:
    async with trio_ipc.open_child(children.send_and_terminate, check=False) as child:
        assert [number async for number in child] == list(range(1000))
