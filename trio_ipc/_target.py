"""Functions and types by name, so that another interpreter can find them.

Nothing is pickled: a function is its module and its name there, and a type is that or a construct
of `typing` made of such.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import os
import runpy
import sys
import types
import typing
from typing import Any, Final

import msgspec

if typing.TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# What the parent's __main__ is called in the child: not "__main__", so that the part of a script
# that starts everything is not run again.
MAIN_IN_CHILD: Final = "__trio_ipc_main__"

Described = str | list[Any]


class Main(msgspec.Struct, frozen=True):
    """Where the parent's ``__main__`` comes from: a module's name or a file's path.

    The names of files are bytes here, as they are to the system: they need not be UTF-8.
    """

    module: str | None
    path: bytes | None


class Call(msgspec.Struct, frozen=True):
    """What a function child is to run, and what it must be like its parent for that."""

    function: str
    message_type: Any
    main: Main | None
    argv: list[bytes]


def describe_call(function: Callable[..., Awaitable[object]], message_type: Any) -> Call:
    """Raises `TypeError`, with the reason, for what another process can't find."""
    name = describe_function(function)
    described = describe_type(message_type)
    main = None
    if "__main__:" in repr([name, described]):
        main = _find_main(name)
    return Call(name, described, main, list(map(os.fsencode, sys.argv)))


def describe_function(function: Callable[..., Awaitable[object]]) -> str:
    """``module:qualname``.

    Raises:
      TypeError: it is no async function, or can't be found by its name in another process.
    """
    remedy = "use an async function defined with `async def` at the top level of a module"
    shown = getattr(function, "__qualname__", None)
    if shown is None:  # functools.partial, or an object that can be called
        raise TypeError(
            f"{function!r} has no name that the child could import it by: {remedy}, and pass what"
            " it needs as arguments"
        )
    if inspect.ismethod(function):
        raise TypeError(
            f"{shown} is a bound method, and its object lives in this process: {remedy}, and pass"
            " what it needs as arguments"
        )
    if shown.endswith("<lambda>"):
        raise TypeError(f"a lambda has no name that the child could import it by: {remedy}")
    if "<locals>" in shown:
        raise TypeError(
            f"{shown} is defined inside another function, where the child can't import it: {remedy}"
        )
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{shown} is {_kind_of(function)}, and the child awaits it: {remedy}")
    name = _reference(function)
    if name is None:
        raise TypeError(
            f"{shown} is not what the child would find under that name in"
            f" {function.__module__!r}: {remedy}"
        )
    return name


def _kind_of(function: object) -> str:
    if inspect.isasyncgenfunction(function):
        return "an async generator, because of its `yield`"
    if inspect.isgeneratorfunction(function):
        return "not async, but a generator, because of its `yield`"
    return "not async, but a class" if inspect.isclass(function) else "not async"


