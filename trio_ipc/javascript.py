"""What JavaScript has and Python has not.

With ``serialization="advanced"`` a Node process sends more than JSON can hold. What Python has a
type for arrives as that type: an object as `dict`, an array as `list`, a ``Buffer`` as `bytes`, a
``Date`` as an aware `~datetime.datetime`. The rest arrives as one of the types here, and sending
it back gives Node what it had sent. They can be made and sent by hand, too.

Their names are JavaScript's; import the module rather than the names::

    from trio_ipc import javascript as js

    await child.send({"id": js.BigInt(7), "missing": js.undefined})
"""

# Values of any type: what isinstance() says is a dict is of unknown keys and items.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections import UserDict
from collections.abc import (
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    MutableSet,
    Set as AbstractSet,
    ValuesView,
)
from reprlib import recursive_repr
from typing import Any, Final, TypeVar, final

from ._javascript_buffers import (
    ArrayBuffer,
    BigInt64Array,
    BigUint64Array,
    DataView,
    Float16Array,
    Float32Array,
    Float64Array,
    Int8Array,
    Int16Array,
    Int32Array,
    TypedArray,
    Uint8Array,
    Uint8ClampedArray,
    Uint16Array,
    Uint32Array,
)

__all__ = [
    "Array",
    "ArrayBuffer",
    "BigInt",
    "BigInt64Array",
    "BigUint64Array",
    "Boxed",
    "DataView",
    "Date",
    "Error",
    "Float16Array",
    "Float32Array",
    "Float64Array",
    "Int8Array",
    "Int16Array",
    "Int32Array",
    "Map",
    "RegExp",
    "Set",
    "TypedArray",
    "Uint8Array",
    "Uint8ClampedArray",
    "Uint16Array",
    "Uint32Array",
    "Undefined",
    "undefined",
]

K = TypeVar("K")
V = TypeVar("V")


@final
class Undefined:
    """The type of `undefined`, its only instance. It is false, and nothing but itself."""

    __slots__ = ()

    def __new__(cls) -> Undefined:
        return undefined

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "undefined"

    def __reduce__(self) -> str:
        return "undefined"


undefined: Final[Undefined] = object.__new__(Undefined)
"""JavaScript's ``undefined``. Its ``null`` is None."""


