from __future__ import annotations

import contextlib
import json
import sys

import trio
from common import receive_plain, run, say

import trio_ipc

BIG = "x" * 10_000_000


async def ignore_channel() -> None:
    pass


async def open_and_leave() -> None:
    async with trio_ipc.open_parent():
        pass


async def fork_close() -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.send("hello")


async def fork_ref() -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.send("1")
        assert await receive_plain(parent) == "2"
        async for _ in parent:
            raise AssertionError("there was one more")
    say("cleaned up")


async def fork_ref2() -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.aclose()
        try:
            await parent.receive()
        except trio.ClosedResourceError:
            pass
        await trio.to_thread.run_sync(sys.stdin.read)


async def disconnect_by_child() -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.send("about to disconnect")
        await parent.aclose()
        await parent.aclose()
        await trio.to_thread.run_sync(sys.stdin.read)


async def close_send_half() -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.send("the last")
        await parent.send_channel.aclose()
        # There is no half-close: Node closes its end, too.
        async for _ in parent:
            pass
        say("end")


async def send_after_close() -> None:
    async with trio_ipc.open_parent() as parent:
        async for _ in parent:
            pass
        try:
            while True:
                await parent.send("too late")
        except trio.BrokenResourceError:
            say("broken")
        await parent.send_channel.aclose()
        try:
            await parent.send("later still")
        except trio.ClosedResourceError:
            say("closed")


async def exit(status: str) -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.send("before")
        sys.exit(int(status))


async def throw() -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.send("before")
        raise ValueError("on purpose")


async def big_then_exit() -> None:
    async with trio_ipc.open_parent() as parent:
        parent.send_nowait("one")
        parent.send_nowait(BIG)


async def big_then_close() -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.send("one")
        await parent.send(BIG)
        await parent.aclose()


async def truncated() -> None:
    async with trio_ipc.open_parent() as parent:
        try:
            await parent.receive()
        except trio_ipc.ProtocolError as exc:
            say(str(exc))


async def count_until_the_end() -> None:
    async with trio_ipc.open_parent() as parent:
        sizes = [len(message) async for message in parent]
    say(json.dumps(sizes))


async def disconnect_when_told() -> None:
    async with trio_ipc.open_parent() as parent:
        # Whatever else happens when everybody goes at once, it is one of these.
        expected = (trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel)
        with contextlib.suppress(*expected):
            await parent.receive()
            for number in range(100):
                await parent.send(number)


async def until_the_end() -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.send("ready")
        async for _ in parent:
            pass
    say("ended cleanly")


if __name__ == "__main__":
    run(
        ignore_channel,
        open_and_leave,
        fork_close,
        fork_ref,
        fork_ref2,
        disconnect_by_child,
        close_send_half,
        send_after_close,
        exit,
        throw,
        big_then_exit,
        big_then_close,
        truncated,
        count_until_the_end,
        disconnect_when_told,
        until_the_end,
    )
