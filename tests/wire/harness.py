"""Two ends of the native protocol with nothing between them but a list.

In the manner of h11's ``ConnectionPair``: what one wire writes, the other one reads, through a
`Pipe` that keeps the kernel's rules about descriptors. Descriptors are fakes that count. The oracle
of every test is the `Ledger`: in the end each token was closed or became an object, exactly once,
and each object was handed out or closed, exactly once.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings

from trio_ipc._errors import ProtocolError, UnsupportedHandle
from trio_ipc.wire import Limits, Outbound
from trio_ipc.wire.msgpack import MsgpackCodec
from trio_ipc.wire.native import NativeWire

# The same examples every time, however loaded the machine is.
examples = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


# Bytes, as `native_frames` documents them; written down here a second time on purpose ----------


def frame(kind: str, payload: bytes = b"", *, handles: int = 0, grant: int = 0) -> bytes:
    return struct.pack(">cBHI", kind.encode(), handles, grant, len(payload)) + payload


def batch(*messages: Any, grant: int = 0) -> bytes:
    body = b"".join(map(msgspec.msgpack.encode, messages))
    return frame("M", struct.pack(">BI", 0xDD, len(messages)) + body, grant=grant)


def with_handle(message: Any, *, handles: int = 1) -> bytes:
    """A MESSAGES frame as it is written for a message with handles."""
    body = struct.pack(">BI", 0xDD, 1) + msgspec.msgpack.encode(message)
    return frame("M", body, handles=handles)


def reference(index: int = 0, code: int = 1, extra: bytes = b"") -> msgspec.msgpack.Ext:
    """What stands in a message for one of its handles."""
    return msgspec.msgpack.Ext(-42, bytes((index, code)) + extra)


def hello(
    version: int = 1,
    window: int = 1000,
    size: int = 16 * 1024 * 1024,
    handles: int = 16,
    device: int = 0,
    inode: int = 0,
) -> bytes:
    return frame("H", msgspec.msgpack.encode([version, window, size, handles, device, inode]))


def frames_in(data: bytes) -> list[tuple[str, int, int, bytes]]:
    """(kind, handles, grant, payload) of each frame; the bytes must end with a frame."""
    found = []
    while data:
        kind, handles, grant, length = struct.unpack(">cBHI", data[:8])
        assert len(data) >= 8 + length
        found.append((kind.decode(), handles, grant, data[8 : 8 + length]))
        data = data[8 + length :]
    return found


# Fake handles -----------------------------------------------------------------------------------


class Token:
    """One descriptor in one process."""

    def __init__(self, ledger: Ledger, name: object) -> None:
        self.name = name
        self.state = "owned"
        self._ledger = ledger
        ledger.tokens.append(self)

    def __repr__(self) -> str:
        return f"<Token {self.name!r}: {self.state}>"

    def close(self) -> None:
        # Like a `Descriptor`, it is no longer its own once an object took it over.
        if self.state in ("closed", "sent"):
            self._ledger.complaints.append(f"closed twice: {self!r}")
        if self.state == "owned":
            self.state = "closed"

    def sent(self) -> None:
        if self.state != "owned":
            self._ledger.complaints.append(f"sent after all: {self!r}")
        self.state = "sent"

    def release(self) -> None:
        if self.state != "owned":
            self._ledger.complaints.append(f"made into an object after all: {self!r}")
        self.state = "released"


class Thing:
    """A live object of the sender that can travel. Codes above 100 mean trouble, see `Kinds`."""

    def __init__(self, name: object, code: int = 1, extra: bytes = b"") -> None:
        self.name = name
        self.code = code
        self.extra = extra


class Received:
    """What became of a `Thing` at the receiver."""

    def __init__(self, ledger: Ledger, code: int, extra: bytes, token: Token) -> None:
        token.release()
        self.name = token.name
        self.code = code
        self.extra = extra
        self.closed = 0
        ledger.objects.append(self)

    def __repr__(self) -> str:
        return f"<Received {self.name!r}>"

    def __eq__(self, other: object) -> bool:
        # So that what arrives can be compared with what was sent.
        if not isinstance(other, (Thing, Received)):
            return NotImplemented
        return (self.name, self.code, self.extra) == (other.name, other.code, other.extra)

    __hash__ = None  # type: ignore[assignment]


class Description:
    def __init__(self, thing: Thing) -> None:
        self.obj = thing
        self.code = thing.code
        self.extra = thing.extra


SHUT, NOT_WHAT_IT_SAYS, NO_ROOM = 101, 102, 103


class Kinds:
    """The part of `trio_ipc._handles` that a codec uses."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def describe(self, obj: Any) -> Description | None:
        if not isinstance(obj, Thing):
            return None
        if obj.code == SHUT:
            raise UnsupportedHandle("it is closed")
        return Description(obj)

    def build(self, code: int, extra: bytes, token: Token) -> Received:
        if code == NOT_WHAT_IT_SAYS:
            raise ProtocolError("the peer sent a thing that is none")
        if code == NO_ROOM:
            raise OSError("no room")
        return Received(self._ledger, code, extra, token)

    def discard(self, obj: Received) -> None:
        obj.closed += 1