def check_arguments(function: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
    """What the child's call would say of them is said here, before anything is started.

    Raises:
      TypeError: there are too many or too few of them.
    """
    # Not of what a decorator has wrapped: it may add arguments, or take some away.
    signature = inspect.signature(function, follow_wrapped=False)
    try:
        signature.bind(None, *args)
    except TypeError as exc:
        raise TypeError(
            f"{function.__qualname__}{signature} can't be called with the channel and the"
            f" {len(args)} further arguments of open_child: {exc}"
        ) from exc


def _reference(obj: Any) -> str | None:
    module = getattr(obj, "__module__", None)
    qualname = getattr(obj, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str):
        return None
    if module == MAIN_IN_CHILD:  # passed on from a child of the same script
        module = "__main__"
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return f"{module}:{qualname}" if found is obj else None


def _find_main(name: str) -> Main:
    module = sys.modules["__main__"]
    spec = getattr(module, "__spec__", None)
    path = getattr(module, "__file__", None)
    if spec is not None and spec.name != "__main__":
        return Main(spec.name, None)
    if spec is not None and path is not None:  # a directory or an archive that is being run
        path = os.path.dirname(path)
    if path is None or not os.path.exists(path):
        raise TypeError(
            f"{name.partition(':')[2]} is defined in an interactive session, where the child can't"
            " import it: put it into a file"
        )
    return Main(None, os.fsencode(os.path.abspath(path)))


_importing_main = False


def refuse_while_importing_main() -> None:
    """A script without the guard would start a child in its child, and so on for ever."""
    if _importing_main:
        raise RuntimeError(
            "open_child was called while a child was importing this script, to find its function"
            ' there. What a script does must stand under `if __name__ == "__main__":`, so that'
            " importing it does nothing"
        )


def find_function(call: Call) -> Callable[..., Awaitable[object]]:
    """In the child: the function of a call, after importing what it lives in."""
    sys.argv[:] = map(os.fsdecode, call.argv)
    if call.main is not None:
        _import_main(call.main)
    function: Callable[..., Awaitable[object]] = _find(call.function)
    return function


def _import_main(main: Main) -> None:
    global _importing_main
    _importing_main = True
    if main.module is not None:
        names = runpy.run_module(main.module, run_name=MAIN_IN_CHILD, alter_sys=True)
    else:
        assert main.path is not None
        names = runpy.run_path(os.fsdecode(main.path), run_name=MAIN_IN_CHILD)
    module = types.ModuleType(MAIN_IN_CHILD)
    module.__dict__.update(names)
    sys.modules["__main__"] = sys.modules[MAIN_IN_CHILD] = module
    _importing_main = False


def _find(reference: str) -> Any:
    module, _, qualname = reference.partition(":")
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


# Types ----------------------------------------------------------------------------------------


def describe_type(kind: Any) -> Described:
    """A type as plain values: a name, or ``[construct, parts...]``.

    Raises:
      TypeError: it has no name that another process could find it by.
    """
    if kind is None or kind is type(None):
        return "None"
    if kind is Any:
        return "Any"
    origin = typing.get_origin(kind)
    if origin is None:
        reference = _reference(kind)
        if reference is None:
            raise TypeError(
                f"child_message_type: {kind!r} can't be found by name in another process; define it"
                " at the top level of a module"
            )
        return reference
    parts = typing.get_args(kind)
    if not parts:  # typing.List, say, without an item
        return describe_type(origin)
    if origin is typing.Union or origin is types.UnionType:
        return ["Union", *map(describe_type, parts)]
    if origin is typing.Literal:
        return ["Literal", *map(_describe_literal, parts)]
    if origin is typing.Annotated:
        return ["Annotated", describe_type(parts[0]), *map(_describe_meta, parts[1:])]
    return [
        "[]",
        describe_type(origin),
        *("..." if part is Ellipsis else describe_type(part) for part in parts),
    ]


def _describe_literal(value: Any) -> list[Any]:
    if isinstance(value, enum.Enum):
        raise TypeError("child_message_type: a Literal of enum members can't be sent by name")
    return [value]


def _describe_meta(meta: Any) -> dict[str, Any]:
    if not isinstance(meta, msgspec.Meta):
        raise TypeError(f"child_message_type: the annotation {meta!r} can't be sent by name")
    return {
        name: getattr(meta, name)
        for name in dir(meta)
        if not name.startswith("_") and getattr(meta, name) is not None
    }


def find_type(described: Described) -> Any:
    """The type that `describe_type` described."""
    if described == "None":
        return None
    if described == "Any":
        return Any
    if described == "...":
        return Ellipsis
    if isinstance(described, str):
        return _find(described)
    construct, *parts = described
    if construct == "Literal":
        return typing.Literal[tuple(value for [value] in parts)]
    if construct == "Annotated":
        parts[1:] = [msgspec.Meta(**meta) for meta in parts[1:]]
        parts[0] = find_type(parts[0])
        return typing.Annotated[tuple(parts)]
    found = tuple(map(find_type, parts))
    if construct == "Union":
        return typing.Union[found]  # noqa: UP007 (of any number)
    origin, *items = found
    return origin[tuple(items) if len(items) > 1 else items[0]]
