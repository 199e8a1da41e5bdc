"""The child's side: the life of the channel that this process was started with."""

from __future__ import annotations

import math
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

from . import _log, _process
from ._background import Background
from ._channel import Channel
from ._connection import Connection, socket_identity
from ._errors import NoParent, ProtocolError
from ._native import make_native_wire
from ._scope import Opening, in_background
from .wire import Limits
from .wire.native_frames import handles_sent

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

    from .wire.native import NativeWire

# The limits that a script has said: max_buffer_size, max_message_size, max_handles.
Given = tuple[float | None, int | None, int | None]

# Seconds to see off what is committed when a child's side is left by an exception.
LAST_WORDS: Final = 1.0


def prepare_parent(
    message_type: Any,
    max_buffer_size: float | None,
    max_message_size: int | None,
    max_handles: int | None,
) -> AbstractAsyncContextManager[Channel[Any, Any]]:
    """See `trio_ipc.open_parent`: everything that can be refused at the call is refused here."""
    given = (max_buffer_size, max_message_size, max_handles)
    Limits().replaced(*given).check()
    return Opening(
        "`async with open_parent() as parent:`",
        _run_parent(message_type, given),
    )


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def _run_parent(message_type: Any, given: Given) -> AsyncGenerator[Channel[Any, Any], None]:
    await trio.lowlevel.checkpoint_if_cancelled()
    serialization = _process.node_serialization()
    if serialization is None:
        wire = make_native_wire(message_type, Limits())
        connection = await greet_parent(_process.claim_socket(), wire, given)
    else:
        connection = _meet_node_parent(serialization, message_type, Limits().replaced(*given))
    duties = () if connection.duties is None else connection.duties.tasks
    channel: Channel[Any, Any] = Channel._create(connection)
    background = Background(connection)
    try:
        async with in_background(background.write, background.read, *duties):
            try:
                yield channel
            except BaseException as exc:
                await leave_at_once(channel, failed=is_failure(exc))
                raise
            await say_goodbye(channel)
    finally:
        connection.shut()
    await trio.lowlevel.checkpoint_if_cancelled()


def _meet_node_parent(serialization: str, message_type: Any, limits: Limits) -> Connection:
    """Take up the channel of a Node parent, who has no limits and says no greeting."""
    from ._node import Duties, make_node_wire  # which few children need to import

    wire = make_node_wire(serialization, message_type, limits)
    sock = _process.claim_node_socket()
    try:
        identity = socket_identity(sock)
    except BaseException:
        sock.close()
        raise
    ends = frozenset((identity,))
    connection = Connection(sock, wire, peer="the parent", ends=ends, scoped=True)
    connection.settle()
    _log.begin(connection, "opened, node protocol, %s", serialization)
    _log.tell_limits(connection, limits)
    Duties(connection, wire)
    return connection


async def greet_parent(
    sock: socket.socket, wire: NativeWire, given: Given = (None, None, None)
) -> Connection:
    """Exchange greetings on the child's end; what is not given is as the parent has it."""
    connection = Connection(sock, wire, peer="the parent", scoped=True)
    connection.settle()
    _log.begin(connection, "opened, native protocol")
    try:
        await connection.read_until(lambda: wire.greeted)
        hello = wire.peer
        theirs = math.inf if hello.max_buffer_size < 0 else hello.max_buffer_size
        limits = Limits(theirs, hello.max_message_size, handles_sent(hello)).replaced(*given)
        limits.check()
        wire.adopt(limits)
        _log.tell_limits(connection, limits)
        identity = socket_identity(sock)
        wire.hello(*identity)
        connection.accept_handles(
            max(limits.max_handles, handles_sent(hello)),
            frozenset((identity, (hello.device, hello.inode))),
        )
        connection.push()
    except BaseException as exc:
        connection.shut()
        if isinstance(exc, ProtocolError):
            raise NoParent(f"what started this process is no parent of its kind: {exc}") from exc
        if isinstance(exc, trio.BrokenResourceError):
            raise NoParent("the parent was gone before the channel was opened") from exc
        raise
    return connection


def is_failure(exc: BaseException) -> bool:
    """Whether a process that ends by this exception has failed."""
    if isinstance(exc, SystemExit):
        return exc.code not in (0, None)
    return not isinstance(exc, trio.Cancelled)


async def say_goodbye(channel: Channel[Any, Any]) -> None:
    """The end of a child's side: what was sent is written before the process may exit."""
    channel.close()
    connection = channel._connection
    done = False
    try:
        await _see_off(connection)
        done = True
    finally:
        if not done:
            await see_off_briefly(connection)


async def leave_at_once(channel: Channel[Any, Any], *, failed: bool) -> None:
    """The end of a child's side, by an exception. Who fails says no goodbye: the parent is not to
    take it for the end, and go on as if all was well."""
    if failed:
        channel._forget()
    else:
        channel.close()
    await see_off_briefly(channel._connection)


async def see_off_briefly(connection: Connection) -> None:
    """Write what is committed, if the parent takes it soon. Not to be cancelled."""
    with trio.move_on_after(LAST_WORDS, shield=True):
        await _see_off(connection)


async def _see_off(connection: Connection) -> None:  # noqa: ASYNC910 (with nobody there)
    if not connection.is_gone:
        try:
            await connection.wait_drained(connection)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the parent has gone, and with it whom to tell
