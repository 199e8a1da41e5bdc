"""Live objects <-> descriptors.

This file alone knows which objects can travel, what becomes of the sender's copy, and how the
receiver makes an object of a descriptor again. What a received descriptor is, is read off the
descriptor; what the peer says about it is only compared.
"""

from __future__ import annotations

import io
import os
import socket
import ssl
import stat
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

import trio

from ._errors import ProtocolError, UnsupportedHandle

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Descriptor:
    """One descriptor and its only owner, from the system call that made it to the object that
    takes it over.

    Attributes:
      fd: its number; -1 if it is closed, or somebody else's.
    """

    __slots__ = ("_original", "fd")

    def __init__(self, fd: int, *, original: Any = None) -> None:
        self.fd = fd
        # What it is a duplicate of. It is the caller's, who may close or drop it at any time.
        self._original = None if original is None else weakref.ref(original)

    def release(self) -> int:
        """Hand the number over to the caller, who owns it from now on."""
        fd, self.fd = self.fd, -1
        return fd

    def sent(self) -> None:
        """The kernel has a reference of its own now."""
        os.close(self.release())

    def close(self) -> None:
        """Close it, whatever it is, without ever waiting for it.

        The options of a socket are left alone while the one that it is a duplicate of is open.
        """
        if self.fd < 0:
            return
        fd = self.release()
        if self._original is not None and _is_open(self._original()):
            os.close(fd)  # this does not wait: it is not the last
            return
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            os.close(fd)
            return
        _close_at_once(sock)

    def __del__(self) -> None:
        self.close()


def _is_open(original: Any) -> bool:
    try:
        return original is not None and original.fileno() >= 0
    except ValueError:
        return False  # so says a file that is closed


def _close_at_once(sock: socket.socket | trio.socket.SocketType) -> None:
    # With SO_LINGER set and data unsent, close() blocks for as long as the peer who set it likes.
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\0" * 8)
    except OSError:
        pass  # it is closed already, or of a family that does not linger
    sock.close()


class Handle:
    """A live object that is about to travel.

    Attributes:
      obj: the object.
      code: the kind, as it stands on the wire.
      extra: what else the receiver needs to make the object again.
      moves: whether our copy is closed once it is sent, if the caller does not say.
      members: what Node's protocol says of it; see `_node_handles`.
    """

    __slots__ = ("code", "extra", "members", "moves", "obj")

    def __init__(self, obj: Any, code: int, *, moves: bool, extra: bytes = b"") -> None:
        self.obj = obj
        self.code = code
        self.moves = moves
        self.extra = extra
        self.members: Mapping[str, str] = {}


# The kinds, as they stand on the wire.
STREAM, LISTENER, TRIO_SOCKET, SOCKET, FD_STREAM, FILE, CHANNEL = range(1, 8)

_FILE_MODES: Final = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "r+"}


def describe(obj: Any) -> Handle | None:
    """Recognise a handle; None for an object that is none.

    Raises:
      UnsupportedHandle: it is one, and it can't travel; the text says why.
    """
    for kind, describe_it in _DESCRIBERS:
        if isinstance(obj, kind):
            return describe_it(obj)
    return None


def _describe_stream(stream: trio.SocketStream) -> Handle:
    _check_open(stream, stream.socket.fileno())
    return Handle(stream, STREAM, moves=True)


def _describe_listener(listener: trio.SocketListener) -> Handle:
    _check_open(listener, listener.socket.fileno())
    if _is_listening(listener.socket) is False:
        raise UnsupportedHandle(
            "this SocketListener listens no more: its socket was shut down, in whatever process"
        )
    return Handle(listener, LISTENER, moves=False)


def _describe_trio_socket(sock: trio.socket.SocketType) -> Handle:
    _check_open(sock, sock.fileno())
    return Handle(sock, TRIO_SOCKET, moves=_is_connection(sock))


def _describe_socket(sock: socket.socket) -> Handle:
    _check_open(sock, sock.fileno())
    return Handle(sock, SOCKET, moves=_is_connection(sock))


