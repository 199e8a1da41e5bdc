"""The parent's side: the life of a child, from the spawn to the reap."""

from __future__ import annotations

import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
import trio

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

from . import _log, _process, _target
from ._background import Background
from ._channel import ChildChannel
from ._connection import Connection, socket_identity
from ._errors import ChildFailed, RemoteTraceback, how_it_ended, show_command
from ._native import make_native_wire
from ._scope import Opening, in_background
from .wire import Limits
from .wire.native import NativeWire
from .wire.native_frames import FAILURE

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

    from .wire.node import NodeWire

# Seconds. A child's last bytes are there before it has exited, unless an orphan of its own holds
# its end open: then nobody waits for it for ever.
EXIT_TO_EOF: Final = 1.0
# Reads. What a dead child has left in its socket is less than these bring, but an orphan of its
# own could go on writing.
LAST_READS: Final = 4096


class Profile(NamedTuple):
    """What holds for a child where the caller says nothing."""

    limits: Limits
    grace_period: float


TRUSTED: Final = Profile(Limits(), grace_period=5.0)
UNTRUSTED: Final = Profile(Limits(16, 64 * 1024, takes_handles=False), grace_period=0.5)


def prepare_child(
    target: _process.Target,
    args: tuple[Any, ...],
    *,
    protocol: str | None,
    serialization: str | None,
    types: tuple[Any, Any],
    limits: tuple[float | None, int | None, int],
    grace_period: float | None,
    check: bool,
    trusted: bool,
    options: dict[str, Any],
) -> AbstractAsyncContextManager[ChildChannel[Any, Any]]:
    """See `trio_ipc.open_child`: everything that can be refused at the call is refused here."""
    message_type, child_message_type = types
    program = _process.plan(target, args, protocol, serialization)
    profile = TRUSTED if trusted else UNTRUSTED
    agreed = profile.limits.replaced(*limits)
    agreed.check()
    if grace_period is None:
        grace_period = profile.grace_period
    if isinstance(grace_period, bool) or not isinstance(grace_period, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"grace_period must be a number of seconds, not {grace_period!r}")
    if not grace_period >= 0:
        raise ValueError(f"grace_period must be >= 0, not {grace_period}")
    call = None
    if program.function is not None:
        _target.refuse_while_importing_main()
        call = _target.describe_call(program.function, child_message_type)
        _target.check_arguments(program.function, args)
    elif child_message_type is not Any:
        raise TypeError(
            "child_message_type is for function children; a script says its own, as message_type of"
            " its open_parent"
        )
    wire: NativeWire | NodeWire
    if program.protocol == "node":
        from ._node import make_node_wire  # which a child that is not Node's need not import

        wire = make_node_wire(program.serialization, message_type, agreed)
    else:
        wire = make_native_wire(message_type, agreed, accepts=() if call is None else (FAILURE,))
    return Opening(
        "`async with open_child(...) as child:`",
        _run_child(program, wire, call, args, float(grace_period), check, options),
    )


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def _run_child(
    program: _process.Program,
    wire: NativeWire | NodeWire,
    call: _target.Call | None,
    args: tuple[Any, ...],
    grace_period: float,
    check: bool,
    options: dict[str, Any],
) -> AsyncGenerator[ChildChannel[Any, Any], None]:
    payload = None
    if call is not None:
        assert isinstance(wire, NativeWire)
        payload = wire.encode_call(msgspec.to_builtins(call, builtin_types=(bytes,)), list(args))
    process, connection = await _start(program, wire, options)
    cmd = process.args if call is None else call.function
    child = Child(connection, process, cmd, check)
    background = Background(connection)
    error: BaseException | None = None
    async with in_background(
        background.write,
        background.read,
        child.supervise,
        child.watch_for_loss,
        *(() if connection.duties is None else connection.duties.tasks),
    ):
        try:
            spoken = program.protocol, program.serialization
            _log.begin(connection, "opened, runs %s, %s protocol, %s", show_command(cmd), *spoken)
            _log.tell_limits(connection, wire.limits)
            if payload is not None:
                connection.commit_first(payload)
            connection.push()
            with child.block:
                yield ChildChannel._create(connection, process)
        except BaseException as exc:
            error = exc
        await child.finish(grace_period, polite=error is None and not child.block.cancelled_caught)
    failure = child.failure
    if error is None:
        if failure is not None:
            raise failure from failure.__cause__  # and not from the cancellation of the block
        await trio.lowlevel.checkpoint_if_cancelled()
    elif failure is not None and connection.has_raised(error):
        raise failure from failure.__cause__  # the error was the failure's symptom
    elif isinstance(failure, PermissionError) and _is_cancellation(error):
        raise failure from failure.__cause__  # or nobody would hear that the process is left
    else:
        if failure is not None:
            _first_in_line(error).__context__ = failure
        raise error


def _is_cancellation(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return group.split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)


def _first_in_line(error: BaseException) -> BaseException:
    """What happened first of all that led to this error."""
    seen = {id(error)}
    while error.__context__ is not None and id(error.__context__) not in seen:
        error = error.__context__
        seen.add(id(error))
    return error


