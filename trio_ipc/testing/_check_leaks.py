"""What a process has open, before and after."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["check_no_leaks"]

# Seconds that threads have to end, and to close what they have open. Nobody waits for long who
# leaves nothing behind.
PATIENCE = 2.0


class _Stock(NamedTuple):
    """What this process has: what tells each thing, and how to call it in a complaint."""

    descriptors: dict[tuple[int, str], str]
    children: dict[int, str]
    threads: dict[int, str]


@contextmanager
def check_no_leaks() -> Generator[None, None, None]:
    """Check that a block leaves nothing behind: no open descriptor, child process or thread.

    Around `trio.run`, or in a synchronous fixture around each test::

        @pytest.fixture(autouse=True)
        def no_leaks():
            with trio_ipc.testing.check_no_leaks():
                yield

    Inside of a run it works too, where no other task opens or closes anything meanwhile; it is no
    checkpoint.

    Idle worker threads, which Trio keeps for a while, are no leaks. A descriptor that was open
    before and is closed afterwards is reported as well: it was closed behind its owner's back.
    Child processes that are left are killed and reaped, so that the next check is not theirs. A
    block that raises is not checked.

    Child processes are looked for on Linux only.

    Raises:
      AssertionError: with a line for each thing that was left behind, and for each
          `ResourceWarning` that collecting the garbage of the block brought to light.
    """
    __tracebackhide__ = True
    gc.collect()
    before = _take_stock()
    yield
    complaints = _collect_garbage()
    deadline = time.monotonic() + PATIENCE
    while (leaks := _compare(before, _take_stock())) and time.monotonic() < deadline:
        time.sleep(0.01)
    if leaks:
        _end_children(set(_take_stock().children) - set(before.children))
    complaints += leaks
    if complaints:
        raise AssertionError("\n  ".join(["left behind:", *complaints]))


def _collect_garbage() -> list[str]:
    """Collect it, and turn resource warnings into complaints."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        while gc.collect():  # a finalizer may have made more of it
            pass
    complaints: list[str] = []
    for warning in caught:
        if issubclass(warning.category, ResourceWarning):
            complaints.append(f"ResourceWarning: {warning.message}")
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return complaints


def _take_stock() -> _Stock:
    return _Stock(_list_descriptors(), _list_children(), _list_threads())


def _compare(before: _Stock, after: _Stock) -> list[str]:
    kinds: list[tuple[str, dict[Any, str], dict[Any, str]]] = [
        ("descriptor", before.descriptors, after.descriptors),
        ("child", before.children, after.children),
        ("thread", before.threads, after.threads),
    ]
    complaints = [
        f"{kind} {text}"
        for kind, earlier, later in kinds
        for key, text in later.items()
        if key not in earlier
    ]
    numbers = {number for number, _ in after.descriptors}
    return complaints + [
        f"descriptor {text} was closed, but not opened here"
        for (number, _), text in before.descriptors.items()
        if number not in numbers
    ]


def _list_descriptors() -> dict[tuple[int, str], str]:
    found: dict[tuple[int, str], str] = {}
    for name in os.listdir("/dev/fd"):
        try:
            status = os.fstat(int(name))
        except OSError:
            continue  # it was the one that the directory was read with
        try:
            link = os.readlink(f"/dev/fd/{name}")
        except OSError:  # a device and no link, elsewhere than on Linux
            link = f"device {status.st_dev}, inode {status.st_ino}"
        # A file may be renamed or deleted meanwhile; what has no path may have no inode of its own.
        what = f"{status.st_dev}:{status.st_ino}" if link.startswith("/") else link
        found[int(name), what] = f"{name}: {link}{_describe_socket(int(name), link)}"
    return found


def _describe_socket(number: int, link: str) -> str:
    if not link.startswith("socket:"):
        return ""
    try:
        with socket.socket(fileno=os.dup(number)) as sock:
            family = getattr(sock.family, "name", sock.family)
            text = f" ({family}, {getattr(sock.type, 'name', sock.type)}"
            for way, name in (("at", sock.getsockname), ("to", sock.getpeername)):
                try:
                    text += f", {way} {name()!r}" if name() else ""
                except OSError:
                    pass
    except OSError:
        return ""
    return text + ")"


def _list_children() -> dict[int, str]:
    if sys.platform != "linux":
        return {}
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return {}  # the usual case, and a quick one
    found: dict[int, str] = {}
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
            if int(parent) == os.getpid():
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    command = file.read().replace(b"\0", b" ").decode(errors="replace")
                how = "exited, but nobody has waited for it" if state == b"Z" else command
                found[int(name)] = f"{name}: {how}"
        except (OSError, ValueError):
            continue  # no process, or one that has just gone
    return found


def _end_children(pids: set[int]) -> None:
    if sys.platform != "linux":
        return  # none were looked for
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def _list_threads() -> dict[int, str]:
    return {
        id(thread): repr(thread)
        for thread in threading.enumerate()
        # So Trio calls its workers while they have nothing to do.
        if not thread.name.startswith("Trio thread ")
    }