def received_in(value: Any) -> Iterator[Received]:
    """The handles in a message, each as often as it stands there."""
    if isinstance(value, Received):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from received_in(item)
    elif isinstance(value, dict):
        yield from received_in(list(value.items()))
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from received_in(getattr(value, name))
    elif is_dataclass(value):
        for field in fields(value):
            yield from received_in(getattr(value, field.name))


class Ledger:
    """All tokens, objects, wires and pipes of a test."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self.objects: list[Received] = []
        self.wires: list[NativeWire] = []
        self.pipes: list[Pipe] = []
        self.complaints: list[str] = []
        self._handed_out: set[int] = set()

    def wire(
        self, message_type: Any = Any, limits: Limits | None = None, **options: Any
    ) -> NativeWire:
        options.setdefault("greeted", True)
        codec = MsgpackCodec(message_type, Kinds(self))
        wire = NativeWire(codec, Limits() if limits is None else limits, **options)
        self.wires.append(wire)
        return wire

    def take(self, wire: NativeWire) -> Any:
        """`NativeWire.take`, by a user who keeps what he gets."""
        value = wire.take()
        self.hand_out(value)
        return value

    def hand_out(self, value: Any) -> None:
        for each in {id(found): found for found in received_in(value)}.values():
            if id(each) in self._handed_out:
                self.complaints.append(f"handed out twice: {each!r}")
            self._handed_out.add(id(each))

    def take_all(self, wire: NativeWire) -> list[Any]:
        return [self.take(wire) for _ in range(len(wire.unread))]

    def open_tokens(self) -> list[Token]:
        return [token for token in self.tokens if token.state == "owned"]

    def check(self) -> None:
        """Nothing is owned by anybody but users any more, and nothing was closed twice."""
        assert self.complaints == []
        assert self.open_tokens() == []
        for each in self.objects:
            assert each.closed == (0 if id(each) in self._handed_out else 1), each

    def settle(self) -> None:
        for pipe in self.pipes:
            pipe.close()
        for wire in self.wires:
            wire.close()
        self.check()


@contextmanager
def settled() -> Iterator[Ledger]:
    """Afterwards each token was closed or handed out exactly once."""
    ledger = Ledger()
    yield ledger
    ledger.settle()


# The most that one read takes, and a message that takes several.
READ_SIZE = sum(map(len, Ledger().wire().buffers))
LARGE = READ_SIZE + 5000


# The kernel -------------------------------------------------------------------------------------


class Pipe:
    """One direction of a Unix stream socket.

    Descriptors ride on the first byte of the write that they were passed with; a read may begin
    with older plain bytes, and ends after the buffer that had descriptors.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._buffers: deque[tuple[bytes, list[Token]]] = deque()
        ledger.pipes.append(self)

    def __len__(self) -> int:
        return sum(len(data) for data, _ in self._buffers)

    def write(self, data: bytes, names: Iterable[object] = ()) -> None:
        assert data
        # The kernel holds the descriptors: a third owner between the two.
        self._buffers.append((data, [Token(self._ledger, name) for name in names]))

    def read(self, most: int) -> tuple[bytes, list[Token]]:
        data = b""
        tokens: list[Token] = []
        while self._buffers and len(data) < most and not tokens:
            head, tokens = self._buffers.popleft()
            room = most - len(data)
            data += head[:room]
            if len(head) > room:
                self._buffers.appendleft((head[room:], []))
        return data, tokens

    def close(self) -> None:
        for _, tokens in self._buffers:
            for token in tokens:
                token.close()
        self._buffers.clear()


def write_some(wire: NativeWire, pipe: Pipe, most: int = 1 << 30) -> int:
    """One system call of the writer: up to ``most`` bytes of what it has."""
    chunk = wire.next_write()
    if chunk is None:
        return 0
    buffers, tokens = chunk
    data = b"".join(map(bytes, buffers))[:most]
    pipe.write(data, [token.name for token in tokens])
    wire.written(len(data))
    return len(data)


