"""Which handles Node takes, and what it calls them.

A descriptor of another kind must never leave here: a regular file aborts a Node process, a Unix
datagram socket blocks every later handle on its channel, and a type that does not fit its
descriptor is an uncaught error there.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import sys
from typing import TYPE_CHECKING, Any, Final

import trio

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

from . import _handles
from ._errors import ProtocolError, UnsupportedHandle
from ._handles import (
    FD_STREAM,
    LISTENER,
    SOCKET,
    STREAM,
    TRIO_SOCKET,
    discard as discard,  # what `NodeHandleKinds` asks for
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_DATAGRAM_TYPES: Final = {socket.AF_INET: "udp4", socket.AF_INET6: "udp6"}
_STREAM_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

_CONNECTION: Final = {"type": "net.Socket"}
_SERVER: Final = {"type": "net.Server"}

_NAMES: Final = {
    STREAM: "a stream socket",
    LISTENER: "a listening socket",
    TRIO_SOCKET: "a datagram socket",
    FD_STREAM: "a pipe",
}

# What may arrive under each of Node's names.
_KINDS: Final[dict[object, tuple[int, ...]]] = {
    "net.Socket": (STREAM, FD_STREAM),
    "net.Server": (LISTENER,),
    "net.Native": (STREAM, LISTENER, FD_STREAM),
    "dgram.Socket": (TRIO_SOCKET,),
    "dgram.Native": (TRIO_SOCKET,),
}


def describe(obj: Any) -> _handles.Handle | None:
    """Recognise a handle, and say in its ``members`` what Node calls it; None for an object that is
    none.

    Raises:
      UnsupportedHandle: it is one, and Node can't take it; the text says why.
    """
    handle = _handles.describe(obj)
    if handle is None:
        return None
    if handle.code in (STREAM, LISTENER):
        handle.members = _describe_socket(obj.socket)
    elif handle.code in (TRIO_SOCKET, SOCKET):
        handle.members = _describe_socket(obj)
    elif handle.code == FD_STREAM and stat.S_ISFIFO(os.fstat(obj.fileno()).st_mode):
        handle.members = _CONNECTION
    else:
        raise _unsupported(type(obj).__name__)
    return handle


def _unsupported(what: str) -> UnsupportedHandle:
    return UnsupportedHandle(
        f"a Node process can't take a {what}: only TCP, UDP and Unix stream sockets and pipes"
    )


def _describe_socket(sock: Any) -> Mapping[str, str]:
    code = _classify(sock)
    if code == LISTENER:
        return _SERVER
    if code == TRIO_SOCKET:
        return {"type": "dgram.Socket", "dgramType": _DATAGRAM_TYPES[sock.family]}
    if code != STREAM:
        raise _unsupported(f"{_name(sock.family)}, {_name(sock.type)} socket")
    if not _was_connected(sock):
        # It would begin to read, and die of the error.
        raise UnsupportedHandle(
            "a Node process can't take a socket that is neither connected nor listening"
        )
    return _CONNECTION


def _classify(sock: Any) -> int:
    """What a socket is among those that Node takes; 0 if it is none of them."""
    family, kind = sock.family, sock.type
    if kind == socket.SOCK_DGRAM and family in _DATAGRAM_TYPES:
        return TRIO_SOCKET
    if kind != socket.SOCK_STREAM or family not in _STREAM_FAMILIES:
        return 0
    return LISTENER if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) else STREAM


def _name(constant: int) -> str:
    return getattr(constant, "name", str(constant))


def _was_connected(sock: Any) -> bool:
    # Not whether it still is: that a client has gone meanwhile is no mistake of the sender's.
    try:
        sock.getpeername()
    except OSError:
        # Only of what was a connection there is an end to read, or a reset.
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return any(events & select.POLLIN for _, events in poll.poll(0))
    return True


def build(kind: object, descriptor: _handles.Descriptor) -> Any:
    """Make the object of a received descriptor, which is owned by it from then on.

    Raises:
      ProtocolError: it is not what the peer said.
    """
    expected = _KINDS.get(kind) if isinstance(kind, str) else None
    if expected is None:
        raise ProtocolError(f"the peer sent a handle of unknown type {kind!r:.100}")
    try:
        sock = socket.socket(fileno=descriptor.fd)
    except OSError:
        return _build_pipe(kind, expected, descriptor)
    descriptor.release()
    try:
        code = _classify(sock)
        if code not in expected:
            raise _unexpected(kind, code)
        trio_socket = trio.socket.from_stdlib_socket(sock)
        if code == STREAM:
            return trio.SocketStream(trio_socket)
        return trio.SocketListener(trio_socket) if code == LISTENER else trio_socket
    except OSError as exc:
        discard(sock)
        raise ProtocolError(f"the peer sent a {kind} that is none: {exc}") from exc
    except BaseException:
        discard(sock)
        raise


def _build_pipe(kind: object, expected: tuple[int, ...], descriptor: _handles.Descriptor) -> Any:
    try:
        code = FD_STREAM if stat.S_ISFIFO(os.fstat(descriptor.fd).st_mode) else 0
        if code in expected:
            return _handles.build(code, b"", descriptor)
    except OSError as exc:
        # fstat() of an O_PATH descriptor shows the type of what it names, but nothing can be done
        # with it.
        raise ProtocolError(f"the peer sent a {kind} that is none: {exc}") from exc
    raise _unexpected(kind, code)


def _unexpected(kind: object, code: int) -> ProtocolError:
    return ProtocolError(
        f"the peer sent a {kind} whose descriptor is {_NAMES.get(code, 'nothing that Node sends')}"
    )


def is_open(obj: Any) -> bool:
    """Whether an object that `build` made is still open in this process."""
    number: int = getattr(obj, "socket", obj).fileno()
    return number >= 0