async def _start(
    program: _process.Program, wire: NativeWire | NodeWire, options: dict[str, Any]
) -> tuple[trio.Process, Connection]:
    """Spawn; our end and the process are the caller's, the child's end is closed here."""
    ours, theirs = _process.channel_sockets()
    with theirs:
        # What can fail comes first: who has been started would have to be stopped again.
        try:
            connection = _open_end(ours, theirs, wire)
        except BaseException:
            ours.close()
            wire.close()
            raise
        try:
            process = await _process.spawn(program, theirs, options)
        except BaseException:
            connection.shut()
            raise
    connection.peer = f"child {process.pid}"
    return process, connection


def _open_end(
    ours: socket.socket, theirs: socket.socket, wire: NativeWire | NodeWire
) -> Connection:
    identity = socket_identity(ours)
    if isinstance(wire, NativeWire):
        wire.hello(*identity)
    ends = frozenset((identity, socket_identity(theirs)))
    connection = Connection(ours, wire, peer="a child", ends=ends, scoped=True)
    if not isinstance(wire, NativeWire):
        from ._node import Duties

        Duties(connection, wire)
    return connection


class Child:
    """A process, and our end of the channel to it.

    Attributes:
      block: the cancel scope around the user's block; cancelled when the child fails.
      failure: what the scope is to raise about a child that has failed, or can't be stopped.
    """

    def __init__(
        self, connection: Connection, process: trio.Process, cmd: object, check: bool
    ) -> None:
        self.connection = connection
        self.process = process
        self.block = trio.CancelScope()
        self.failure: BaseException | None = None
        self._cmd = cmd
        self._check = check
        self._exited = trio.Event()
        self._settled = trio.Event()
        self._signalled = False

    async def supervise(self) -> None:
        """Wait for its end, take in its last words, and cancel the block if it failed."""
        await self.process.wait()
        self._exited.set()
        connection = self.connection
        connection.tell("the process %s", how_it_ended(self.process.returncode or 0))
        connection.take_all()
        reads_before = connection.reads
        while not connection.gone.is_set():
            with trio.move_on_after(EXIT_TO_EOF):  # noqa: ASYNC912 (or there is something to read)
                if not connection.look():
                    await connection.gone.wait()
            # The time may have run out because something stopped the event loop: what is there
            # is not lost for that.
            if not connection.has_input() or connection.reads - reads_before > LAST_READS:
                connection.lose()
        self.failure = self._find_failure()
        if self.failure is not None:
            self.block.cancel()
        code = self.process.returncode
        assert code is not None
        text = connection.wire.failure_text
        connection.settle(
            f"child {self.process.pid}, which {how_it_ended(code)},",
            cause=None if text is None else RemoteTraceback(text),
        )
        self._settled.set()

    async def watch_for_loss(self) -> None:
        """A child that closes its end and stays alive must not be waited for in `receive`."""
        await self.connection.gone.wait()
        with trio.move_on_after(EXIT_TO_EOF):
            await self._settled.wait()
        self.connection.settle()

    def _find_failure(self) -> BaseException | None:
        code = self.process.returncode
        text = self.connection.wire.failure_text
        if not self._check or not code or (self._signalled and text is None):
            return None
        if self.connection.cut_off:  # it was us who ended it: ProtocolError says why
            return None if self.connection.told else self.connection.receive_error()
        return ChildFailed(code, self._cmd, self.process.pid, text)

    async def finish(self, grace_period: float, *, polite: bool) -> None:  # noqa: ASYNC910
        """Let it finish, make it finish, reap it: bounded, and not to be cancelled.

        Ctrl-C hastens it, and is raised when the child is reaped.
        """
        connection = self.connection
        manner = "" if polite else " by an exception or a cancellation"
        connection.tell("the block is left%s", manner)
        connection.sink()
        connection.end()
        interrupt: KeyboardInterrupt | None = None
        # One that has closed its end exits just now: how it does is its own affair, not ours.
        hurry = EXIT_TO_EOF if connection.is_lost() else 0
        steps: list[tuple[int | None, float]] = [
            (None, grace_period if polite else hurry),
            (signal.SIGTERM, grace_period),
            (signal.SIGKILL, float("inf")),
        ]
        while not self._settled.is_set():
            number, patience = steps.pop(0) if steps else (None, float("inf"))
            if number is not None and self.process.returncode is None:
                self._send_signal(number)
                if self.failure is not None:
                    break
            try:
                await self._wait_settled(patience)
            except KeyboardInterrupt as exc:
                interrupt = exc
        connection.shut()
        if interrupt is not None:
            raise interrupt

    def _send_signal(self, number: int) -> None:
        try:
            self.process.send_signal(number)
            self._signalled = True
            self.connection.tell("the process is sent %s", signal.Signals(number).name)
        except PermissionError as exc:  # one of us has changed its user since
            if number == signal.SIGKILL:
                self.failure = PermissionError(
                    exc.errno, f"child {self.process.pid} can't be stopped, and goes on running"
                )

    async def _wait_settled(self, patience: float) -> None:
        with trio.CancelScope(deadline=trio.current_time() + patience, shield=True):
            await self._exited.wait()
        if self._exited.is_set():
            with trio.CancelScope(shield=True):
                await self._settled.wait()
