"""Handles that go to a peer who plays Node's part badly: delivered, or still the sender's."""

from __future__ import annotations

import gc
import logging
import os
import resource
import socket
import struct
import weakref
from typing import Any

import pytest
import trio

import trio_ipc
from trio_ipc import _node

from .meaning_helpers import settle, waiting
from .node_peers.raw import (
    ACK,
    NACK,
    assert_alive,
    connection,
    handle_frame,
    is_open,
    line,
    open_end,
)

FRAME = handle_frame("m")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_node, "ANSWER_TIMEOUT", 0.05)


# Delivered --------------------------------------------------------------------------------------


async def test_send_returns_when_the_peer_has_the_handle() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            async with waiting(channel.send, "m", stream) as sent:
                assert await raw.hear() == FRAME
                assert is_open(stream)  # and the caller's, until the peer has it
                await raw.say(ACK)
                await sent.outcome()
            assert not is_open(stream)
            with raw.take_socket() as theirs:
                theirs.sendall(b"x")
            assert far.recv(10) == b"x"
            assert far.recv(10) == b""  # nobody else has it open


async def test_one_that_the_peer_has_is_not_held_here() -> None:
    async with open_end() as (channel, raw):
        near, far = socket.socketpair()
        with far:
            seen = weakref.ref(near)
            channel.send_nowait("m", near)
            del near
            await settle()  # until the time that the peer has for it runs
            assert await raw.hear() == FRAME
            await raw.say(ACK + line("after it"))
            assert await channel.receive() == "after it"
            gc.collect()
            assert seen() is None


async def test_a_pair_is_the_same() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, _):
            async with waiting(channel.send, trio_ipc.HandleMessage("m", stream)) as sent:
                assert await raw.hear() == FRAME
                await raw.say(ACK)
                await sent.outcome()
            assert not is_open(stream)


async def test_one_that_is_kept_open() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: channel.send("m", stream, keep_open=True))
                assert await raw.hear() == FRAME
                await raw.say(ACK)
            raw.take_socket().close()
            await assert_alive(stream, far)


async def test_a_listener_stays_open_unless_it_is_told_otherwise() -> None:
    async with open_end() as (channel, raw):
        for keep_open in (None, False):
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            async with listener:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(lambda: channel.send(1, listener, keep_open=keep_open))  # noqa: B023
                    assert await raw.hear() == handle_frame(1, "net.Server")
                    await raw.say(ACK)
                raw.take_socket().close()
                assert (listener.socket.fileno() >= 0) == (keep_open is None)


async def test_many_plain_messages_around_a_handle_stay_in_order() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, _):
            for number in range(10):
                channel.send_nowait(number)
            channel.send_nowait("m", stream)
            for number in range(10):
                channel.send_nowait(number)
            assert not is_open(stream)  # send_nowait does not wait, so it is the library's
            for number in range(10):
                assert await raw.hear() == line(number)
            assert await raw.hear() == FRAME
            await settle()
            assert raw.heard_nothing()
            await raw.say(ACK)
            for number in range(10):
                assert await raw.hear() == line(number)


async def test_send_nowait_of_a_second_handle_would_block() -> None:
    async with open_end() as (channel, raw):
        with connection() as (first, _), connection() as (second, far):
            channel.send_nowait("m", first)
            with pytest.raises(trio.WouldBlock):
                channel.send_nowait("m", second)
            channel.send_nowait("plain")
            await assert_alive(second, far)
            assert await raw.hear() == FRAME
            await raw.say(ACK)
            assert await raw.hear() == line("plain")
            channel.send_nowait("m", second)
            assert await raw.hear() == FRAME
            await raw.say(ACK)


