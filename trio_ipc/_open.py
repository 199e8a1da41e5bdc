"""The scopes: who lives how long."""

from __future__ import annotations

import math
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

import msgspec
import trio

from ._channel import Channel, ChildChannel
from ._errors import NoParent
from .wire import Limits

if sys.platform != "win32":
    from . import _handles, _process, _target
    from ._background import Background
    from ._child import Child
    from ._connection import Connection, handle_window
    from ._pair import make_pair, socket_identity
    from ._scope import in_background
    from .wire.msgpack import MsgpackCodec
    from .wire.native import NativeWire
    from .wire.native_frames import FAILURE

__all__ = ["open_channel_pair", "open_child", "open_parent"]

# Seconds to see off what is committed when a block in a script is left by an exception.
LAST_WORDS = 1.0


def _refuse_windows() -> None:
    if sys.platform == "win32":
        raise NotImplementedError(
            "trio_ipc passes descriptors over Unix sockets, which Windows does not have"
        )


def open_channel_pair(
    max_buffer_size: float,
    *,
    max_message_size: int = 16 * 1024 * 1024,
    max_handles: int = 16,
) -> tuple[Channel[Any, Any], Channel[Any, Any]]:
    """Make two connected channels in this process.

    For tests, and to give one end to a child: send it there like any handle, and the child can
    talk to whoever holds the other one. Not a checkpoint.

    Args:
      max_buffer_size: messages that may wait unreceived in each direction; ``math.inf`` leaves
          their number unlimited, and bounds their bytes only.
      max_message_size: bytes of one serialized message.
      max_handles: handles in one message.

    Returns:
      tuple[Channel, Channel]: the two ends. Close both.

    Raises:
      TypeError, ValueError: a limit makes no sense.
      OSError: no descriptors are left.
    """
    _refuse_windows()
    limits = Limits(max_buffer_size, max_message_size, max_handles)
    limits.check()
    return make_pair(limits, (Any, Any))


