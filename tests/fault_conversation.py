"""A conversation that has everything in it, and what must hold of it whatever goes wrong.

Both sides say the same: small and large messages, handles that move and one that stays, a channel
(towards Node, one handle a message), and then goodbye. Each handle knows its name: it is there to
be read from it, once. So who received which is not a matter of belief.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import trio

import trio_ipc

from .handle_workers import close, descriptor_of

LARGE = 300_000  # more than any kernel takes at once, of a process that asks for as little as we do

# What a call may raise because the system or the peer has failed it.
GONE = (trio.BrokenResourceError, trio_ipc.HandleNotDelivered)


class Thing:
    """A handle, and its other end, which tells whether a copy of it is open anywhere."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.keep_open = True if kind == "kept" else None
        if kind == "pipe":
            reader, self._far = os.pipe()
            os.write(self._far, name.encode())
            self.near: Any = trio.lowlevel.FdStream(reader)
            return
        near, far = socket.socketpair()
        far.sendall(name.encode())
        self._far = far.detach()
        near.setblocking(False)
        if kind == "stream":
            self.near = trio.SocketStream(trio.socket.from_stdlib_socket(near))
        else:
            self.near = near

    def is_here(self) -> bool:
        return descriptor_of(self.near) >= 0

    def is_usable(self) -> bool:
        """It is here, nobody has read from it, and nobody else has it."""
        number = descriptor_of(self.near)
        return number >= 0 and read_name(self.near) == self.name

    def close(self) -> None:
        """All copies that are known are closed: there is no other one."""
        close(self.near)
        poll = select.poll()
        poll.register(self._far, 0)
        alone = bool(poll.poll(0))  # POLLHUP or POLLERR, which need not be asked for
        os.close(self._far)
        assert alone, f"somebody still holds a copy of {self.name}"


def read_name(handle: Any) -> str:
    """What the handle is called; nobody learns it twice."""
    number = descriptor_of(handle)
    os.set_blocking(number, False)
    return os.read(number, 100).decode()