async def test_two_senders_of_handles_take_turns() -> None:
    async with open_end() as (channel, raw):
        with connection() as (first, _), connection() as (second, far):
            async with (
                waiting(channel.send, 1, first) as one,
                waiting(channel.send, 2, second) as two,
            ):
                assert await raw.hear() == handle_frame(1)
                await settle()
                assert raw.heard_nothing()
                assert channel.statistics().tasks_waiting_send == 1
                await raw.say(ACK)
                await one.outcome()
                assert await raw.hear() == handle_frame(2)
                assert not two.finished.is_set()
                assert is_open(second)
                await raw.say(ACK)
                await two.outcome()
            with raw.take_socket(), raw.take_socket() as theirs:
                theirs.sendall(b"x")
                assert far.recv(10) == b"x"


async def test_twenty_senders_of_handles_and_others() -> None:
    async with open_end() as (channel, raw):
        pairs = [connection() for _ in range(20)]
        made = [pair.__enter__() for pair in pairs]
        async with trio.open_nursery() as nursery:
            for number, (stream, _) in enumerate(made):
                nursery.start_soon(channel.send, number, stream)
                nursery.start_soon(channel.send, "plain")
            found = []
            while len(found) < 40:
                frame = await raw.hear()
                if b"NODE_HANDLE" in frame:
                    await raw.say(ACK)
                found.append(frame)
        assert found.count(line("plain")) == 20
        numbers = [each for each in found if each != line("plain")]
        assert sorted(numbers) == sorted(map(handle_frame, range(20)))
        # Each with its own.
        for frame in numbers:
            number = next(n for n in range(20) if handle_frame(n) == frame)
            with raw.take_socket() as theirs:
                theirs.sendall(b"%d" % number)
            assert made[number][1].recv(10) == b"%d" % number
        for pair in pairs:
            pair.__exit__(None, None, None)


@pytest.mark.parametrize("nowait", [False, True])
async def test_a_pipe_stays_as_the_receiver_needs_it(nowait: bool) -> None:
    """Trio puts back the blocking mode of what it closes, and that is shared with the copy that
    travels: whoever has it would block."""
    async with open_end() as (channel, raw):
        read, write = os.pipe()
        stream = trio.lowlevel.FdStream(read)
        if nowait:
            channel.send_nowait("m", stream)
            assert await raw.hear() == FRAME
            await raw.say(ACK)
        else:
            async with waiting(channel.send, "m", stream) as sent:
                assert await raw.hear() == FRAME
                await raw.say(ACK)
                await sent.outcome()
        assert stream.fileno() == -1
        with pytest.raises(BlockingIOError):
            os.read(raw.fds[0], 1)
        os.close(write)
        assert os.read(raw.fds[0], 1) == b""


# Surplus answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("surplus", [ACK, NACK, 2 * ACK + NACK])
async def test_surplus_answers_do_no_harm(surplus: bytes) -> None:
    async with open_end() as (channel, raw):
        await raw.say(surplus + line("read before anything is sent"))
        await channel.receive()
        for _ in range(3):
            with connection() as (stream, _):
                async with waiting(channel.send, "m", stream) as sent:
                    assert await raw.hear() == FRAME
                    await raw.say(ACK + surplus)
                    await sent.outcome()
        await raw.say(line("still here"))
        assert await channel.receive() == "still here"
        raw.end()
        with pytest.raises(trio.EndOfChannel):
            await channel.receive()


# Refused ----------------------------------------------------------------------------------------


async def test_a_handle_that_is_refused_four_times_is_still_the_senders() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            async with waiting(channel.send, "m", stream) as sent:
                channel.send_nowait("behind")
                for _ in range(4):
                    assert not sent.finished.is_set()
                    assert await raw.hear() == FRAME
                    assert len(raw.fds) == 1
                    raw.take_socket().close()
                    await raw.say(NACK)
                with pytest.raises(trio_ipc.HandleNotDelivered, match="refused 4 times"):
                    await sent.outcome()
            await assert_alive(stream, far)
            assert await raw.hear() == line("behind")  # the channel goes on
            async with waiting(channel.send, "again", stream) as sent:
                assert await raw.hear() == handle_frame("again")
                await raw.say(ACK)
                await sent.outcome()
            assert not is_open(stream)


