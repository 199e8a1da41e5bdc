"""One that holds connections for a Node process that owns their server."""

from __future__ import annotations

import time
from typing import Any

import trio

import trio_ipc


async def hold_for(peer: trio_ipc.Channel[Any, Any]) -> None:
    """Hold connections, and do with them what the peer asks for."""
    held: list[trio.SocketStream] = []
    async for message in peer:
        if isinstance(message, trio_ipc.HandleMessage):
            held.append(message.handle)
        elif message == "close one":
            await held.pop(0).aclose()
            await peer.send("closed")
        elif message == "drop all":
            while held:
                await held.pop().aclose()
        elif message == "hand one on":
            await _hand_on(held.pop(0))
            await peer.send("handed on")
        elif message == "block":
            await peer.send("blocking")
            await peer.send_channel.drain()
            time.sleep(1000)  # noqa: ASYNC251
        elif message == "exit":
            break
    for stream in held:
        await stream.aclose()


async def _hand_on(stream: trio.SocketStream) -> None:
    # To another process, as far as this one knows.
    here, there = trio_ipc.open_channel_pair(1)
    async with here, there:
        await here.send(stream)


async def wait_until_unread(peer: trio_ipc.Channel[Any, Any], count: int) -> None:
    while peer.statistics().current_buffer_used < count:
        await trio.lowlevel.checkpoint()
