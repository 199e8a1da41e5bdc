"""What the children do."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import trio

import trio_ipc

from ..handle_workers import close, descriptor_of
from .words import Sum, filler, inode_of, message_of

Parent = trio_ipc.Channel[Any, Any]


async def send_back(parent: Parent) -> None:
    """Check what comes, and send it back; an order is obeyed, in its turn."""
    heard = Sum()
    async for message in parent:
        if isinstance(message, dict):
            await obey(parent, message["do"], heard)
            continue
        heard.add(message)
        try:
            parent.send_nowait(message)
        except trio.WouldBlock:
            await parent.send(message)


async def obey(parent: Parent, order: str, heard: Sum) -> None:
    if order == "sum":
        await parent.send(heard.told())
    elif order == "held":
        from ..soak._held import resident_bytes, take_stock

        await parent.send([*take_stock(), resident_bytes()])
    elif order == "fail":
        raise RuntimeError("as it was told")
    elif order == "exit":
        os._exit(0)
    else:
        os.kill(os.getpid(), getattr(signal, order))


async def return_handles(parent: Parent) -> None:
    """Each message has handles and says which they are, and whether one is to be used."""
    async for inodes, token, handles in parent:
        assert [inode_of(each) for each in handles] == inodes, "they are others"
        if token:
            number = descriptor_of(handles[0])
            assert os.read(number, 100) == token, "it has no such token"
            os.write(number, token[::-1])
        await parent.send([inodes, token, handles])


async def send_large(parent: Parent, size: int, count: int, before: int) -> None:
    """So many of so many bytes, while as many come; with ``before``, one before any is taken."""
    first = 0
    if before:
        await parent.send(filler(0, size).encode())
        first = 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_large, parent, size, first, count)
        for number in range(count):
            assert await parent.receive() == filler(number, size).encode(), f"{number} is not it"
    await parent.send("all of them")


async def _send_large(parent: Parent, size: int, first: int, count: int) -> None:
    for number in range(first, count):
        await parent.send(filler(number, size).encode())


async def send_and_receive(parent: Parent) -> None:
    """Both at once and independently, until told to stop, and then a report. Told to pause, neither
    is done until something comes on the standard input."""
    heard = Sum()
    told = Sum()
    talking = trio.Event()
    talking.set()
    stopped = False
    used = 0.0

    async def send() -> None:
        while not stopped:
            message = message_of(told.count)
            await parent.send(message)
            told.add(message)
            await talking.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        async for message in parent:
            if isinstance(message, list):
                heard.add(message)
                for handle in message[3:]:
                    close(handle)
            elif message["do"] == "pause":
                talking = trio.Event()
                before = time.process_time()
                await trio.lowlevel.wait_readable(0)
                used = time.process_time() - before
                talking.set()
            else:
                stopped = True
                break
    await parent.send({"heard": heard.told(), "told": told.told(), "cpu": used})
