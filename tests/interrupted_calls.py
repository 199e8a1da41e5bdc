"""What is under way when a call is ended from outside, and what must hold of it afterwards.

Each of these is a whole sweep: the call is struck at each of its steps in turn.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

import trio_ipc

from .both_ends import children_are_fake, open_both_ends
from .fault_conversation import Thing, read_name
from .handle_workers import close
from .kills.talk import CLEAR
from .sweep import MOST_STEPS, AtStep, Cause, strike_at, sweep

# In JSON, too, no kernel takes it at once.
LARGE = "x" * 1_000_000
# Of these a few fill a channel.
FILLING = "x" * 100_000
MARKER = "all before this has arrived"
# Turns of the event loop, before the other end does what is waited for.
TURNS = 3


class Scene:
    """A call, and the two ends of its channel.

    Args:
      setting: ``"pair"``, or the serialization of two scopes.
      name: whose method it is, and which.
    """

    def __init__(self, setting: str, name: str, cause: Cause) -> None:
        self.setting = setting
        self.kind, _, self.method = name.partition(".")
        self.cause = cause
        self.near: Any = None
        self.far: Any = None

    @property
    def sends(self) -> bool:
        return self.kind != "ReceiveChannel"

    @property
    def receives(self) -> bool:
        return self.kind != "SendChannel"

    @property
    def target(self) -> Any:
        halves = {"SendChannel": "send_channel", "ReceiveChannel": "receive_channel"}
        return getattr(self.near, halves[self.kind]) if self.kind in halves else self.near

    async def call(self, *args: Any) -> Any:
        return await getattr(self.target, self.method)(*args)

    @property
    def options(self) -> dict[str, Any]:
        if self.setting == "msgpack":
            return {}
        return {"protocol": "node", "serialization": self.setting}

    @asynccontextmanager
    async def open(self, max_buffer_size: int = 1) -> AsyncIterator[None]:
        if self.setting == "pair":
            self.near, self.far = trio_ipc.open_channel_pair(max_buffer_size)
            with self.near, self.far:
                yield
            return
        async with open_both_ends(max_buffer_size, **self.options) as (child, parent):
            is_child = self.kind == "ChildChannel"
            self.near, self.far = (child, parent) if is_child else (parent, child)
            yield

    async def assert_usable(self) -> None:
        """Both ways, and nothing comes before what is sent now."""
        for sender, receiver in ((self.near, self.far), (self.far, self.near)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.send, MARKER)
                assert await receiver.receive() == MARKER


class Listener:
    """Receives all that comes, in a task of its own."""

    def __init__(self, nursery: trio.Nursery, channel: Any) -> None:
        self.heard: list[Any] = []
        self.handles: list[Any] = []
        self.end = ""
        self._done = trio.Event()
        nursery.start_soon(self._listen, channel)

    async def _listen(self, channel: Any) -> None:
        for _ in range(TURNS):
            await trio.lowlevel.checkpoint()
        try:
            while (message := await channel.receive()) != MARKER:
                if isinstance(message, trio_ipc.HandleMessage):
                    message, handle = message
                    self.handles.append(handle)
                self.heard.append(message)
        except CLEAR as exc:
            self.end = type(exc).__name__
        self._done.set()

    async def finish(self) -> list[Any]:
        await self._done.wait()
        return self.heard


# The calls ---------------------------------------------------------------------------------------


async def send(scene: Scene) -> None:
    """It returned, and the message arrives once; or it did not, and nothing was sent, and the
    handle is as it was."""
    for fills in (False, True):
        for with_handle in (False, True):
            async with scene.open(), trio.open_nursery() as nursery:
                sweeps = _send(scene, nursery, fills=fills, with_handle=with_handle)
                assert await sweeps >= (1 if fills else 0)


def _send(scene: Scene, nursery: trio.Nursery, *, fills: bool, with_handle: bool) -> Awaitable[int]:
    before = 0
    thing: Thing
    listener: Listener

    async def operation(at_step: AtStep) -> None:
        nonlocal before, thing, listener
        before = _fill(scene.near) if fills else 0
        thing = Thing("the handle", "stream")
        listener = Listener(nursery, scene.far)
        with at_step:
            await scene.call("it", *([thing.near] if with_handle else []))

    async def check(ended: bool) -> None:
        await scene.near.send(MARKER)
        assert await listener.finish() == [FILLING] * before + ["it"] * (not ended)
        assert thing.is_here() == (ended or not with_handle)
        assert len(listener.handles) == (not thing.is_here())
        for handle in listener.handles:
            assert read_name(handle) == thing.name
            close(handle)
        assert thing.is_usable() == thing.is_here()
        thing.close()
        await scene.assert_usable()

    return sweep(operation, check, scene.cause)


def _fill(channel: Any) -> int:
    count = 0
    try:
        while True:
            channel.send_nowait(FILLING)
            count += 1
    except trio.WouldBlock:
        return count


async def receive(scene: Scene) -> None:
    """It took the message with its handle, or both are the next one's."""
    for size in (0, 1):
        for turns in (0, TURNS):
            async with scene.open(size), trio.open_nursery() as nursery:
                assert await _receive(scene, nursery, turns) >= 1