async def test_a_handle_that_is_refused_three_times_arrives() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            async with waiting(channel.send, "m", stream) as sent:
                for answer in (NACK, NACK, NACK, ACK):
                    assert await raw.hear() == FRAME
                    with raw.take_socket() as theirs:
                        theirs.sendall(b"x")
                    assert far.recv(10) == b"x"
                    await raw.say(answer)
                await sent.outcome()
            assert far.recv(10) == b""


async def test_one_that_nobody_waits_for_is_closed_when_it_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            channel.send_nowait("m", stream)
            with caplog.at_level(logging.WARNING, "trio_ipc"):
                for _ in range(4):
                    assert await raw.hear() == FRAME
                    raw.take_socket().close()
                    await raw.say(NACK)
                await settle(0.001)
            assert far.recv(10) == b""
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            await channel.send("behind")
            assert await raw.hear() == line("behind")


# Never answered ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
async def test_a_peer_that_never_answers() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            with pytest.raises(trio_ipc.HandleNotDelivered, match="not acknowledged in time"):
                await channel.send("m", stream)
            await assert_alive(stream, far)
            assert await raw.hear() == FRAME
            await channel.send("behind")
            assert await raw.hear() == line("behind")
            await raw.say(ACK)  # too late
            await raw.say(line("still here"))
            assert await channel.receive() == "still here"


@pytest.mark.usefixtures("impatient")
async def test_one_that_waits_its_turn_behind_it() -> None:
    async with open_end() as (channel, raw):
        with connection() as (first, _), connection() as (second, _):
            async with (
                waiting(channel.send, 1, first) as one,
                waiting(channel.send, 2, second) as two,
            ):
                with pytest.raises(trio_ipc.HandleNotDelivered):
                    await one.outcome()
                with pytest.raises(trio_ipc.HandleNotDelivered):
                    await two.outcome()
            assert is_open(first)
            assert is_open(second)
            assert await raw.hear() == handle_frame(1)
            assert await raw.hear() == handle_frame(2)


@pytest.mark.usefixtures("impatient")
async def test_a_peer_that_does_not_read() -> None:
    """What was not begun is not sent, and what comes behind it is."""
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            sent = 0
            while not channel.statistics().bytes_unsent:
                channel.send_nowait("x" * 1000)
                await settle()
                sent += 1
            with pytest.raises(trio_ipc.HandleNotDelivered):
                await channel.send("m", stream)
            await assert_alive(stream, far)
            channel.send_nowait("behind")
            for _ in range(sent):
                assert await raw.hear() == line("x" * 1000)
            assert await raw.hear() == line("behind")
            assert raw.fds == []


@pytest.mark.usefixtures("impatient")
async def test_one_that_nobody_waits_for_and_nobody_takes() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            channel.send_nowait("m", stream)
            assert await raw.hear() == FRAME
            raw.take_socket().close()
            # Its copy here is closed when the time is up.
            assert await trio.to_thread.run_sync(far.recv, 10) == b""
            channel.send_nowait("behind")
            assert await raw.hear() == line("behind")


# The peer dies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("read_first", [False, True])
async def test_the_peer_dies_while_a_handle_is_under_way(read_first: bool) -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            async with waiting(channel.send, "m", stream) as sent:
                if read_first:
                    assert await raw.hear() == FRAME
                raw.close()
                with pytest.raises(trio.BrokenResourceError):
                    await sent.outcome()
            await assert_alive(stream, far)
            with pytest.raises(trio.BrokenResourceError):
                await channel.send("m", stream)
            with pytest.raises(trio.BrokenResourceError):
                channel.send_nowait("m", stream)
            await assert_alive(stream, far)
            with pytest.raises(trio.EndOfChannel):
                await channel.receive()


