"""The peer gets everything that was sent and then the end; whoever sends to a peer that receives no
more is told so; and a peer that goes away without a goodbye is told from one that said it."""

from __future__ import annotations

import errno
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ipc

from . import meaning_children as children
from .failing_calls import Fault, failing
from .meaning_helpers import (
    MANY_BYTES,
    ONE_MESSAGE,
    fill,
    frame,
    open_child_aside,
    open_pair,
    open_raw_peer,
    raw_script,
    script,
    settle,
    waiting,
)


async def receive_all(channel: Any) -> list[Any]:
    return [message async for message in channel]


async def send_until_broken(channel: Any) -> None:
    with pytest.raises(trio.BrokenResourceError):
        while True:
            await channel.send("x")


# The end of the send half ---------------------------------------------------------------------


async def test_the_end_comes_after_everything_that_was_sent() -> None:
    with open_pair(5) as (a, b):
        assert fill(a) == 5
        a.send_channel.close()
        for _ in range(5):
            assert await b.receive() == "x"
        for _ in range(2):
            with pytest.raises(trio.EndOfChannel):
                await b.receive()
            with pytest.raises(trio.EndOfChannel):
                b.receive_nowait()


async def test_the_end_comes_after_the_last_clone() -> None:
    with open_pair() as (a, b):
        first, second = a.send_channel.clone(), a.send_channel.clone()
        for half in (second, a.send_channel):
            half.close()
            first.send_nowait("x")
            assert await b.receive() == "x"
            with pytest.raises(trio.WouldBlock):
                b.receive_nowait()
        first.close()
        with pytest.raises(trio.EndOfChannel):
            await b.receive()


async def test_the_end_reaches_all_that_wait() -> None:
    with open_pair() as (a, b):
        async with waiting(b.receive) as first, waiting(b.receive) as second:
            a.send_channel.close()
            for call in (first, second):
                with pytest.raises(trio.EndOfChannel):
                    await call.outcome()


async def test_the_end_of_one_direction_leaves_the_other_alone() -> None:
    with open_pair() as (a, b):
        a.send_channel.close()
        with pytest.raises(trio.EndOfChannel):
            await b.receive()
        await b.send("still")
        assert await a.receive() == "still"


async def test_aclose_sees_off_what_was_sent() -> None:
    with open_pair() as (a, b):
        a.send_nowait(b"x" * MANY_BYTES)
        async with waiting(a.aclose) as closed:
            assert await b.receive() == b"x" * MANY_BYTES
            await closed.outcome()
        with pytest.raises(trio.EndOfChannel):
            await b.receive()


@pytest.mark.parametrize("end", ["channel", "half", "clone"])
async def test_what_is_closed_last_sees_off_what_was_sent(end: str) -> None:
    """Also when the send half was closed before, without waiting."""
    with open_pair() as (a, b):
        a.send_nowait(b"x" * MANY_BYTES)
        a.send_channel.close()
        if end == "clone":
            async with a.receive_channel.clone():
                pass  # it was not the last
        async with waiting(a.aclose if end == "channel" else a.receive_channel.aclose) as closed:
            assert await b.receive() == b"x" * MANY_BYTES
            await closed.outcome()
        with pytest.raises(trio.EndOfChannel):
            await b.receive()


@pytest.mark.parametrize("last", ["send", "receive", "channel"])
@pytest.mark.parametrize("known", [True, False])
async def test_aclose_does_not_wait_for_who_receives_no_more(last: str, known: bool) -> None:
    """Though the peer may still send."""
    with open_pair() as (a, b):
        a.send_nowait(b"x" * MANY_BYTES)
        b.receive_channel.close()
        if known:
            with pytest.raises(trio.WouldBlock):
                a.receive_nowait()
        if last != "send":
            a.send_channel.close()
        ends = {"send": a.send_channel, "receive": a.receive_channel, "channel": a}
        await ends[last].aclose()


async def test_a_receive_half_that_is_closed_last_does_not_wait_for_who_has_gone() -> None:
    with open_pair() as (a, b):
        a.send_nowait(b"x" * MANY_BYTES)
        a.send_channel.close()
        b.close()
        with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
            await a.receive()
        await a.receive_channel.aclose()
        assert a.fileno() == -1


