"""A channel in the protocol of this library."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

from . import _handles
from ._connection import handle_window
from .wire.msgpack import MsgpackCodec
from .wire.native import NativeWire

if TYPE_CHECKING:
    from .wire import Limits


def make_native_wire(
    message_type: Any, limits: Limits, *, greeted: bool = False, accepts: tuple[int, ...] = ()
) -> NativeWire:
    """The native protocol, with the handles of this library in its messages."""
    codec = MsgpackCodec(message_type, _handles)
    return NativeWire(
        codec, limits, greeted=greeted, accepts=accepts, handle_window=handle_window()
    )
