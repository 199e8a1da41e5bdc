"""How it ends: by either side, in order or not, with a Node child."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import trio

import trio_ipc

from ..meaning_helpers import open_driver
from .helpers import command, open_node, open_node_aside

BIG = 10_000_000


async def test_fork3_child_that_ignores_the_channel(node: str) -> None:
    async with open_node(node, "ends.js", "ignore_channel") as child:
        pass
    assert child.process.returncode == 0
    async with open_node(node, "ends.js", "ignore_channel") as child:
        with pytest.raises(trio.EndOfChannel):
            await child.receive()
    assert child.process.returncode == 0


async def test_fork_close(node: str) -> None:
    async with open_node(node, "ends.js", "fork_close") as child:
        await child.process.wait()
        assert await child.receive() == "hello"
        for _ in range(2):
            with pytest.raises(trio.EndOfChannel):
                await child.receive()
    assert child.process.returncode == 0


async def test_fork_ref(node: str) -> None:
    async with open_node_aside(node, "ends.js", "fork_ref") as (child, aside):
        assert await child.receive() == "1"
        await aside.say()
        assert await child.receive() == "2"
        assert child.process.returncode is None
        await child.send_channel.aclose()
        assert await aside.hear_all() == ["cleaned up"]
    assert child.process.returncode == 0


async def test_fork_ref2(node: str) -> None:
    async with open_node_aside(node, "ends.js", "fork_ref2") as (child, aside):
        child.send_nowait("nobody gets this")
        with pytest.raises(trio.EndOfChannel):
            await child.receive()
        assert child.process.returncode is None
        await aside.say()
        assert await aside.hear_all() == []
    assert child.process.returncode == 0


async def test_disconnect_by_the_parent(node: str) -> None:
    async with open_node_aside(node, "ends.js", "disconnect_by_parent") as (child, aside):
        assert await child.receive() == "connected"
        await child.aclose()
        await child.aclose()
        assert await aside.hear() == "disconnected"
    assert child.process.returncode == 0


async def test_disconnect_of_the_send_half_only(node: str) -> None:
    # Node knows no half-close: it answers with its own end.
    async with open_node_aside(node, "ends.js", "disconnect_by_parent") as (child, aside):
        assert await child.receive() == "connected"
        child.send_channel.close()
        with pytest.raises(trio.EndOfChannel):
            await child.receive()
        assert await aside.hear() == "disconnected"


async def test_disconnect_by_the_child(node: str) -> None:
    async with open_node_aside(node, "ends.js", "disconnect_by_child") as (child, aside):
        assert await child.receive() == "about to disconnect"
        with pytest.raises(trio.EndOfChannel):
            await child.receive()
        assert await aside.hear() == "disconnected"
        assert child.process.returncode is None
        await child.aclose()
        await child.aclose()
        await aside.say()
    assert child.process.returncode == 0


async def test_send_after_close(node: str) -> None:
    async with open_node_aside(node, "ends.js", "send_after_close") as (child, aside):
        await child.send_channel.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await child.send("too late")
        with pytest.raises(trio.ClosedResourceError):
            child.send_nowait("too late")
        assert await aside.hear() == "ERR_IPC_CHANNEL_CLOSED"
    async with open_node(node, "ends.js", "ignore_channel") as child:
        await child.process.wait()
        with pytest.raises(trio.BrokenResourceError, match="exited with status 0, is gone"):
            while True:
                await child.send("too late")
        with pytest.raises(trio.BrokenResourceError):
            child.send_nowait("too late")


# How the child ends -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [1, 3, 255])
async def test_an_exit_status(node: str, status: int) -> None:
    with pytest.raises(trio_ipc.ChildFailed) as info:
        async with open_node(node, "ends.js", "exit", str(status)):
            await trio.sleep_forever()
    assert info.value.returncode == status
    assert info.value.cmd == command(node, "ends.js", "exit", str(status))
    async with open_node(node, "ends.js", "exit", str(status), check=False) as child:
        assert await child.process.wait() == status
        with pytest.raises(trio.EndOfChannel):
            await child.receive()


async def test_messages_before_an_exit_that_fails(node: str) -> None:
    async with open_node(node, "ends.js", "exit_after_messages", "5", check=False) as child:
        assert [message async for message in child] == [0, 1, 2, 3, 4]
    assert child.process.returncode == 3


async def test_an_uncaught_exception_at_once(node: str) -> None:
    with pytest.raises(trio_ipc.ChildFailed) as info:
        async with open_node(node, "ends.js", "throw_at_once", stderr=subprocess.PIPE) as child:
            assert child.process.stderr is not None
            async with child.process.stderr:
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        text = b"".join([chunk async for chunk in child.process.stderr])
                    assert b"Error: on purpose" in text
    assert info.value.returncode == 1


async def test_an_uncaught_exception_at_a_message(node: str) -> None:
    with pytest.raises(trio_ipc.ChildFailed, match="exited with status 1"):
        async with open_node(
            node, "ends.js", "throw_at_a_message", stderr=subprocess.DEVNULL
        ) as child:
            await child.send("on purpose")
            await child.receive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR2])
async def test_a_child_that_is_killed(node: str, number: signal.Signals) -> None:
    with pytest.raises(trio_ipc.ChildFailed, match=f"was killed by {number.name}"):
        async with open_node(node, "ends.js", "be_killed") as child:
            assert await child.receive() == "ready"
            child.process.send_signal(number)
            await child.receive()


async def test_a_child_that_a_timer_keeps_alive_is_terminated(node: str) -> None:
    async with open_node(node, "ends.js", "idle", grace_period=0.1) as child:
        assert await child.receive() == "ready"
    assert child.process.returncode == -signal.SIGTERM


async def test_a_stubborn_child_is_killed(node: str) -> None:
    async with open_node(node, "ends.js", "stubborn", grace_period=0.1) as child:
        assert await child.receive() == "ready"
    assert child.process.returncode == -signal.SIGKILL


async def test_a_block_that_is_left_by_an_exception_terminates_the_child(node: str) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        async with open_node(node, "ends.js", "idle") as child:
            assert await child.receive() == "ready"
            raise ValueError("on purpose")
    assert child.process.returncode == -signal.SIGTERM


# The last messages --------------------------------------------------------------------------------


def block_until_it_has_exited(pid: int) -> None:
    # While this blocks, nothing is read: the kernel's buffer is all that the child has.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.parametrize("how", ["big_then_exit", "big_then_disconnect"])
async def test_a_last_message_that_is_cut_off(node: str, how: str) -> None:
    async with open_node(node, "ends.js", how) as child:
        block_until_it_has_exited(child.pid)
        assert await child.receive() == "one"
        assert await child.receive() == {"two": 2}
        with pytest.raises(trio_ipc.ProtocolError) as info:
            await child.receive()
        assert isinstance(info.value, trio.BrokenResourceError)
        [count] = re.findall(r"(\d+) bytes", str(info.value))
        assert 100_000 < int(count) < 300_000
        with pytest.raises(trio_ipc.ProtocolError):
            await child.send("anything")
    assert child.process.returncode == 0


@pytest.mark.parametrize("how", ["big_then_natural_exit", "big_then_exit_in_callback"])
async def test_a_last_message_that_is_not_cut_off(node: str, how: str) -> None:
    async with open_node(node, "ends.js", how) as child:
        assert await child.receive() == "x" * BIG
        with pytest.raises(trio.EndOfChannel):
            await child.receive()


async def test_a_big_message_of_ours_and_then_the_end(node: str) -> None:
    async with open_node_aside(node, "ends.js", "count_until_the_end") as (child, aside):
        await child.send("x")
        await child.send("x" * BIG)
        await child.send("xxx")
        await child.aclose()
        assert await aside.hear() == f"[1,{BIG},3]"
    assert child.process.returncode == 0


async def test_a_big_message_of_ours_and_leaving(node: str, tmp_path: Path) -> None:
    with (tmp_path / "output").open("w+") as output:
        async with open_node(node, "ends.js", "count_until_the_end", stdout=output) as child:
            child.send_nowait("x" * BIG)
        output.seek(0)
        assert output.read() == f"[{BIG}]\n"


async def test_a_flood_that_nobody_receives_any_more(node: str) -> None:
    # It is read and dropped, so that the child comes to its end.
    async with open_node_aside(node, "messages.js", "flood", "5000") as (child, aside):
        await child.receive_channel.aclose()
        assert await aside.hear() == "send() returned false"
        assert await aside.hear() == "written"
        await child.process.wait()
    assert child.process.returncode == 0


async def test_leaving_while_the_child_floods(node: str) -> None:
    async with open_node(node, "messages.js", "sizes", *["10000"] * 1000) as child:
        assert len(await child.receive()) == 10000
    assert child.process.returncode == 0


async def test_an_end_with_data_of_ours_unread_is_an_end(node: str) -> None:
    # The kernel calls it a reset.
    async with open_node_aside(node, "ends.js", "exit_unread") as (child, aside):
        assert await aside.hear() == "here"
        await child.send("x" * 10_000)
        await child.send_channel.drain()
        await aside.say()
        assert await child.receive() == "the last"
        with pytest.raises(trio.EndOfChannel):
            await child.receive()
    assert child.process.returncode == 0


async def test_cluster_concurrent_disconnect(node: str) -> None:
    async def converse() -> None:
        async with open_node(node, "ends.js", "disconnect_when_told") as child:
            await child.send("go")
            try:
                for number in range(100):
                    await child.send(number)
                await child.send_channel.aclose()
                async for _ in child:
                    pass
            except trio.BrokenResourceError:
                pass
        assert child.process.returncode == 0

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(converse)


# The parent goes first ----------------------------------------------------------------------------

PARENT = """
    import os, sys, trio, trio_ipc

    async def main():
        async with trio_ipc.open_child({command!r}, protocol="node", grace_period=60) as child:
            await child.send("a message")
            sys.stdin.readline()
            {how}

    trio.run(main)
