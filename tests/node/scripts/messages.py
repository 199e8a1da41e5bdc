from __future__ import annotations

import trio
from common import receive_plain, run

import trio_ipc


async def fork(*args: str) -> None:
    async with trio_ipc.open_parent() as parent:
        for bad in (object(), {1, object()}, fork):
            try:
                await parent.send(bad)
            except trio_ipc.UnsupportedMessage:
                pass
            else:
                raise AssertionError(f"{bad!r} was sent")
        await parent.send({"args": list(args)})
        assert await receive_plain(parent) == {"hello": "world"}
        await parent.send({"foo": "bar"})


async def echo() -> None:
    async with trio_ipc.open_parent() as parent:
        async for message in parent:
            await parent.send(message)


async def send_callback() -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.send("ok")
        await parent.send_channel.drain()


async def internal() -> None:
    async with trio_ipc.open_parent() as parent:
        for reserved in ("NODE_bar", "NODE_HANDLE", "NODE_CLUSTER"):
            try:
                await parent.send({"cmd": reserved})
            except trio_ipc.UnsupportedMessage:
                pass
            else:
                raise AssertionError(f"{reserved} was sent")
        await parent.send({"cmd": "fooNODE_"})
        await parent.send({"cmd": "NODE_"})
        await parent.send("the last")
        async for message in parent:
            await parent.send(message)


async def json_values() -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.send([float("nan"), float("inf"), None, 0, 1.5, "ß"])
        await parent.send(["\ud800", "\u2028", "\U0001f600"])
        await parent.send(await receive_plain(parent))


async def slow_reader() -> None:
    bound = 10
    async with trio_ipc.open_parent(max_buffer_size=bound) as parent:
        # The reader takes what one read brings: up to 64 KiB, of messages of 1 kB.
        while not (used := parent.statistics().current_buffer_used):
            await trio.lowlevel.checkpoint()
        for _ in range(1000):
            await trio.lowlevel.checkpoint()
            used = parent.statistics().current_buffer_used
        await parent.send([used, bound + 66])
        count = 0
        async for message in parent:
            if message == "end":
                await parent.send(count)
            else:
                assert message[0] == count
                count += 1


async def typed() -> None:
    async with trio_ipc.open_parent(message_type=int) as parent:
        try:
            await parent.receive()
        except trio_ipc.InvalidMessage:
            await parent.send("InvalidMessage")
        async for number in parent:
            await parent.send(number + 1)


if __name__ == "__main__":
    run(fork, echo, send_callback, internal, json_values, slow_reader, typed)
