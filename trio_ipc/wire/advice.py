"""What to say about objects that can't be sent: why, and what to send instead.

What every child needs imports it only when there is something to say.
"""

from __future__ import annotations

from typing import Any, Final

from .._errors import UnsupportedHandle, UnsupportedMessage

_ANYTHING_ELSE: Final = "send plain values, dataclasses, msgspec.Structs or handles"
_A_HANDLE: Final = (
    "send(message, handle) takes a stream, a listener, a socket, a pipe, an open file or a channel;"
    " to send two values, send a list"
)
_ASYNCIO: Final = (
    "asyncio goes on reading it: send a duplicate of its socket,"
    " `writer.get_extra_info('socket').dup()`"
)
_HALF: Final = "a channel travels whole: send the Channel"
_CODE: Final = "code does not travel: send data, or a name that the receiver knows it by"
_NOT_AWAITED: Final = "was an `await` forgotten?"

# By the full name of a type, or of one that it is derived from: this layer imports none of them.
_INSTEAD: Final = {
    "builtins.BaseException": "send what matters of it, such as its str()",
    "builtins.async_generator": "send the items one by one",
    "builtins.builtin_function_or_method": _CODE,
    "builtins.coroutine": _NOT_AWAITED,
    "builtins.function": _CODE,
    "builtins.generator": "send a list of its items",
    "builtins.map": "send a list of its items",
    "builtins.method": _CODE,
    "builtins.range": "send a list of its items",
    "pathlib.PurePath": "send its str()",
    "tempfile._TemporaryFileWrapper": "send its .file",
    "trio._file_io.AsyncIOWrapper": "send its .wrapped",
    "trio_ipc.ReceiveChannel": _HALF,
    "trio_ipc.SendChannel": _HALF,
}


def no_value(obj: Any, manner: str = "") -> TypeError:
    """No serialization knows this object, or not in this ``manner``."""
    advice = "" if manner else f"; {_instead(obj)}"
    return TypeError(f"objects of type {type(obj).__name__!r} can't be serialized{manner}{advice}")


def _instead(obj: Any, otherwise: str = _ANYTHING_ELSE) -> str:
    for kind in type(obj).__mro__:
        if kind.__module__.partition(".")[0] in ("asyncio", "uvloop"):
            return _ASYNCIO
        # Since Python 3.13 pathlib is a package.
        name = f"{kind.__module__.removesuffix('._local')}.{kind.__qualname__}"
        if name in _INSTEAD:
            return _INSTEAD[name]
    return otherwise


def no_key(key: Any, otherwise: str = "") -> TypeError:
    """In JavaScript, the names of properties are strings."""
    name = type(key).__name__
    return TypeError(f"a property can't be named by a {name!r}: use a str{otherwise}")


def no_handle(obj: object) -> UnsupportedHandle:
    """It was sent beside a message, and can't travel there."""
    name = type(obj).__name__
    return UnsupportedHandle(f"{name!r} objects are no handles: {_instead(obj, _A_HANDLE)}")


def unsupported(message: Any, reason: object, what: str | None = None) -> UnsupportedMessage:
    """A message, or ``what`` it is to its sender, can't be serialized for this ``reason``."""
    what = repr(type(message).__name__) if what is None else what
    return UnsupportedMessage(f"can't send {what}: {_explain(reason)}")


def _explain(reason: object) -> str:
    """What msgspec says about a message, with what can be done about it."""
    text = str(reason) or type(reason).__name__
    if isinstance(reason, RecursionError):
        return f"it contains itself, or is nested too deeply ({text})"
    if isinstance(reason, UnicodeEncodeError):
        return f"{text}; send bytes: os.fsencode() makes them of the name of a file"
    if isinstance(reason, OverflowError):
        return f"{text}; send it as a str"
    return text