def _receive(scene: Scene, nursery: trio.Nursery, turns: int) -> Awaitable[int]:
    thing: Thing
    spoken: trio.Event
    got: list[Any] = []

    async def speak() -> None:
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        await scene.far.send("it", thing.near)
        spoken.set()

    async def operation(at_step: AtStep) -> None:
        nonlocal thing, spoken
        thing, spoken = Thing("the handle", "stream"), trio.Event()
        nursery.start_soon(speak)
        if not turns:
            await trio.lowlevel.checkpoint()  # it may be there when the call begins
        with at_step:
            got.append(await scene.call())

    async def check(ended: bool) -> None:
        if ended:
            assert not got
            got.append(await scene.near.receive())
        message, handle = got.pop()
        assert message == "it"
        assert read_name(handle) == thing.name
        close(handle)
        await spoken.wait()
        thing.close()
        await scene.assert_usable()

    return sweep(operation, check, scene.cause)


async def drain(scene: Scene) -> None:
    """What was sent before it arrives whole, whatever becomes of it."""
    listener: Listener
    async with scene.open(), trio.open_nursery() as nursery:

        async def operation(at_step: AtStep) -> None:
            nonlocal listener
            await scene.near.send(LARGE)
            listener = Listener(nursery, scene.far)
            with at_step:
                await scene.call()

        async def check(ended: bool) -> None:
            await scene.near.send(MARKER)
            assert await listener.finish() == [LARGE]
            await scene.assert_usable()

        assert await sweep(operation, check, scene.cause) >= 1


async def enter(scene: Scene) -> None:
    """Nothing happens, and it is no checkpoint."""
    async with scene.open():

        async def operation(at_step: AtStep) -> None:
            with at_step:
                assert await scene.call() is scene.target

        async def check(ended: bool) -> None:
            assert not ended
            await scene.assert_usable()

        await sweep(operation, check, scene.cause)


async def leave(scene: Scene) -> None:
    await _close(scene, None, None, None)


async def aclose(scene: Scene) -> None:
    await _close(scene)


async def _close(scene: Scene, *args: None) -> None:
    """It is closed in any case; what was sent before arrives, unless nobody is left to write it;
    and the half that is not closed goes on."""

    async def operation(at_step: AtStep) -> None:
        if scene.sends:
            await scene.near.send(LARGE)
        with at_step:
            await scene.call(*args)

    for step in range(MOST_STEPS):
        async with scene.open(), trio.open_nursery() as nursery:
            listener = Listener(nursery, scene.far)
            ended, over = await strike_at(step, operation, scene.cause)
            await _check_closed(scene, listener, ended)
            nursery.cancel_scope.cancel()
        if over:
            return
    raise AssertionError("it never closes")


