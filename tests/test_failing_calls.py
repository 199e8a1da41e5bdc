"""The n-th system call fails: a documented exception or none, and nothing is lost or left behind.

What a conversation consists of, and what must hold of it, is in `fault_conversation`.
"""

from __future__ import annotations

import errno
import json
import os

import pytest
import trio

import trio_ipc

from . import limit_workers
from .both_ends import open_both_ends
from .failing_calls import FAILURES, SHORT, Fault, failing
from .fault_conversation import Side, check_direction
from .fault_runs import IN_PROCESS, converse_with, count_calls
from .meaning_helpers import waiting

# After these the call is made again, and nobody notices.
HARMLESS = {
    "send": {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, SHORT},
    "sendmsg": {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS, SHORT},
    "recvmsg_into": {errno.EAGAIN, SHORT},
    # Trio waits in a thread instead.
    "pidfd": set(FAILURES["pidfd"]),
}


def holds(fault: Fault, outcome: str) -> bool:
    """Whether this is what has to come of it."""
    return outcome == "nothing" or fault.failure not in HARMLESS.get(fault.call, ())


@pytest.mark.parametrize("call", FAILURES)
@pytest.mark.parametrize("setting", IN_PROCESS)
async def test_the_nth_call_fails(setting: str, call: str) -> None:
    """In two scopes each call fails in one of the ways that it can; elsewhere in each of them."""
    faults = [fault for fault in (await count_calls(setting)).faults() if fault.call == call]
    if setting == "two scopes":
        ways = len(FAILURES[call])
        faults = [
            fault for index, fault in enumerate(faults) if index % ways == index // ways % ways
        ]
    for fault in faults:
        try:
            outcome = await converse_with(setting, fault)
        except (Exception, trio.Cancelled) as exc:
            raise AssertionError(f"{setting}, {fault}") from exc
        assert holds(fault, outcome), f"{fault}: {outcome}"


async def test_no_room_for_a_while() -> None:
    """Which is nothing that one could wait for: the socket stays writable."""
    with failing() as calls:
        async with open_both_ends() as (child, parent):
            before = calls.counts["send"]
            calls.fault = Fault("send", before + 1, errno.ENOBUFS, 10)
            await child.send("x")
            assert await parent.receive() == "x"
            assert calls.counts["send"] - before > 10
        before = calls.counts["send"]
        calls.fault = Fault("send", before + 1, errno.ENOMEM, 10)
        a, b = trio_ipc.open_channel_pair(1)
        with a, b:
            a.send_nowait("y")
            await a.drain()
            assert b.receive_nowait() == "y"


async def test_who_waits_at_the_other_end_tries_again_if_nobody_else_does() -> None:
    with failing() as calls:
        a, b = trio_ipc.open_channel_pair(1)
        with a, b:
            async with waiting(b.receive) as received:
                calls.fault = Fault("send", calls.counts["send"] + 1, errno.ENOBUFS, 1_000_000)
                a.send_nowait("x")
                async with waiting(a.drain) as drained:
                    drained.scope.cancel()
                    calls.fault = None
                    assert await received.outcome() == "x"


@pytest.mark.parametrize("call", ["send", "sendmsg", "recvmsg_into"])
@pytest.mark.parametrize("setting", IN_PROCESS)
async def test_a_byte_at_a_time(setting: str, call: str) -> None:
    """From the n-th on, so many calls in a row move no more than one."""
    for number in (1, 5):
        assert await converse_with(setting, Fault(call, number, SHORT, 300)) == "nothing"


@pytest.mark.parametrize("number", [1, 4, 9])
@pytest.mark.parametrize("call", ["send", "sendmsg", "recvmsg_into", "dup"])
async def test_a_call_of_a_child_fails(call: str, number: int) -> None:
    for failure in (FAILURES[call][number % len(FAILURES[call])], FAILURES[call][0]):
        reader, writer = (trio.lowlevel.FdStream(end) for end in os.pipe())
        a, b = Side("a"), Side("b")
        fault = [call, number, failure]
        log = b""
        async with reader, writer:
            async with trio_ipc.open_child(limit_workers.converse, writer, fault) as child:
                await a.converse(child)
                async for chunk in reader:
                    log += chunk
        vars(b).update(json.loads(log), things={})
        try:
            a.check_things()
            check_direction(a, b)
        finally:
            a.close()
