"""Channels with the meanings of Trio's memory channels, between two processes."""

from __future__ import annotations

from abc import ABCMeta
from typing import TYPE_CHECKING, Any, Generic, NoReturn, final

import attrs
import trio

from ._errors import closed_here

if TYPE_CHECKING:
    import sys
    from types import TracebackType

    from typing_extensions import Self, TypeVar

    if sys.platform != "win32":
        from ._connection import Connection
    else:
        Connection = Any

    # A plain `Channel` sends and receives anything, to a strict checker, too.
    SendT = TypeVar("SendT", contravariant=True, default=Any)
    ReceiveT = TypeVar("ReceiveT", covariant=True, default=Any)
else:
    from typing import TypeVar

    SendT = TypeVar("SendT", contravariant=True)
    ReceiveT = TypeVar("ReceiveT", covariant=True)

T = TypeVar("T")


class NoPublicConstructor(ABCMeta):
    """For classes whose objects are handed out by functions, and not made by users."""

    def __call__(cls, *args: object, **kwargs: object) -> NoReturn:
        raise TypeError(f"{cls.__module__}.{cls.__qualname__} has no public constructor")

    def _create(cls: type[T], *args: Any) -> T:
        return super().__call__(*args)  # type: ignore[misc,no-any-return]


@final
@attrs.frozen
class ChannelStatistics:
    """The state of one end of a channel, as far as this process knows it.

    Returned by ``statistics()`` of a channel and of its halves.
    """

    current_buffer_used: int
    """Messages that have arrived here and were not received yet."""

    max_buffer_size: int | float
    """How many messages may wait here unreceived."""

    open_send_channels: int
    """Open clones of the send half in this process."""

    open_receive_channels: int
    """Open clones of the receive half in this process."""

    tasks_waiting_send: int
    """Tasks in this process that wait in ``send``."""

    tasks_waiting_receive: int
    """Tasks in this process that wait in ``receive``."""

    bytes_unsent: int
    """Bytes that are committed and that the kernel has not taken yet."""

    credit: int | float
    """Messages that may be sent at once: what the peer has granted and was not used yet. Towards
    Node, which grants none, ``math.inf``, or 0 while too many bytes are unsent."""


class _End:
    """What all halves and clones of one end share."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.send_channels = 0
        self.receive_channels = 0

    def statistics(self) -> ChannelStatistics:
        connection = self.connection
        wire = connection.wire
        return ChannelStatistics(
            current_buffer_used=len(wire.unread),
            max_buffer_size=wire.limits.max_buffer_size,
            open_send_channels=self.send_channels,
            open_receive_channels=self.receive_channels,
            tasks_waiting_send=len(connection.senders),
            tasks_waiting_receive=len(connection.receivers),
            bytes_unsent=wire.bytes_unsent(),
            credit=wire.credit_left(),
        )

    def half_closed(self) -> None:
        connection = self.connection
        if connection.closed:
            return
        if not self.receive_channels:
            connection.wire.stop()
            connection.tell("no more is received here")
        if not self.send_channels:
            connection.end()
        else:
            connection.push()
        # In a scope the scope closes it, when the child has gone.
        if not self.send_channels and not self.receive_channels and not connection.scoped:
            connection.shut()


class _Half(trio.abc.AsyncResource, metaclass=NoPublicConstructor):
    """What the send half and the receive half have in common."""

    def __init__(self, end: Any) -> None:  # of private types, while a constructor is public
        self._end: _End = end
        self._connection: Connection = end.connection
        self._closed = False
        self._count(1)

    def _count(self, change: int) -> int:
        """Count this object in or out; how many of its kind are open now."""
        raise NotImplementedError

    def statistics(self) -> ChannelStatistics:
        """The state of this end of the channel. Not a checkpoint."""
        return self._end.statistics()

    @trio.lowlevel.enable_ki_protection
    def clone(self) -> Self:
        """Another object for the same half: it is closed when all of them are.

        Not a checkpoint.

        Raises:
          trio.ClosedResourceError: this one is closed.
        """
        if self._closed:
            raise closed_here()
        return type(self)._create(self._end)

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """Close this half, or this clone of it. Not a checkpoint; a second time does nothing.

        Tasks that wait in it get `trio.ClosedResourceError`.

        After the last clone of a send half, the peer receives what was sent, and then its receive
        half ends. Outside of a scope, what the kernel has not taken yet leaves only while another
        call of the channel waits: use `aclose` to see it off.

        After the last clone of a receive half, messages that were not received are dropped, their
        handles closed, and the peer's next sends raise `trio.BrokenResourceError`.
        """
        if self._closed:
            return
        self._closed = True
        self._connection.close_waiters(self)
        if not self._count(-1):
            self._end.half_closed()

    @trio.lowlevel.enable_ki_protection
    async def aclose(self) -> None:
        """Close this half, or this clone of it. A checkpoint.

        Outside of a scope, the last clone of the send half, and whatever is closed last of an end,
        first waits until the kernel has taken what was sent. Cancelled, it is closed all the same.
        """
        try:
            if not (self._closed or self._connection.scoped) and self._must_drain():
                self._connection.end()  # the goodbye, too, may find no room
                await self._connection.wait_drained(self)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # who is gone can't be waited for
        finally:
            self.close()
        await trio.lowlevel.checkpoint()

    def _must_drain(self) -> bool:
        """Whether closing this ends what there is to send, and somebody may still take it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@final