async def _check_closed(scene: Scene, listener: Listener, ended: bool) -> None:
    near = scene.near
    if scene.receives:
        with pytest.raises(trio.ClosedResourceError):
            near.receive_nowait()
    if not scene.sends:
        await near.send("still")
        await near.send(MARKER)
        assert await listener.finish() == ["still"]
        return
    with pytest.raises(trio.ClosedResourceError):
        near.send_nowait("x")
    if not scene.receives:
        await scene.far.send("still")
        assert await near.receive() == "still"
    if scene.setting == "pair" and ended:
        if scene.receives:  # there is nobody who could write the rest
            assert await listener.finish() in ([], [LARGE])
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.receive)
            await listener.finish()
            nursery.cancel_scope.cancel()
    assert await listener.finish() == [LARGE]
    assert listener.end == "EndOfChannel"


# The scopes --------------------------------------------------------------------------------------


async def enter_child(scene: Scene) -> None:
    await _open_child(scene, leaves=False)


async def leave_child(scene: Scene) -> None:
    await _open_child(scene, leaves=True)


async def _open_child(scene: Scene, *, leaves: bool) -> None:
    """The child is reaped, and a handle that was under way is closed."""
    before = sorted(os.listdir("/dev/fd"))
    things: list[Thing] = []

    async def operation(at_step: AtStep) -> None:
        manager = trio_ipc.open_child(["cat"], stdin=subprocess.DEVNULL, **scene.options)
        if not leaves:
            with at_step:
                await manager.__aenter__()
            await manager.__aexit__(None, None, None)
            return
        with ExitStack() as counted:
            async with manager as child:
                if scene.options:  # nobody has greeted, and Node's protocol does not ask for that
                    things.append(Thing("the handle", "stream"))
                    child.send_nowait("it", things[0].near)
                counted.enter_context(at_step)

    async def check(ended: bool) -> None:
        while things:
            things.pop().close()
        assert sorted(os.listdir("/dev/fd")) == before
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)  # noqa: ASYNC222

    assert await sweep(operation, check, scene.cause) >= 1


async def enter_parent(scene: Scene) -> None:
    await _open_parent(scene, leaves=False)


async def leave_parent(scene: Scene) -> None:
    await _open_parent(scene, leaves=True)


async def _open_parent(scene: Scene, *, leaves: bool) -> None:
    """The channel is closed, or was not opened; what was sent before leaving arrives."""

    async def operation(at_step: AtStep) -> None:
        manager = trio_ipc.open_parent()
        if not leaves:
            with at_step:
                await manager.__aenter__()
            await manager.__aexit__(None, None, None)
            return
        with ExitStack() as counted:
            async with manager as parent:
                await parent.send(LARGE)
                counted.enter_context(at_step)

    for step in range(MOST_STEPS):
        with children_are_fake():
            async with trio_ipc.open_child(["cat"], **scene.options) as child:
                assert child.process.stdin is not None
                async with child.process.stdin, trio.open_nursery() as nursery:
                    listener = Listener(nursery, child)
                    ended, over = await strike_at(step, operation, scene.cause)
                    assert not over or not ended
                    if leaves:
                        assert await listener.finish() == [LARGE]
                        assert listener.end == "EndOfChannel"
                    elif not ended:
                        assert await listener.finish() == []
                    nursery.cancel_scope.cancel()
        if over:
            assert step >= 1
            return
    raise AssertionError("it is never over")


METHODS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "send": send,
    "receive": receive,
    "__anext__": receive,
    "drain": drain,
    "aclose": aclose,
    "__aenter__": enter,
    "__aexit__": leave,
}
SCOPES: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "open_child.__aenter__": enter_child,
    "open_child.__aexit__": leave_child,
    "open_parent.__aenter__": enter_parent,
    "open_parent.__aexit__": leave_parent,
}
