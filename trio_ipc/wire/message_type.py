"""What a ``message_type`` means to whichever codec decodes to it."""

from __future__ import annotations

from typing import Any, get_origin


def check_handle_type(expected: type, obj: Any) -> Any:
    """As a ``dec_hook``: a handle is an object already, and only compared with what is expected."""
    if not isinstance(obj, get_origin(expected) or expected):  # `Channel[str, int]` is none to ask
        raise TypeError(f"Expected `{expected.__name__}`, got `{type(obj).__name__}`")
    return obj


def undecodable(reason: TypeError) -> TypeError:
    """It is no type that msgspec can decode to."""
    return TypeError(f"message_type can't be decoded to: {reason}")