def _is_connection(sock: socket.socket | trio.socket.SocketType) -> bool:
    """Whether it is a stream socket that does not listen."""
    if sock.type != socket.SOCK_STREAM:
        return False
    listening = _is_listening(sock)
    return _has_peer(sock) if listening is None else not listening


def _has_peer(sock: socket.socket | trio.socket.SocketType) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _describe_fd_stream(stream: trio.lowlevel.FdStream) -> Handle:
    _check_open(stream, stream.fileno())
    if _is_on_disk(stream.fileno()):
        raise UnsupportedHandle(
            "this FdStream is of a file, and a file travels as one: send"
            " io.FileIO(stream.fileno(), closefd=False)"
        )
    return Handle(stream, FD_STREAM, moves=True)


def _describe_file(file: Any) -> Handle:
    name = type(file).__name__
    try:
        if file.closed:
            raise UnsupportedHandle(f"{file!r} is closed: send it while it is open")
        if isinstance(file, (io.BytesIO, io.StringIO)):
            raise UnsupportedHandle(
                f"{name!r} can't travel, because it lives in this process: send its getvalue()"
            )
        # A file inside an archive has a descriptor, too, and that is the archive's.
        if not isinstance(getattr(file, "raw", file), io.RawIOBase):
            raise UnsupportedHandle(
                f"{name!r} can't travel: only binary files of the operating system do"
                " (of a text file, send its .buffer)"
            )
        if _file_mode(file.fileno()) is None:
            raise UnsupportedHandle(f"{name!r} can't travel: it can be neither read nor written")
        # Of a pipe, what the buffer has read ahead can neither be given back nor looked at.
        if not isinstance(file, io.RawIOBase) and file.readable() and not file.seekable():
            raise UnsupportedHandle(
                f"{name!r} can't travel, because what it has read ahead would stay here: send its"
                " .raw, before anything is read from the buffer"
            )
    except (OSError, ValueError) as exc:
        raise UnsupportedHandle(f"{name!r} can't travel: {exc}") from exc
    return Handle(file, FILE, moves=False)


def _refuse_tls(obj: Any) -> Handle:
    raise UnsupportedHandle(
        f"an {type(obj).__name__} can't travel, because the state of its TLS session lives in this"
        " process; send the plain socket before the handshake, and let the receiver do it"
    )


def _check_open(obj: Any, fd: int) -> None:
    if fd < 0:
        raise UnsupportedHandle(
            f"this {type(obj).__name__.lstrip('_')} is closed: what was sent is closed here, if it"
            " moves (keep_open=True keeps it), and what is closed can't be sent"
        )


# Both sides ask the descriptor: what every receiver would refuse is refused to the sender.


def _is_listening(sock: socket.socket | trio.socket.SocketType) -> bool | None:
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return None  # unknown: not every macOS tells


