"""Handles that go to a child and come back, again and again: the right ones, and only once."""

from __future__ import annotations

import os
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio

import trio_ipc

from ..handle_kinds import is_open
from ..handle_workers import close
from .words import inode_of

# Of handles in the carousel: more than may be under way at once.
PLACES = 300
# In one message, at most.
TOGETHER = 16
# A message in so many has a token, which is written and read through its first handle.
TOKEN_EVERY = 16


class Carousel:
    """The parent's side; the child plays `workers.return_handles`."""

    def __init__(self, channel: trio_ipc.Channel[Any, Any], chance: random.Random) -> None:
        self._channel = channel
        self._chance = chance
        # Handles are either here or away, by the file that they are.
        self._put, self._here = trio.open_memory_channel[Any](PLACES)
        self._away: dict[int, type] = {}
        # The other ends, of those that have one which both reads and writes.
        self._far: dict[int, socket.socket] = {}

    async def run(self, count: int) -> None:
        """So many handles go there, and as many come back.

        Raises:
          AssertionError: one is lost, is another one, or comes twice.
        """
        with self._filled():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, count)
                await self._receive(count)
            assert not self._away, "some never came back"
            assert self._here.statistics().current_buffer_used == PLACES

    @contextmanager
    def _filled(self) -> Iterator[None]:
        for number in range(PLACES):
            self._put.send_nowait(self._make(number))
        try:
            yield
        finally:
            while self._here.statistics().current_buffer_used:
                close(self._here.receive_nowait())
            for far in self._far.values():
                far.close()

    def _make(self, number: int) -> Any:
        if number % 6 == 0:
            reader, writer = os.pipe()
            os.close(writer)
            return trio.lowlevel.FdStream(reader)
        if number % 6 == 1:
            with tempfile.TemporaryFile() as file:
                return open(os.dup(file.fileno()), "rb", 0)
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        self._far[inode_of(near)] = far
        if number % 6 == 2:
            return near
        return trio.SocketStream(trio.socket.from_stdlib_socket(near))

    async def _send(self, count: int) -> None:
        number = 0
        while count:
            handles = [await self._here.receive()]
            for _ in range(min(count, self._chance.randint(1, TOGETHER)) - 1):
                try:
                    handles.append(self._here.receive_nowait())
                except trio.WouldBlock:
                    break
            count -= len(handles)
            inodes = [inode_of(each) for each in handles]
            token = b""
            if number % TOKEN_EVERY == 0 and inodes[0] in self._far:
                token = b"token %d" % number
                self._far[inodes[0]].send(token)
            number += 1
            for inode, handle in zip(inodes, handles, strict=True):
                assert inode not in self._away
                self._away[inode] = type(handle)
            # A file would stay open here otherwise.
            await self._channel.send([inodes, token, handles], keep_open=False)
            assert not any(map(is_open, handles)), "what was sent is still here"

    async def _receive(self, count: int) -> None:
        while count:
            inodes, token, handles = await self._channel.receive()
            assert [inode_of(each) for each in handles] == inodes, "they are others"
            for inode, handle in zip(inodes, handles, strict=True):
                assert type(handle) is self._away.pop(inode)
                self._put.send_nowait(handle)
            if token:
                assert self._far[inodes[0]].recv(100) == token[::-1]
            count -= len(handles)
