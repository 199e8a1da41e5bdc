"""Two ends against the simplest model there is: one queue for each direction."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from trio_ipc.wire import HandleMessage, Limits
from trio_ipc.wire.native import NativeWire

from .harness import (
    ConnectionPair,
    Ledger,
    Pipe,
    Thing,
    commit,
    examples,
    greet,
    read_some,
    write_some,
)
from .messages import expand, messages, things, things_in

sizes = st.sampled_from([0, 1, 2, 5, 1000, math.inf])
pieces = st.one_of(st.integers(1, 40), st.sampled_from([4096, 65_536, 1 << 30]))
sides = st.sampled_from(["left", "right"])


class End:
    """One end: its wire, and what the model knows about what it sends."""

    def __init__(self, wire: NativeWire, out: Pipe) -> None:
        self.wire = wire
        self.out = out
        self.sent: deque[Any] = deque()  # committed, and not taken by the peer
        self.committed = self.taken = 0
        self.ended = False
        self.stopped = False


class TwoEnds(RuleBasedStateMachine):
    @initialize(left=sizes, right=sizes, early=st.none() | st.integers(0, 3))
    def connect(self, left: float, right: float, early: int | None) -> None:
        self.ledger = Ledger()
        if early is None:
            pair = ConnectionPair(self.ledger, Limits(left, 400_000))
            early = 0
        else:
            early = min(early, left if left != math.inf else 3)  # type: ignore[assignment]
            pair, _, _ = greet(
                self.ledger, Limits(left, 400_000), Limits(right, 400_000), early=early
            )
        self.ends = {
            "left": End(pair.left, pair.rightward),
            "right": End(pair.right, pair.leftward),
        }
        self.ends["left"].sent.extend(range(early))
        self.ends["left"].committed = early
        self.early = early

    def other(self, side: str) -> End:
        return self.ends["right" if side == "left" else "left"]

    @rule(side=sides, drawn=messages)
    def send(self, side: str, drawn: Any) -> None:
        end, message = self.ends[side], expand(drawn)
        if not end.ended and end.wire.can_send(len(things_in(message))):
            commit(self.ledger, end.wire, message)
            end.sent.append(message)
            end.committed += 1

    @rule(side=sides, drawn=messages, handle=things)
    def send_pair(self, side: str, drawn: Any, handle: Thing) -> None:
        end, message = self.ends[side], expand(drawn)
        if not end.ended and end.wire.can_send(1 + len(things_in(message))):
            commit(self.ledger, end.wire, message, handle)
            end.sent.append(HandleMessage(message, handle))
            end.committed += 1

    @rule(side=sides, text=st.text(st.characters(codec="ascii"), max_size=20), count=pieces)
    def send_single(self, side: str, text: str, count: int) -> None:
        end = self.ends[side]
        data = None if end.ended else end.wire.commit_single(end.wire.encode(text))
        if data is not None:
            end.out.write(data[:count])
            if count < len(data):
                end.wire.unwritten(data, count)
            end.sent.append(text)
            end.committed += 1

    @rule(side=sides, message=messages)
    def try_in_vain(self, side: str, message: Any) -> None:
        try:
            self.ends[side].wire.encode([Thing("lost"), expand(message), object()])
        except TypeError:
            pass

    @rule(side=sides, most=pieces)
    def write(self, side: str, most: int) -> None:
        write_some(self.ends[side].wire, self.ends[side].out, most)

    @rule(side=sides, most=pieces)
    def read(self, side: str, most: int) -> None:
        read_some(self.ends[side].wire, self.other(side).out, most)

    @rule(side=sides)
    def take(self, side: str) -> None:
        wire, peer = self.ends[side].wire, self.other(side)
        if wire.unread:
            assert self.ledger.take(wire) == peer.sent.popleft()
            peer.taken += 1

    @rule(side=sides)
    def skip(self, side: str) -> None:
        wire, peer = self.ends[side].wire, self.other(side)
        for _ in wire.unread:
            peer.sent.popleft()
            peer.taken += 1
        wire.skip_unread()
        assert not wire.unread

    @rule(side=sides)
    def give_credit(self, side: str) -> None:
        self.ends[side].wire.flush_grants()

    @rule(side=sides, receivers=st.integers(1, 3))
    def want(self, side: str, receivers: int) -> None:
        if not self.ends[side].stopped:
            self.ends[side].wire.want(receivers)

    @rule(side=sides)
    @precondition(lambda self: sum(end.committed for end in self.ends.values()) > 5)
    def end(self, side: str) -> None:
        self.ends[side].wire.end()
        self.ends[side].ended = True

    @rule(side=sides)
    @precondition(lambda self: sum(end.committed for end in self.ends.values()) > 5)
    def stop(self, side: str) -> None:
        self.ends[side].wire.stop()
        self.ends[side].stopped = True

    @invariant()
    def bounded(self) -> None:
        for side, end in self.ends.items():
            wire, peer = end.wire, self.other(side)
            size = wire.limits.max_buffer_size
            if end.stopped:
                assert not wire.unread
            elif size:
                assert len(wire.unread) <= max(size, self.early)
                assert peer.wire.credit_left() <= max(0, size - (peer.committed - peer.taken)) or (
                    not wire.greeted
                )
            assert wire.peer_ended <= peer.ended
            assert wire.peer_stopped <= peer.stopped

    def teardown(self) -> None:
        if not hasattr(self, "ends"):
            return
        # Whatever happened, what was committed arrives.
        progress = True
        while progress:
            progress = False
            for side, end in self.ends.items():
                progress |= bool(write_some(end.wire, end.out))
                progress |= bool(read_some(end.wire, self.other(side).out))
        for side, end in self.ends.items():
            peer = self.other(side)
            received = self.ledger.take_all(end.wire)
            if not end.stopped:
                assert received == list(peer.sent)
            assert end.wire.peer_ended == peer.ended
            assert end.wire.peer_stopped == peer.stopped
            end.wire.received_eof()
            assert not end.wire.has_output()
        # And who has taken everything has room for more.
        left, right = self.ends["left"], self.ends["right"]
        for end, peer in ((left, right), (right, left)):
            if not end.stopped:
                end.wire.want(1)
                end.wire.flush_grants()
                while write_some(end.wire, end.out) or read_some(peer.wire, end.out):
                    pass
                assert peer.wire.can_send(16)
                size = end.wire.limits.max_buffer_size
                assert peer.wire.credit_left() == size or not size
        self.ledger.settle()


TwoEnds.TestCase.settings = settings(examples, max_examples=100, stateful_step_count=50)
test_two_ends = TwoEnds.TestCase
