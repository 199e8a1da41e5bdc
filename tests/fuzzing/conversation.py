"""One such conversation, and what must be true of it.

The oracle is the descriptor table. While a conversation goes on, what is open more than before is
the channel's own socket, the bare one, and the handles that the user was given; when those are
closed, nothing.
"""

from __future__ import annotations

import math
import os
import random
import socket
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import trio

import trio_ipc
from trio_ipc._channel import Channel
from trio_ipc._connection import Connection, socket_identity
from trio_ipc._native import make_native_wire
from trio_ipc._node import Duties, make_node_wire
from trio_ipc.wire import Limits
from trio_ipc.wire.native_frames import CALL, FAILURE
from trio_ipc.wire.node import NodeWire

from .frames import MOST_DESCRIPTORS, Language, Native, Node, Write, speech
from .walking import find

PROTOCOLS = ("native", "json", "advanced")

# What a call of a channel may raise: ProtocolError is a BrokenResourceError.
END = (trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel)
REFUSED = (
    trio_ipc.MessageTooLarge,
    trio_ipc.UnsupportedMessage,
    trio_ipc.UnsupportedHandle,
    trio.WouldBlock,
)

# Seconds. Nothing here needs a hundredth of it; what takes longer hangs.
LIMIT = 60


class Pair(msgspec.Struct, array_like=True):
    first: Any
    second: trio.SocketStream


MESSAGE_TYPES: list[Any] = [
    Any,
    Any,
    Any,
    Any,
    Any,
    Any,
    list[Any],
    int | str,
    Pair,
    bytes,
    trio.SocketStream,
]


class Pool:
    """Descriptors of many kinds, which a peer has to send. The kernel duplicates them."""

    def __init__(self, stack: ExitStack) -> None:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        near = stack.enter_context(socket.create_connection(listener.getsockname()))
        far, _ = listener.accept()
        stack.enter_context(far)
        self.near = near
        self.sockets = [near, far, listener]
        for family, kind in (
            (socket.AF_UNIX, socket.SOCK_STREAM),
            (socket.AF_UNIX, socket.SOCK_DGRAM),
            (socket.AF_UNIX, socket.SOCK_SEQPACKET),
        ):
            self.sockets += map(stack.enter_context, socket.socketpair(family, kind))
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            self.sockets.append(stack.enter_context(socket.socket(socket.AF_INET, kind)))
        self.fds = [sock.fileno() for sock in self.sockets]
        number, path = tempfile.mkstemp()
        os.unlink(path)
        numbers = [number, *os.pipe(), os.open("/dev/null", os.O_RDWR), os.open("/", os.O_RDONLY)]
        if hasattr(os, "O_PATH"):
            numbers.append(os.open("/", os.O_PATH))
        for number in numbers:
            stack.callback(os.close, number)
        self.fds += numbers

    def some(self, chance: random.Random, count: int) -> list[int]:
        # Streams above all: what most peers send.
        return [
            chance.choice(self.fds[:2] if chance.random() < 0.5 else self.fds) for _ in range(count)
        ]


@contextmanager
def open_pool() -> Iterator[Pool]:
    with ExitStack() as stack:
        yield Pool(stack)


def count_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def handles_in(value: Any) -> list[Any]:
    return find(value, lambda each: hasattr(each, "fileno") or hasattr(each, "socket"))


def close(handle: Any) -> None:
    getattr(handle, "socket", handle).close()