class BigInt(int):
    """An `int` that is a ``BigInt`` over there, however small it is.

    The result of a calculation is a plain `int` again. An `int` that a JavaScript number can't
    hold exactly (beyond 2**53 - 1 on either side) is sent as a ``BigInt`` without being told.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"BigInt({int(self)})"

    def __str__(self) -> str:
        return int.__repr__(self)


def _check(name: str, value: object, *kinds: type, hint: str = "") -> None:
    """Say now what sending it would say later, or a JavaScript program.

    Raises:
      TypeError: ``value`` is of none of these types.
    """
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        text = f"{name} must be {expected}, not {type(value).__name__}"
        raise TypeError(f"{text}; {hint}" if hint else text)


def _no_pairs(name: str, exc: Exception, hint: str = "") -> TypeError:
    return TypeError(f"{name} is made of a mapping, or of pairs of key and value{hint}: {exc}")


class _Key:
    """Stands for a key that would be taken for another one, or can't be hashed.

    JavaScript tells ``true`` and ``1`` apart, and two equal objects.
    """

    __slots__ = ("_kind", "_value")

    def __init__(self, kind: Any, value: Any) -> None:
        self._kind = kind
        self._value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Key):
            return NotImplemented
        return self._kind is other._kind and bool(self._value == other._value)

    def __hash__(self) -> int:
        return hash((self._kind, self._value))


def _key_of(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return value
    if kind is bool:
        return _Key(bool, value)
    if kind is BigInt:
        # A peer can choose integers that all have one hash, and so make a dictionary slow.
        return _Key(kind, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
    if kind is float and value != value:
        return _Key(float, "NaN")
    try:
        hash(value)
    except TypeError:
        return _Key(id, id(value))
    return value


class _MapItems(ItemsView[K, V]):
    _mapping: Map[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return iter(self._mapping._items.values())


class _MapValues(ValuesView[V]):
    _mapping: Map[Any, V]

    def __iter__(self) -> Iterator[V]:
        return (value for _, value in self._mapping._items.values())


class Map(MutableMapping[K, V]):
    """A ``Map``: like a `dict`, but a key may be anything.

    A key that can't be hashed is found only if it is the very same object. True is another key
    than 1, and ``BigInt(1)`` another one than both. A `Map` is equal to a `dict` with equal items,
    in whatever order.

    Args:
      items: a mapping, or pairs of key and value.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = ()) -> None:
        self._items: dict[Any, tuple[K, V]] = {}
        try:
            self.update(items)
        except (TypeError, ValueError) as exc:
            raise _no_pairs("Map", exc) from exc

    def __getitem__(self, key: K) -> V:
        try:
            return self._items[_key_of(key)][1]
        except KeyError:
            raise KeyError(key) from None

    def __setitem__(self, key: K, value: V) -> None:
        self._items[_key_of(key)] = (key, value)

    def __delitem__(self, key: K) -> None:
        try:
            del self._items[_key_of(key)]
        except KeyError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[K]:
        return (key for key, _ in self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        if len(self) != len(other):
            return False
        try:
            return dict(self.items()) == dict(other.items())
        except TypeError:
            return list(self.items()) == list(other.items())

    @recursive_repr("Map(...)")
    def __repr__(self) -> str:
        return f"Map({list(self._items.values())!r})"

    # The inherited ones look up each key. Keys that are one to Python can be found only once.

    def items(self) -> ItemsView[K, V]:
        return _MapItems(self)

    def values(self) -> ValuesView[V]:
        return _MapValues(self)

    def _receive(self, key: K, value: V) -> None:
        # Two keys that are one to Python, such as two equal buffers, stay two.
        slot = _key_of(key)
        if slot in self._items:
            slot = _Key(id, id(key))
        self._items[slot] = (key, value)


class Set(MutableSet[V]):
    """A ``Set``: like a `set`, but it keeps its order, and a member may be anything.

    A member that can't be hashed is found only if it is the very same object. True is another
    member than 1, and ``BigInt(1)`` another one than both. A `Set` is equal to a `set` with equal
    members.

    Args:
      members: what is in it.
    """

    __slots__ = ("_members",)

    def __init__(self, members: Iterable[V] = ()) -> None:
        self._members: dict[Any, V] = {}
        for each in members:
            self.add(each)

    def __contains__(self, value: object) -> bool:
        return _key_of(value) in self._members

    def __iter__(self) -> Iterator[V]:
        return iter(self._members.values())

    def __len__(self) -> int:
        return len(self._members)

    def add(self, value: V) -> None:
        self._members.setdefault(_key_of(value), value)

    def discard(self, value: V) -> None:
        self._members.pop(_key_of(value), None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        if len(self) != len(other):
            return False
        try:
            return set(self) == set(other)
        except TypeError:
            return list(self) == list(other)

    @recursive_repr("Set(...)")
    def __repr__(self) -> str:
        return f"Set({list(self)!r})"

    def _receive(self, value: V) -> None:
        slot = _key_of(value)
        self._members[_Key(id, id(value)) if slot in self._members else slot] = value


class Array(UserDict[Any, V]):
    """An ``Array`` that is more than a list: it has holes, or properties with names.

    It is a dictionary: the keys are the indexes that are there, as `int`, and the names. What
    ``"abc".match(/b/)`` gives is such an array. An array without either arrives as a `list`.

    Args:
      items: what is there.
      length: of the array, holes included; up to the last index unless it is given.

    Attributes:
      length (int): as given. It does not follow what is put in later.
    """

    def __init__(
        self, items: Mapping[Any, V] | Iterable[tuple[Any, V]] = (), *, length: int | None = None
    ) -> None:
        try:
            super().__init__(dict(items))
        except (TypeError, ValueError) as exc:
            raise _no_pairs("Array", exc, "; a list is sent as an array as it is") from exc
        if length is None:
            length = max((key + 1 for key in self if isinstance(key, int)), default=0)
        _check("length", length, int)
        if length < 0:
            raise ValueError(f"length must be >= 0, not {length}")
        self.length: int = length

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Array):
            return NotImplemented
        return self.length == other.length and bool(self.data == other.data)

    @recursive_repr("Array(...)")
    def __repr__(self) -> str:
        return f"Array({self.data!r}, length={self.length})"


class Date:
    """A ``Date`` that `~datetime.datetime` can't hold: before the year 1, after 9999, or invalid.

    Args:
      milliseconds: since 1970 in UTC; NaN for an invalid date.
    """

    __slots__ = ("milliseconds",)

    def __init__(self, milliseconds: float) -> None:
        _check("milliseconds", milliseconds, int, float, hint="a datetime is sent as it is")
        self.milliseconds: float = milliseconds

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Date):
            return NotImplemented
        mine, others = self.milliseconds, other.milliseconds
        return mine == others or (mine != mine and others != others)

    def __hash__(self) -> int:
        return hash(self.milliseconds if self.milliseconds == self.milliseconds else "NaN")

    def __repr__(self) -> str:
        return f"Date({self.milliseconds!r})"