class Side:
    """What one side has said and heard.

    Attributes:
      sent: the numbers of the messages whose send has returned, in this order.
      refused: those whose send has raised.
      heard: the numbers of those that were received; None for one that was an `InvalidMessage`.
      ended: what the last receive has raised.
      errors: what any other call has raised.
    """

    def __init__(self, name: str, *, node: bool = False, allowed: int | None = None) -> None:
        self.name = name
        self.node = node
        self.allowed = allowed
        self.sent: list[int] = []
        self.refused: list[int] = []
        self.heard: list[int | None] = []
        self.ended: str | None = None
        self.errors: list[str] = []
        self.things: dict[int, list[Thing]] = {}
        self.before_goodbye: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint

    # Speaking -------------------------------------------------------------------------------

    async def speak(self, channel: trio_ipc.Channel[Any, Any]) -> None:
        for number, (size, kinds) in enumerate(_script(self.node)):
            things = [Thing(f"{self.name}{number}.{i}", kind) for i, kind in enumerate(kinds)]
            self.things[number] = things
            # What was refused can be sent again: the handles, and the channel, are as they were.
            for _ in range(2):
                if await self._attempt(self._send(channel, number, size, things)):
                    self.sent.append(number)
                    break
            else:
                self.refused.append(number)
        if not self.node:
            await self._attempt(self._send_a_channel(channel, len(self.sent) + 100))
        await self._attempt(channel.send_channel.drain())
        await self.before_goodbye()
        await self._attempt(channel.send_channel.aclose())

    async def _send(
        self, channel: trio_ipc.Channel[Any, Any], number: int, size: int, things: list[Thing]
    ) -> None:
        message: dict[str, Any] = {"number": number, "text": _text(number, size)}
        handles = [thing.near for thing in things]
        keep_open = things[0].keep_open if things else None
        if not self.node:
            await channel.send({**message, "handles": handles}, keep_open=keep_open)
        elif handles:
            await channel.send(message, handles[0], keep_open=keep_open)
        else:
            await channel.send(message)

    async def _send_a_channel(self, channel: trio_ipc.Channel[Any, Any], number: int) -> None:
        mine, theirs = trio_ipc.open_channel_pair(10)
        with mine, theirs:
            await channel.send({"number": number, "text": _text(number, 9), "channel": theirs})
            self.sent.append(number)
            await mine.send(number)
            await mine.aclose()

    async def _attempt(self, call: Any) -> bool:
        try:
            await call
        except (*GONE, OSError, trio_ipc.UnsupportedMessage) as exc:
            # An option that can't be read off a handle makes it one that can't travel.
            cause = exc.__cause__ if isinstance(exc, trio_ipc.UnsupportedMessage) else exc
            if not isinstance(exc, GONE) and getattr(cause, "errno", None) != self.allowed:
                raise  # it is not what has been made to fail
            self.errors.append(type(exc).__name__)
            return False
        return True

    # Listening ------------------------------------------------------------------------------

    async def listen(self, channel: trio_ipc.Channel[Any, Any]) -> None:
        while True:
            try:
                message = await channel.receive()
            except (trio.EndOfChannel, *GONE) as exc:
                self.ended = type(exc).__name__
                return
            except trio_ipc.InvalidMessage:
                self.heard.append(None)
                continue
            await self._check(message)

    async def _check(self, message: Any) -> None:
        handles = []
        if isinstance(message, trio_ipc.HandleMessage):
            message, handle = message
            handles = [handle]
        number = message["number"]
        self.heard.append(number)
        handles = message.get("handles", handles)
        try:
            assert message["text"] == _text(number, len(message["text"])), "the text is damaged"
            peer = _other(self.name)
            expected = [f"{peer}{number}.{index}" for index in range(len(handles))]
            assert [read_name(handle) for handle in handles] == expected, "another handle"
            if number < 100:
                size, kinds = _script(self.node)[number]
                assert (len(message["text"]), len(handles)) == (size, len(kinds))
            else:
                await self._try_channel(message["channel"], number)
        finally:
            for handle in handles:
                close(handle)

    async def _try_channel(self, channel: trio_ipc.Channel[Any, Any], number: int) -> None:
        with channel:
            try:
                assert await channel.receive() == number
            except (trio.EndOfChannel, *GONE) as exc:
                self.errors.append(type(exc).__name__)

    async def converse(self, channel: trio_ipc.Channel[Any, Any]) -> None:
        """Both at once, and then nothing of it is needed any more."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.listen, channel)
            await self.speak(channel)
        channel.close()

    # The verdict ----------------------------------------------------------------------------

    def close(self) -> None:
        """Give up what is still here; nobody else may have anything of it."""
        for things in self.things.values():
            for thing in things:
                thing.close()

    def check_things(self) -> None:
        """Who owns what, before anything is closed."""
        for number in self.sent:
            for thing in self.things.get(number, ()):
                assert thing.is_here() == (thing.keep_open is True), f"{thing.name}, after a send"
        for number in self.refused:
            for thing in self.things[number]:
                assert thing.is_here(), f"{thing.name} is lost, though its send has raised"
                if not self.node:  # whose last acknowledgement may have been lost
                    assert thing.is_usable(), f"{thing.name} is not as it was"


def _script(node: bool) -> list[tuple[int, tuple[str, ...]]]:
    """The size of each message's text, and the kinds of its handles."""
    if node:
        return [
            (5, ()),
            (5, ("stream",)),
            (LARGE, ()),
            (LARGE, ("stream",)),
            (5, ("pipe",)),
            (5, ("kept",)),
            (5, ()),
        ]
    return [
        (5, ()),
        (5, ()),
        (5, ("socket",)),
        (LARGE, ()),
        (5, ("stream", "pipe")),
        (5, ("pipe",)),
        (LARGE, ("kept", "kept")),
        (5, ()),
    ]


def _text(number: int, size: int) -> str:
    return (f"message {number}, " * (size // 10 + 1))[:size]


def _other(name: str) -> str:
    return "b" if name == "a" else "a"


def verdict(a: Side, b: Side) -> None:
    """What must hold of any conversation.

    Raises:
      AssertionError: it does not.
    """
    for side in (a, b):
        side.check_things()
    for speaker, listener in ((a, b), (b, a)):
        check_direction(speaker, listener)


def check_direction(speaker: Side, listener: Side) -> None:
    came = listener.heard
    assert len(came) <= len(speaker.sent) + speaker.node, "more has arrived than was sent"
    expected: list[int | None] = list(speaker.sent)
    if speaker.node and speaker.errors and len(came) > len(expected):
        # It arrived, but not the news of that. Those before it may have been refused at once.
        late = came[len(expected)]
        assert late is None or late in speaker.refused, f"{came} arrived of {speaker.sent}"
        expected.append(late)
    for number, heard in zip(expected, came, strict=False):
        assert heard in (number, None), f"{came} arrived of {speaker.sent}"
        if heard is None:
            assert speaker.things.get(number) or number >= 100, "no handle in it, and yet invalid"
    assert listener.ended is not None
    complete = listener.ended == "EndOfChannel"
    if speaker.node:
        # It has no goodbye: what the socket's end means there, the speaker knows. A reset comes
        # after all that was written, but not if it is made up.
        complete = complete and not speaker.errors and listener.allowed != errno.ECONNRESET
    if complete:
        assert len(came) == len(speaker.sent), f"{came} arrived of {speaker.sent}, and then the end"


def errors_of(*sides: Side) -> Iterator[str]:
    for side in sides:
        yield from side.errors
        if side.ended not in (None, "EndOfChannel"):
            yield side.ended