class Conversation:
    """One channel of ours, and a bare socket at its other end."""

    def __init__(self, protocol: str, chance: random.Random, pool: Pool) -> None:
        self._chance = chance
        self._pool = pool
        self.seen: Counter[str] = Counter()
        self.held: list[Any] = []
        self._before = count_descriptors()
        ours, self._raw = socket.socketpair()
        self._raw.setblocking(False)
        try:
            self.language, self.channel = self._open(protocol, ours)
        except BaseException:
            ours.close()
            self._raw.close()
            raise
        self._connection = self.channel._connection

    def _open(self, protocol: str, sock: socket.socket) -> tuple[Language, Channel[Any, Any]]:
        chance = self._chance
        limits = Limits(
            chance.choice([0, 1, 3, 10, 1000, 1000, math.inf]),
            chance.choice([100, 10_000, 100_000]),
            chance.choice([0, 1, 3, 16, 16, 16, 253]),
            takes_handles=chance.random() < 0.9,
        )
        message_type = chance.choice(MESSAGE_TYPES)
        language: Language
        wire: Any
        if protocol == "native":
            accepts = chance.choice([(), (FAILURE,), (CALL,)])
            wire = make_native_wire(
                message_type, limits, greeted=chance.random() < 0.8, accepts=accepts
            )
            language = Native(greets=not wire.greeted and chance.random() < 0.8)
        else:
            wire = make_node_wire(protocol, message_type, limits)
            # What the peer says must not be held back by our limits.
            language = Node(make_node_wire(protocol, Any, Limits()).codec)
        ends = frozenset((socket_identity(sock),))
        connection = Connection(sock, wire, peer="the peer", ends=ends)
        if isinstance(wire, NodeWire):
            Duties(connection, wire)
        elif not wire.greeted:
            wire.hello(1, 2)
        channel: Channel[Any, Any] = Channel._create(connection)
        return language, channel

    # The peer -------------------------------------------------------------------------------

    def say(self, write: Write) -> None:
        numbers = self._pool.some(self._chance, min(write.handles, MOST_DESCRIPTORS))
        if numbers and self._chance.random() < 0.05:
            numbers[0] = self._raw.fileno()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", numbers))] if numbers else []
        try:
            self._raw.sendmsg([write.data], rights)
            self.seen["descriptors said"] += len(numbers)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            self.seen["not said"] += 1
        except PermissionError:
            # The kernel refuses descriptors for an end that takes none.
            assert not self._connection.wire.limits.takes_handles
            self.seen["not said"] += 1

    def listen(self) -> None:
        """Read what our end has written."""
        try:
            _, control, _, _ = self._raw.recvmsg(65536, socket.CMSG_SPACE(4 * MOST_DESCRIPTORS))
        except (BlockingIOError, ConnectionResetError):
            return
        for _, _, data in control:
            for number in array("i", data):
                os.close(number)
                self.seen["descriptors heard"] += 1

    # Our end --------------------------------------------------------------------------------

    def keep(self, message: Any) -> None:
        handles = handles_in(message)
        self.held += handles
        self.seen["messages"] += 1
        self.seen["handles"] += len(handles)

    def receive_all(self) -> bool:
        """Receive what is there; False when nothing will come any more."""
        for _ in range(100_000):
            try:
                self.keep(self.channel.receive_nowait())
            except trio.WouldBlock:
                return True
            except trio_ipc.InvalidMessage:
                self.seen["InvalidMessage"] += 1
            except END as exc:
                self.seen[type(exc).__name__] += 1
                return False
            size = self._connection.wire.limits.max_buffer_size
            if isinstance(self.language, Native):
                assert len(self._connection.wire.unread) <= max(size, 1)
        raise AssertionError("it never ends")

    async def receive_until_the_end(self) -> None:
        for _ in range(100_000):
            try:
                self.keep(await self.channel.receive())
            except trio_ipc.InvalidMessage:
                self.seen["InvalidMessage"] += 1
            except END as exc:
                self.seen[type(exc).__name__] += 1
                return
        raise AssertionError("it never ends")

    def send(self) -> None:
        chance = self._chance
        handle = None
        if chance.random() < 0.5:
            handle = trio.SocketStream(trio.socket.from_stdlib_socket(self._pool.near.dup()))
        try:
            self.channel.send_nowait("x" * chance.choice([1, 100, 5000]), handle)
        except (*END, *REFUSED):
            if handle is not None:
                assert handle.socket.fileno() >= 0, "it was not sent, and yet is gone"
                handle.socket.close()
        else:
            self.seen["sent"] += 1
            if handle is not None and handle.socket.fileno() >= 0:
                raise AssertionError("it was sent, and yet is here")

    # The whole ------------------------------------------------------------------------------

    async def run(self) -> None:
        chance = self._chance
        try:
            goes_on = True
            for write in speech(chance, self.language):
                self.say(write)
                act = chance.randrange(6)
                if act < 3:
                    goes_on = self.receive_all()
                elif act == 3:
                    self.send()
                if chance.random() < 0.5:
                    self.listen()
                if not goes_on and chance.random() < 0.8:
                    break
            await self._end()
            self._check_descriptors()
        finally:
            self._close()
        left = count_descriptors() - self._before
        assert left == 0, f"{left} more descriptors than before"

    async def _end(self) -> None:
        chance = self._chance
        if chance.random() < 0.2:
            self.channel.close()  # with whatever is unread
            return
        # First of all this: a peer who has sent us its own end has not closed it by closing it.
        self._raw.shutdown(socket.SHUT_WR)
        if chance.random() < 0.5:
            self._raw.close()
        if chance.random() < 0.5:
            # One call looks once, and what it finds need not be a whole message.
            assert any(not self.receive_all() for _ in range(1000)), "it never ends"
        else:
            await self.receive_until_the_end()

    def _check_descriptors(self) -> None:
        """What is open is what somebody has, or waits to be written."""
        self.channel.close()
        self._connection.shut()
        self._raw.close()
        left = count_descriptors() - self._before - len(self.held)
        assert left == 0, f"{left} more descriptors than {len(self.held)} handles were received"

    def _close(self) -> None:
        self.channel.close()
        self._connection.shut()
        self._raw.close()
        for handle in self.held:
            close(handle)


class Bystander:
    """Another channel of the same process, with which nothing must ever be wrong."""

    def __init__(self, stack: ExitStack) -> None:
        self._a, self._b = trio_ipc.open_channel_pair(10)
        stack.enter_context(self._a)
        stack.enter_context(self._b)
        self._count = 0

    def check(self) -> None:
        self._count += 1
        self._a.send_nowait(self._count)
        self._a._connection.push()
        assert self._b.receive_nowait() == self._count


async def converse(protocol: str, seed: str, pool: Pool) -> Counter[str]:
    """One conversation; how many of what was in it.

    Raises:
      AssertionError: something is not as it should be; or whatever nobody has documented.
    """
    with trio.fail_after(LIMIT):
        conversation = Conversation(protocol, random.Random(seed), pool)
        await conversation.run()
    return conversation.seen
