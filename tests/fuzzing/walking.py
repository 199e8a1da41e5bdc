"""What is in a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec


def find(value: Any, wanted: Callable[[Any], bool]) -> list[Any]:
    """All that is wanted in a message, each once, however deep and however often it is there."""
    found: list[Any] = []
    seen: set[int] = set()
    todo = [value]
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if wanted(each):
            found.append(each)
        elif isinstance(each, dict):
            todo += each.keys()
            todo += each.values()
        elif isinstance(each, (list, tuple, set, frozenset)):
            todo += each
        elif isinstance(each, msgspec.Struct):
            todo += [getattr(each, name) for name in each.__struct_fields__]
    return found