def open_child(
    target: Any,
    *args: Any,
    protocol: Literal["native", "node"] | None = None,
    serialization: Literal["msgpack", "json", "advanced"] | None = None,
    message_type: Any = Any,
    child_message_type: Any = Any,
    max_buffer_size: float = 1000,
    max_message_size: int = 16 * 1024 * 1024,
    max_handles: int = 16,
    grace_period: float = 5.0,
    check: bool = True,
    **process_options: Any,
) -> AbstractAsyncContextManager[ChildChannel[Any, Any]]:
    """Start a child process with a channel to it; the child lives as long as the block.

    ::

        async with trio_ipc.open_child(worker, listener) as child:
            await child.send("hello")
            print(await child.receive())

    Leaving the block normally, what was sent is written, the child sees the end of its channel,
    and has ``grace_period`` seconds to exit; then it gets SIGTERM, and after as long again,
    SIGKILL. Leaving it by an exception or a cancellation, it gets SIGTERM at once. It is always
    reaped, and nothing of the channel stays open. Entering and leaving are checkpoints.

    It differs from Node's ``fork()`` in that

    * the child can't outlive the block, and nothing has to be closed, unreferenced or killed;
    * errors are raised at the call that they concern, never elsewhere;
    * the child's failure is raised, see below;
    * a function can be the child;
    * what is sent is bounded, and waits.

    Args:
      target: one of

          * an async function that another process can import: it runs in a fresh interpreter,
            under its own `trio.run`, as ``target(channel, *args)``. One that is defined in the
            script being run works too, if what the script *does* stands under
            ``if __name__ == "__main__"``;
          * a path: ``*.py`` runs with this interpreter, ``*.js``, ``*.mjs`` and ``*.cjs`` with
            ``node``, anything else is a program. It opens its end with `open_parent`;
          * a command, as a sequence of strings.
      args: for a function its arguments: messages, which may contain handles; for a path strings.
      protocol: ``"native"`` between two trio_ipc processes, or ``"node"``; None goes by the
          target.
      serialization: ``"msgpack"`` for the native protocol.
      message_type: what is received here must be of this type, any that `msgspec` can decode.
      child_message_type: the same at the other end, for a function child.
      max_buffer_size: messages that may wait unreceived, in each direction: an int >= 0 or
          ``math.inf``. They are bounded by their bytes, too: ``max_message_size`` or 1 MiB,
          whichever is more.
      max_message_size: bytes of one serialized message. A function child and a script take over
          these three, unless the script has its own.
      max_handles: handles in one message.
      grace_period: seconds.
      check: whether a child that fails cancels the block and raises.
      process_options: any option of `trio.lowlevel.open_process`. Standard streams are inherited
          unless asked otherwise; the channel never uses them.

    Returns:
      an async context manager for a `ChildChannel`.

    Raises:
      TypeError, ValueError: the target or an option makes no sense.
      OSError: the child can't be started.
      UnsupportedMessage, UnsupportedHandle, MessageTooLarge: an argument of a function child can't
          be sent; nothing was started.
      ChildFailed: the child exited with another status than 0, and not because it was ended here.
          The block is cancelled. If the child is a function, the cause shows its traceback. An
          exception of the block's own wins over it.
      NotImplementedError: on Windows.
    """
    _refuse_windows()
    program = _process.plan(target, args, protocol)
    if program.protocol != "native":
        raise NotImplementedError("the node protocol is not there yet")
    if serialization not in (None, "msgpack"):
        raise ValueError("the native protocol's serialization is 'msgpack'")
    limits = Limits(max_buffer_size, max_message_size, max_handles)
    limits.check()
    if not grace_period >= 0:
        raise ValueError("grace_period must be >= 0")
    call = None
    if program.function is not None:
        _target.refuse_while_importing_main()
        call = _target.describe_call(program.function, child_message_type)
    elif child_message_type is not Any:
        raise TypeError("child_message_type is for function children; a script says its own")
    wire = NativeWire(
        MsgpackCodec(message_type, _handles),
        limits,
        accepts=() if call is None else (FAILURE,),
        handle_window=handle_window(),
    )
    return _run_child(program, wire, call, args, grace_period, check, process_options)


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def _run_child(
    program: _process.Program,
    wire: NativeWire,
    call: _target.Call | None,
    args: tuple[Any, ...],
    grace_period: float,
    check: bool,
    options: dict[str, Any],
) -> AsyncIterator[ChildChannel[Any, Any]]:
    payload = None if call is None else wire.encode_call(msgspec.to_builtins(call), list(args))
    process, connection = await _start(program, wire, options)
    child = Child(connection, process, check)
    background = Background(connection)
    error: BaseException | None = None
    async with in_background(
        background.write,
        background.read,
        child.supervise,
        child.watch_for_loss,
    ):
        try:
            if payload is not None:
                connection.commit_first(payload)
            connection.push()
            with child.block:
                yield ChildChannel._create(connection, process)
        except BaseException as exc:
            error = exc
        await child.finish(grace_period, polite=error is None and not child.block.cancelled_caught)
    failure = child.failure()
    if error is None:
        if failure is not None:
            raise failure
    elif failure is not None and error in connection.errors:
        raise failure from failure.__cause__  # the error was the failure's symptom
    else:
        if failure is not None and error.__context__ is None:
            error.__context__ = failure
        raise error


async def _start(
    program: _process.Program, wire: NativeWire, options: dict[str, Any]
) -> tuple[trio.Process, Connection]:
    """Spawn; our end and the process are the caller's, the child's end is closed here."""
    ours, theirs = _process.channel_sockets()
    try:
        identity = socket_identity(ours)
        wire.hello(*identity)
        process = await _process.spawn(program, theirs, options)
        ends = frozenset((identity, socket_identity(theirs)))
    except BaseException:
        ours.close()
        wire.close()
        raise
    finally:
        theirs.close()
    connection = Connection(
        ours,
        wire,
        peer=f"child {process.pid}",
        ends=ends,
        max_handles=wire.limits.max_handles,
        scoped=True,
    )
    return process, connection