async def test_aclose_does_not_wait_for_a_peer_that_has_gone() -> None:
    with open_pair() as (a, b):
        a.send_nowait(b"x" * MANY_BYTES)
        async with waiting(a.send_channel.aclose) as closed:
            b.close()
            await closed.outcome()
        assert a.statistics().open_send_channels == 0


async def test_a_child_gets_everything_and_then_the_end() -> None:
    async with trio_ipc.open_child(children.collect, max_buffer_size=100) as child:
        with child.send_channel.clone() as clone:
            child.send_channel.close()
            for number in range(100):
                clone.send_nowait(number)
            await clone.send(b"x" * MANY_BYTES)
        assert await child.receive() == [*range(100), MANY_BYTES, "the end"]


@pytest.mark.parametrize("how", ["return", "close", "aclose", "close-half"])
async def test_a_parent_gets_everything_and_then_the_end(how: str) -> None:
    async with trio_ipc.open_child(children.send_and_end, how) as child:
        assert await receive_all(child) == [*range(100), "x" * MANY_BYTES]
        with pytest.raises(trio.EndOfChannel):
            await child.receive()


async def test_a_child_that_has_closed_its_channel_may_live_on() -> None:
    async with open_child_aside(children.close_and_live) as (child, aside):
        assert await receive_all(child) == ["a message"]
        await send_until_broken(child)
        with pytest.raises(trio.BrokenResourceError):
            await child.drain()
        assert child.process.returncode is None
        await aside.say()
        assert await aside.hear() == "alive"
    assert child.process.returncode == 0


# The end of the receive half ------------------------------------------------------------------


async def test_sending_to_a_peer_that_receives_no_more_is_broken() -> None:
    with open_pair() as (a, b):
        b.receive_channel.close()
        with pytest.raises(trio.BrokenResourceError):
            await a.send("x")
        with pytest.raises(trio.BrokenResourceError):
            a.send_nowait("x")
        with pytest.raises(trio.BrokenResourceError):
            await a.drain()


async def test_a_peer_receives_no_more_after_its_last_clone() -> None:
    with open_pair() as (a, b):
        with b.receive_channel.clone() as clone:
            b.receive_channel.close()
            await a.send("x")
            assert await clone.receive() == "x"
        with pytest.raises(trio.BrokenResourceError):
            await a.send("x")


async def test_those_who_wait_to_send_are_told_that_the_peer_receives_no_more() -> None:
    with open_pair(1) as (a, b):
        a.send_nowait("x")
        async with waiting(a.send, "y") as first, waiting(a.send, "z") as second:
            b.receive_channel.close()
            for call in (first, second):
                with pytest.raises(trio.BrokenResourceError):
                    await call.outcome()


async def test_a_peer_that_receives_no_more_may_still_send() -> None:
    with open_pair() as (a, b):
        b.receive_channel.close()
        with pytest.raises(trio.BrokenResourceError):
            await a.send("x")
        await b.send("still")
        assert await a.receive() == "still"
        b.send_channel.close()
        with pytest.raises(trio.EndOfChannel):
            await a.receive()


async def test_what_nobody_will_receive_is_dropped_with_its_handles() -> None:
    near, far = trio.socket.socketpair()
    with near, far, open_pair() as (a, b):
        a.send_nowait("first")
        a.send_nowait([near])
        assert await b.receive() == "first"
        b.receive_channel.close()
        assert await far.recv(1) == b""  # so it was closed


async def test_a_child_that_receives_no_more_may_still_send() -> None:
    async with open_child_aside(children.stop_receiving, max_buffer_size=2) as (child, aside):
        await aside.hear()
        await send_until_broken(child)
        await aside.say()
        assert await receive_all(child) == ["still"]


async def test_a_child_notices_that_the_parent_receives_no_more() -> None:
    async with open_child_aside(children.send_until_broken) as (child, aside):
        child.receive_channel.close()
        assert await aside.hear() == "BrokenResourceError"
        with pytest.raises(trio.ClosedResourceError):
            await child.receive()
        await child.send("still")
        assert await aside.hear() == "still"


# Closed here ----------------------------------------------------------------------------------


