"""What such a peer says: frames that are right, nearly right, and none."""

from __future__ import annotations

import math
import random
import struct
from typing import Any, NamedTuple, Protocol

import msgspec

from trio_ipc._handles import CHANNEL
from trio_ipc.wire.msgpack import HANDLE_CODE
from trio_ipc.wire.node_values import NodeCodec

# A peer may have so many descriptors in one write: SCM_MAX_FD.
MOST_DESCRIPTORS = 253


class Write(NamedTuple):
    """Bytes, and how many descriptors ride on the first of them."""

    data: bytes
    handles: int


class Language(Protocol):
    """One protocol, as one can speak it."""

    def sentence(self, chance: random.Random) -> Write:
        """A frame that is right, or might be in another moment."""


def value(chance: random.Random, depth: int = 3) -> Any:
    """Any message that every serialization takes."""
    kind = chance.randrange(9 if depth else 6)
    if kind == 0:
        return chance.choice(
            [None, True, False, 0, -1, 1.5, "", "NODE_", 2**31, "\u20ac\U0001f600"]
        )
    if kind == 1:
        return chance.randrange(-(2**40), 2**40)
    if kind == 2:
        return chance.random() * 10 ** chance.randrange(-5, 20)
    if kind < 6:
        return chance.choice("xyz") * int(2 ** chance.uniform(0, 9 if depth < 3 else 13))
    count = chance.randrange(5)
    if kind < 8:
        return [value(chance, depth - 1) for _ in range(count)]
    return {chance.choice("abcd") * (1 + each): value(chance, depth - 1) for each in range(count)}


# Native -----------------------------------------------------------------------------------------


def native_frame(kind: bytes, payload: bytes = b"", handles: int = 0, grant: int = 0) -> bytes:
    return struct.pack("!cBHI", kind, handles & 0xFF, grant & 0xFFFF, len(payload)) + payload


def _array(*messages: bytes) -> bytes:
    return struct.pack("!BI", 0xDD, len(messages)) + b"".join(messages)


class Native:
    """Each kind of frame that `native_frames` documents.

    Args:
      greets: whether the first one is the greeting.
    """

    def __init__(self, *, greets: bool = False) -> None:
        self._greets = greets

    def sentence(self, chance: random.Random) -> Write:
        if self._greets:
            self._greets = False
            return Write(native_frame(b"H", self._hello(chance)), 0)
        grant = chance.choice([0, 0, 0, 0, 0, 0, 0, 0, 1, 0xFFFF])
        kinds = (self._batch, self._with_handles, self._several, self._bare)
        if chance.random() < 0.85:
            kind, payload, handles = chance.choice(kinds)(chance)
        else:
            kind, payload, handles = self._control(chance)
        return Write(native_frame(kind, payload, handles, grant), handles)

    def _batch(self, chance: random.Random) -> tuple[bytes, bytes, int]:
        messages = [msgspec.msgpack.encode(value(chance)) for _ in range(chance.randrange(1, 5))]
        return b"M", _array(*messages), 0

    def _bare(self, chance: random.Random) -> tuple[bytes, bytes, int]:
        return b"B", chance.randbytes(chance.choice([0, 1, 100, 1000, 30_000])), 0

    def _with_handles(self, chance: random.Random) -> tuple[bytes, bytes, int]:
        handles = chance.choice([1, 1, 1, 2, 3, 17])
        message = self._message(chance, handles)
        if chance.random() < 0.3:
            return b"P", b"\x92" + msgspec.msgpack.encode(value(chance, 1)) + message, handles
        return b"M", _array(message), handles

    def _several(self, chance: random.Random) -> tuple[bytes, bytes, int]:
        parts: list[bytes] = []
        total = 0
        for _ in range(chance.randrange(1, 5)):
            handles = chance.choice([0, 1, 1, 1, 2])
            parts += [msgspec.msgpack.encode(handles), self._message(chance, handles)]
            total += handles
        return b"W", _array(*parts), total

    def _message(self, chance: random.Random, handles: int) -> bytes:
        codes = chance.choices(range(1, 9), (20, 2, 5, 5, 2, 2, 4, 1), k=handles)
        references: list[Any] = [
            msgspec.msgpack.Ext(HANDLE_CODE, bytes((index, code)) + self._extra(chance, code))
            for index, code in enumerate(codes)
        ]
        if handles == 1 and chance.random() < 0.5:
            return msgspec.msgpack.encode(references[0])
        references.append(value(chance, 1))
        chance.shuffle(references)
        return msgspec.msgpack.encode(references)

    def _extra(self, chance: random.Random, code: int) -> bytes:
        if code != CHANNEL and chance.random() < 0.9:
            return b""
        # What comes with a channel: limits, its ends, its credit.
        size = chance.choice([0, 1, 10, math.inf, -1])
        credit = [chance.choice([0, 1, 10, -1]), 10, 0, 0, 1000, 16, []]
        return msgspec.msgpack.encode([size, 1000, 16, [[1, 2], [1, 3]], credit])

    def _hello(self, chance: random.Random) -> bytes:
        size = chance.choice([-1, 0, 1, 10, 2**31])
        return msgspec.msgpack.encode([1, size, 10_000, 16, 0, 0, 16])

    def _control(self, chance: random.Random) -> tuple[bytes, bytes, int]:
        kind = chance.choice([b"G", b"G", b"G", b"E", b"E", b"S", b"S", b"H", b"C", b"F"])
        if kind == b"H":
            return kind, self._hello(chance), 0
        if kind == b"C":
            return kind, msgspec.msgpack.encode([{}, [value(chance)]]), 0
        return kind, b"Traceback" if kind == b"F" else b"", 0


