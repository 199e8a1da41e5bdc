"""Node's protocol with fake descriptors: what `harness` is for the native one.

The bytes are written down here a second time on purpose. They are what Node 20 and 24 write.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from trio_ipc._errors import ProtocolError, UnsupportedHandle
from trio_ipc.wire import Limits, Outbound
from trio_ipc.wire.node import NodeWire
from trio_ipc.wire.node_json import JsonCodec
from trio_ipc.wire.node_sending import Answer

from .harness import Ledger, Pipe, Received, Thing, Token, feed, read_all, write_some

ACK = b'{"cmd":"NODE_HANDLE_ACK"}\n'
NACK = b'{"cmd":"NODE_HANDLE_NACK"}\n'

SHUT, NOT_WHAT_IT_SAYS, NO_ROOM = "shut", "not what it says", "no room"


def line(message: Any) -> bytes:
    """A message as `JSON.stringify` writes it."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def handle_frame(message: Any, type: str = "net.Socket", **more: Any) -> bytes:
    """A message with a handle, as Node writes it."""
    return line({"cmd": "NODE_HANDLE", "type": type, "msg": message, **more})


def wrapped_twice(message: Any, **more: Any) -> bytes:
    """The same, as Node writes it again after a NACK."""
    inner = {"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": message, **more}
    return handle_frame(inner, "net.Native")


def get_count(key: str) -> bytes:
    return line({"cmd": "NODE_SOCKET_GET_COUNT", "key": key})


def count(key: str, number: int) -> bytes:
    return line({"cmd": "NODE_SOCKET_COUNT", "key": key, "count": number})


def notify_close(key: str) -> bytes:
    return line({"cmd": "NODE_SOCKET_NOTIFY_CLOSE", "key": key})


def all_closed(key: str) -> bytes:
    return line({"cmd": "NODE_SOCKET_ALL_CLOSED", "key": key})


class NodeDescription:
    def __init__(self, thing: Thing, members: dict[str, str]) -> None:
        self.obj = thing
        self.members = members


class NodeReceived(Received):
    """What became of a `Thing` at a receiver who knows it by its name alone."""

    # Sockets can be members of sets, and the accounting has them in one.
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, NodeReceived):
            return self is other
        return isinstance(other, Thing) and self.name == other.name


class NodeKinds:
    """The part of `trio_ipc._node_handles` that the wire uses. A `Thing` with a text for its
    ``extra`` is of that type."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def describe(self, obj: Any) -> NodeDescription | None:
        if not isinstance(obj, Thing):
            return None
        if obj.extra == SHUT.encode():
            raise UnsupportedHandle("it is closed")
        kind = obj.extra.decode() or "net.Socket"
        members = {"type": kind}
        if kind == "dgram.Socket":
            members["dgramType"] = "udp4"
        return NodeDescription(obj, members)

    def build(self, kind: object, token: Token) -> NodeReceived:
        if kind == NOT_WHAT_IT_SAYS:
            raise ProtocolError("the peer sent a thing that is none")
        if kind == NO_ROOM:
            raise OSError("no room")
        assert isinstance(kind, str)
        return NodeReceived(self._ledger, 1, kind.encode(), token)

    def discard(self, obj: NodeReceived) -> None:
        obj.closed += 1

    def is_open(self, obj: NodeReceived) -> bool:
        return not obj.closed


def node_wire(
    ledger: Ledger, message_type: Any = Any, limits: Limits | None = None, handle_window: int = 256
) -> NodeWire:
    limits = Limits() if limits is None else limits
    codec = JsonCodec(message_type, limits.max_message_size, lambda obj: isinstance(obj, Thing))
    kinds: Any = NodeKinds(ledger)
    wire = NodeWire(codec, kinds, limits, handle_window=handle_window)
    ledger.wires.append(wire)  # type: ignore[arg-type]
    return wire


def commit(ledger: Ledger, wire: NodeWire, message: Any, handle: Any = None) -> None:
    """What a connection does to send: encode, duplicate the descriptor, commit."""
    payload = wire.encode(message, handle)
    if isinstance(payload, Outbound):
        assert wire.can_send(1)
        wire.commit(payload, [Token(ledger, known.obj.name) for known in payload.handles])
    else:
        assert wire.can_send()
        wire.commit(payload)


def settle_answers(wire: NodeWire) -> list[Answer]:
    """What a connection does with answers: the descriptor is not needed any more."""
    settled = []
    while wire.answers:
        answer = wire.answers.popleft()
        answer.token.sent() if answer.problem is None else answer.token.close()  # type: ignore[attr-defined]
        settled.append(answer)
    return settled


def output(wire: NodeWire, most: int = 1 << 30) -> bytes:
    """All that a wire writes, whoever rides on it."""
    data = b""
    while (chunk := wire.next_write()) is not None:
        part = b"".join(map(bytes, chunk[0]))[:most]
        wire.written(len(part))
        data += part
    return data


def writes(wire: NodeWire) -> list[tuple[bytes, list[object]]]:
    """The same, write by write, with the names of the handles that ride on each."""
    found = []
    while (chunk := wire.next_write()) is not None:
        data = b"".join(map(bytes, chunk[0]))
        found.append((data, [token.name for token in chunk[1]]))  # type: ignore[attr-defined]
        wire.written(len(data))
    return found


def deliver(
    ledger: Ledger, wire: NodeWire, data: bytes, *names: object, most: int = 1 << 30
) -> None:
    """Have ``wire`` read ``data``, with handles of these names on its first byte."""
    feed(wire, data, [Token(ledger, name) for name in names], most)  # type: ignore[arg-type]


class NodePair:
    """Two wires and the two directions between them."""

    def __init__(
        self,
        ledger: Ledger,
        limits: Limits | None = None,
        *,
        types: Iterable[Any] = (Any, Any),
    ) -> None:
        self.ledger = ledger
        self.left, self.right = (node_wire(ledger, each, limits) for each in types)
        self.rightward = Pipe(ledger)
        self.leftward = Pipe(ledger)

    def move(self, most: int = 1 << 30) -> list[Answer]:
        """Write and read, in pieces of at most ``most`` bytes, until nothing is under way."""
        answers: list[Answer] = []
        ways = ((self.left, self.rightward, self.right), (self.right, self.leftward, self.left))
        moved = True
        while moved:
            moved = False
            for source, pipe, target in ways:
                while write_some(source, pipe, most):  # type: ignore[arg-type]
                    moved = True
                read_all(target, pipe, most)  # type: ignore[arg-type]
                answers += settle_answers(source) + settle_answers(target)
        return answers

    def send(self, message: Any, handle: Any = None) -> None:
        commit(self.ledger, self.left, message, handle)

    def receive_all(self) -> list[Any]:
        return self.ledger.take_all(self.right)  # type: ignore[arg-type]
