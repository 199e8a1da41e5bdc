"""Accounting for sockets: how many of a Node server's connections are open here.

A Node parent that closes a server waits until the last of its connections is closed, wherever it
is, and counts them with ``server.getConnections()``: it asks each child that has got some.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from .node_values import ENVELOPE

if TYPE_CHECKING:
    from collections.abc import Callable


class Accounts:
    """The received sockets of each server.

    Args:
      is_open: whether a received object is still open in this process.

    Attributes:
      closing: the servers whose peer is to be told when their last socket is closed.
    """

    def __init__(self, is_open: Callable[[Any], bool]) -> None:
        self._is_open = is_open
        self._held: dict[str, weakref.WeakSet[Any]] = {}
        self.closing: set[str] = set()

    def hold(self, key: object, handle: Any) -> None:
        """A socket has arrived; ``key`` names its server, if it has one."""
        if not isinstance(key, str) or len(key) > ENVELOPE:
            return  # nobody can ask for it
        if key not in self._held:
            self._held = {known: held for known, held in self._held.items() if held}
            self._held[key] = weakref.WeakSet()
        self._held[key].add(handle)

    def count(self, key: str) -> int:
        """How many of them are open."""
        return sum(map(self._is_open, self._held.get(key, ())))

    def settle(self) -> list[str]:
        """The servers of `closing` that have none any more; they are forgotten."""
        settled = [key for key in self.closing if not self.count(key)]
        for key in settled:
            self.closing.discard(key)
            self._held.pop(key, None)
        return settled
