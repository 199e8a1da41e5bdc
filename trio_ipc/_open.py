"""The functions that hand out channels, and say which scope each lives in."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from .wire import Limits

if sys.platform != "win32":
    from ._child import prepare_child
    from ._pair import make_pair
    from ._parent import prepare_parent

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import IO, TypedDict

    from typing_extensions import TypeForm, TypeVar, TypeVarTuple, Unpack

    from ._channel import Channel, ChildChannel

    # What the two ends of a channel send each other, each to the other. Where nobody says it, it
    # can be anything.
    OursT = TypeVar("OursT", default=Any)
    TheirsT = TypeVar("TheirsT", default=Any)
    ArgsT = TypeVarTuple("ArgsT", default=Unpack[tuple[Any, ...]])

    PathOrString = str | os.PathLike[str]
    Stream = int | IO[Any] | None

    class ProcessOptions(TypedDict, total=False):
        """The options of `trio.lowlevel.open_process` that leave the command as it is."""

        stdin: Stream
        stdout: Stream
        stderr: Stream
        cwd: PathOrString | bytes | None
        env: Mapping[str, str] | None
        executable: PathOrString | bytes | None
        preexec_fn: Callable[[], object] | None
        restore_signals: bool
        start_new_session: bool
        pass_fds: Iterable[int]
        user: str | int | None
        group: str | int | None
        extra_groups: Iterable[str | int] | None
        umask: int
        pipesize: int
        process_group: int | None

    class ChildOptions(ProcessOptions, total=False):
        """The options of `open_child` that have nothing to do with types."""

        protocol: Literal["native", "node"] | None
        serialization: Literal["msgpack", "json", "advanced"] | None
        max_buffer_size: float | None
        max_message_size: int | None
        max_handles: int
        grace_period: float | None
        check: bool
        trusted: bool


_WINDOWS: Final = (
    "trio_ipc does not work on Windows: it passes descriptors over Unix sockets, which Windows does"
    " not have; in the Windows Subsystem for Linux it has them"
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
      NotImplementedError: on Windows.
    """
    if sys.platform == "win32":
        raise NotImplementedError(_WINDOWS)
    else:
        return make_pair(Limits(max_buffer_size, max_message_size, max_handles))