def write_all(wire: NativeWire, pipe: Pipe, most: int = 1 << 30) -> None:
    while write_some(wire, pipe, most):
        pass
    assert not wire.has_output()


def read_some(wire: NativeWire, pipe: Pipe, most: int = 1 << 30) -> int:
    """One system call of the reader: up to ``most`` bytes, if they fit its buffers."""
    room = sum(map(len, wire.buffers))
    assert room > 0
    data, tokens = pipe.read(min(most, room))
    if data:
        fill(wire, data)
        wire.received(len(data), tokens)
    return len(data)


def fill(wire: NativeWire, data: bytes) -> None:
    """What the kernel does in ``recvmsg_into``: it keeps no reference to the buffers."""
    for buffer in wire.buffers:
        part = data[: len(buffer)]
        buffer[: len(part)] = part
        data = data[len(part) :]


def read_all(wire: NativeWire, pipe: Pipe, most: int = 1 << 30) -> None:
    while read_some(wire, pipe, most):
        pass


def commit(ledger: Ledger, wire: NativeWire, message: Any, handle: Any = None) -> None:
    """What a connection does to send: encode, duplicate the descriptors, commit."""
    payload = wire.encode(message, handle)
    handles = payload.handles if isinstance(payload, Outbound) else []
    assert wire.can_send(len(handles))
    if isinstance(payload, Outbound):
        wire.commit(payload, [Token(ledger, known.obj.name) for known in handles])
    else:
        wire.commit(payload)


def output(wire: NativeWire) -> bytes:
    """All that a wire writes, when there are no tokens to look at."""
    data = b""
    while (chunk := wire.next_write()) is not None:
        part = b"".join(map(bytes, chunk[0]))
        wire.written(len(part))
        data += part
    return data


def feed(wire: NativeWire, data: bytes, tokens: Iterable[Token] = (), most: int = 1 << 30) -> None:
    """Have ``wire`` read ``data``, and ``tokens`` with its first byte."""
    tokens = list(tokens)
    while data:
        count = min(sum(map(len, wire.buffers)), len(data), most)
        assert count > 0
        fill(wire, data[:count])
        data = data[count:]
        wire.received(count, tokens)
        tokens = []


class ConnectionPair:
    """Two wires and the two directions between them."""

    def __init__(
        self,
        ledger: Ledger,
        limits: Limits | None = None,
        *,
        types: tuple[Any, Any] = (Any, Any),
        **options: Any,
    ) -> None:
        self.ledger = ledger
        self.left = ledger.wire(types[0], limits, **options)
        self.right = ledger.wire(types[1], limits, **options)
        self.rightward = Pipe(ledger)
        self.leftward = Pipe(ledger)

    def move(self, most: int = 1 << 30) -> None:
        """Write and read, in pieces of at most ``most`` bytes, until nothing is under way."""
        write_all(self.left, self.rightward, most)
        write_all(self.right, self.leftward, most)
        read_all(self.right, self.rightward, most)
        read_all(self.left, self.leftward, most)

    def send(self, message: Any, handle: Any = None) -> None:
        commit(self.ledger, self.left, message, handle)

    def receive(self) -> Any:
        return self.ledger.take(self.right)

    def grant(self) -> None:
        """Have all credit that is due at the right go to the left."""
        self.right.flush_grants()
        self.move()


def greet(
    ledger: Ledger, parents: Limits, childs: Limits, *, early: int = 0
) -> tuple[ConnectionPair, NativeWire, NativeWire]:
    """A child greets its parent, who is on the left, and adopts limits of its own.

    The parent sends ``early`` messages before the child has said a word.
    """
    pair = ConnectionPair(ledger, parents, greeted=False)
    parent, child = pair.left, pair.right
    parent.hello(3, 4)
    for number in range(early):
        pair.send(number)
    write_all(parent, pair.rightward)
    # As `read_until` does it: not a byte more than the greeting.
    while not child.greeted:
        data, _ = pair.rightward.read(len(child.buffers[0]))
        child.buffers[0][: len(data)] = data
        child.received(len(data))
    assert (child.peer.device, child.peer.inode) == (3, 4)
    child.adopt(childs)
    child.hello(5, 6)
    pair.move()
    assert (parent.peer.device, parent.peer.inode) == (5, 6)
    assert child.limits is childs
    return pair, parent, child
