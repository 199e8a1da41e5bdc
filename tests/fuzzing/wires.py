"""The protocols alone, with descriptors that only count: what a coverage-guided fuzzer drives.

An input is a byte that chooses what is spoken and the limits, and then reads: two bytes for the
length of one, a byte for the descriptors that come with it and what is done after it, and what was
read. So whatever a fuzzer makes of an input is another input.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from trio_ipc._errors import InvalidMessage, MessageTooLarge, ProtocolError
from trio_ipc.wire import Limits
from trio_ipc.wire.node import NodeWire
from trio_ipc.wire.node_advanced import AdvancedCodec
from trio_ipc.wire.node_json import JsonCodec

from ..wire.harness import Ledger, Received, Thing, Token, feed, output
from ..wire.node_harness import NodeKinds, settle_answers
from .frames import Language, Native, Node, speech
from .walking import find

LIMITS = (
    Limits(1000, 100_000, 16),
    Limits(3, 1000, 1),
    Limits(0, 100, 253),
    Limits(math.inf, 10_000, 16, takes_handles=False),
)
MOST_TOKENS = 7


class _Kinds(NodeKinds):
    def build(self, kind: object, token: Any) -> Any:
        if not isinstance(kind, str):
            raise ProtocolError("the peer sent a thing of unknown type")
        return super().build(kind, token)


def _is_thing(obj: Any) -> bool:
    return isinstance(obj, Thing)


def run_input(data: bytes) -> None:
    """Read one input.

    Raises:
      AssertionError: a descriptor has no owner, or two; or whatever nobody has documented.
    """
    if not data:
        return
    ledger = Ledger()
    wire = _make_wire(data[0], ledger)
    try:
        _read_all(data, ledger, wire)
        wire.received_eof()
    except ProtocolError:
        pass
    wire.close()
    ledger.settle()


def _make_wire(choice: int, ledger: Ledger) -> Any:
    limits = LIMITS[choice >> 2 & 3]
    if choice & 3 < 2:
        return ledger.wire(Any if choice & 16 else list[Any], limits, greeted=not choice & 1)
    make: Callable[[Any, int, Callable[[Any], bool]], Any] = (
        JsonCodec if choice & 3 == 2 else AdvancedCodec
    )
    codec = make(Any, limits.max_message_size, _is_thing)
    kinds: Any = _Kinds(ledger)
    return NodeWire(codec, kinds, limits, handle_window=256)


def _read_all(data: bytes, ledger: Ledger, wire: Any) -> None:
    place = 1
    while place + 3 < len(data):
        length = int.from_bytes(data[place : place + 2], "little")
        choice = data[place + 2]
        place += 3
        part = data[place : place + length]
        place += length
        if getattr(wire, "sated", False):
            _take_all(ledger, wire)
        if part:
            feed(wire, part, [Token(ledger, place + each) for each in range(choice & MOST_TOKENS)])
        if choice & 8:
            _take_all(ledger, wire)
        if choice & 16:
            output(wire)
        if choice & 32 and wire.can_send():
            _send(wire)
        if choice & 64:
            wire.want(1)
            wire.flush_grants()
        if isinstance(wire, NodeWire):
            settle_answers(wire)
    _take_all(ledger, wire)


def _send(wire: Any) -> None:
    try:
        wire.commit(wire.encode("x"))
    except MessageTooLarge:
        pass  # the peer has said that it takes none


def _take_all(ledger: Ledger, wire: Any) -> None:
    while wire.unread:
        try:
            value = wire.take()
        except (InvalidMessage, OSError) as exc:
            if isinstance(exc, ProtocolError):
                raise
            continue
        ledger.hand_out(find(value, lambda each: isinstance(each, Received)))


def make_input(chance: random.Random) -> bytes:
    """One that makes some sense, to begin with."""
    choice = chance.randrange(256)
    language: Language = Native(greets=choice & 3 == 1)
    if choice & 3 >= 2:
        make: Any = JsonCodec if choice & 3 == 2 else AdvancedCodec
        language = Node(make(Any, 100_000, _is_thing))
    data = bytes([choice])
    for said in speech(chance, language):
        tokens = min(said.handles, MOST_TOKENS)
        data += len(said.data).to_bytes(3, "little")[:2]
        data += bytes([chance.randrange(32) << 3 | tokens]) + said.data[:0xFFFF]
    return data
