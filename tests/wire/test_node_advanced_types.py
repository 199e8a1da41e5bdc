"""JavaScript's types in a Python program: `trio_ipc.javascript`."""

from __future__ import annotations

import copy
import importlib
import pickle
import struct
import sys
from typing import Any

import pytest

from trio_ipc import javascript as js


def test_they_need_no_package_and_the_serialization_says_which(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "v8serialize", None)
    monkeypatch.delitem(sys.modules, "trio_ipc.wire.node_advanced", raising=False)
    with pytest.raises(ImportError, match=r"pip install trio-ipc\[advanced\]"):
        importlib.import_module("trio_ipc.wire.node_advanced")


def test_undefined_is_one_and_false() -> None:
    assert not js.undefined
    assert js.Undefined() is js.undefined
    assert copy.deepcopy([js.undefined])[0] is js.undefined
    assert pickle.loads(pickle.dumps(js.undefined)) is js.undefined
    assert repr(js.undefined) == "undefined"


def test_bigint_is_an_int() -> None:
    assert js.BigInt(5) == 5
    assert type(js.BigInt(5) + 1) is int
    assert f"{js.BigInt(5)} {js.BigInt(-5)!r}" == "5 BigInt(-5)"


def test_a_map_is_like_a_dict() -> None:
    items = js.Map({"a": 1})
    items["b"] = 2
    items["a"] = 3
    assert items == {"b": 2, "a": 3}
    assert items != {"b": 2, "a": 4}
    assert items != {"b": 2}
    assert items != [("a", 3), ("b", 2)]
    assert list(items) == ["a", "b"]
    assert list(items.values()) == [3, 2]
    assert dict(items) == {"a": 3, "b": 2}
    assert items.pop("a") == 3
    for missing in ("a", [], 1.5):
        with pytest.raises(KeyError):
            items[missing]
        with pytest.raises(KeyError):
            del items[missing]
        assert missing not in items
    assert repr(items) == "Map([('b', 2)])"


def test_a_map_has_any_keys() -> None:
    key: list[int] = []
    nan = float("nan")
    items = js.Map([(key, "list"), (1, "one"), (True, "true"), (js.BigInt(1), "big"), (nan, "nan")])
    assert items[key] == "list"
    assert [] not in items
    assert (items[1.0], items[True], items[js.BigInt(1)]) == ("one", "true", "big")
    assert items[float("nan")] == "nan"
    assert len(items) == 5
    assert js.Map([(key, 1)]) == js.Map([([], 1)])


def test_a_set_is_like_a_set() -> None:
    members = js.Set([3, 1, 3])
    members.add(2)
    members.discard(1)
    members.discard(7)
    assert list(members) == [3, 2]
    assert members == {2, 3}
    assert members != {2, 4}
    assert members != {2}
    assert members != [3, 2]
    assert members | {5} == {2, 3, 5}
    member: list[int] = []
    assert member in js.Set([member])
    assert [] not in js.Set([member])
    assert js.Set([[]]) == js.Set([[]])
    assert js.Set([1, True, js.BigInt(1)]) != {1}
    assert repr(members) == "Set([3, 2])"


def test_what_contains_itself_can_be_shown() -> None:
    items: js.Map[Any, Any] = js.Map()
    items["self"] = items
    members: js.Set[Any] = js.Set()
    members.add(members)
    array: js.Array[Any] = js.Array()
    array["self"] = array
    assert repr(items) == "Map([('self', Map(...))])"
    assert repr(members) == "Set([Set(...)])"
    assert repr(array) == "Array({'self': Array(...)}, length=0)"


def test_array() -> None:
    array = js.Array({0: "a", 5: "b", "name": "c"})
    assert array.length == 6
    assert array[5] == "b"
    assert array != js.Array(array, length=7)
    assert array != {0: "a", 5: "b", "name": "c"}


def test_values_are_equal_by_what_they_are() -> None:
    nan = float("nan")
    assert js.Date(nan) == js.Date(nan) != js.Date(0)
    assert js.RegExp("a", "mg") == js.RegExp("a", "gm") != js.RegExp("a")
    assert js.Boxed(1) == js.Boxed(1.0) != js.Boxed(True)
    assert len({js.Date(nan), js.Date(nan), js.RegExp("a"), js.RegExp("a"), js.Boxed(1)}) == 3
    assert js.Date(0) != 0
    assert js.RegExp("a") != "a"
    assert js.Boxed(1) != 1
    assert repr([js.Date(5), js.RegExp("a", "g"), js.Boxed("x")]) == (
        "[Date(5), RegExp('a', 'g'), Boxed('x')]"
    )


@pytest.mark.parametrize("flags", ["gg", "x", "uv"])
def test_flags_that_javascript_has_not(flags: str) -> None:
    with pytest.raises(ValueError, match="regular expression"):
        js.RegExp("a", flags)


def test_an_error_can_be_raised() -> None:
    with pytest.raises(js.Error, match=r"^RangeError: too big$") as caught:
        raise js.Error("too big", name="RangeError")
    assert caught.value.cause is None
    assert not caught.value.has_cause
    assert js.Error("x", cause=None).has_cause
    assert str(js.Error()) == "Error"


def test_typed_arrays_are_arrays() -> None:
    array = js.Int16Array([1, -2])
    assert array == js.Int16Array(bytes(array))
    assert (array[1], len(array), array.tolist()) == (-2, 2, [1, -2])
    assert bytes(array) == struct.pack("=2h", 1, -2)
    assert repr(array) == "Int16Array([1, -2])"
    for again in (copy.copy(array), copy.deepcopy(array), pickle.loads(pickle.dumps(array))):
        assert (type(again), again) == (js.Int16Array, array)
    with pytest.raises(OverflowError):
        js.Uint8ClampedArray([256])
    for kind, size in [(js.Int32Array, 4), (js.Uint32Array, 4), (js.BigUint64Array, 8)]:
        assert kind().itemsize == size
    assert repr(js.ArrayBuffer(b"x")) == "ArrayBuffer(b'x')"
    assert repr(js.DataView(b"x")) == "DataView(b'x')"
