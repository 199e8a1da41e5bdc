"""What docs/node.md says of Bun and Deno, where they are on the path."""

from __future__ import annotations

import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

import trio_ipc

from .helpers import PROGRAMS

COMMANDS = {"bun": ["bun"], "deno": ["deno", "run", "--allow-all", "--quiet"]}


@pytest.fixture(
    params=[
        pytest.param(
            name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"there is no {name}")
        )
        for name in COMMANDS
    ]
)
def runtime(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@asynccontextmanager
async def open_runtime(name: str, **options: Any) -> AsyncIterator[Any]:
    command = [*COMMANDS[name], str(PROGRAMS / "any_runtime.mjs")]
    async with trio_ipc.open_child(command, protocol="node", **options) as child:
        yield child


async def test_json_messages_come_back(runtime: str) -> None:
    messages = [None, True, 1, -1.5, "", "ü" * 400_000, [[], {}], {"cmd": "fooNODE_"}]
    async with open_runtime(runtime) as child:
        for message in messages:
            await child.send(message)
            assert await child.receive() == message


async def test_a_connection_goes_there_and_back(runtime: str) -> None:
    async with open_runtime(runtime) as child:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            client = await trio.testing.open_stream_to_socket_listener(listener)
            await child.send({"n": 1}, await listener.accept())
        message, stream = await child.receive()
        assert message == {"message": {"n": 1}, "kind": "Socket"}
        async with client, stream:
            await stream.send_all(b"here again")
            assert await client.receive_some() == b"here again"


async def test_a_server_goes_there_and_back(runtime: str) -> None:
    async with open_runtime(runtime, grace_period=0) as child:  # which the server keeps alive
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            await child.send(None, listener)
            message, copy = await child.receive()
            assert message == {"message": None, "kind": "Server"}
            assert copy.socket.getsockname() == listener.socket.getsockname()
            await copy.aclose()


async def test_udp_arrives(runtime: str) -> None:
    async with open_runtime(runtime, grace_period=0) as child:
        with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
            await sock.bind(("127.0.0.1", 0))
            await child.send("udp", sock)  # which returns when it was acknowledged


async def test_an_exit_status_is_a_failure(runtime: str) -> None:
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with open_runtime(runtime) as child:
            await child.send("exit 3")
            await child.receive()
    assert caught.value.returncode == 3


async def test_advanced_is_not_the_same_in_bun() -> None:
    if not shutil.which("bun"):
        pytest.skip("there is no bun")
    pytest.importorskip("v8serialize")
    async with open_runtime("bun", serialization="advanced", check=False) as child:
        await child.send("hello")
        with pytest.raises(trio_ipc.ProtocolError, match="json"):
            await child.receive()


async def test_advanced_is_the_same_in_deno() -> None:
    if not shutil.which("deno"):
        pytest.skip("there is no deno")
    pytest.importorskip("v8serialize")
    message = {"bytes": b"\0\1", "list": [1, None, 1.5], "big": 2**70}
    async with open_runtime("deno", serialization="advanced") as child:
        await child.send(message)
        assert await child.receive() == message