class SendChannel(_Half, trio.abc.SendChannel[SendT]):
    """The sending half of a channel to another process.

    It has the methods, the meanings and the errors of `trio.MemorySendChannel`; several tasks may
    call them at the same time. What is different: messages may be refused (see `send`), and
    whether the peer has closed is known a moment later.
    """

    def _count(self, change: int) -> int:
        self._end.send_channels += change
        return self._end.send_channels

    def __repr__(self) -> str:
        state = _queued(self._connection, sent=True) + _closed(self._closed)
        return f"<send channel to {self._connection.describe()}{state}>"

    @trio.lowlevel.enable_ki_protection
    def send_nowait(
        self, message: SendT, handle: object = None, *, keep_open: bool | None = None
    ) -> None:
        """Like `send`, but raise `trio.WouldBlock` instead of waiting. Not a checkpoint.

        What is sent between two steps of the event loop leaves together.
        """
        if self._closed:
            raise closed_here()
        connection = self._connection
        payload = connection.wire.encode(message, handle)
        if connection.corked and connection.wire.commit_small(payload):
            return
        if not connection.send_now(payload, keep_open):
            raise trio.WouldBlock
        if connection.duties is not None and type(payload) is not bytes:
            connection.duties.leave_behind(payload)
        connection.cork()

    @trio.lowlevel.enable_ki_protection
    async def send(  # pyright: ignore[reportIncompatibleMethodOverride]: Trio says `value`
        self, message: SendT, handle: object = None, *, keep_open: bool | None = None
    ) -> None:
        """Send a message, waiting until there is room for it. A checkpoint.

        When this returns, the message is committed: it is written whole, after those that were
        committed before it, whatever becomes of the caller. When it raises, `trio.Cancelled`
        included, nothing was sent, and every handle is still the caller's.

        With a handle, towards Node, it returns when the peer has acknowledged it; a cancellation
        or a Ctrl-C that comes so late can't undo the sending, and is left to the next checkpoint.
        There, `HandleNotDelivered` and `trio.BrokenResourceError` mean that it was not
        acknowledged, and is still yours.

        Args:
          message: anything the serialization takes, with handles anywhere inside, except towards
              Node.
          handle: if given, the other side receives ``HandleMessage(message, handle)``. It is the
              only form that a Node.js peer understands.
          keep_open: whether our copies of the handles stay open. None means each kind's own
              rule: a connected stream, a pipe or a channel is closed here once it is sent, a
              listener, a datagram socket or a file stays open.

        Raises:
          UnsupportedMessage: the message can't be serialized.
          UnsupportedHandle: a handle can't travel, or is closed.
          MessageTooLarge: too many bytes, or too many handles.
          trio.ClosedResourceError: this half was closed, before or meanwhile.
          trio.BrokenResourceError: the peer is gone or receives no more; `ProtocolError` if it
              broke the rules.
          HandleNotDelivered: a Node peer did not take the handle.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        connection = self._connection
        try:
            if self._closed:
                raise closed_here()
            payload = connection.wire.encode(message, handle)
            sent = connection.send_soon(payload, keep_open)
        except Exception:
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise
        # Who acknowledges it is a Node peer.
        duties = None if type(payload) is bytes else connection.duties
        if not sent:
            await connection.wait_send(self, payload, keep_open)
        elif duties is None:
            await trio.lowlevel.cancel_shielded_checkpoint()
        if duties is not None:
            await duties.wait(self, payload)

    @trio.lowlevel.enable_ki_protection
    async def drain(self) -> None:
        """Wait until the kernel has taken everything that was sent. A checkpoint.

        It does not mean that the peer has read it.

        Raises:
          trio.ClosedResourceError: this half was closed, before or meanwhile.
          trio.BrokenResourceError: the peer went away first.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        error = closed_here() if self._closed else self._connection.send_error()
        if error is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise error
        await self._connection.wait_drained(self)

    def _must_drain(self) -> bool:
        return self._end.send_channels == 1 and self._connection.send_error() is None


