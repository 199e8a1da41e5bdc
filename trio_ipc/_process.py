"""Which process a child is: its command line, its environment, its end of the channel."""

from __future__ import annotations

import errno
import inspect
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Union

import trio

assert sys.platform != "win32"  # which has no descriptors to pass; see _open.py

import fcntl

from ._errors import NoParent

Target = Union[
    Callable[..., Awaitable[object]],
    str,
    "os.PathLike[str]",
    Sequence[Union[str, "os.PathLike[str]"]],
]

# "number:device:inode" of the child's end. Device and inode tell a stale variable, whose number
# is something else by now.
CHANNEL: Final = "TRIO_IPC_CHANNEL"
# Node's own: the bare number, and how messages are serialized, `json` if it is missing.
NODE_CHANNEL: Final = "NODE_CHANNEL_FD"
NODE_SERIALIZATION: Final = "NODE_CHANNEL_SERIALIZATION_MODE"
# Who finds it is a worker of a cluster.
NODE_CLUSTER: Final = "NODE_UNIQUE_ID"

# Of a number that int() reads however it is configured; no descriptor has more of them.
_MOST_DIGITS: Final = 100

# A child must not believe that its grandparent's channel is its own. Node dies of a stale
# NODE_CHANNEL_FD (nodejs/node#39151).
_SCRUBBED: Final = (
    CHANNEL,
    NODE_CHANNEL,
    NODE_SERIALIZATION,
    NODE_CLUSTER,
)

# Everything is imported from where the parent imports it, and not from the current directory,
# which `-c` would put first. The names of files are bytes until the child decodes them, who may
# run in another locale; os.fsdecode() does the same, but is not imported yet. Then Ctrl-C: in a
# terminal it reaches the whole group, and here it is the parent's affair from the first
# instruction on, before anything is imported; _signal is built in.
_BOOT: Final = (
    "import _signal; _signal.signal(_signal.SIGINT, _signal.SIG_IGN);"
    " import sys; codec = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors();"
    " sys.path[:] = [each.decode(*codec) for each in {path!r}];"
    " from trio_ipc._worker import main; main()"
)

_SERIALIZATIONS: Final = {"native": ("msgpack",), "node": ("json", "advanced")}

_INTERPRETERS: Final = {".js": "node", ".mjs": "node", ".cjs": "node", ".py": sys.executable}


class Program:
    """What to start.

    Attributes:
      command: its argv.
      function: what a function child runs, else None.
      protocol: ``"native"`` or ``"node"``.
      serialization: what messages are written in.
      script: the path of what an interpreter runs, else None.
    """

    def __init__(
        self,
        command: list[str | os.PathLike[str]],
        protocol: str,
        serialization: str | None,
        function: Callable[..., Awaitable[object]] | None = None,
        script: str | None = None,
    ) -> None:
        self.command = command
        self.protocol = protocol
        self.serialization = _choose_serialization(protocol, serialization)
        self.function = function
        self.script = script


def _choose_serialization(protocol: str, given: str | None) -> str:
    known = _SERIALIZATIONS.get(protocol)
    if known is None:
        raise ValueError(f"protocol must be 'native' or 'node', not {protocol!r}")
    if given is None:
        return known[0]
    if given not in known:
        others = [name for name, each in _SERIALIZATIONS.items() if given in each]
        hint = f": that needs protocol={others[0]!r}" if others else ""
        raise ValueError(
            f"the {protocol} protocol's serialization is {' or '.join(map(repr, known))},"
            f" not {given!r}{hint}"
        )
    return given


