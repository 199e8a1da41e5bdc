"""The n-th call that the library makes of the system fails, or does less than it was asked for.

The calls are counted and made to fail where Python makes them, and only those that come from
`trio_ipc`: what a test does beside it always works.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import trio
import trio._subprocess

# Instead of an errno: one byte is written, or read, and no more.
SHORT = 0

_READ = (
    errno.EAGAIN,
    errno.EINTR,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.ECONNRESET,
    errno.EPERM,
    errno.EINVAL,
    SHORT,
)
_WRITE = (*_READ, errno.EPIPE)
_NEW = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_OPTION = (errno.ENOBUFS, errno.ENOMEM, errno.EPERM, errno.EINVAL)

# What each call can end with. Python repeats a call that a signal interrupts, so EINTR is nothing
# that the library sees; but whoever replaces a socket may let it through.
FAILURES: dict[str, tuple[int, ...]] = {
    "send": _WRITE,
    "sendmsg": (*_WRITE, errno.ETOOMANYREFS, errno.EMFILE),
    "recvmsg_into": _READ,
    "setsockopt": _OPTION,
    "getsockopt": _OPTION,
    "shutdown": (errno.ENOTCONN, errno.ENOMEM),
    "socket": (errno.ENOBUFS, errno.ENOMEM),
    "socketpair": (*_NEW, errno.ENOBUFS, errno.EPERM),
    "fstat": (errno.ENOMEM, errno.EPERM),
    "dup": _NEW,
    "spawn": (*_NEW, errno.EAGAIN, errno.EPERM),
    "pidfd": (*_NEW, errno.EINVAL, errno.EPERM),
}


class Fault(NamedTuple):
    """The ``number``-th call of that name fails, and so many that come after it."""

    call: str
    number: int
    failure: int
    more: int = 0

    def __str__(self) -> str:
        what = errno.errorcode[self.failure] if self.failure else "a short count"
        return f"{self.call} {self.number}{f' and {self.more} more' if self.more else ''}: {what}"

    def error(self) -> OSError:
        return OSError(self.failure, os.strerror(self.failure))


class Calls:
    """What was called, and how often; one of them fails."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault = fault
        self.counts: Counter[str] = Counter()

    def faults(self) -> list[Fault]:
        """Each of the calls that were made here, with each of its failures."""
        return [
            Fault(call, number, failure)
            for call, count in sorted(self.counts.items())
            for number in range(1, count + 1)
            for failure in FAILURES[call]
        ]

    def fails(self, call: str) -> bool:
        """One more of them is made; whether it fails."""
        self.counts[call] += 1
        fault = self.fault
        if fault is None or fault.call != call:
            return False
        return fault.number <= self.counts[call] <= fault.number + fault.more


def _is_from_library() -> bool:
    frame = sys._getframe(2)
    while frame.f_globals.get("__name__") == "trio._socket" and frame.f_back is not None:
        frame = frame.f_back  # which passes it on
    name: str = frame.f_globals.get("__name__", "")
    return name.startswith("trio_ipc.") and not name.startswith("trio_ipc.testing")


def _first_byte(buffers: Any) -> list[memoryview]:
    return [memoryview(buffers[0])[:1]]


def _shorten(call: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    sock, data, *rest = args
    return (sock, memoryview(data)[:1] if call == "send" else _first_byte(data), *rest)


def _failing(calls: Calls, call: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if _is_from_library() and calls.fails(call):
            assert calls.fault is not None
            if calls.fault.failure != SHORT:
                raise calls.fault.error()
            args = _shorten(call, args)
        return original(*args, **kwargs)

    return wrapper


def _failing_fcntl(calls: Calls) -> Callable[..., Any]:
    original = fcntl.fcntl

    def wrapper(fd: Any, command: int, argument: Any = 0) -> Any:
        if command == fcntl.F_DUPFD_CLOEXEC and _is_from_library() and calls.fails("dup"):
            assert calls.fault is not None
            raise calls.fault.error()
        return original(fd, command, argument)

    return wrapper


def _failing_init(calls: Calls) -> Callable[..., None]:
    original = socket.socket.__init__

    def __init__(self: socket.socket, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("fileno") is not None and _is_from_library() and calls.fails("socket"):
            assert calls.fault is not None
            raise calls.fault.error()
        original(self, *args, **kwargs)

    return __init__


def _failing_spawn(calls: Calls) -> Callable[..., Any]:
    original = trio.lowlevel.open_process

    def open_process(*args: Any, **kwargs: Any) -> Any:
        if calls.fails("spawn"):
            assert calls.fault is not None
            raise calls.fault.error()
        return original(*args, **kwargs)

    return open_process


def _failing_pidfd(calls: Calls) -> Callable[..., Any]:
    original = trio._subprocess.pidfd_open

    def pidfd_open(pid: int, flags: int) -> int:
        if calls.fails("pidfd"):
            assert calls.fault is not None
            raise calls.fault.error()
        return original(pid, flags)

    return pidfd_open


@contextmanager
def failing(fault: Fault | None = None) -> Iterator[Calls]:
    """Count the calls that the library makes within this block, and let one of them fail."""
    calls = Calls(fault)
    with ExitStack() as stack:

        def put(place: Any, name: str, replacement: Any) -> None:
            stack.enter_context(mock.patch.object(place, name, replacement))

        kind = socket.socket
        for name in ("send", "sendmsg", "recvmsg_into", "setsockopt", "getsockopt", "shutdown"):
            put(kind, name, _failing(calls, name, getattr(kind, name)))
        put(kind, "__init__", _failing_init(calls))
        put(socket, "socketpair", _failing(calls, "socketpair", socket.socketpair))
        put(os, "fstat", _failing(calls, "fstat", os.fstat))
        put(fcntl, "fcntl", _failing_fcntl(calls))
        put(trio.lowlevel, "open_process", _failing_spawn(calls))
        if trio._subprocess.can_try_pidfd_open:
            put(trio._subprocess, "pidfd_open", _failing_pidfd(calls))
        yield calls