async def test_what_is_closed_here_says_so() -> None:
    with open_pair(1) as (a, b):
        b.send_nowait("never received")
        a.send_nowait("x" * MANY_BYTES)
        async with waiting(a.send, "y") as sent, waiting(a.drain) as drained:
            a.close()
            for call in (sent, drained):
                with pytest.raises(trio.ClosedResourceError):
                    await call.outcome()
        for attempt in (lambda: a.send("x"), a.receive, a.drain):
            with pytest.raises(trio.ClosedResourceError):
                await attempt()
        with pytest.raises(trio.ClosedResourceError):
            a.receive_nowait()


async def test_closing_one_clone_ends_only_the_calls_of_that_clone() -> None:
    with open_pair() as (a, b), b.receive_channel.clone() as clone:
        async with waiting(clone.receive) as closed, waiting(b.receive) as open_still:
            clone.close()
            with pytest.raises(trio.ClosedResourceError):
                await closed.outcome()
            a.send_nowait("x")
            assert await open_still.outcome() == "x"


# A reset, and the goodbye ---------------------------------------------------------------------


async def test_a_reset_after_a_goodbye_is_an_end_like_any_other() -> None:
    with open_raw_peer() as (a, raw):
        a.send_nowait("never read")  # which makes a reset of the close
        raw.sendall(frame(b"M", ONE_MESSAGE) + frame(b"E"))
        raw.close()
        assert await a.receive() == 1
        with pytest.raises(trio.EndOfChannel):
            await a.receive()


@pytest.mark.parametrize("reset", [True, False])
async def test_going_away_without_a_goodbye_is_broken(reset: bool) -> None:
    with open_raw_peer() as (a, raw):
        if reset:
            a.send_nowait("never read")
        raw.sendall(frame(b"M", ONE_MESSAGE))
        raw.close()
        assert await a.receive() == 1
        with pytest.raises(trio.BrokenResourceError) as caught:
            await a.receive()
        assert not isinstance(caught.value, trio_ipc.ProtocolError)
        assert isinstance(caught.value.__cause__, ConnectionResetError) == reset
        with pytest.raises(trio.BrokenResourceError):
            await a.send("x")


async def test_a_child_may_exit_right_after_its_goodbye(tmp_path: Path) -> None:
    # It does not read what we sent.
    source = """
        sock.sendall(frame(b"M", ONE) + frame(b"E"))
        os._exit(0)
    """
    async with trio_ipc.open_child(raw_script(tmp_path, source)) as child:
        child.send_nowait("never read")
        assert await receive_all(child) == [1]


