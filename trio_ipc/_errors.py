"""Everything that can go wrong, one sentence of meaning each."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from typing import Any, Final

import trio

# Signals that a process gets because of what it does itself.
_CRASHES: Final = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE")


class UnsupportedMessage(TypeError):
    """The message can't be serialized; nothing was sent and the channel is as it was."""


class UnsupportedHandle(TypeError):
    """The handle can't travel; nothing was sent, the handle and the channel are as they were.

    You get this for a TLS stream (its state lives in this process), a handle that is already
    closed, the channel's own end, or a kind that the peer's protocol has no way to take.
    """


class MessageTooLarge(ValueError):
    """The message is over ``max_message_size`` or holds more than ``max_handles`` handles.

    The smaller of the two peers' limits counts. Nothing was sent.
    """


class InvalidMessage(ValueError):
    """A message arrived that is not of the ``message_type`` asked for.

    The handles it carried are closed. The channel goes on: the next ``receive`` gets the next
    message.
    """


class HandleNotDelivered(OSError):
    """The peer has not acknowledged the handle, which is still the caller's.

    Only in Node's protocol: the peer has refused it four times, or not answered in 30 seconds. The
    channel goes on. A peer that was merely stopped for so long gets the handle all the same.
    """


class ProtocolError(trio.BrokenResourceError):
    """The peer sent something that the protocol does not allow; the channel is dead.

    You *don't* get this for a peer that merely went away between two frames: that is the end
    of the channel, or a plain `trio.BrokenResourceError`.
    """


class NoParent(RuntimeError):
    """`open_parent` found no channel: this process was not started with one, it was opened
    already, or what the environment says about it is wrong."""


class RemoteTraceback(Exception):
    """The ``__cause__`` of a `ChildFailed`: its text is the traceback printed in the child."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class ChildFailed(subprocess.CalledProcessError):
    """The child exited with a status other than zero, and not because the block ended it.

    Attributes:
      returncode (int): the exit status, or the negated signal number.
      cmd: what was run: an argv, or ``"module:name"`` of a function.
      pid (int): the child's process number.
      remote_traceback (str | None): for a function child that raised, the traceback as it was
          formatted in the child. It is shown as the cause of this exception, too.
    """

    def __init__(
        self, returncode: int, cmd: Any, pid: int, remote_traceback: str | None = None
    ) -> None:
        super().__init__(returncode, cmd)
        self.pid = pid
        self.remote_traceback = remote_traceback
        if remote_traceback is not None:
            self.__cause__: BaseException | None = RemoteTraceback(remote_traceback)

    def __str__(self) -> str:
        text = f"child {self.pid}, {show_command(self.cmd)}, {how_it_ended(self.returncode)}"
        return text if self.remote_traceback is not None else f"{text}: {self._where_to_look()}"

    def _where_to_look(self) -> str:
        if self.returncode >= 0:
            return "what it wrote to its standard error may say why"
        name = _name_signal(-self.returncode)
        if name in _CRASHES:
            return "it crashed; run with `python -X faulthandler`, it shows where"
        if name == "SIGKILL":
            return "somebody sent that, or the kernel did because memory ran out: see its log"
        return "somebody sent that"

    def __repr__(self) -> str:
        return f"ChildFailed(returncode={self.returncode}, cmd={self.cmd!r}, pid={self.pid})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.returncode, self.cmd, self.pid, self.remote_traceback)


def closed_here() -> trio.ClosedResourceError:
    """What whoever uses an end gets that was closed on this side."""
    return trio.ClosedResourceError(
        "the channel was closed in this process: by close(), or because its block was left"
    )


def show_command(cmd: Any) -> str:
    """What a child runs, in a line: an argv, or the name of a function."""
    return cmd if isinstance(cmd, str) else shlex.join(map(os.fspath, cmd))


def how_it_ended(returncode: int) -> str:
    """An exit status in words."""
    if returncode >= 0:
        return f"exited with status {returncode}"
    return f"was killed by {_name_signal(-returncode)}"


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