def _is_on_disk(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _file_mode(fd: int) -> str | None:
    """The mode of `io.FileIO` for it; None if it can be neither read nor written."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    mode = _FILE_MODES.get(flags & os.O_ACCMODE)
    if mode is None or flags & getattr(os, "O_PATH", 0):
        return None
    if flags & os.O_APPEND:
        return "a" if mode == "w" else "a+"
    return mode


# The first match counts: an SSLSocket is a socket, too.
_DESCRIBERS: list[tuple[type | tuple[type, ...], Callable[[Any], Handle]]] = [
    (trio.SocketStream, _describe_stream),
    ((trio.SSLStream, trio.SSLListener, ssl.SSLSocket, ssl.SSLObject), _refuse_tls),
    (trio.SocketListener, _describe_listener),
    (trio.socket.SocketType, _describe_trio_socket),
    (socket.socket, _describe_socket),
    (trio.lowlevel.FdStream, _describe_fd_stream),
    (io.IOBase, _describe_file),
]

_BUILDERS: dict[int, Callable[[bytes, Descriptor], Any]] = {}


def register_channel(
    kind: type, describe_it: Callable[[Any], Handle], build_it: Callable[[bytes, Descriptor], Any]
) -> None:
    """Let channels travel. They live above this layer, so they come to it."""
    _DESCRIBERS.append((kind, describe_it))
    _BUILDERS[CHANNEL] = build_it


# The commit ---------------------------------------------------------------------------------


def duplicate(
    handles: list[Handle], keep_open: bool | None, own_ends: frozenset[tuple[int, int]]
) -> list[Descriptor]:
    """Turn objects into duplicates of our own. The objects are the caller's until `let_go`.

    Raises:
      UnsupportedHandle: one is closed by now, is an end of this very channel, or can't be kept.
      OSError: there is no room for one more descriptor.
    """
    descriptors: list[Descriptor] = []
    try:
        for handle in handles:
            if keep_open and handle.code == CHANNEL:
                raise UnsupportedHandle("a channel can't be kept open: two would read from one end")
            descriptors.append(_duplicate(handle, own_ends))
    except BaseException:
        for descriptor in descriptors:
            descriptor.close()
        raise
    return descriptors


def take(
    handles: list[Handle], keep_open: bool | None, own_ends: frozenset[tuple[int, int]]
) -> list[Descriptor]:
    """`duplicate` and `let_go` in one step, which for a stream that moves needs no duplicate."""
    if len(handles) == 1 and handles[0].code == STREAM and not keep_open:
        sock = handles[0].obj.socket
        _check_open(handles[0].obj, sock.fileno())
        _refuse_own_end(sock.fileno(), own_ends)
        trio.lowlevel.notify_closing(sock)
        return [Descriptor(sock.detach())]
    descriptors = duplicate(handles, keep_open, own_ends)
    let_go(handles, descriptors, keep_open)
    return descriptors


def let_go(handles: list[Handle], descriptors: list[Descriptor], keep_open: bool | None) -> None:
    """The library owns them now: close the objects that move."""
    for handle, descriptor in zip(handles, descriptors, strict=True):
        if handle.moves if keep_open is None else not keep_open:
            _close_original(handle, descriptor)


def _duplicate(handle: Handle, own_ends: frozenset[tuple[int, int]]) -> Descriptor:
    obj = handle.obj
    if handle.code == FILE:
        _describe_file(obj)  # it may have been closed meanwhile
        _settle_file(obj)
    if handle.code == CHANNEL and _describe_again(handle).extra != handle.extra:
        raise UnsupportedHandle("the channel was used while it waited to be sent")
    original = obj.socket if handle.code in (STREAM, LISTENER) else obj
    number = original.fileno()
    _check_open(obj, number)
    descriptor = Descriptor(fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3), original=original)
    try:
        _refuse_own_end(descriptor.fd, own_ends)
    except BaseException:
        descriptor.close()
        raise
    return descriptor


def _refuse_own_end(fd: int, own_ends: frozenset[tuple[int, int]]) -> None:
    status = os.fstat(fd)
    if (status.st_dev, status.st_ino) in own_ends:
        raise UnsupportedHandle(
            "this is an end of the channel it would travel through: the peer would never see"
            " the channel close"
        )


def _describe_again(handle: Handle) -> Handle:
    again = describe(handle.obj)
    assert again is not None
    return again


def _settle_file(file: Any) -> None:
    # What Python has buffered does not travel: write it, or go back to where the reader thinks
    # it is. The receiver shares the position.
    if file.writable():
        file.flush()
    if not isinstance(file, io.RawIOBase) and file.seekable():
        place = file.tell()
        file.seek(0, io.SEEK_END)  # within its buffer it would move nothing but an index
        file.seek(place)


def _close_original(handle: Handle, descriptor: Descriptor) -> None:
    # Always through the object's own close, which tells Trio: closed behind its back, epoll keeps
    # the old entry, because the description lives on, and wakes whoever gets the number next.
    if handle.code == STREAM or handle.code == LISTENER:
        handle.obj.socket.close()
    elif handle.code == CHANNEL:
        handle.obj._surrender()
    elif handle.code == SOCKET:
        # The standard library's does not tell Trio, and somebody may wait with wait_readable().
        trio.lowlevel.notify_closing(handle.obj)
        handle.obj.close()
    else:
        handle.obj.close()
    if handle.code == FD_STREAM and descriptor.fd >= 0:
        # FdStream.close() puts back the blocking mode it once found, and that flag is shared with
        # the descriptor that travels: the receiver's next read would stop its whole event loop.
        os.set_blocking(descriptor.fd, False)


# The arrival --------------------------------------------------------------------------------


def build(code: int, extra: bytes, descriptor: Descriptor) -> Any:
    """Make the object of a received descriptor, which is owned by it from then on.

    Raises:
      ProtocolError: it is not what the peer said.
    """
    builder = _BUILDERS.get(code)
    if builder is None:
        raise ProtocolError(f"the peer sent a handle of unknown kind {code}")
    return builder(extra, descriptor)


def discard(obj: Any) -> None:
    """Close the object of a received handle that nobody will get."""
    sock = getattr(obj, "socket", obj)
    if isinstance(sock, (socket.socket, trio.socket.SocketType)):
        _close_at_once(sock)
    else:
        obj.close()


def _build_stream(extra: bytes, descriptor: Descriptor) -> trio.SocketStream:
    sock = _adopt_socket(descriptor)
    try:
        if sock.type != socket.SOCK_STREAM or _is_listening(sock):
            raise ProtocolError("the peer sent a stream that is none")
        return trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    except BaseException:
        _close_at_once(sock)
        raise


def _build_listener(extra: bytes, descriptor: Descriptor) -> trio.SocketListener:
    sock = _adopt_socket(descriptor)
    try:
        if _is_listening(sock) is False:
            raise ProtocolError("the peer sent a listener that is none")
        return trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    except BaseException:
        _close_at_once(sock)
        raise


def _build_trio_socket(extra: bytes, descriptor: Descriptor) -> trio.socket.SocketType:
    return trio.socket.from_stdlib_socket(_adopt_socket(descriptor))


def _build_socket(extra: bytes, descriptor: Descriptor) -> socket.socket:
    sock = _adopt_socket(descriptor)
    # The flag is shared with the sender's copy. It is never put back to blocking: that would stop
    # the sender's event loop.
    sock.setblocking(False)
    return sock


def _adopt_socket(descriptor: Descriptor) -> socket.socket:
    # No family and no type are given: socket.socket() believes them without a look.
    try:
        sock = socket.socket(fileno=descriptor.fd)
    except OSError as exc:
        raise ProtocolError(f"the peer sent a socket that is none: {exc}") from exc
    descriptor.release()
    return sock


def _build_fd_stream(extra: bytes, descriptor: Descriptor) -> trio.lowlevel.FdStream:
    if _is_on_disk(descriptor.fd):
        raise ProtocolError("the peer sent a pipe that is none")
    os.set_blocking(descriptor.fd, False)
    return trio.lowlevel.FdStream(descriptor.release())


def _build_file(extra: bytes, descriptor: Descriptor) -> io.FileIO:
    mode = _file_mode(descriptor.fd)
    if mode is None:
        raise ProtocolError("the peer sent a file that can be neither read nor written")
    try:
        make = _make_appending if mode.startswith("a") else _make_file
        return make(descriptor, mode)
    except OSError as exc:
        raise ProtocolError(f"the peer sent a file that is none: {exc}") from exc


def _make_file(descriptor: Descriptor, mode: str) -> io.FileIO:
    file = io.FileIO(descriptor.fd, mode)
    descriptor.release()
    return file


def _make_appending(descriptor: Descriptor, mode: str) -> io.FileIO:
    try:
        place = os.lseek(descriptor.fd, 0, os.SEEK_CUR)
    except OSError:
        return _make_file(descriptor, mode)  # a pipe has no position
    file = _make_file(descriptor, mode)
    try:
        # FileIO went to the end, and so did the sender's file.
        os.lseek(file.fileno(), place, os.SEEK_SET)
    except OSError:
        file.close()
        raise
    return file


_BUILDERS.update(
    {
        STREAM: _build_stream,
        LISTENER: _build_listener,
        TRIO_SOCKET: _build_trio_socket,
        SOCKET: _build_socket,
        FD_STREAM: _build_fd_stream,
        FILE: _build_file,
    }
)