ENDS = {
    "os._exit(0)": (0, "0"),
    "os._exit(3)": (3, "3"),
    "os.kill(os.getpid(), signal.SIGKILL)": (-signal.SIGKILL, "SIGKILL"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("unread", [True, False])
async def test_a_child_that_goes_without_a_goodbye_is_named_with_its_exit_status(
    end: str, unread: bool, tmp_path: Path
) -> None:
    returncode, text = ENDS[end]
    command = raw_script(tmp_path, 'sock.sendall(frame(b"M", ONE))\n' + end)
    async with trio_ipc.open_child(command, check=False) as child:
        if unread:
            child.send_nowait("never read")
        await child.process.wait()
        assert await child.receive() == 1
        for call in (child.receive, lambda: child.send("x")):
            with pytest.raises(trio.BrokenResourceError) as caught:
                await call()
            assert not isinstance(caught.value, trio_ipc.ProtocolError)
            assert str(child.pid) in str(caught.value)
            assert text in str(caught.value)
    assert child.process.returncode == returncode


async def test_those_who_wait_are_told_that_the_child_has_gone() -> None:
    async with trio_ipc.open_child(children.wait_for_kill, max_buffer_size=1, check=False) as child:
        assert await child.receive() == "ready"
        child.send_nowait("x")
        async with waiting(child.receive) as received, waiting(child.send, "y") as sent:
            child.process.kill()
            for call in (received, sent):
                with pytest.raises(trio.BrokenResourceError, match=str(child.pid)):
                    await call.outcome()


async def test_a_function_child_that_leaves_without_returning_is_broken() -> None:
    async with trio_ipc.open_child(children.send_and_exit_at_once, check=False) as child:
        assert [await child.receive() for _ in range(3)] == [0, 1, 2]
        with pytest.raises(trio.BrokenResourceError, match=str(child.pid)):
            await child.receive()
    assert child.process.returncode == 0


async def test_a_child_that_closes_its_socket_and_lives_is_broken(tmp_path: Path) -> None:
    source = """
        sock.sendall(frame(b"M", ONE))
        sock.close()
        sys.stdin.read()
    """
    async with open_child_aside(raw_script(tmp_path, source)) as (child, _):
        assert await child.receive() == 1
        with pytest.raises(trio.BrokenResourceError, match=str(child.pid)):
            await child.receive()
        with pytest.raises(trio.BrokenResourceError, match=str(child.pid)):
            await child.send("x")
        assert child.process.returncode is None


async def test_a_child_that_only_shuts_its_sending_down_is_broken(tmp_path: Path) -> None:
    source = """
        sock.sendall(frame(b"M", ONE))
        sock.shutdown(socket.SHUT_WR)
        sys.stdin.read()
    """
    async with open_child_aside(raw_script(tmp_path, source)) as (child, _):
        assert await child.receive() == 1
        with pytest.raises(trio.BrokenResourceError):
            await child.receive()


# In the middle of a frame ---------------------------------------------------------------------

HALVES = {
    "header": frame(b"M", ONE_MESSAGE)[:5],
    "no payload": frame(b"M", length=100),
    "payload": frame(b"M", ONE_MESSAGE, length=100),
    "large payload": frame(b"B", b"x" * 100_000, length=200_000),
}


@pytest.mark.parametrize("half", HALVES)
async def test_an_end_in_the_middle_of_a_frame_comes_after_the_complete_messages(
    half: str,
) -> None:
    with open_raw_peer(100) as (a, raw):
        raw.sendall(3 * frame(b"M", ONE_MESSAGE) + HALVES[half])
        raw.shutdown(socket.SHUT_WR)
        assert [await a.receive() for _ in range(3)] == [1, 1, 1]
        for call in (a.receive, lambda: a.send("x"), a.receive):
            with pytest.raises(trio_ipc.ProtocolError):
                await call()


@pytest.mark.parametrize("half", ["header", "payload"])
async def test_a_child_that_dies_in_the_middle_of_a_frame(half: str, tmp_path: Path) -> None:
    source = f"""
        sock.sendall(2 * frame(b"M", ONE) + {HALVES[half]!r})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    async with trio_ipc.open_child(raw_script(tmp_path, source), check=False) as child:
        assert [await child.receive() for _ in range(2)] == [1, 1]
        for call in (child.receive, lambda: child.send("x")):
            with pytest.raises(trio_ipc.ProtocolError):
                await call()
    assert child.process.returncode == -signal.SIGKILL


# Messages and their sender's death ------------------------------------------------------------


async def test_what_a_child_sent_before_it_went_can_still_be_received(tmp_path: Path) -> None:
    source = """
        import trio, trio_ipc

        async def main():
            async with trio_ipc.open_parent() as parent:
                for number in range(500):
                    await parent.send([number, "x" * 100])

        trio.run(main)
    """
    async with trio_ipc.open_child(script(tmp_path, source)) as child:
        await child.process.wait()
        await settle(0.05)
        assert [number for number, _ in await receive_all(child)] == list(range(500))


async def test_a_drain_does_not_return_after_what_was_sent_is_lost(tmp_path: Path) -> None:
    """Though it is not known yet what became of the peer."""
    source = "os.read(0, 1); sock.shutdown(socket.SHUT_WR); time.sleep(1000)"
    command = raw_script(tmp_path, source)
    async with trio_ipc.open_child(command, stdin=subprocess.PIPE, grace_period=0) as child:
        assert child.process.stdin is not None
        while not child.statistics().bytes_unsent:
            await child.send(bytes(100_000))
        async with child.process.stdin as stdin:
            await stdin.send_all(b"x")
        await child._connection.gone.wait()
        with pytest.raises(trio.BrokenResourceError):
            await child.drain()


async def test_after_a_write_that_failed_the_peer_sees_the_end() -> None:
    """Though the channel stays open, because there may be something to receive."""
    with failing(Fault("send", 1, errno.EPERM)), open_raw_peer() as (channel, raw):
        channel.send_nowait("x")
        with pytest.raises(trio.BrokenResourceError):
            channel.send_nowait("x")
        assert raw.recv(1000) == b""