# Node -------------------------------------------------------------------------------------------

_TYPES = ("net.Socket", "net.Server", "net.Native", "dgram.Socket", "dgram.Native", "no such type")
_COMMANDS = (
    *("HANDLE_ACK", "HANDLE_ACK", "HANDLE_NACK", "HANDLE", "NO_SUCH"),
    *("SOCKET_GET_COUNT", "SOCKET_COUNT", "SOCKET_NOTIFY_CLOSE", "SOCKET_ALL_CLOSED"),
)


class Node:
    """Node's frames, in the serialization of ``codec``."""

    def __init__(self, codec: NodeCodec) -> None:
        self._codec = codec

    def sentence(self, chance: random.Random) -> Write:
        kind = chance.random()
        if kind < 0.4:
            data = b"".join(
                self._codec.encode(value(chance)) for _ in range(chance.randrange(1, 5))
            )
            return Write(data, 0)
        if kind < 0.7:
            return Write(self._with_handle(chance), 1)
        return Write(self._codec.encode_internal(self._internal(chance)), 0)

    def _with_handle(self, chance: random.Random) -> bytes:
        members: dict[str, Any] = {
            "type": chance.choice(_TYPES[: 6 if chance.random() < 0.1 else 5])
        }
        if chance.random() < 0.3:
            members["key"] = chance.choice(["4:127.0.0.1:80", "6::::80", 7])
        if members["type"] == "dgram.Socket":
            members["dgramType"] = "udp4"
        message = value(chance, 1)
        if chance.random() < 0.2:  # as Node does it when it sends once more
            message = {"cmd": "NODE_HANDLE", **members, "msg": message}
            return self._codec.encode_internal(
                {"cmd": "NODE_HANDLE", "type": "net.Native", "msg": message}
            )
        return self._codec.encode_handle(members, message)

    def _internal(self, chance: random.Random) -> dict[str, Any]:
        key = chance.choice(["4:127.0.0.1:80", "6::::80", "", 7])
        command = chance.choice(_COMMANDS)
        return {"cmd": f"NODE_{command}", "key": key, "count": chance.choice([0, 1, -1, "x"])}


# Nearly right -----------------------------------------------------------------------------------


def mutate(chance: random.Random, data: bytes) -> bytes:
    """The same with something wrong."""
    changed = bytearray(data)
    place = chance.randrange(len(changed) + 1)
    other = chance.randrange(len(changed) + 1)
    kind = chance.randrange(8)
    if kind == 0:
        changed[place:place] = chance.randbytes(chance.randrange(1, 9))
    elif kind == 1:
        del changed[place : place + chance.randrange(1, 9)]
    elif kind == 2:
        del changed[place:]
    elif kind == 3:  # a length, or what is taken for one
        at = chance.choice([place, 0, 4])
        lengths = [0, 1, 0x7F, 0xFF, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1]
        changed[at : at + 4] = chance.choice(lengths).to_bytes(4, chance.choice(["big", "little"]))
    elif kind == 4:
        changed[place:place] = changed[min(place, other) : max(place, other)]
    else:
        for _ in range(kind - 4):
            if changed:
                at = chance.randrange(min(len(changed), chance.choice([8, 30, 10**6])))
                changed[at] = chance.choice([changed[at] ^ 1 << chance.randrange(8), 0, 0xFF, 0xC1])
    return bytes(changed)


def speech(chance: random.Random, language: Language) -> list[Write]:
    """All that is said in one conversation, write by write."""
    wrong = chance.choice([0, 0, 0.1, 0.5])
    writes: list[Write] = []
    for _ in range(chance.randrange(1, 8)):
        data, handles = language.sentence(chance)
        if chance.random() < wrong:
            data = mutate(chance, data) if chance.random() < 0.9 else chance.randbytes(50)
        if chance.random() < wrong / 2:
            handles = chance.choice([0, 1, handles + 1, max(0, handles - 1), 20, MOST_DESCRIPTORS])
        if not data:
            continue
        if chance.random() < 0.3:
            cut = chance.randrange(1, len(data) + 1)
            writes.append(Write(data[:cut], handles))
            if cut < len(data):
                # Rarely in the middle of a frame, where none may be.
                writes.append(Write(data[cut:], chance.random() < wrong / 4))
        elif writes and not handles and chance.random() < 0.3:
            writes[-1] = Write(writes[-1].data + data, writes[-1].handles)
        else:
            writes.append(Write(data, handles))
    return writes