def plan(
    target: Target, args: tuple[Any, ...], protocol: str | None, serialization: str | None
) -> Program:
    """Raises `TypeError` or `ValueError`, with the reason, for what can't be started."""
    if callable(target):
        if protocol not in (None, "native"):
            raise ValueError(
                f"a function child speaks the native protocol; {protocol!r} is for programs"
            )
        return Program(_interpreter(), "native", serialization, target)
    if isinstance(target, (str, os.PathLike)):
        path = os.fspath(target)
        for arg in args:
            if not isinstance(arg, (str, os.PathLike)):
                raise TypeError(
                    f"arguments of a program are strings, not {type(arg).__name__!r}: give its"
                    " str(), or send it as a message"
                )
        if not path:
            raise ValueError("the path is empty")
        interpreter = _INTERPRETERS.get(os.path.splitext(path)[1])
        if interpreter is None:
            return Program([path, *args], protocol or "native", serialization)
        protocol = protocol or ("node" if interpreter == "node" else "native")
        return Program([interpreter, path, *args], protocol, serialization, script=path)
    if isinstance(target, (bytes, bytearray)) or not isinstance(target, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            "target must be an async function, a path or a command as a sequence of strings,"
            f" not {type(target).__name__!r}{_was_called(target)}"
        )
    if args:
        raise TypeError("arguments of a command belong into its sequence")
    if not target:
        raise ValueError("the command is empty")
    for part in target:
        if not isinstance(part, (str, os.PathLike)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"the parts of a command are strings, not {type(part).__name__!r}")
    return Program(list(target), protocol or "native", serialization)


def _was_called(target: object) -> str:
    if inspect.iscoroutine(target):
        target.close()  # or Python complains that it was never awaited
    elif not inspect.isasyncgen(target):
        return ""
    return ": don't call the function, give it and its arguments: open_child(function, *args)"


def _interpreter() -> list[str | os.PathLike[str]]:
    # The flags of this interpreter (-W, -X, -O, -I) hold in its children, as multiprocessing does
    # it, with the same function.
    flags: list[str] = vars(subprocess)["_args_from_interpreter_flags"]()
    # What is relative to our directory would mean something else in the child's.
    path = [os.fsencode(os.path.abspath(each)) for each in sys.path]
    return [sys.executable, *flags, "-c", _BOOT.format(path=path)]


def channel_sockets() -> tuple[socket.socket, socket.socket]:
    """A pair of sockets, neither of them where a child has its standard streams."""
    pair = list(socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM))
    for index, sock in enumerate(pair):
        if sock.fileno() < 3:  # this process runs with some of its own closed
            with sock:
                pair[index] = socket.socket(fileno=fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, 3))
    return pair[0], pair[1]


async def spawn(program: Program, theirs: socket.socket, options: dict[str, Any]) -> trio.Process:
    """Start it with its end of the channel. Closing ``theirs`` is the caller's affair."""
    given = options.pop("env", None)
    env = dict(os.environ if given is None else given)
    for name in _SCRUBBED:
        env.pop(name, None)
    if program.protocol == "node":
        env[NODE_CHANNEL] = str(theirs.fileno())
        env[NODE_SERIALIZATION] = program.serialization
    else:
        status = os.fstat(theirs.fileno())
        env[CHANNEL] = f"{theirs.fileno()}:{status.st_dev}:{status.st_ino}"
    pass_fds = (*options.pop("pass_fds", ()), theirs.fileno())
    try:
        _check_script(program, options)
        return await trio.lowlevel.open_process(
            program.command, env=env, pass_fds=pass_fds, **options
        )
    except OSError as exc:
        hint = _hint(exc, program)
        if not hint:
            raise
        raise OSError(exc.errno, f"{exc.strerror} ({hint})", exc.filename) from exc
    except TypeError as exc:
        unknown = set(options) - set(inspect.signature(subprocess.Popen).parameters)
        if not unknown:
            raise
        raise TypeError(
            f"open_child has no option {' and '.join(map(repr, sorted(unknown)))}, and neither has"
            " trio.lowlevel.open_process"
        ) from exc


def _check_script(program: Program, options: dict[str, Any]) -> None:
    # What an interpreter says of a script that is missing goes to its standard error, where nobody
    # may see it.
    if program.script is None or {"executable", "preexec_fn"} & options.keys():
        return
    place = os.fsdecode(options.get("cwd") or "")
    try:
        os.stat(os.path.join(place, program.script))
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise type(exc)(exc.errno, exc.strerror, program.script) from None
    except OSError:
        pass  # which does not have to hold for the child


