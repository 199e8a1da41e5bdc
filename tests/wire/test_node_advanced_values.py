"""The advanced serialization: what is sent arrives, or as what else."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

pytest.importorskip("v8serialize")

from trio_ipc import javascript as js
from trio_ipc.wire.node_values import Internal

from .test_node_advanced import Holder, make, read, value_of

scalars = (
    st.none()
    | st.just(js.undefined)
    | st.booleans()
    | st.integers()
    | st.integers().map(js.BigInt)
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.text(st.characters(categories=["Cs", "L"]))
    | st.binary()
    | st.binary(max_size=9).map(js.ArrayBuffer)
    | st.binary(max_size=9).map(js.DataView)
    | st.lists(st.integers(-(2**31), 2**31 - 1)).map(js.Int32Array)
    | st.lists(st.floats(width=16, allow_nan=False)).map(js.Float16Array)
    | st.lists(st.integers(0, 2**64 - 1)).map(js.BigUint64Array)
    | st.integers(-62135596800000, 253402300799999).map(
        lambda ms: datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=ms)
    )
    | st.builds(js.RegExp, st.text(), st.sampled_from(["", "g", "imsy"]))
    | st.builds(js.Boxed, st.booleans() | st.text() | st.integers().map(js.BigInt))
)
names = st.text().filter(lambda name: not name.isdecimal())
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.lists(st.tuples(inner, inner), max_size=4).map(js.Map)
        | st.lists(inner, max_size=4).map(js.Set)
        | st.dictionaries(st.integers(0, 9) | names, inner, min_size=1, max_size=4).map(
            lambda items: js.Array(items, length=10)
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(values)
def test_whatever_is_sent_arrives(value: Any) -> None:
    frame = make(limit=1 << 20).encode(value)
    codec = make(limit=1 << 20)
    [got], _ = codec.feed(memoryview(frame))
    if isinstance(got, Internal):  # an object by chance
        return
    assert codec.encode(got) == make(limit=1 << 20).encode(got)
    assert shape(got) == shape(value)


def shape(value: Any) -> Any:
    """For what compares unequal to itself, or equal to something else."""
    if isinstance(value, (js.Map, js.Array)):
        return type(value), [(shape(key), shape(item)) for key, item in value.items()]
    if isinstance(value, dict):
        return dict, {key: shape(item) for key, item in value.items()}
    if isinstance(value, (list, js.Set)):
        return type(value), [shape(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return shape(int(value)) if str(value)[0] != "-" or value else "-0"
    if type(value) is int and abs(value) >= 2**53:
        return shape(js.BigInt(value))
    if isinstance(value, js.Boxed):
        return js.Boxed, shape(value.value)
    return type(value), value


def test_identity_is_kept() -> None:
    shared: list[Any] = [b"buffer", datetime(2020, 1, 1, tzinfo=timezone.utc)]
    circle: dict[str, Any] = {"all": [shared, shared, shared[0], shared[1]]}
    circle["self"] = circle
    got = read(make().encode(circle))
    assert got["self"] is got
    first, second, third, fourth = got["all"]
    assert first is second
    assert first[0] is third
    assert first[1] is fourth


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        b"xy",
        bytearray(b"x"),
        memoryview(b"x"),
        datetime(2020, 1, 1, tzinfo=timezone.utc),
        js.Map(),
        js.Set(),
        js.Array(length=1),
        js.Date(1e300),
        js.RegExp("x"),
        js.Error("x"),
        ValueError("x"),
        js.Boxed(1),
        js.ArrayBuffer(),
        js.DataView(),
        js.Int8Array(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_everything_takes_a_number_to_refer_to(value: Any) -> None:
    after: list[Any] = []
    got = read(make().encode([value, value, after, after]))
    assert got[0] is got[1]
    assert got[2] is got[3]


def test_native_objects_arrive_as_their_properties() -> None:
    assert value_of("4103" + "5c01" + "6f22016149027b01" + "5e01" + "5e02" + "240003") == [
        {"a": 1},
        {"a": 1},
        {"a": 1},
    ]


class Derived(dict[str, Any]):
    pass


class Text(str):
    pass


class Whole(int):
    pass


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        (Holder(js.Map([([], 1)])), {"held": js.Map([([], 1)])}),
        (Holder([js.undefined, b"x", (js.BigInt(1),)]), {"held": [js.undefined, b"x", [1]]}),
        (Derived(a=Text("x")), {"a": "x"}),
        (Whole(5), 5),
        ({Text("a"): 1, Whole(5): 2}, {"a": 1, "5": 2}),
        ({1: "a", "1": "b"}, {"1": "b"}),
        (bytearray(b"x"), b"x"),
        (datetime(2020, 1, 1).astimezone(), datetime(2020, 1, 1).astimezone(timezone.utc)),
        (datetime(2020, 1, 1), datetime(2020, 1, 1).astimezone(timezone.utc)),
    ],
)
def test_what_arrives_as_something_else(sent: Any, arrives: Any) -> None:
    assert read(make().encode(sent)) == arrives


def test_constants_of_python_are_not_taken_for_shared() -> None:
    frame = make().encode([(), (), b"", b"", b"x", b"x"])
    assert b"^" not in frame
