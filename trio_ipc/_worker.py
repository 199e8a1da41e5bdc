"""The child's side of a function child: ``python -c 'from trio_ipc._worker import main; main()'``.

The time until `main` has found the function is the user's waiting time: nothing is imported here
that the function child does not need.
"""

from __future__ import annotations

import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import trio

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

from . import _handles, _process, _target
from ._background import Background
from ._channel import Channel
from ._native import make_native_wire
from ._parent import greet_parent, is_failure, say_goodbye, see_off_briefly
from ._scope import in_background
from .wire import Limits
from .wire.msgpack import MsgpackCodec
from .wire.native_frames import CALL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._connection import Connection
    from ._log import Tell
    from .wire.native import NativeWire

# What a shell shows for a process that a signal ended.
TERMINATED = 128 + signal.SIGTERM


def main() -> NoReturn:
    """Run the function that the parent names, and exit with 0, 1 or `TERMINATED`."""
    # Ctrl-C in a terminal reaches the whole process group, and is the parent's affair; it cancels
    # this process with SIGTERM. A handler, unlike SIG_IGN, is not inherited by our own children.
    signal.signal(signal.SIGINT, _ignore)
    sys.exit(trio.run(_serve))


def _ignore(*_: object) -> None: ...


async def _serve() -> int:
    wire = make_native_wire(Any, Limits(), accepts=(CALL,))
    connection = await greet_parent(_process.claim_socket(), wire)
    try:
        await connection.read_until(lambda: wire.call is not None)
        background = Background(connection)
        async with in_background(background.write, background.read):
            return await _run(connection, wire)
    finally:
        connection.shut()


async def _run(connection: Connection, wire: NativeWire) -> int:
    tree = trio.CancelScope()
    function: Callable[..., Awaitable[object]] | None = None
    try:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:

            async def cancel_on_signal() -> None:
                async for _ in signals:
                    tree.cancel()

            async def cancel_on_loss() -> None:
                await connection.gone.wait()
                tree.cancel()

            async with in_background(cancel_on_signal, cancel_on_loss):
                with tree:
                    function, args = _find(wire, connection.tell)
                    channel: Channel[Any, Any] = Channel._create(connection)
                    await function(channel, *args)
                    await say_goodbye(channel)
                if tree.cancelled_caught:
                    await _leave(connection)
                    return TERMINATED
    except SystemExit as exc:
        if is_failure(exc):
            await see_off_briefly(connection)
        else:
            await _leave(connection)
        raise
    except BaseException as exc:
        if connection.has_raised(exc, ends=False) and not connection.cut_off:
            # It ended because the parent receives no more, which is no failure: the same as
            # SIGPIPE, which ends a program whose reader has seen enough.
            await _leave(connection)
            return 0
        await _report(exc, function, wire, connection)
        return 1
    return 0


def _find(wire: NativeWire, tell: Tell) -> tuple[Callable[..., Awaitable[object]], list[Any]]:
    described, args = wire.take_call()
    call = msgspec.convert(described, _target.Call)
    tell("runs %s", call.function)
    try:
        function = _target.find_function(call)
        message_type = _target.find_type(call.message_type)
    except Exception as exc:
        remedy = (
            "must be importable in a fresh interpreter, with nothing but its own imports, and do"
            " nothing else when it is imported"
        )
        if call.main is not None:
            remedy += ': what a script does must stand under `if __name__ == "__main__":`'
        raise ImportError(
            f"the child can't import {call.function!r}: {type(exc).__name__}: {exc}. The module"
            f" that defines it {remedy}"
        ) from exc
    wire.codec = MsgpackCodec(message_type, _handles)
    return function, args


async def _leave(connection: Connection) -> None:
    connection.wire.end()
    connection.wire.stop()
    await see_off_briefly(connection)


async def _report(  # noqa: ASYNC910 (with nobody there)
    exc: BaseException,
    function: Callable[..., Awaitable[object]] | None,
    wire: NativeWire,
    connection: Connection,
) -> None:
    trace = exc.__traceback__
    while trace is not None and trace.tb_frame.f_code is not getattr(function, "__code__", None):
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(exc), exc, trace or exc.__traceback__))
    if connection.send_error() is None or not connection.gone.is_set():
        wire.fail(text)
        await see_off_briefly(connection)
    else:
        sys.stderr.write(text)