@overload
def open_child(
    target: PathOrString | Sequence[PathOrString],
    *args: PathOrString,
    **options: Unpack[ChildOptions],
) -> AbstractAsyncContextManager[ChildChannel[Any, Any]]: ...
@overload
def open_child(
    target: PathOrString | Sequence[PathOrString],
    *args: PathOrString,
    message_type: TypeForm[TheirsT],
    **options: Unpack[ChildOptions],
) -> AbstractAsyncContextManager[ChildChannel[Any, TheirsT]]: ...
@overload
def open_child(
    target: Callable[[Channel[TheirsT, OursT], Unpack[ArgsT]], Awaitable[object]],
    *args: Unpack[ArgsT],
    message_type: TypeForm[TheirsT] = ...,
    child_message_type: TypeForm[OursT] = ...,
    **options: Unpack[ChildOptions],
) -> AbstractAsyncContextManager[ChildChannel[OursT, TheirsT]]: ...
def open_child(
    target: Callable[..., Awaitable[object]] | PathOrString | Sequence[PathOrString],
    *args: object,
    protocol: Literal["native", "node"] | None = None,
    serialization: Literal["msgpack", "json", "advanced"] | None = None,
    message_type: Any = Any,
    child_message_type: Any = Any,
    max_buffer_size: float | None = None,
    max_message_size: int | None = None,
    max_handles: int = 16,
    grace_period: float | None = None,
    check: bool = True,
    trusted: bool = True,
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
      protocol: ``"native"`` between two trio_ipc processes, ``"node"`` with a program that uses
          Node's ``process.send`` and ``process.on('message')``; None goes by the target. What is
          different with Node: see docs/node.md.
      serialization: ``"msgpack"`` for the native protocol; for Node's, as in Node, ``"json"``, the
          default, or ``"advanced"``, which needs ``pip install trio-ipc[advanced]``.
      message_type: what is received here must be of this type, any that msgspec can decode.
      child_message_type: the same at the other end, for a function child.
      max_buffer_size: messages that may wait unreceived, in each direction: an int >= 0 or
          ``math.inf``; 1000 if it is not given. They are bounded by their bytes, too:
          ``max_message_size`` or 1 MiB, whichever is more.
      max_message_size: bytes of one serialized message; 16 MiB if it is not given. A function
          child and a script take over these and the next one, unless the script has its own.
      max_handles: handles in one message.
      grace_period: seconds; 5 if it is not given.
      check: whether a child that fails cancels the block and raises.
      trusted: False for a child that may be hostile, or taken over by somebody who is: no handle
          is accepted from it, and what is not given is small and short: 16 messages, 64 KiB, half
          a second. See docs/threat_model.md for what that protects from.
      process_options: any option of `trio.lowlevel.open_process`. Standard streams are inherited
          unless asked otherwise; the channel never uses them.

    Returns:
      an async context manager for a `ChildChannel`.

    Raises:
      TypeError, ValueError: the target or an option makes no sense.
      ImportError: of a package that the serialization needs.
      OSError: the child can't be started, or there is no such script.
      UnsupportedMessage, UnsupportedHandle, MessageTooLarge: an argument of a function child can't
          be sent; nothing was started.
      ChildFailed: the child exited with another status than 0, and not because it was ended here.
          The block is cancelled. If the child is a function, the cause shows its traceback. An
          exception of the block's own wins over it.
      ProtocolError: the same, of a child that was cut off because it broke the rules, if no call
          of the channel has said so.
      PermissionError: the child runs as somebody else by now, and can't be stopped. Only the
          process is left.
      NotImplementedError: on Windows.
    """
    if sys.platform == "win32":
        raise NotImplementedError(_WINDOWS)
    else:
        return prepare_child(
            target,
            args,
            protocol=protocol,
            serialization=serialization,
            types=(message_type, child_message_type),
            limits=(max_buffer_size, max_message_size, max_handles),
            grace_period=grace_period,
            check=check,
            trusted=trusted,
            options=process_options,
        )


@overload
def open_parent(
    *,
    max_buffer_size: float | None = ...,
    max_message_size: int | None = ...,
    max_handles: int | None = ...,
) -> AbstractAsyncContextManager[Channel[Any, Any]]: ...
@overload
def open_parent(
    *,
    message_type: TypeForm[TheirsT],
    max_buffer_size: float | None = ...,
    max_message_size: int | None = ...,
    max_handles: int | None = ...,
) -> AbstractAsyncContextManager[Channel[Any, TheirsT]]: ...
def open_parent(
    *,
    message_type: Any = Any,
    max_buffer_size: float | None = None,
    max_message_size: int | None = None,
    max_handles: int | None = None,
) -> AbstractAsyncContextManager[Channel[Any, Any]]:
    """Open the channel that this process was started with: the child's side, for a script.

    The parent is `open_child`, or a Node program that uses ``child_process.fork()``, or ``spawn()``
    with ``'ipc'`` in its ``stdio``.

    ::

        async with trio_ipc.open_parent() as parent:
            async for message in parent:
                await parent.send(message)

    Leaving the block normally, what was sent is written first, however long the parent takes to
    read; leaving it by an exception or a cancellation, for one second at most. When the parent
    dies, ``receive`` raises `trio.BrokenResourceError`; if it is Node, `trio.EndOfChannel`.
    Entering and leaving are checkpoints.

    The environment variables that tell of the channel are consumed, and its descriptor is closed
    on exec: children of this process find neither.

    Args:
      message_type: what is received here must be of this type, any that msgspec can decode.
      max_buffer_size: messages that may wait here unreceived; None takes the parent's. A Node
          parent has no limits: then None means what it means in `open_child`.
      max_message_size: bytes of one serialized message; None the same.
      max_handles: handles in one message; None the same.

    Returns:
      an async context manager for a `Channel`.

    Raises:
      NoParent: the process was not started with a channel, or it was opened already.
      ImportError: of a package that the serialization of a Node parent needs.
      TypeError, ValueError: an option makes no sense.
      NotImplementedError: on Windows.
    """
    if sys.platform == "win32":
        raise NotImplementedError(_WINDOWS)
    else:
        return prepare_parent(message_type, max_buffer_size, max_message_size, max_handles)
