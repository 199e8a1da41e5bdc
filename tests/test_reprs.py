"""What every public object says of itself: what it is, to whom, its state, and what waits in it."""

from __future__ import annotations

import trio

import trio_ipc

from . import error_children as children
from .handle_kinds import stream_and_client
from .meaning_helpers import MANY_BYTES, fill, open_pair, waiting


async def test_what_is_unread() -> None:
    with open_pair() as (a, b):
        a.send_nowait("x")
        a.send_nowait("y")
        assert b.receive_nowait() == "x"
        assert repr(b) == "<channel to its peer, 1 unread>"
        assert repr(b.receive_channel) == "<receive channel from its peer, 1 unread>"
        assert repr(b.send_channel) == "<send channel to its peer>"


async def test_what_is_unsent() -> None:
    with open_pair(1000) as (a, _):
        fill(a, b"x" * MANY_BYTES)
        unsent = a.statistics().bytes_unsent
        assert unsent
        assert repr(a) == f"<channel to its peer, {unsent} bytes unsent>"
        assert repr(a.send_channel) == f"<send channel to its peer, {unsent} bytes unsent>"
        assert repr(a.receive_channel) == "<receive channel from its peer>"


async def test_who_waits() -> None:
    with open_pair(1) as (a, b):
        async with waiting(a.receive) as received:
            assert repr(a) == "<channel to its peer, 1 waiting to receive>"
            assert (
                repr(a.receive_channel) == "<receive channel from its peer, 1 waiting to receive>"
            )
            await b.send(1)
        assert await received.outcome() == 1
        await a.send(1)
        async with waiting(a.send, 2) as sent:
            assert repr(a) == "<channel to its peer, 1 waiting to send>"
            assert repr(a.send_channel) == "<send channel to its peer, 1 waiting to send>"
            assert [await b.receive(), await b.receive()] == [1, 2]
        await sent.outcome()


async def test_which_half_is_closed() -> None:
    with open_pair() as (a, b):
        a.send_channel.close()
        assert repr(a) == "<channel to its peer, send half closed>"
        a.receive_channel.close()
        assert repr(a) == "<channel to its peer, gone, closed>"
        b.receive_channel.close()
        assert repr(b).endswith(", receive half closed>")
        assert repr(b.receive_channel).endswith(", closed>")


async def test_a_child_and_how_it_ended() -> None:
    async with trio_ipc.open_child(children.receive_all, grace_period=60) as child:
        assert repr(child) == f"<channel to child {child.pid}>"
    assert repr(child) == f"<channel to child {child.pid}, which exited with status 0, gone>"


async def test_a_message_with_a_handle() -> None:
    with stream_and_client() as (stream, _):
        message = trio_ipc.HandleMessage("x", stream)
        assert repr(message) == f"HandleMessage(message='x', handle={stream!r})"
        await stream.aclose()


async def test_statistics() -> None:
    with open_pair(5) as (a, _):
        a.send_nowait("x")
        text = repr(a.statistics())
    assert text.startswith("ChannelStatistics(current_buffer_used=0, max_buffer_size=5, ")
    assert text.endswith("bytes_unsent=0, credit=4)")


def test_errors() -> None:
    failed = trio_ipc.ChildFailed(-9, ["node", "x.js"], 123, "a long\ntraceback")
    assert repr(failed) == "ChildFailed(returncode=-9, cmd=['node', 'x.js'], pid=123)"
    assert repr(trio_ipc.ProtocolError("so")) == "ProtocolError('so')"
    assert repr(trio_ipc.RemoteTraceback("so")) == "RemoteTraceback('so')"
    assert isinstance(trio_ipc.ProtocolError(), trio.BrokenResourceError)
