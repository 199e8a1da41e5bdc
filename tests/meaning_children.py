"""What the children of the meaning tests do.

In a module of its own, because a child that would import pytest takes twice as long to start.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import trio

import trio_ipc

Parent = trio_ipc.Channel[Any, Any]


async def do_nothing(parent: Parent) -> None:
    pass


async def echo(parent: Parent) -> None:
    async for message in parent:
        await parent.send(message)


async def send_all(parent: Parent, messages: list[Any]) -> None:
    for message in messages:
        await parent.send(message)


# A second way to the test: the standard streams -----------------------------------------------


class Listener:
    """What the test says on the child's standard input."""

    def __init__(self) -> None:
        self._stream = trio.lowlevel.FdStream(os.dup(0))

    async def hear(self) -> str:
        """Wait for a line, of which there is never more than one under way; at the end, none."""
        return (await self._stream.receive_some()).decode()


def say(line: object) -> None:
    os.write(1, f"{line}\n".encode())


# 2: send -----------------------------------------------------------------------------------


async def check_chaos(parent: Parent) -> None:
    got = []
    async for message in parent:
        assert set(message["data"]) <= {message["number"] % 251}
        got.append(message["number"])
    await parent.send(got)


async def count_bytes_when_told(parent: Parent) -> None:
    await Listener().hear()
    count = 0
    async for message in parent:
        count += len(message)
    say(f"{count} bytes, then the end")


async def send_much_and_leave(parent: Parent, how: str, size: int) -> None:
    await parent.send(b"x" * size)
    await parent.send("after it")
    if how == "raise":
        raise ValueError("on purpose")
    if how == "cancel":
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep_forever()


# 3: receive --------------------------------------------------------------------------------


async def say_sizes(parent: Parent) -> None:
    async for message in parent:
        say(len(message))


async def send_and_be_elsewhere(parent: Parent, size: int) -> None:
    parent.send_nowait("before it")
    parent.send_nowait(b"x" * size)
    await Listener().hear()


async def send_drain_and_say(parent: Parent, size: int) -> None:
    await parent.send(b"x" * size)
    await parent.send("x" * size)
    await parent.drain()
    say("drained")
    await Listener().hear()


# 4: order ----------------------------------------------------------------------------------


async def send_when_told(parent: Parent) -> None:
    await Listener().hear()
    await parent.send(0)


async def take_when_told(parent: Parent) -> None:
    listener = Listener()
    while order := await listener.hear():
        receive, send = map(int, order.split())
        got = [await parent.receive() for _ in range(receive)]
        for number in range(send):
            await parent.send(number)
        say([len(message) if len(message) > 10 else message for message in got])


# 5: bounds ---------------------------------------------------------------------------------


async def take_some_when_told(parent: Parent) -> None:
    listener = Listener()
    await parent.send("ready")
    while count := await listener.hear():
        for _ in range(int(count)):
            received = await parent.receive()
            if isinstance(received, list):
                for handle in received:
                    handle.close()
        say(f"took {int(count)}")


async def fill_and_say(parent: Parent) -> None:
    def fill() -> int:
        count = 0
        try:
            while True:
                parent.send_nowait("x")
                count += 1
        except trio.WouldBlock:
            return count

    say(filled := fill())
    for _ in range(3):
        await parent.send("x")
        # With no buffer, the parent may be in `receive` again, and have room for one more.
        say("sent one more" + (", and no other" if filled and not fill() else ""))


async def check_numbers(parent: Parent) -> None:
    await parent.send("ready")
    count = 0
    async for number, data in parent:
        assert number == count
        assert data == b"x" * len(data)
        count += 1
    await parent.send(count)


async def send_then_receive(channel: Parent, count: int, size: int) -> None:
    for number in range(count):
        await channel.send([number, b"x" * size])
    for number in range(count):
        assert await channel.receive() == [number, b"x" * size]


async def send_while_receiving(channel: Parent, count: int, size: int) -> None:
    async def send_all() -> None:
        for _ in range(count):
            await channel.send(b"x" * size)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all)
        for _ in range(count):
            assert len(await channel.receive()) == size


def peak_memory() -> int:
    """Of this process since its exec; `ru_maxrss` counts the parent's, too."""
    with open("/proc/self/status") as file:
        [line] = [line for line in file if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


async def measure_memory(parent: Parent, count: int, size: int) -> None:
    before = peak_memory()
    for _ in range(count):
        assert len(await parent.receive()) == size
    for _ in range(count):
        await parent.send(b"x" * size)
    await parent.send(peak_memory() - before)