class RegExp:
    """A regular expression in JavaScript's language, which `re` can't be trusted to understand.

    One that JavaScript doesn't understand ends a Node process that receives it.

    Args:
      source: what stands between the slashes.
      flags: some of the letters ``dgimsuvy``.
    """

    __slots__ = ("flags", "source")

    def __init__(self, source: str, flags: str = "") -> None:
        _check("source", source, str, hint="of a Python pattern, its .pattern if both agree on it")
        _check("flags", flags, str)
        if len(set(flags)) != len(flags) or not set(flags) <= set("dgimsuvy"):
            raise ValueError(
                f"invalid flags of a regular expression: {flags!r}; they are some of the letters"
                " dgimsuvy, each at most once"
            )
        if "u" in flags and "v" in flags:
            raise ValueError("a regular expression can't have both the flags 'u' and 'v'")
        self.source: str = source
        self.flags: str = "".join(sorted(flags))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RegExp):
            return NotImplemented
        return self.source == other.source and self.flags == other.flags

    def __hash__(self) -> int:
        return hash((self.source, self.flags))

    def __repr__(self) -> str:
        return f"RegExp({self.source!r}, {self.flags!r})"


_NO_CAUSE: Final[Any] = object()


class Error(Exception):
    """An ``Error``, ``TypeError`` and so on. It is received, not raised; you may raise it.

    Args:
      message: None for an error that has none of its own.
      name: ``"Error"``, ``"EvalError"``, ``"RangeError"``, ``"ReferenceError"``, ``"SyntaxError"``,
          ``"TypeError"`` or ``"URIError"``. By any other name it arrives as an ``Error``.
      stack: what JavaScript shows for it.
      cause: any value; no cause, if it is left out.

    Attributes:
      cause: None also if there is no cause.
      has_cause (bool): whether there is one.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        name: str = "Error",
        stack: str | None = None,
        cause: Any = _NO_CAUSE,
    ) -> None:
        _check("message", message, str, type(None))
        _check("name", name, str)
        _check("stack", stack, str, type(None))
        super().__init__(message)
        self.message: str | None = message
        self.name: str = name
        self.stack: str | None = stack
        self.has_cause: bool = cause is not _NO_CAUSE
        self.cause: Any = cause if self.has_cause else None

    def __str__(self) -> str:
        return f"{self.name}: {self.message}" if self.message else self.name

    @recursive_repr("Error(...)")
    def __repr__(self) -> str:
        return f"Error({self.message!r}, name={self.name!r})"


class Boxed:
    """A primitive in an object: ``new Number(5)``, ``new String("")``, ``Object(5n)``.

    Args:
      value: bool, int or float, `BigInt`, or str.
    """

    __slots__ = ("value",)

    def __init__(self, value: bool | float | str) -> None:
        _check("value", value, bool, int, float, str)
        self.value: bool | float | str = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Boxed):
            return NotImplemented
        return bool(_key_of(self.value) == _key_of(other.value))

    def __hash__(self) -> int:
        return hash(_key_of(self.value))

    def __repr__(self) -> str:
        return f"Boxed({self.value!r})"


for _value in list(globals().values()):  # they are public here, wherever they are defined
    if getattr(_value, "__module__", "") == f"{__package__}._javascript_buffers":
        _value.__module__ = __name__
del _value  # pyright: ignore[reportPossiblyUnboundVariable]
