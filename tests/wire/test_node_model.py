"""Two ends of Node's protocol against the simplest model there is: one queue for each direction.

The kernel may lose handles on the way, as it does when the descriptor table of the receiver is
full; then they are sent again, and after the third time in vain the sender keeps them.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_ipc.wire import HandleMessage, Limits, Outbound
from trio_ipc.wire.node import NodeWire
from trio_ipc.wire.node_sending import BATCH_SIZE, HIGH_WATER

from .harness import Ledger, Pipe, Thing, Token, examples, read_some, write_some
from .node_harness import get_count, node_wire, settle_answers

names = itertools.count()
sides = st.sampled_from(["left", "right"])
pieces = st.one_of(st.integers(1, 40), st.sampled_from([4096, 65_536, 1 << 30]))
texts = st.text(st.characters(codec="utf-8"), max_size=10) | st.sampled_from(["\ud800", "NODE_x"])
sizes = st.sampled_from(
    [edge + step for edge in (65_536, BATCH_SIZE, HIGH_WATER) for step in (-60, -3, -2, -1, 0, 1)]
)
messages = st.one_of(texts, st.lists(texts | st.none(), max_size=3), sizes)


def expand(message: Any) -> Any:
    return "x" * message if isinstance(message, int) else message


class LossyPipe(Pipe):
    """Loses handles where it is told to; the read that would bring them ends all the same."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.lost: list[Token] = []

    def lose(self) -> None:
        for _, tokens in self._buffers:
            if tokens and tokens[0] not in self.lost:
                self.lost += tokens
                return

    def read(self, most: int) -> tuple[bytes, list[Token]]:
        data, tokens = super().read(most)
        for token in tokens:
            if token in self.lost:
                token.close()
        return data, [token for token in tokens if token.state == "owned"]


class End:
    """One end: its wire, and what the model knows about what it sends."""

    def __init__(self, wire: NodeWire, out: LossyPipe) -> None:
        self.wire = wire
        self.out = out
        self.sent: deque[Any] = deque()  # committed, and not taken by the peer
        self.on_its_way: HandleMessage | None = None
        self.ended = False
        self.stopped = False


