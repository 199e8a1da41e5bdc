"""Another implementation of the native protocol, written from docs/wire_format.md alone.

It blocks, grants each credit when the message is taken, and gives handles as they are on the wire:
a descriptor, a kind, and what stands behind it. It shares no code with the library.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

import msgspec

HEADER = struct.Struct("!BBHI")
HANDLE = -42
CHANNEL = 7
UNLIMITED = 1 << 62


class Handle:
    """A descriptor in a message, and the number of its kind."""

    def __init__(self, fd: int, kind: int, more: bytes = b"") -> None:
        self.fd = fd
        self.kind = kind
        self.more = more


def claim_socket() -> socket.socket:
    """The child's end, as the environment tells it."""
    number, device, inode = map(int, os.environ.pop("TRIO_IPC_CHANNEL").split(":"))
    status = os.fstat(number)
    assert (status.st_dev, status.st_ino) == (device, inode)
    os.set_inheritable(number, False)
    return socket.socket(fileno=number)


class Peer:
    """One end of a channel, with the greeting still to be said."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.greeting: list[int] = []  # theirs
        self.buffer = 0  # ours
        self.credit = 0
        self.kinds = ""  # of all frames that came
        self.messages: list[Any] = []
        self.failure = ""
        self._bytes = b""
        self._fds: list[int] = []

    # Out ------------------------------------------------------------------------------------

    def write(self, kind: str, payload: bytes = b"", fds: list[int] | None = None) -> None:
        self._write(kind, 0, payload, fds or [])

    def _write(self, kind: str, grant: int, payload: bytes, fds: list[int]) -> None:
        frame = HEADER.pack(ord(kind), len(fds), grant, len(payload)) + payload
        sent = socket.send_fds(self.sock, [frame], fds) if fds else 0
        self.sock.sendall(frame[sent:])

    def hello(self, buffer: int, size: int, handles: int) -> None:
        self.buffer = buffer
        self.write("H", msgspec.msgpack.encode([1, buffer, size, handles]))

    def send(self, *messages: Any) -> None:
        """One MESSAGES frame."""
        fds: list[int] = []
        body = b"".join(encode(each, fds) for each in messages)
        self._spend(len(messages))
        self.write("M", struct.pack("!BI", 0xDD, len(messages)) + body, fds)

    def send_each(self, *messages: Any) -> None:
        """One WITH frame."""
        fds: list[int] = []
        parts = []
        for each in messages:
            before = len(fds)
            body = encode(each, fds)
            parts += [bytes((len(fds) - before,)), body]
        self._spend(len(messages))
        self.write("W", struct.pack("!BI", 0xDD, len(parts)) + b"".join(parts), fds)

    def send_pair(self, message: Any, handle: Handle) -> None:
        fds: list[int] = []
        body = encode([message, handle], fds)
        self._spend(1)
        self.write("P", body, fds)

    def send_bytes(self, message: bytes) -> None:
        self._spend(1)
        self.write("B", message)

    def _spend(self, messages: int) -> None:
        while self.credit < messages:
            assert self.read_frame()
        self.credit -= messages

    # In -------------------------------------------------------------------------------------

    def receive(self) -> Any:
        """The next message; EOFError when there are no more."""
        if not self.messages and not self.buffer:
            self._grant()
        while not self.messages:
            if "E" in self.kinds or not self.read_frame():
                raise EOFError
        if self.buffer:
            self._grant()
        return self.messages.pop(0)

    def _grant(self) -> None:
        self._write("G", 1, b"", [])

    def read_frame(self) -> str:
        """Take in one frame, and tell its kind; an empty string when the socket has ended."""
        head = self._read(HEADER.size)
        if not head:
            return ""
        number, handles, grant, length = HEADER.unpack(head)
        kind = chr(number)
        assert (kind == "H") == (not self.kinds)
        assert "E" not in self.kinds or kind in "GSF"
        self.credit += grant
        fds, self._fds = self._fds[:handles], self._fds[handles:]
        assert len(fds) == handles
        self._take(kind, self._read(length), fds)
        self.kinds += kind
        return kind

    def _take(self, kind: str, payload: bytes, fds: list[int]) -> None:
        if kind == "H":
            self.greeting = msgspec.msgpack.decode(payload)
            version, buffer, *_ = self.greeting
            assert version == 1
            self.credit += UNLIMITED if buffer < 0 else buffer
        elif kind == "M":
            assert payload[0] == 0xDD
            self.messages += decode(payload, fds)
        elif kind == "W":
            parts = msgspec.msgpack.decode(payload, type=list[msgspec.Raw])
            for count, body in zip(parts[::2], parts[1::2], strict=True):
                [number] = bytes(count)
                self.messages.append(decode(body, fds[:number]))
                fds = fds[number:]
            assert not fds
        elif kind == "P":
            self.messages.append(tuple(decode(payload, fds)))
        elif kind == "B":
            self.messages.append(payload)
        elif kind == "F":
            self.failure = payload.decode()
        else:
            assert kind in "GES"
            assert not payload

    def _read(self, count: int) -> bytes:
        while len(self._bytes) < count:
            data, fds, flags, _ = socket.recv_fds(self.sock, 65536, 253, socket.MSG_CMSG_CLOEXEC)
            assert not flags & socket.MSG_CTRUNC
            self._fds += fds
            self._bytes += data
            if not data:
                assert not self._bytes
                return b""
        taken, self._bytes = self._bytes[:count], self._bytes[count:]
        return taken


def encode(message: Any, fds: list[int]) -> bytes:
    """The message in MessagePack; the descriptors of its handles are appended to ``fds``."""
    known: list[Handle] = []

    def mention(handle: Handle) -> msgspec.msgpack.Ext:
        if handle not in known:
            known.append(handle)
        return msgspec.msgpack.Ext(HANDLE, bytes((known.index(handle), handle.kind)) + handle.more)

    body = msgspec.msgpack.encode(message, enc_hook=mention)
    fds += [handle.fd for handle in known]
    return body


def decode(body: Any, fds: list[int]) -> Any:
    handles: dict[int, Handle] = {}

    def build(code: int, data: memoryview) -> Handle:
        assert code == HANDLE
        index, kind = data[:2]
        return handles.setdefault(index, Handle(fds[index], kind, bytes(data[2:])))

    value = msgspec.msgpack.decode(body, ext_hook=build)
    assert len(handles) == len(fds)
    return value


def adopt(handle: Handle) -> Peer:
    """Go on with one end of a channel that has moved here."""
    assert handle.kind == CHANNEL
    buffer, _, _, _, (credit, *_) = msgspec.msgpack.decode(handle.more)
    peer = Peer(socket.socket(fileno=handle.fd))
    peer.kinds = "H"  # nobody greets on it
    peer.buffer = buffer
    peer.credit = credit
    return peer


def echo() -> None:
    """What a child of `test_spec` does: send back whatever comes, then say goodbye."""
    peer = Peer(claim_socket())
    assert peer.read_frame() == "H"
    _, buffer, size, handles, _, _, _ = peer.greeting
    peer.hello(buffer, size, handles)
    try:
        while True:
            message = peer.receive()
            if message == "which kinds?":
                message = peer.kinds
            if isinstance(message, bytes):
                peer.send_bytes(message)
            elif isinstance(message, Handle):
                moved = adopt(message)
                moved.send(moved.receive())
                moved.write("E")
                moved.sock.close()
            elif isinstance(message, tuple):
                peer.send_pair(*message)
            else:
                peer.send(message)
    except EOFError:
        peer.write("E")
