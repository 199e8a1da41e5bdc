"""What the scripts share. Each is the child of a Node parent, and plays one role."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import trio

Role = Callable[..., Awaitable[object]]


def run(*roles: Role) -> None:
    """Play the role that the command line names, and leave nothing open."""
    name, *args = sys.argv[1:]
    [role] = [each for each in roles if each.__name__ == name]
    before = descriptors()
    trio.run(role, *args)
    gc.collect()
    # A channel that was a standard stream leaves no hole there, for the next file to fall in.
    left = descriptors() - before - {f"{number}: /dev/null" for number in range(3)}
    assert not left, f"left open: {left}"


def descriptors() -> set[str]:
    found = set()
    for number in os.listdir("/dev/fd"):
        try:
            found.add(f"{number}: {os.readlink(f'/dev/fd/{number}')}")
        except OSError:
            pass  # the descriptor of the listing itself
    return found


def say(line: str) -> None:
    """Print a line, in one piece: others may print to the same place."""
    os.write(1, line.encode() + b"\n")


async def receive_plain(channel: Any) -> Any:
    """The next message, which has no handle."""
    import trio_ipc

    message = await channel.receive()
    assert not isinstance(message, trio_ipc.HandleMessage), message
    return message
