"""Two connected channels in this process, and how one of them moves to another."""

from __future__ import annotations

import socket
import sys
import weakref
from typing import Any

import msgspec
import trio

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

from . import _handles, _log
from ._channel import Channel
from ._connection import Connection, socket_identity
from ._errors import ProtocolError, UnsupportedHandle
from ._native import make_native_wire
from .wire import Limits
from .wire.native import NativeWire
from .wire.native_frames import CreditState


@trio.lowlevel.enable_ki_protection
def make_pair(limits: Limits) -> tuple[Channel[Any, Any], Channel[Any, Any]]:
    """See `trio_ipc.open_channel_pair`."""
    limits.check()
    wires = [make_native_wire(Any, limits, greeted=True) for _ in range(2)]
    socks = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    made: list[Channel[Any, Any]] = []
    try:
        ends = frozenset(map(socket_identity, socks))
        for sock, wire in zip(socks, wires, strict=True):
            made.append(_make_end(sock, wire, ends, "one of a pair"))
    except BaseException:
        for end in made:
            end._surrender()
        for sock in socks:
            sock.close()
        raise
    first, second = made
    for end in (first, second):
        end._connection.least_looks = 1  # only a look in vain has the other end write
    first._connection.twin = weakref.ref(second._connection)
    second._connection.twin = weakref.ref(first._connection)
    return first, second


def _make_end(
    sock: socket.socket, wire: NativeWire, ends: frozenset[tuple[int, int]], origin: str
) -> Channel[Any, Any]:
    connection = Connection(sock, wire, peer="its peer", ends=ends)
    connection.movable = True
    _log.begin(connection, "opened, %s", origin)
    _log.tell_limits(connection, wire.limits)
    channel: Channel[Any, Any] = Channel._create(connection)
    return channel


class _Moved(msgspec.Struct, array_like=True, frozen=True):
    """What the receiver of a channel end must know besides its descriptor."""

    max_buffer_size: int | float
    max_message_size: int
    max_handles: int
    ends: list[tuple[int, int]]
    credit: CreditState


def _describe_channel(channel: Channel[Any, Any]) -> _handles.Handle:
    connection = channel._connection
    wire = connection.wire
    if not connection.movable:
        raise UnsupportedHandle(
            "only a channel made by open_channel_pair can travel: this one belongs to a child or"
            " to the parent of this process"
        )
    end = channel._end
    if connection.closed or (end.send_channels, end.receive_channels) != (1, 1):
        raise UnsupportedHandle("a channel travels whole: with both halves open, without clones")
    assert isinstance(wire, NativeWire)
    connection.grant()
    if connection.busy() or not wire.quiet():
        raise UnsupportedHandle(
            "a channel travels while nothing of it is in this process: no message that waits to"
            " be received or written, and no task in a call of it"
        )
    limits = wire.limits
    moved = _Moved(
        limits.max_buffer_size,
        limits.max_message_size,
        limits.max_handles,
        sorted(connection.ends),
        wire.credit_state(),
    )
    return _handles.Handle(
        channel, _handles.CHANNEL, moves=True, extra=msgspec.msgpack.encode(moved)
    )


def _build_channel(extra: bytes, descriptor: _handles.Descriptor) -> Channel[Any, Any]:
    try:
        moved = msgspec.msgpack.decode(extra, type=_Moved)
        limits = Limits(moved.max_buffer_size, moved.max_message_size, moved.max_handles)
        limits.check()
        sock = socket.socket(fileno=descriptor.fd)
    except (msgspec.DecodeError, OSError, TypeError, ValueError) as exc:
        raise ProtocolError(f"the peer sent a channel that is none: {exc}") from exc
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        sock.detach()  # its owner closes it, without waiting for it
        raise ProtocolError("the peer sent a channel that is none")
    descriptor.release()
    wire = make_native_wire(Any, limits, greeted=True)
    wire.restore(moved.credit)
    return _make_end(sock, wire, frozenset(moved.ends), "arrived in a message")


_handles.register_channel(Channel, _describe_channel, _build_channel)