@final
class ReceiveChannel(_Half, trio.abc.ReceiveChannel[ReceiveT]):
    """The receiving half of a channel to another process.

    It has the methods, the meanings and the errors of `trio.MemoryReceiveChannel`; several tasks
    may call them at the same time, and are served first come, first served.
    """

    def _count(self, change: int) -> int:
        self._end.receive_channels += change
        return self._end.receive_channels

    def _must_drain(self) -> bool:
        end = self._end
        if (end.send_channels, end.receive_channels) != (0, 1):
            return False
        return not (self._connection.is_gone or self._connection.wire.peer_stopped)

    def __repr__(self) -> str:
        state = _queued(self._connection, received=True) + _closed(self._closed)
        return f"<receive channel from {self._connection.describe()}{state}>"

    @trio.lowlevel.enable_ki_protection
    def receive_nowait(self) -> ReceiveT:
        """Like `receive`, but raise `trio.WouldBlock` instead of waiting. Not a checkpoint."""
        if self._closed:
            raise closed_here()
        connection = self._connection
        if not connection.wire.unread:
            connection.look()
            if not connection.wire.unread:
                raise connection.receive_error() or trio.WouldBlock
        message: ReceiveT = connection.take()
        return message

    @trio.lowlevel.enable_ki_protection
    async def receive(self) -> ReceiveT:
        """Receive the next message, waiting for it if need be. A checkpoint.

        Cancelled, it takes nothing: the message, with its handles, is the next caller's.

        Raises:
          trio.EndOfChannel: the peer has closed its send half, and all was received.
          InvalidMessage: this message is not of ``message_type``; its handles are closed, and the
              next call gets the next message.
          trio.ClosedResourceError: this half was closed, before or meanwhile.
          trio.BrokenResourceError: the peer went away without closing; `ProtocolError` if it
              broke the rules, or went away in the middle of a message.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        connection = self._connection
        wire = connection.wire
        if not wire.unread:
            connection.glance()
        if wire.unread and not self._closed:
            try:
                message: ReceiveT = connection.take()
            finally:
                await trio.lowlevel.cancel_shielded_checkpoint()
            return message
        if self._closed or connection.is_gone or wire.peer_ended or connection.dropped:
            error = closed_here() if self._closed else connection.receive_error()
            if error is not None:
                await trio.lowlevel.cancel_shielded_checkpoint()
                raise error
        if wire.rendezvous:
            connection.want()
        waited: ReceiveT = await connection.wait_receive(self)
        return waited


class Channel(
    trio.abc.SendChannel[SendT],
    trio.abc.ReceiveChannel[ReceiveT],
    Generic[SendT, ReceiveT],
    metaclass=NoPublicConstructor,
):
    """One end of a channel between two processes: a send half and a receive half.

    It is a `trio.abc.SendChannel` and a `trio.abc.ReceiveChannel`, and has the methods of both
    halves, except that only a half can be cloned. Closing the channel closes both.

    Attributes:
      send_channel (SendChannel): The half that sends.
      receive_channel (ReceiveChannel): The half that receives.
    """

    def __init__(self, connection: Any) -> None:
        end = _End(connection)
        self.send_channel: SendChannel[SendT] = SendChannel[SendT]._create(end)
        self.receive_channel: ReceiveChannel[ReceiveT] = ReceiveChannel[ReceiveT]._create(end)
        self._end = end
        self._connection: Connection = connection
        # Called a million times a second, these are better off without a call in between.
        vars(self).update(
            send=self.send_channel.send,
            send_nowait=self.send_channel.send_nowait,
            receive=self.receive_channel.receive,
            receive_nowait=self.receive_channel.receive_nowait,
        )

    def __repr__(self) -> str:
        closed = [half._closed for half in (self.send_channel, self.receive_channel)]
        state = _queued(self._connection, sent=True, received=True)
        if all(closed):
            state += _closed(True)
        elif any(closed):
            state += f", {'send' if closed[0] else 'receive'} half{_closed(True)[1:]}"
        return f"<channel to {self._connection.describe()}{state}>"

    def statistics(self) -> ChannelStatistics:
        """The state of this end of the channel. Not a checkpoint."""
        return self._end.statistics()

    async def send(  # pyright: ignore[reportIncompatibleMethodOverride]: Trio says `value`
        self, message: SendT, handle: object = None, *, keep_open: bool | None = None
    ) -> None:
        """See `SendChannel.send`. A checkpoint."""
        await self.send_channel.send(message, handle, keep_open=keep_open)

    async def receive(self) -> ReceiveT:
        """See `ReceiveChannel.receive`. A checkpoint."""
        return await self.receive_channel.receive()

    def send_nowait(
        self, message: SendT, handle: object = None, *, keep_open: bool | None = None
    ) -> None:
        """See `SendChannel.send_nowait`. Not a checkpoint."""
        self.send_channel.send_nowait(message, handle, keep_open=keep_open)

    def receive_nowait(self) -> ReceiveT:
        """See `ReceiveChannel.receive_nowait`. Not a checkpoint."""
        return self.receive_channel.receive_nowait()

    async def drain(self) -> None:
        """See `SendChannel.drain`. A checkpoint."""
        await self.send_channel.drain()

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """Close both halves. Not a checkpoint. See `SendChannel.close`."""
        self.send_channel.close()
        self.receive_channel.close()

    @trio.lowlevel.enable_ki_protection
    async def aclose(self) -> None:
        """Close both halves. A checkpoint. See `SendChannel.aclose`."""
        try:
            await self.send_channel.aclose()
            await self.receive_channel.aclose()
        finally:
            self.receive_channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # How a channel travels: see `_handles`.

    def fileno(self) -> int:
        """The number of the channel's socket, -1 once it is closed. Not a checkpoint."""
        number: int = self._connection.fileno()
        return number

    def _surrender(self) -> None:
        """This end lives in another process now: close it here without saying goodbye."""
        self._forget()
        self._connection.shut(moved=True)

    def _forget(self) -> None:
        for half in (self.send_channel, self.receive_channel):
            half._closed = True
            self._connection.close_waiters(half)
        self._end.send_channels = self._end.receive_channels = 0


@final
class ChildChannel(Channel[SendT, ReceiveT]):
    """The parent's end of the channel to a child: a `Channel`, and the process.

    Attributes:
      process (trio.Process): The child. Its ``returncode`` tells how it ended; to end it early,
          use its ``send_signal``. Leaving the block is what waits for it.
    """

    def __init__(self, connection: Any, process: trio.Process) -> None:
        super().__init__(connection)
        self.process: trio.Process = process

    @property
    def pid(self) -> int:
        """The child's process number."""
        return self.process.pid


def _queued(connection: Connection, *, sent: bool = False, received: bool = False) -> str:
    """What waits in an end, for people; nothing if nothing does."""
    parts: list[tuple[int, str]] = []
    if received:
        parts.append((len(connection.wire.unread), "unread"))
        parts.append((len(connection.receivers), "waiting to receive"))
    if sent:
        parts.append((connection.wire.bytes_unsent(), "bytes unsent"))
        parts.append((len(connection.senders), "waiting to send"))
    return "".join(f", {count} {text}" for count, text in parts if count)


def _closed(closed: bool) -> str:
    return ", closed" if closed else ""
