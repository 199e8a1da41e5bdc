"""The parent's side of a conversation with a child who sends everything back."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import trio

import trio_ipc

from ..handle_kinds import is_open
from ..handle_workers import close
from . import workers
from .words import Sum, inode_of, message_of

HERE = Path(__file__).parent
# Seconds that what nobody has any more may take to be closed.
PATIENCE = 30
KINDS = ("function", "script", "json", "advanced")
_JS_ROLES = {
    "send_back": "sendBack",
    "send_large": "sendLarge",
    "send_and_receive": "sendAndReceive",
}


def open_kind(
    kind: str, role: str, *args: Any, **options: Any
) -> AbstractAsyncContextManager[trio_ipc.ChildChannel[Any, Any]]:
    """A child of one of the `KINDS` that plays this role of `workers`, or of ``worker.js``."""
    # On a busy machine hundreds of them take their time to exit.
    options.setdefault("grace_period", 60)
    if kind == "function":
        return trio_ipc.open_child(getattr(workers, role), *args, **options)
    if kind == "script":
        return trio_ipc.open_child(HERE / "script.py", role, *map(str, args), **options)
    return trio_ipc.open_child(
        HERE / "worker.js", _JS_ROLES[role], *map(str, args), serialization=kind, **options
    )


class Conversation:
    """With a child that plays `workers.send_back`: what was said must come back, in its order.

    Args:
      kind: which of the `KINDS` it is.
      handles: a message in so many has a handle; 0 for none.

    Attributes:
      heard: what has come back.
      seen: how many of what, in all.
    """

    def __init__(self, channel: trio_ipc.Channel[Any, Any], kind: str, *, handles: int = 0) -> None:
        self._channel = channel
        self._is_native = kind in ("function", "script")
        self._handles = handles
        self._said = Sum()
        self.heard = Sum()
        self.seen: Counter[str] = Counter()
        # Of the handles that are away: the end that stayed here, and which one went.
        self._away: dict[int, tuple[socket.socket, int]] = {}
        self._awaited = 0
        self._is_heard = trio.Event()

    async def exchange(self, count: int) -> None:
        """Say so many more messages, and hear them all.

        Raises:
          AssertionError: something else came back.
          trio.BrokenResourceError, trio.EndOfChannel: the child is gone.
        """
        goal = self._said.count + count
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._say, goal)
            await self._hear(goal)
        assert not self._away
        self.seen["messages"] += count

    async def compare_sums(self) -> None:
        """What the child has heard is what was said, and what came back."""
        await self._channel.send({"do": "sum"})
        told = await self._channel.receive()
        assert told == self._said.told() == self.heard.told()

    async def wait_heard(self, count: int) -> None:
        """Wait until so many have come back; for one task, once."""
        self._awaited = count
        if self.heard.count < count:
            await self._is_heard.wait()

    async def see_off(self) -> None:
        """When the channel is closed and the child gone: nobody has what was away.

        The kernel may take a moment to close what was in the queue of a process that was killed,
        and a process that is just being spawned has a copy of everything until it is executed.

        Raises:
          AssertionError: somebody still has one of the handles.
        """
        left: list[int] = []
        while self._away:
            number, (near, _) = self._away.popitem()
            with near, trio.move_on_after(PATIENCE) as scope:
                await trio.lowlevel.wait_readable(near)
                with contextlib.suppress(ConnectionResetError):  # it was written to, and not read
                    assert near.recv(1) == b""
            if scope.cancelled_caught:
                left.append(number)
        assert not left, f"somebody has the handles of {left}"

    async def _say(self, goal: int) -> None:
        for number in range(self._said.count, goal):
            message = message_of(number)
            self._said.add(message)
            if self._handles and number % self._handles == self._handles - 1:
                await self._say_with_handle(message)
            elif number % 8:
                await self._send_soon(message)
            else:
                await self._channel.send(message)

    async def _send_soon(self, message: list[Any]) -> None:
        try:
            self._channel.send_nowait(message)
        except trio.WouldBlock:
            await self._channel.send(message)

    async def _say_with_handle(self, message: list[Any]) -> None:
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        self._away[message[0]] = near, inode_of(far)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(far))
        try:
            if self._is_native:
                await self._channel.send([*message, stream])
            else:
                await self._channel.send(message, stream)
            assert not is_open(stream), "it was sent, and is still here"
        finally:
            stream.socket.close()

    async def _hear(self, goal: int) -> None:
        while self.heard.count < goal:
            message = await self._channel.receive()
            handle = None
            if isinstance(message, trio_ipc.HandleMessage):
                message, handle = message
            elif len(message) > 3:
                handle = message.pop()
            self.heard.add(message)
            if self.heard.count == self._awaited:
                self._is_heard.set()
            expected = self._handles and message[0] % self._handles == self._handles - 1
            assert bool(expected) == (handle is not None), f"{message[0]}: {handle}"
            if handle is not None:
                await self._use(message[0], handle)

    async def _use(self, number: int, handle: trio.SocketStream) -> None:
        near, inode = self._away.pop(number)
        with near:
            try:
                assert inode_of(handle) == inode, "it is another one's handle"
                near.send(b"%d" % number)
                assert await handle.receive_some() == b"%d" % number
            finally:
                close(handle)
        self.seen["handles"] += 2
