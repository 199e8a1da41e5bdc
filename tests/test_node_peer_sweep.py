"""Calls that a Node peer's answers are awaited in, cancelled at each of their steps: they happened
or they did not, and nothing is left of them either way."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

import trio_ipc

from .meaning_helpers import settle
from .node_peers.raw import (
    ACK,
    NACK,
    Raw,
    assert_alive,
    handle_frame,
    is_open,
    line,
    open_end,
    tcp_pair,
)
from .sweep import AtStep, cancel_sweep


async def test_the_peer_is_lost_and_the_sender_cancelled_in_one_step() -> None:
    """It was not sent, whichever of the two comes out."""
    outcomes = set()
    for step in range(9):  # while the sender looks for an answer, before it parks
        stream, far = tcp_pair()
        with far:
            async with open_end() as (channel, _):
                with trio.CancelScope() as scope:

                    def strike() -> None:
                        channel._connection.lose()
                        scope.cancel()

                    with AtStep(step, strike):
                        with pytest.raises((trio.BrokenResourceError, trio.Cancelled)) as caught:
                            await channel.send("m", stream)
                        outcomes.add(caught.type)
            assert is_open(stream)
            await stream.aclose()
    assert trio.Cancelled in outcomes


class Peer:
    """Hears all that is said, and answers handles as it is told to."""

    def __init__(self, raw: Raw, answers: list[bytes], *, late: bool) -> None:
        self.heard: list[Any] = []
        self.markers: dict[str, trio.Event] = {}
        self._raw = raw
        self._answers = answers
        self._late = late

    async def run(self) -> None:
        while True:
            for answer in self._answers:
                message = json.loads(await self._raw.hear())
                while not (isinstance(message, dict) and message.get("cmd") == "NODE_HANDLE"):
                    if isinstance(message, str) and message in self.markers:
                        self.markers[message].set()
                    else:
                        self.heard.append(message)
                    message = json.loads(await self._raw.hear())
                if self._late:
                    await settle()
                if answer == ACK:
                    self.heard.append((message["msg"], self._raw.take_socket()))
                else:
                    self._raw.take_socket().close()
                await self._raw.say(answer)

    def close(self) -> None:
        for each in self.heard:
            if isinstance(each, tuple):
                each[1].close()

    async def catch_up(self, channel: Any, name: str) -> list[Any]:
        """All that was heard until now."""
        self.markers[name] = trio.Event()
        await channel.send(name)
        await self.markers[name].wait()
        heard, self.heard = self.heard, []
        return heard


@asynccontextmanager
async def open_peer(answers: list[bytes], *, late: bool) -> AsyncIterator[tuple[Any, Peer]]:
    async with open_end() as (channel, raw):
        async with trio.open_nursery() as nursery:
            peer = Peer(raw, answers, late=late)
            nursery.start_soon(peer.run)
            try:
                yield channel, peer
            finally:
                nursery.cancel_scope.cancel()
                peer.close()


@pytest.mark.parametrize("answers", [[ACK], [NACK, ACK]], ids=["taken", "refused once"])
@pytest.mark.parametrize("late", [False, True])
async def test_send_with_a_handle(answers: list[bytes], late: bool) -> None:
    """Either it returned and the handle arrives, once, or it was cancelled and the handle is still
    ours: there is no third state."""
    async with open_peer(answers, late=late) as (channel, peer):
        number = 0
        stream, far = tcp_pair()

        async def operation() -> None:
            await channel.send(number, stream)

        async def check(cancelled: bool) -> None:
            nonlocal number, stream, far
            heard = await peer.catch_up(channel, f"marker {number}")
            if cancelled:
                assert heard == []
                await assert_alive(stream, far)
                stream.socket.close()
            else:
                assert not is_open(stream)
                [(message, theirs)] = heard
                assert message == number
                with theirs:
                    theirs.sendall(b"x")
                    assert far.recv(2) == b"x"
            assert far.recv(2) == b""
            far.close()
            number += 1
            stream, far = tcp_pair()

        assert await cancel_sweep(operation, check) >= 2
        stream.socket.close()
        far.close()


async def test_send_with_a_handle_that_is_refused_for_good() -> None:
    """Whoever waits gets the error, and the handle back; whoever was cancelled does not wait."""
    async with open_peer(4 * [NACK], late=False) as (channel, peer):
        stream, far = tcp_pair()
        outcome = ""

        async def operation() -> None:
            nonlocal outcome
            outcome = "cancelled"
            try:
                await channel.send("m", stream)
            except trio_ipc.HandleNotDelivered:
                outcome = "refused"
            else:
                outcome = "returned"

        async def check(cancelled: bool) -> None:
            nonlocal stream, far
            assert cancelled == (outcome == "cancelled")
            assert await peer.catch_up(channel, f"marker {id(stream)}") == []
            if outcome == "returned":
                assert not is_open(stream)
            else:
                await assert_alive(stream, far)
                stream.socket.close()
            assert far.recv(2) == b""
            far.close()
            stream, far = tcp_pair()

        assert await cancel_sweep(operation, check) >= 2
        assert outcome == "refused"
        stream.socket.close()
        far.close()


@pytest.mark.parametrize("late", [False, True])
async def test_send_that_waits_its_turn(late: bool) -> None:
    async with open_peer([ACK], late=late) as (channel, peer):
        number = 0
        stream, far = tcp_pair()

        async def operation() -> None:
            first, other = socket.socketpair()
            with other:
                channel.send_nowait("first", first)
            await channel.send(number, stream)

        async def check(cancelled: bool) -> None:
            nonlocal number, stream, far
            heard = await peer.catch_up(channel, f"marker {number}")
            messages = [message for message, _ in heard]
            for _, theirs in heard:
                theirs.close()
            if cancelled:
                assert messages == ["first"]
                await assert_alive(stream, far)
                stream.socket.close()
            else:
                assert messages == ["first", number]
                assert not is_open(stream)
            assert far.recv(2) == b""
            far.close()
            number += 1
            stream, far = tcp_pair()

        assert await cancel_sweep(operation, check) >= 2
        stream.socket.close()
        far.close()


async def test_a_plain_send_behind_a_handle() -> None:
    async with open_peer([ACK], late=True) as (channel, peer):
        number = 0

        async def operation() -> None:
            near, other = socket.socketpair()
            with other:
                channel.send_nowait("first", near)
            await channel.send(["x" * 200_000, number])

        async def check(cancelled: bool) -> None:
            nonlocal number
            heard = await peer.catch_up(channel, f"marker {number}")
            for each in heard:
                if isinstance(each, tuple):
                    each[1].close()
            plain = [each[1] for each in heard if isinstance(each, list)]
            # Cancelled before its first step, not even the handle was sent.
            assert plain == ([] if cancelled else [number])
            number += 1

        assert await cancel_sweep(operation, check) >= 1


async def test_receive_of_a_handle() -> None:
    """A cancelled receive leaves the message, with its handle, for the next one."""
    async with open_end() as (channel, raw):
        got: list[Any] = []
        number = 0
        stream, far = tcp_pair()

        async def say() -> None:
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            await raw.say(handle_frame(number), stream.socket)

        async with trio.open_nursery() as nursery:

            async def operation() -> None:
                nursery.start_soon(say)
                got.append(await channel.receive())

            async def check(cancelled: bool) -> None:
                nonlocal number, stream, far
                if cancelled:
                    assert got == []
                    got.append(await channel.receive())
                assert await raw.hear() == ACK
                with pytest.raises(trio.WouldBlock):
                    channel.receive_nowait()
                [(message, arrived)] = got
                assert message == number
                stream.socket.close()
                async with arrived:
                    await assert_alive(arrived, far)
                far.close()
                got.clear()
                number += 1
                stream, far = tcp_pair()

            assert await cancel_sweep(operation, check) > 2
        stream.socket.close()
        far.close()


async def test_receive_of_plain_messages() -> None:
    async with open_end() as (channel, raw):
        said = arrived = 0

        async with trio.open_nursery() as nursery:

            async def say() -> None:
                nonlocal said
                for _ in range(3):
                    await trio.lowlevel.checkpoint()
                said += 1
                await raw.say(line(said))

            async def operation() -> None:
                nonlocal arrived
                nursery.start_soon(say)
                assert await channel.receive() == arrived + 1
                arrived += 1

            async def check(cancelled: bool) -> None:
                nonlocal arrived
                if cancelled:
                    assert await channel.receive() == arrived + 1
                    arrived += 1
                assert arrived == said

            assert await cancel_sweep(operation, check) > 2


async def test_leaving_with_a_handle_under_way() -> None:
    """Cancelled in the block, in its way out, or not at all: nothing is left."""

    far: socket.socket | None = None

    async def operation() -> None:
        nonlocal far
        stream, far = tcp_pair()
        try:
            async with open_peer([ACK], late=True) as (channel, peer):
                channel.send_nowait("m", stream)
                peer.heard += await peer.catch_up(channel, "marker")
        finally:
            stream.socket.close()

    async def check(cancelled: bool) -> None:
        assert far is not None
        assert far.recv(2) == b""
        far.close()

    assert await cancel_sweep(operation, check) > 2