async def test_the_peer_dies_and_a_sender_waits_its_turn() -> None:
    async with open_end() as (channel, raw):
        with connection() as (first, _), connection() as (second, _):
            async with (
                waiting(channel.send, 1, first) as one,
                waiting(channel.send, 2, second) as two,
            ):
                raw.close()
                for sent in (one, two):
                    with pytest.raises(trio.BrokenResourceError):
                        await sent.outcome()
            assert is_open(first)
            assert is_open(second)


async def test_the_peer_breaks_the_rules_while_a_handle_is_under_way() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            async with waiting(channel.send, "m", stream) as sent:
                await raw.say(b"\n")
                with pytest.raises(trio_ipc.ProtocolError):
                    await sent.outcome()
            await assert_alive(stream, far)


async def test_the_peer_takes_it_and_dies() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            async with waiting(channel.send, "m", stream) as sent:
                assert await raw.hear() == FRAME
                await raw.say(ACK)
                raw.close()
                await sent.outcome()
            assert not is_open(stream)
            assert far.recv(10) == b""


async def test_one_that_nobody_waits_for_is_closed_when_the_peer_dies() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            channel.send_nowait("m", stream)
            assert not is_open(stream)
            await settle()
            raw.close()
            assert await trio.to_thread.run_sync(far.recv, 10) == b""


@pytest.mark.parametrize("failure", ["refused", "not answered", "dead"])
async def test_the_options_of_one_that_was_not_delivered_are_left_alone(
    failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lingering = struct.pack("ii", 1, 7)
    if failure == "not answered":
        monkeypatch.setattr(_node, "ANSWER_TIMEOUT", 0.05)
    async with open_end() as (channel, raw):
        with connection() as (stream, _):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
            async with waiting(channel.send, "m", stream) as sent:
                if failure == "refused":
                    for _ in range(4):
                        assert await raw.hear() == FRAME
                        raw.take_socket().close()
                        await raw.say(NACK)
                elif failure == "dead":
                    raw.close()
                with pytest.raises((trio_ipc.HandleNotDelivered, trio.BrokenResourceError)):
                    await sent.outcome()
            assert stream.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == lingering


@pytest.mark.parametrize("failure", ["refused", "dead"])
async def test_one_that_was_closed_meanwhile_and_not_delivered_does_not_linger(
    failure: str,
) -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, _):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 7))
            # The option belongs to the socket, whoever holds a descriptor of it.
            with socket.socket(fileno=os.dup(stream.socket.fileno())) as witness:
                async with waiting(channel.send, "m", stream) as sent:
                    stream.socket.close()
                    if failure == "refused":
                        for _ in range(4):
                            assert await raw.hear() == FRAME
                            raw.take_socket().close()
                            await raw.say(NACK)
                    else:
                        raw.close()
                    with pytest.raises((trio_ipc.HandleNotDelivered, trio.BrokenResourceError)):
                        await sent.outcome()
                value = witness.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
                assert struct.unpack("ii", value)[0] == 0


# Closed and cancelled meanwhile -----------------------------------------------------------------


async def test_the_send_half_is_closed_while_an_answer_is_awaited() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, _):
            async with waiting(channel.send, "m", stream) as sent:
                channel.send_channel.close()
                assert await raw.hear() == FRAME
                await raw.say(ACK)
                await sent.outcome()
            assert not is_open(stream)
            assert await raw.hear_rest() == b""  # now it has ended


async def test_the_handle_is_closed_by_another_task_meanwhile() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            async with waiting(channel.send, "m", stream) as sent:
                await stream.aclose()
                assert await raw.hear() == FRAME
                await raw.say(NACK)  # there is a copy to send again
                assert await raw.hear() == FRAME
                await raw.say(ACK)
                await sent.outcome()
            raw.take_socket().close()
            with raw.take_socket() as theirs:
                theirs.sendall(b"x")
            assert far.recv(10) == b"x"