_HINTS: Final = {
    errno.EACCES: "it must be a file with permission to execute it: `chmod +x`",
    errno.ENOEXEC: "a script begins with a line that says what runs it, such as"
    " `#!/usr/bin/env python3`",
}


def _hint(error: OSError, program: Program) -> str:
    """What can be done about it, if that is known."""
    name = os.fspath(program.command[0])
    if error.filename not in (name, program.script):  # it is the directory
        return ""
    if error.errno != errno.ENOENT:
        return _HINTS.get(error.errno or 0, "")
    if error.filename == "node":
        return (
            "Node.js is not installed, or not found by PATH; for another runtime, give the command:"
            " open_child(['bun', script], protocol='node')"
        )
    if " " in str(error.filename):
        return "a command with arguments is a list: open_child(['program', 'argument'])"
    return ""


def claim_socket() -> socket.socket:
    """The channel that this process was started with; nobody finds it a second time.

    Raises:
      NoParent: there is none, or what the environment says is wrong.
    """
    found = os.environ.pop(CHANNEL, None)
    if found is None:
        raise NoParent(
            "this process was not started with a channel, or it was opened already: start it"
            " with trio_ipc.open_child, or from Node with fork(), or spawn() with 'ipc' in its"
            " stdio, and open the channel once; a function child has it as its first argument"
        )
    try:
        number, device, inode = map(int, found.split(":"))
        status = os.fstat(number)
    except (ValueError, OSError, OverflowError) as exc:
        raise NoParent(f"{CHANNEL}={found!r} is no channel: {exc}") from exc
    if (status.st_dev, status.st_ino) != (device, inode):
        raise NoParent(f"{CHANNEL}={found!r} is stale: descriptor {number} is something else now")
    return _adopt(number, f"{CHANNEL}={found!r}")


def node_serialization() -> str | None:
    """What a Node parent has said that it serializes in; None if the parent is none.

    A program of ours never finds Node's variables beside its own, and one of Node's may find a
    stale one of ours: so these are asked first.

    Raises:
      NoParent: it is none that is known.
    """
    if not os.environ.get(NODE_CHANNEL):
        return None
    found = os.environ.get(NODE_SERIALIZATION, "json")
    if found not in _SERIALIZATIONS["node"]:
        _forget_node_channel()
        raise NoParent(f"{NODE_SERIALIZATION}={found!r} is no serialization")
    return found


def claim_node_socket() -> socket.socket:
    """The channel that a Node parent has started this process with; nobody finds it again.

    Raises:
      NoParent: what the environment says is wrong.
    """
    found = _forget_node_channel()
    if not found.isascii() or not found.isdecimal() or len(found) > _MOST_DIGITS:
        raise NoParent(f"{NODE_CHANNEL}={found!r} is no channel: not a number")
    sock = _adopt(int(found), f"{NODE_CHANNEL}={found!r}")
    if sock.fileno() > 2:
        return sock
    # It sits where a standard stream should be. Who prints must not write into the channel.
    with sock:
        copy = socket.socket(fileno=fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, 3))
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.dup2(null, sock.fileno(), inheritable=True)
        finally:
            os.close(null)
        sock.detach()
    return copy


def _forget_node_channel() -> str:
    os.environ.pop(NODE_SERIALIZATION, None)
    os.environ.pop(CHANNEL, None)
    os.environ.pop(NODE_CLUSTER, None)
    return os.environ.pop(NODE_CHANNEL)


def _adopt(number: int, variable: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=number)
    except (OSError, OverflowError) as exc:
        raise NoParent(f"{variable} is no channel: {exc}") from exc
    try:
        is_channel = (
            sock.fileno() == number  # of a larger one Python takes the lower 32 bits
            and sock.family == socket.AF_UNIX
            and sock.type == socket.SOCK_STREAM
            and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        )
    except OSError as exc:
        sock.detach()
        raise NoParent(f"{variable} is no channel: {exc}") from exc
    if not is_channel:
        sock.detach()
        raise NoParent(f"{variable} is no channel: not a connected Unix stream socket")
    os.set_inheritable(number, False)
    return sock