def open_parent(
    *,
    message_type: Any = Any,
    max_buffer_size: float | None = None,
    max_message_size: int | None = None,
    max_handles: int | None = None,
) -> AbstractAsyncContextManager[Channel[Any, Any]]:
    """Open the channel that this process was started with: the child's side, for a script.

    ::

        async with trio_ipc.open_parent() as parent:
            async for message in parent:
                await parent.send(message)

    Leaving the block normally, what was sent is written first, however long the parent takes to
    read; leaving it by an exception or a cancellation, for one second at most. When the parent
    dies, ``receive`` raises `trio.BrokenResourceError`. Entering and leaving are checkpoints.

    The environment variables that tell of the channel are consumed, and its descriptor is closed
    on exec: children of this process find neither.

    Args:
      message_type: what is received here must be of this type, any that `msgspec` can decode.
      max_buffer_size: messages that may wait here unreceived; None takes the parent's.
      max_message_size: bytes of one serialized message; None takes the parent's.
      max_handles: handles in one message; None takes the parent's.

    Returns:
      an async context manager for a `Channel`.

    Raises:
      NoParent: the process was not started with a channel, or it was opened already.
      TypeError, ValueError: an option makes no sense.
      NotImplementedError: on Windows.
    """
    _refuse_windows()
    Limits(
        1000 if max_buffer_size is None else max_buffer_size,
        0 if max_message_size is None else max_message_size,
        0 if max_handles is None else max_handles,
    ).check()
    return _run_parent(message_type, max_buffer_size, max_message_size, max_handles)


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def _run_parent(
    message_type: Any,
    max_buffer_size: float | None,
    max_message_size: int | None,
    max_handles: int | None,
) -> AsyncIterator[Channel[Any, Any]]:
    wire = NativeWire(MsgpackCodec(message_type, _handles), Limits(), handle_window=handle_window())
    connection = await greet_parent(
        _process.claim_socket(), wire, max_buffer_size, max_message_size, max_handles
    )
    channel: Channel[Any, Any] = Channel._create(connection)
    background = Background(connection)
    failed = True
    try:
        async with in_background(background.write, background.read):
            try:
                yield channel
                failed = False
            finally:
                await say_goodbye(channel, at_once=failed)
    finally:
        connection.shut()


async def greet_parent(
    sock: socket.socket,
    wire: NativeWire,
    max_buffer_size: float | None = None,
    max_message_size: int | None = None,
    max_handles: int | None = None,
) -> Connection:
    """Exchange greetings on the child's end; what is not given is as the parent has it."""
    connection = Connection(sock, wire, peer="the parent", scoped=True)
    connection.settle()
    try:
        await connection.read_until(lambda: wire.greeted)
        hello = wire.peer
        theirs = math.inf if hello.max_buffer_size < 0 else hello.max_buffer_size
        limits = Limits(
            theirs if max_buffer_size is None else max_buffer_size,
            hello.max_message_size if max_message_size is None else max_message_size,
            hello.max_handles if max_handles is None else max_handles,
        )
        limits.check()
        wire.adopt(limits)
        identity = socket_identity(sock)
        wire.hello(*identity)
        connection.accept_handles(
            limits.max_handles, frozenset((identity, (hello.device, hello.inode)))
        )
        connection.push()
    except BaseException as exc:
        connection.shut()
        if isinstance(exc, trio.BrokenResourceError):
            raise NoParent("the parent was gone before the channel was opened") from exc
        raise
    return connection


async def say_goodbye(channel: Channel[Any, Any], *, at_once: bool) -> None:
    """The end of a child's side: what was sent is written before the process may exit."""
    connection = channel._connection
    channel.close()
    limit = LAST_WORDS if at_once else math.inf
    with trio.CancelScope(deadline=trio.current_time() + limit, shield=at_once):
        if connection.send_error() is None:
            try:
                await connection.wait_drained(channel)
            except trio.BrokenResourceError:
                pass  # the parent has gone, and with it whom to tell
