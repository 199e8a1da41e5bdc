"""What the children of the tests of real limits do."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
from array import array
from typing import Any

import trio

import trio_ipc

Parent = trio_ipc.Channel[Any, Any]

# The kernel counts for each user, and another run of these tests would change the count: a user of
# whom there is only one, in the 65,536 that a container may have.
NOBODY = 20_000 + os.getpid() % 40_000


class CountTurns(trio.abc.Instrument):
    """How often the event loop has gone round."""

    def __init__(self) -> None:
        self.turns = 0

    def before_io_wait(self, timeout: float) -> None:
        self.turns += 1


async def send_without_room(parent: Parent) -> None:
    """Send a handle while the user has as many under way as the kernel lets him.

    Reports how often the loop went round while it waited, and then that it has recovered.
    """
    if os.geteuid() == 0:  # for whom there is no such limit
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    hoard, far = socket.socketpair()
    with hoard, far:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [0] * 40))]
        refused = 0
        while not refused:
            try:
                hoard.sendmsg([b"x"], rights, socket.MSG_DONTWAIT)
            except OSError as exc:
                refused = exc.errno
        if refused != errno.ETOOMANYREFS:
            await parent.send(f"no such limit: {os.strerror(refused)}")
            return
        near, other = socket.socketpair()
        near.setblocking(False)
        with other:
            await parent.send(["a handle", near])
            counter = CountTurns()
            trio.lowlevel.add_instrument(counter)
            with trio.move_on_after(0.5):
                await parent.drain()
            trio.lowlevel.remove_instrument(counter)
            unsent = parent.statistics().bytes_unsent
            far.close()
            hoard.close()  # which gives the room back
            await parent.drain()
            await parent.send([counter.turns, unsent])
            assert await parent.receive() == "it is here"


async def collect(parent: Parent) -> None:
    """Say when it may begin, and then, of each message, who sent it and which it was."""
    await parent.send("ready")
    order = []
    async for sender, number, _ in parent:
        order.append((sender, number))
    await parent.send(order)


async def converse(parent: Parent, report: trio.lowlevel.FdStream, fault: list[int | str]) -> None:
    """One side of the conversation in which a call of this process fails."""
    from .failing_calls import Fault, failing
    from .fault_conversation import Side

    side = Side("b", allowed=int(fault[2]))
    with failing(Fault(*fault)):  # type: ignore[arg-type]
        await side.converse(parent)
    side.check_things()
    log = {name: getattr(side, name) for name in ("sent", "refused", "heard", "ended", "errors")}
    await report.send_all(json.dumps(log).encode())
