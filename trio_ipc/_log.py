"""The life of each channel, told to the logger ``trio_ipc`` at level DEBUG.

Whether it is told is decided when the channel is opened: one that nobody watches pays nothing for
it. Told are events and numbers, never what is in a message.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final

from .wire import Outbound

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._connection import Connection
    from .wire import Limits

    Tell = Callable[..., None]

LOGGER: Final = logging.getLogger("trio_ipc")
LOGGER.addHandler(logging.NullHandler())

# Not consumed: it holds for a whole tree of processes.
VARIABLE: Final = "TRIO_IPC_DEBUG"

# What may have changed after each read, and what that means.
_TURNS: Final = {
    "greeted": "the greetings are exchanged",
    "peer_ended": "the peer sends no more",
    "peer_stopped": "the peer receives no more",
}


def say_nothing(text: str, *args: object) -> None:
    """What a connection tells as long as nobody watches."""


def begin(connection: Connection, text: str, *args: object) -> None:
    """Tell of this connection from now on, if somebody watches; first of all this ``text``."""
    if not LOGGER.isEnabledFor(logging.DEBUG):
        return
    who = f"channel {connection.fileno()} to {connection.peer}"

    def tell(text: str, *args: object) -> None:
        try:
            LOGGER.debug(f"%s: {text}", who, *args)
        except Exception:  # of the user's filters: no child is to outlive its block for that
            traceback.print_exc()

    connection.tell = tell
    tell(text, *args)
    _watch_reads(connection)
    _watch_handles(connection)


def tell_limits(connection: Connection, limits: Limits) -> None:
    """What this end accepts."""
    names = "max_buffer_size", "max_message_size", "max_handles"
    shown = ", ".join(f"{name}={getattr(limits, name)}" for name in names)
    rest = "" if limits.takes_handles else ", takes no handles"
    connection.tell("the limits are %s%s", shown, rest)


# The ways of messages have no calls for this. Where somebody watches, they lead through here.


def _watch_reads(connection: Connection) -> None:
    wire, tell = connection.wire, connection.tell
    received = wire.received
    is_first = True

    def received_and_told(count: int, tokens: Sequence[Any] = ()) -> None:
        nonlocal is_first
        before = {name: getattr(wire, name) for name in _TURNS}
        try:
            received(count, tokens)
        finally:
            if tokens:
                tell("handles arrive: %d", len(tokens))
            if is_first and wire.unread:
                is_first = False
                tell("the first message arrives")
            for name, text in _TURNS.items():
                if getattr(wire, name) != before[name]:
                    tell(text)

    vars(wire)["received"] = received_and_told


def _watch_handles(connection: Connection) -> None:
    tell = connection.tell
    commit = connection._commit

    def commit_and_tell(payload: bytes | Outbound, keep_open: bool | None) -> None:
        commit(payload, keep_open)
        if isinstance(payload, Outbound) and payload.handles:
            kinds = ", ".join(type(handle.obj).__name__ for handle in payload.handles)
            tell("handles are sent: %s", kinds)

    vars(connection)["_commit"] = commit_and_tell


def _obey_environment() -> None:
    if os.environ.get(VARIABLE, "0") in ("", "0"):
        return
    handler = logging.StreamHandler()
    handler.setFormatter(
        logging.Formatter(
            "%(asctime)s.%(msecs)03d trio_ipc[%(process)d] %(message)s", datefmt="%H:%M:%S"
        )
    )
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)
    LOGGER.propagate = False  # or a program with a handler of its own would show each line twice


_obey_environment()