"""


@pytest.mark.parametrize(
    "how",
    ["os.kill(os.getpid(), 9)", "os._exit(1)", "raise SystemExit(1)"],
    ids=["kill", "exit", "error"],
)
async def test_cluster_primary_error_and_kill(node: str, how: str, tmp_path: Path) -> None:
    source = PARENT.format(command=command(node, "ends.js", "last_words"), how=how)
    async with open_driver(source, tmp_path) as (_, aside):
        assert await aside.hear() == '"a message"'
        await aside.say()
        # It ends when the last process has gone that could write here.
        assert await aside.hear_all() in (["end"], [])


# Garbage ------------------------------------------------------------------------------------------

GARBAGE = {
    "no JSON": b"garbage\n",
    "a blank line": b"\n",
    "NaN": b"[NaN]\n",
    "a line with a byte order mark": b'\xef\xbb\xbf"x"\n',
    "invalid UTF-8": b'"\xff\n',
    "two values": b"{}{}\n",
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_from_a_node_child(node: str, name: str) -> None:
    text = base64.b64encode(GARBAGE[name]).decode()
    async with open_node(node, "messages.js", "echo") as other:
        async with open_node(node, "ends.js", "garbage", text) as child:
            await child.send("now")
            with pytest.raises(trio_ipc.ProtocolError):
                await child.receive()
            with pytest.raises(trio_ipc.ProtocolError):
                await child.send("anything")
            await other.send("unharmed")
            assert await other.receive() == "unharmed"


@pytest.mark.parametrize("cut", [b"garbage", b'{"a":', b'"complete but for its end"', b"\0\0\0\5"])
async def test_an_end_in_the_middle_of_a_message(node: str, cut: bytes) -> None:
    text = base64.b64encode(cut).decode()
    async with open_node(node, "ends.js", "garbage_and_exit", text) as child:
        with pytest.raises(trio_ipc.ProtocolError, match=f"{len(cut)} bytes"):
            await child.receive()
    assert child.process.returncode == 0


async def test_a_message_that_is_nested_too_deep(node: str) -> None:
    lines = base64.b64encode(b"[" * 20_000 + b"]" * 20_000 + b"\n1\n").decode()
    async with open_node(node, "ends.js", "garbage", lines) as child:
        await child.send("now")
        with pytest.raises(trio_ipc.InvalidMessage):
            await child.receive()
        assert await child.receive() == 1


async def test_good_messages_in_odd_pieces(node: str) -> None:
    pieces = [b'{"a":"\xc3', b'\x9f"', b"}\r", b'\n1\n"', b"\xe2\x82", b'\xac"\n']
    words = [base64.b64encode(piece).decode() for piece in pieces]
    async with open_node(node, "ends.js", "garbage", *words) as child:
        await child.send("now")
        assert await child.receive() == {"a": "ß"}
        assert await child.receive() == 1
        assert await child.receive() == "€"
