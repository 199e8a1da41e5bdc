"""Messages of all kinds that a native channel carries, as hypothesis strategies and by hand."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from .harness import READ_SIZE, Thing

_names = itertools.count()


def _thing(code: int, extra: bytes) -> Thing:
    return Thing(next(_names), code, extra)


things = st.builds(_thing, st.integers(1, 7), st.binary(max_size=20))

_zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))

numbers = st.integers(-(1 << 63), (1 << 64) - 1)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.binary(max_size=40),
    # One year from either end: the time zone moves them by a day.
    st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=_zones),
)

keys = st.one_of(st.text(st.characters(codec="utf-8"), max_size=10), numbers, st.none())


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)
        ),
        max_leaves=8,
    )


plain = nested(scalars)


@dataclass(frozen=True)
class Filler:
    """A large message, in few words."""

    kind: str
    size: int

    def expand(self) -> Any:
        if self.kind == "str":
            return "x" * self.size
        if self.kind == "bytes":
            return b"y" * self.size
        return [b"z" * self.size, Thing(next(_names))]


def expand(message: Any) -> Any:
    return message.expand() if isinstance(message, Filler) else message


# Sizes at which something changes: a frame of its own for bytes, a batch, a read.
large = st.builds(
    Filler,
    st.sampled_from(["str", "bytes", "list"]),
    st.sampled_from(
        [
            edge + step
            for edge in (16384, 65536, 131072, READ_SIZE)
            for step in (-9, -6, -5, -1, 0, 1)
        ]
    ),
)

with_things = nested(st.one_of(scalars, things))

# To be expanded.
messages = st.one_of(plain, with_things, large)


def things_in(value: Any) -> list[Thing]:
    """The handles in a message, each once, in the order in which they stand there."""
    found: list[Thing] = []

    def look(value: Any) -> None:
        if isinstance(value, Thing):
            if not any(value is each for each in found):
                found.append(value)
        elif isinstance(value, (list, tuple)):
            for item in value:
                look(item)
        elif isinstance(value, dict):
            for pair in value.items():
                look(pair)

    look(value)
    return found
