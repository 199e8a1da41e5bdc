"""What this process holds, and what of it a scenario has left behind."""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import pkgutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import trio_ipc

PR_SET_CHILD_SUBREAPER = 36

# Seconds that threads have to end, and children that are dying to be dead.
PATIENCE = 10


class Held(NamedTuple):
    """How many of each."""

    fds: int
    children: int
    zombies: int
    threads: int
    objects: int

    def growth(self, before: Held) -> dict[str, int]:
        """What there is more of than there was."""
        pairs = zip(self._fields, self, before, strict=True)
        return {name: now - then for name, now, then in pairs if now > then}


def load_library() -> None:
    """What is imported only where it is needed would count as grown when it is."""
    for module in pkgutil.walk_packages(trio_ipc.__path__, "trio_ipc."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def take_stock() -> Held:
    while gc.collect():  # a finalizer may have made more of it
        pass
    states = list(children().values())
    return Held(
        fds=len(os.listdir("/dev/fd")),
        children=len(states) - states.count("Z"),
        zombies=states.count("Z"),
        threads=sum(
            # So Trio calls its workers while they have nothing to do.
            not thread.name.startswith("Trio thread ")
            for thread in threading.enumerate()
        ),
        objects=sum(library_objects().values()),
    )


def library_objects() -> Counter[str]:
    """How many there are of each type of the library."""
    return Counter(
        type(each).__qualname__
        for each in _objects()
        if (type(each).__module__ or "").startswith("trio_ipc")
    )


def take_stock_after(before: Held) -> Held:
    """The same, when what is about to end has ended."""
    deadline = time.monotonic() + PATIENCE
    while (held := take_stock()).growth(before) and time.monotonic() < deadline:
        time.sleep(0.05)
    return held


def _objects() -> Iterator[object]:
    for each in gc.get_objects():
        # Some that are not ours are expensive, or fail, when they are asked what they are.
        if isinstance(type(each).__dict__.get("__module__"), str):
            yield each


def children() -> dict[int, str]:
    """The processes whose parent this one is, with the letter of each one's state."""
    found: dict[int, str] = {}
    if sys.platform != "linux":
        return found
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue  # it has just gone
        if int(parent) == os.getpid():
            found[int(name)] = state.decode()
    return found


def resident_bytes() -> int:
    if sys.platform != "linux":
        return 0
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        # What is free but scattered has not been leaked.
        libc.malloc_trim(0)
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def adopting_orphans() -> Iterator[None]:
    """A process that loses its parent, and comes from this one, becomes a child of this one."""
    if sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
