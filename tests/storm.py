"""Messages and handles in a storm: many tasks at both ends, half of whose calls are cancelled.

Each message says which one of the same task was the last whose ``send`` had returned. So the
receiver sees at once if one was lost, came twice, or arrived though its ``send`` raised
`trio.Cancelled`; and that needs no memory, however long the storm is.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import zlib
from collections import Counter
from typing import Any

import msgspec
import trio

import trio_ipc
from trio_ipc import HandleMessage

# Tasks that send and that receive, at each end.
SENDERS = 4
RECEIVERS = 3
# After the last number of a task.
END = -1
# Seconds, the mean of what a call has before it is cancelled: some end in it, and some wait.
SOON = 0.0003

_TEXT = "".join(chr(33 + (7 * each * each) % 90) for each in range(4096)) * 40
_NUMBER = struct.Struct("!QQ")


class Side:
    """One end of the channel.

    Args:
      count: how many messages to send, those that are cancelled included.
      handles: how much of them has a handle.
      protocol: ``"node"`` takes no bytes, and handles only beside a message.
      expects_words: the other end's last message is something else, see `words`.
    """

    def __init__(
        self,
        channel: trio_ipc.Channel[Any, Any],
        chance: random.Random,
        count: int,
        *,
        handles: float = 0.1,
        protocol: str = "native",
        expects_words: bool = False,
    ) -> None:
        self._channel = channel
        self._chance = chance
        self._count = count
        self._handles = handles
        self._is_native = protocol == "native"
        self._expects_words = expects_words
        self.words: Any = None
        self.seen: Counter[str] = Counter()
        # Calls that another task may cancel.
        self._exposed: list[trio.CancelScope] = []
        # Of each sender at the other end: the last number that came, and those that came before
        # their turn, because several tasks receive here.
        self._last = [0] * SENDERS
        self._early: list[dict[int, int]] = [{} for _ in range(SENDERS)]
        self._ended = 0

    async def run(self) -> None:
        """Send everything and receive everything.

        Raises:
          AssertionError: something is not as it should be.
        """
        async with trio.open_nursery() as nursery:
            for task in range(SENDERS):
                nursery.start_soon(self._send_all, task)
            async with trio.open_nursery() as receiving:
                for _ in range(RECEIVERS):
                    receiving.start_soon(self._receive_all, receiving.cancel_scope)
        assert not any(self._early), f"these came, and those before them never: {self._early}"
        assert self._last == [END] * SENDERS
        assert self._ended == SENDERS
        assert self._expects_words == (self.words is not None)

    def _begin_call(self) -> trio.CancelScope:
        """The scope of a call: of most a cancellation is under way, and for half it is in time."""
        kind = self._chance.random()
        scope = trio.CancelScope()
        if kind < 0.2:
            scope.cancel()
        elif kind < 0.5:
            scope.deadline = trio.current_time() + self._chance.expovariate(1 / SOON)
        elif kind < 0.7:
            self._exposed.append(scope)
        if self._exposed and self._chance.random() < 0.2:
            self._exposed.pop(self._chance.randrange(len(self._exposed))).cancel()
        return scope

    # Sending --------------------------------------------------------------------------------

    async def _send_all(self, task: int) -> None:
        previous = 0
        for number in range(1, self._count // SENDERS + 1):
            if await self._send(task, number, previous):
                previous = number
        await self._channel.send([task, 0, previous, 0, ""])

    def _message(self, task: int, number: int, previous: int) -> list[Any]:
        size = int(2 ** self._chance.uniform(0, 8 if self._chance.random() < 0.98 else 17))
        start = self._chance.randrange(len(_TEXT) - size)
        text = _TEXT[start : start + size]
        return [task, number, previous, zlib.crc32(text.encode()), text]

    async def _send(self, task: int, number: int, previous: int) -> bool:
        message: Any = self._message(task, number, previous)
        if self._chance.random() < self._handles:
            return await self._send_handle(message)
        if self._is_native and self._chance.random() < 0.2:
            message = msgspec.msgpack.encode(message)
        if self._chance.random() < 0.2:
            return self._send_nowait(message)
        return await self._call_send(message)

    def _send_nowait(self, message: Any) -> bool:
        try:
            self._channel.send_nowait(message)
        except trio.WouldBlock:
            self.seen["WouldBlock"] += 1
            return False
        self.seen["sent"] += 1
        return True

    async def _call_send(self, *args: Any, **options: Any) -> bool:
        with self._begin_call() as scope:
            await self._channel.send(*args, **options)
        self._forget(scope)
        self.seen["sends cancelled" if scope.cancelled_caught else "sent"] += 1
        return not scope.cancelled_caught

    def _forget(self, scope: trio.CancelScope) -> None:
        if scope in self._exposed:
            self._exposed.remove(scope)

    async def _send_handle(self, message: list[Any]) -> bool:
        near, far = socket.socketpair()
        with near, far:
            # By it the receiver knows that it has the handle of this very message.
            near.send(_NUMBER.pack(message[0], message[1]))
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(far.dup()))
        keep_open = self._chance.choice([None, None, True])
        if self._is_native and self._chance.random() < 0.5:
            sent = await self._call_send([*message, stream], keep_open=keep_open)
        else:
            sent = await self._call_send(message, stream, keep_open=keep_open)
        is_open = stream.socket.fileno() >= 0
        assert is_open == (not sent or bool(keep_open)), f"sent: {sent}, and open: {is_open}"
        stream.socket.close()
        self.seen["handles sent"] += sent
        return sent

    # Receiving ------------------------------------------------------------------------------

    async def _receive_all(self, everybody: trio.CancelScope) -> None:
        while self._ended < SENDERS or (self._expects_words and self.words is None):
            with self._begin_call() as scope:
                try:
                    message = await self._channel.receive()
                except trio.EndOfChannel:
                    # After the last words; who got those may have its turn later.
                    assert self._expects_words
                    return
            self._forget(scope)
            if scope.cancelled_caught:
                self.seen["receives cancelled"] += 1
            else:
                self._take(message)
        everybody.cancel()

    def _take(self, message: Any) -> None:
        if isinstance(message, dict):
            self.words = message
            return
        handle = None
        if isinstance(message, HandleMessage):
            message, handle = message
        elif isinstance(message, bytes):
            message = msgspec.msgpack.decode(message)
        elif len(message) > 5:
            handle = message.pop()
        task, number, previous, check, text = message
        assert zlib.crc32(text.encode()) == check, "it is not what was sent"
        if handle is not None:
            self._use(handle, task, number)
        if number:
            self.seen["received"] += 1
        else:
            # What came before it was received before it, though perhaps by a task whose turn it
            # is only later.
            self._ended += 1
        early = self._early[task]
        assert previous not in early, f"{previous} of {task} is followed by two"
        assert len(early) < 100, f"what follows {self._last[task]} of {task} never came"
        early[previous] = number
        while self._last[task] in early:
            number = early.pop(self._last[task])
            assert not number or number > self._last[task]
            self._last[task] = number or END

    def _use(self, handle: trio.SocketStream, task: int, number: int) -> None:
        with socket.socket(fileno=os.dup(handle.socket.fileno())) as sock:
            handle.socket.close()
            assert sock.recv(100) == _NUMBER.pack(task, number), "it is another one's handle"
        self.seen["handles received"] += 1


def check_both(here: Counter[str], there: Counter[str]) -> None:
    """What was sent at one end was received at the other one, and something was."""
    for sender, receiver in ((here, there), (there, here)):
        assert sender["sent"] == receiver["received"] > 0
        assert sender["handles sent"] == receiver["handles received"]


async def storm_in_pair(seed: str, count: int, *, max_buffer_size: float) -> Counter[str]:
    """Both ends in this process; what was seen."""
    a, b = trio_ipc.open_channel_pair(max_buffer_size)
    with a, b:
        return await storm_between(a, b, seed, count)


async def storm_between(
    a: trio_ipc.Channel[Any, Any],
    b: trio_ipc.Channel[Any, Any],
    seed: str,
    count: int,
    *,
    protocol: str = "native",
) -> Counter[str]:
    """The same between two ends that are open already."""
    sides = [
        Side(channel, random.Random(f"{seed} {name}"), count // 2, protocol=protocol)
        for channel, name in ((a, "a"), (b, "b"))
    ]
    async with trio.open_nursery() as nursery:
        for side in sides:
            nursery.start_soon(side.run)
    check_both(sides[0].seen, sides[1].seen)
    return sides[0].seen + sides[1].seen


async def storm_in_child(parent: trio_ipc.Channel[Any, Any], seed: str, count: int) -> None:
    """What the function child does."""
    side = Side(parent, random.Random(seed), count)
    await side.run()
    await parent.send(dict(side.seen))


async def storm_with_child(seed: str, count: int, *, max_buffer_size: float) -> Counter[str]:
    """One end in a child; what was seen at both."""
    async with trio_ipc.open_child(
        storm_in_child, f"{seed} child", count // 2, max_buffer_size=max_buffer_size
    ) as child:
        side = Side(child, random.Random(seed), count // 2, expects_words=True)
        await side.run()
    words: Counter[str] = Counter(side.words)
    check_both(side.seen, words)
    return side.seen + words