async def test_the_handle_is_closed_while_it_waits_its_turn() -> None:
    async with open_end() as (channel, raw):
        with connection() as (first, _), connection() as (second, _):
            async with (
                waiting(channel.send, 1, first) as one,
                waiting(channel.send, 2, second) as two,
            ):
                await second.aclose()
                assert await raw.hear() == handle_frame(1)
                await raw.say(ACK)
                await one.outcome()
                with pytest.raises(trio_ipc.UnsupportedHandle, match="closed"):
                    await two.outcome()
            await channel.send("behind")
            assert await raw.hear() == line("behind")


async def test_cancelled_while_it_waits_for_room() -> None:
    """It did not happen: the handle is the caller's, and nothing was sent."""
    async with open_end() as (channel, raw):
        with connection() as (first, _), connection() as (second, far):
            channel.send_nowait(1, first)
            async with waiting(channel.send, 2, second) as sent:
                await sent.cancel()
            await assert_alive(second, far)
            assert await raw.hear() == handle_frame(1)
            await raw.say(ACK)
            await channel.send("behind")
            assert await raw.hear() == line("behind")


@pytest.mark.parametrize("answer", [ACK, 3 * [NACK] + [ACK], 4 * [NACK]])
async def test_cancelled_while_its_answer_is_awaited(answer: Any) -> None:
    """It happened, and send returns; the answer is taken care of behind."""
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    returned = trio.Event()

                    async def send() -> None:
                        await channel.send("m", stream)
                        returned.set()

                    nursery.start_soon(send)
                    await settle()
                    scope.cancel()
                assert returned.is_set()
            assert not is_open(stream)
            # Another handle waits until this one is answered.
            with connection() as (second, _):
                async with waiting(channel.send, "second", second) as sent:
                    for each in [answer] if isinstance(answer, bytes) else answer:
                        assert await raw.hear() == FRAME
                        await raw.say(each)
                    assert await raw.hear() == handle_frame("second")
                    await raw.say(ACK)
                    await sent.outcome()
            for _ in range(len(raw.fds)):
                raw.take_socket().close()
            assert far.recv(10) == b""


async def test_cancelled_while_its_answer_is_awaited_and_the_peer_dies() -> None:
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(channel.send, "m", stream)
                    await settle()
                    scope.cancel()
            assert not is_open(stream)
            raw.close()
            assert await trio.to_thread.run_sync(far.recv, 10) == b""


# What Node can't take ---------------------------------------------------------------------------


async def test_no_room_for_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor that travels is a copy; without room for one nothing has happened."""
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            limit = no_more_descriptors()
            try:
                with pytest.raises(OSError, match="Too many open files"):
                    await channel.send("m", stream)
                with pytest.raises(OSError, match="Too many open files"):
                    channel.send_nowait("m", stream)
            finally:
                limit()
            await assert_alive(stream, far)
            await channel.send("behind")
            assert await raw.hear() == line("behind")


def no_more_descriptors() -> Any:
    """Let this process open no more descriptors; what puts that right."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/dev/fd")))
    fillers = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        while True:
            fillers.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        pass

    def undo() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in fillers:
            os.close(each)

    return undo


async def test_a_peer_whose_table_is_full_refuses_and_takes_it_later() -> None:
    """Both ends are ours: what the kernel drops is refused, and sent again."""
    async with open_end() as (channel, raw):
        with connection() as (stream, far):
            await raw.say(b'"before"\n')
            assert await channel.receive() == "before"
            undo = no_more_descriptors()
            try:
                await raw.say(handle_frame("m", key="k"), stream.socket)
                assert await raw.hear() == NACK
                assert await channel_is_empty(channel)
            finally:
                undo()
            await raw.say(handle_frame("m", key="k"), stream.socket)
            assert await raw.hear() == ACK
            message, arrived = await channel.receive()
            assert message == "m"
            stream.socket.close()
            await assert_alive(arrived, far)
            await arrived.aclose()


async def channel_is_empty(channel: Any) -> bool:
    await settle()
    return channel.statistics().current_buffer_used == 0
