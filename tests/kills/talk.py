"""What the library's side does while its peer is lost: calls of every kind are under way, and what
becomes of each is written down.

As a program it is the child of a peer: its argument is JSON, and what became of the calls is what
it prints.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import trio

import trio_ipc

# As many messages as the peer has room for; one more send has to wait.
ROOM = 3
# More than both sides and the kernel hold between them.
MUCH = 12 * 1024 * 1024

# What a call of the channel may say. ProtocolError is one of them.
CLEAR = (
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.EndOfChannel,
    trio_ipc.HandleNotDelivered,
)


class Talk:
    """One conversation.

    Attributes:
      outcomes: what became of each call, by its name: ``done``, or the name of an error.
      begun: set when the calls are under way.
      ready: to be set when the peer is in its step; only who leaves the block waits for it.
    """

    def __init__(self, protocol: str, step: str, streams: list[trio.SocketStream]) -> None:
        self._protocol = protocol
        self._step = step
        self._streams = streams
        self.outcomes: dict[str, str] = {}
        self.begun = trio.Event()
        self.ready = trio.Event()
        self._left = 0
        self._all_done = trio.Event()

    async def hold(self, channel: trio_ipc.Channel[Any, Any], nursery: trio.Nursery) -> None:
        """The body of the block. The calls run outside of it, to survive it."""
        step = self._step
        if step == "drain":
            await channel.send("x" * MUCH)
        if step == "handles unread":
            await self._receive_one(channel)
        else:
            for name in ("receive", "another receive"):
                self._start(nursery, name, self._receive_one, channel)
        for number, stream in enumerate(self._streams):
            self._start(nursery, f"send {number}", self._send, channel, number, stream)
        self._start(nursery, "drain", channel.drain)
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        if step == "we have ended":
            channel.send_channel.close()
        self.begun.set()
        if step == "leaving":
            await self.ready.wait()
            return
        await self._all_done.wait()
        await self._call("send again", channel.send, "x")
        if step != "handles unread":
            await self._call("receive again", channel.receive)

    async def _send(self, channel: Any, number: int, stream: trio.SocketStream) -> None:
        if self._protocol == "node":
            await channel.send(number, stream)
        else:
            await channel.send([number, stream])

    async def _receive_one(self, channel: Any) -> None:
        _, stream = await channel.receive()
        await stream.aclose()

    def _start(
        self, nursery: trio.Nursery, name: str, function: Callable[..., Awaitable[None]], *args: Any
    ) -> None:
        async def run() -> None:
            try:
                await self._call(name, function, *args)
            finally:
                self._left -= 1
                if not self._left:
                    self._all_done.set()

        self._left += 1
        nursery.start_soon(run)

    async def _call(
        self, name: str, function: Callable[..., Awaitable[object]], *args: Any
    ) -> None:
        assert name not in self.outcomes, f"{name} has come to an end twice"
        outcome = "done"
        try:
            await function(*args)
        except CLEAR as exc:
            outcome = type(exc).__name__
        assert name not in self.outcomes, f"{name} has come to an end twice"
        self.outcomes[name] = outcome

    def check(self) -> None:
        """Whose each handle is."""
        for number, stream in enumerate(self._streams):
            gone = stream.socket.fileno() < 0
            # Those that were never begun are the caller's, too.
            sent = self.outcomes.get(f"send {number}") == "done"
            assert gone == sent, f"send {number}: {self.outcomes}, and is the handle gone? {gone}"


async def main(about: dict[str, Any]) -> None:
    streams = [
        trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=fd)))
        for fd in about["fds"]
    ]
    talk = Talk(about["protocol"], about["step"], streams)
    talk.ready.set()

    async def say_begun() -> None:
        await talk.begun.wait()
        print("begun", flush=True)

    async with trio.open_nursery() as nursery:
        try:
            async with trio_ipc.open_parent(max_buffer_size=ROOM) as parent:
                nursery.start_soon(say_begun)
                await talk.hold(parent, nursery)
        except trio_ipc.NoParent:
            talk.outcomes["open"] = "NoParent"
            nursery.cancel_scope.cancel()
    talk.check()
    for stream in streams:
        await stream.aclose()
    print(json.dumps(talk.outcomes), flush=True)


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