class TwoEnds(RuleBasedStateMachine):
    @initialize(size=st.sampled_from([0, 1, 3, 1000]))
    def connect(self, size: int) -> None:
        self.ledger = Ledger()
        self.ends = {
            side: End(node_wire(self.ledger, limits=Limits(size, 400_000)), LossyPipe(self.ledger))
            for side in ("left", "right")
        }

    def other(self, side: str) -> End:
        return self.ends["right" if side == "left" else "left"]

    @rule(side=sides, drawn=messages)
    def send(self, side: str, drawn: Any) -> None:
        end, message = self.ends[side], expand(drawn)
        if not end.ended and end.wire.can_send():
            end.wire.commit(end.wire.encode(message))
            end.sent.append(message)

    @rule(side=sides, drawn=messages)
    def send_handle(self, side: str, drawn: Any) -> None:
        end, message = self.ends[side], expand(drawn)
        if end.ended or not end.wire.can_send(1):
            return
        assert end.on_its_way is None
        thing = Thing(next(names))
        payload = end.wire.encode(message, thing)
        assert isinstance(payload, Outbound)
        end.wire.commit(payload, [Token(self.ledger, thing.name)])
        end.on_its_way = HandleMessage(message, thing)
        end.sent.append(end.on_its_way)

    @rule(side=sides, text=texts, count=pieces)
    def send_single(self, side: str, text: str, count: int) -> None:
        end = self.ends[side]
        data = None if end.ended else end.wire.commit_single(end.wire.encode(text))
        if data is not None:
            end.out.write(data[:count])
            if count < len(data):
                end.wire.unwritten(data, count)
            end.sent.append(text)

    @rule(side=sides, message=messages)
    def try_in_vain(self, side: str, message: Any) -> None:
        try:
            self.ends[side].wire.encode([Thing("lost"), expand(message), object()])
        except TypeError:
            pass

    @rule(side=sides)
    def ask(self, side: str) -> None:
        """A question overtakes nothing, and its answer nearly all."""
        end = self.ends[side]
        if end.wire.commit_single(b"") is not None:
            end.out.write(get_count("k"))

    @rule(side=sides, most=pieces)
    def write(self, side: str, most: int) -> None:
        write_some(self.ends[side].wire, self.ends[side].out, most)  # type: ignore[arg-type]

    @rule(side=sides, most=pieces)
    def read(self, side: str, most: int) -> None:
        wire = self.ends[side].wire
        if not wire.sated:
            read_some(wire, self.other(side).out, most)  # type: ignore[arg-type]
            self.settle(side)

    @rule(side=sides)
    def lose(self, side: str) -> None:
        self.ends[side].out.lose()

    @rule(side=sides)
    def give_up(self, side: str) -> None:
        """Where the first byte is not out: what happens then is certain."""
        end = self.ends[side]
        way = end.wire._on_its_way
        if way is not None and (
            not way.is_out or end.wire._writing == (way.payload.data, way.token)
        ):
            end.wire.give_up()
            self.settle(side)

    def settle(self, side: str) -> None:
        end = self.ends[side]
        for answer in settle_answers(end.wire):
            assert end.on_its_way is not None
            assert answer.payload.handles[0].obj is end.on_its_way.handle
            if answer.problem is not None:
                end.sent = deque(each for each in end.sent if each is not end.on_its_way)
            end.on_its_way = None

    @rule(side=sides)
    def take(self, side: str) -> None:
        wire, peer = self.ends[side].wire, self.other(side)
        if wire.unread:
            assert self.ledger.take(wire) == peer.sent.popleft()  # type: ignore[arg-type]

    @rule(side=sides)
    def skip(self, side: str) -> None:
        wire, peer = self.ends[side].wire, self.other(side)
        for _ in wire.unread:
            peer.sent.popleft()
        wire.skip_unread()

    @rule(side=sides)
    @precondition(lambda self: sum(len(end.sent) for end in self.ends.values()) > 5)
    def end(self, side: str) -> None:
        self.ends[side].wire.end()
        self.ends[side].ended = True

    @rule(side=sides)
    @precondition(lambda self: sum(len(end.sent) for end in self.ends.values()) > 5)
    def stop(self, side: str) -> None:
        self.ends[side].wire.stop()
        self.ends[side].stopped = True

    @invariant()
    def bounded(self) -> None:
        for side, end in self.ends.items():
            wire = end.wire
            assert (wire._on_its_way is not None) == (end.on_its_way is not None)
            assert wire.bytes_unsent() < HIGH_WATER + 2 * 400_000
            assert wire.bytes_unsent() >= 0
            assert wire._bytes_unread >= 0
            if end.stopped:
                assert not wire.unread
                assert not wire.sated
            if not wire.unread:
                assert not wire.sated
                assert wire._bytes_unread == 0
            # Of what is under way in the kernel, at most one handle of each direction is unread.
            assert sum(len(tokens) for _, tokens in self.ends[side].out._buffers) <= 1

    def teardown(self) -> None:
        if not hasattr(self, "ends"):
            return
        # Whatever happened, what was committed arrives.
        progress = True
        while progress:
            progress = False
            for side, end in self.ends.items():
                progress |= bool(write_some(end.wire, end.out))  # type: ignore[arg-type]
                while end.wire.unread:
                    self.take(side)
                    progress = True
                progress |= bool(read_some(end.wire, self.other(side).out))  # type: ignore[arg-type]
                self.settle(side)
        for side, end in self.ends.items():
            assert not end.wire.has_output()
            assert end.wire.bytes_unsent() == 0
            assert end.on_its_way is None
            assert end.wire.can_send(1)
            assert end.wire.hang_up() == end.ended
            if not self.other(side).stopped:
                assert not end.sent
            end.wire.received_eof()
        self.ledger.settle()


TwoEnds.TestCase.settings = settings(examples, max_examples=100, stateful_step_count=50)
test_two_ends = TwoEnds.TestCase
