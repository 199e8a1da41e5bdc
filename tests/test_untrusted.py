"""What ``trusted=False`` refuses, and what it leaves possible."""

from __future__ import annotations

import errno
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ipc

from .failing_calls import Fault, failing

Parent = trio_ipc.Channel[Any, Any]

# A child that sends a descriptor whatever it was told, and says in its exit status what came of it.
RUDE = """
import os, socket, sys
number = int(os.environ[sys.argv[1]].split(":")[0])
sock = socket.socket(fileno=number)
try:
    socket.send_fds(sock, [sys.argv[2].encode() + b"\\n"], [0])
except PermissionError:
    os._exit(3)
sock.shutdown(socket.SHUT_WR)
while sock.recv(65536):
    pass
"""


async def send_a_socket(parent: Parent) -> None:
    near, far = socket.socketpair()
    with near, far:
        try:
            await parent.send(far)
        except trio_ipc.MessageTooLarge as exc:
            await parent.send(str(exc))


async def use_what_comes(parent: Parent, stream: trio.SocketStream) -> None:
    async with stream:
        await stream.send_all(b"an argument")
    _, stream = await parent.receive()
    async with stream:
        await stream.send_all(b"a message")


async def statistics_of(parent: Parent) -> None:
    await parent.send(parent.statistics().max_buffer_size)
    with pytest.raises(trio_ipc.MessageTooLarge):
        await parent.send(b"x" * 65_537)
    await parent.send(b"x" * 65_536)


def pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    first, second = map(trio.socket.from_stdlib_socket, socket.socketpair())
    return trio.SocketStream(first), trio.SocketStream(second)


async def test_a_child_that_is_not_trusted_can_not_send_handles() -> None:
    async with trio_ipc.open_child(send_a_socket, trusted=False) as child:
        assert "max_handles is 0" in await child.receive()


async def test_it_can_be_sent_handles() -> None:
    ours, theirs = pair()
    async with ours, trio_ipc.open_child(use_what_comes, theirs, trusted=False) as child:
        assert await ours.receive_some() == b"an argument"
        again, theirs = pair()
        async with again:
            await child.send("here", theirs)
            assert await again.receive_some() == b"a message"


@pytest.mark.parametrize(
    ("protocol", "variable", "data"),
    [("native", "TRIO_IPC_CHANNEL", "anything"), ("node", "NODE_CHANNEL_FD", '"a message"')],
)
async def test_the_kernel_or_the_library_refuses_its_descriptors(
    protocol: Any, variable: str, data: str
) -> None:
    command = [sys.executable, "-c", RUDE, variable, data]
    async with trio_ipc.open_child(
        command, protocol=protocol, trusted=False, check=False, grace_period=5
    ) as child:
        with pytest.raises((trio_ipc.ProtocolError, trio.EndOfChannel, trio.BrokenResourceError)):
            await child.receive()
    assert child.process.returncode in (0, 3)
    if kernel_refuses():
        assert child.process.returncode == 3


def kernel_refuses() -> bool:
    near, far = socket.socketpair()
    with near, far:
        try:
            near.setsockopt(socket.SOL_SOCKET, 83, 0)  # SO_PASSRIGHTS, since Linux 6.16
        except OSError:
            return False
    return True


async def test_without_the_kernel_a_handle_is_refused_when_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trio_ipc._connection.SO_PASSRIGHTS", 9999)
    command = [sys.executable, "-c", RUDE, "NODE_CHANNEL_FD", '{"cmd":"NODE_HANDLE","type":"x"}']
    async with trio_ipc.open_child(
        command, protocol="node", trusted=False, check=False, grace_period=5
    ) as child:
        with pytest.raises(trio_ipc.ProtocolError, match="none is accepted"):
            await child.receive()


async def test_if_it_can_not_be_made_safe_there_is_no_child() -> None:
    """The kernel has an error of its own for not knowing the option, and this is none of them."""
    with failing(Fault("setsockopt", 2, errno.EPERM)) as calls:
        with pytest.raises(PermissionError):
            async with trio_ipc.open_child(statistics_of, trusted=False):
                raise AssertionError("unreachable")
    assert calls.counts["setsockopt"] == 2
    assert not calls.counts["spawn"]


async def test_messages_are_few_and_small() -> None:
    async with trio_ipc.open_child(statistics_of, trusted=False) as child:
        assert child.statistics().max_buffer_size == await child.receive() == 16
        assert len(await child.receive()) == 65_536
        with pytest.raises(trio_ipc.MessageTooLarge):
            await child.send(b"x" * 65_537)


async def test_what_is_asked_for_explicitly_holds() -> None:
    async with trio_ipc.open_child(
        statistics_of, trusted=False, max_buffer_size=100, max_message_size=70_000, check=False
    ) as child:
        assert child.statistics().max_buffer_size == await child.receive() == 100
        await child.send(b"x" * 70_000)


async def test_its_last_words_do_not_command_the_terminal() -> None:
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        async with trio_ipc.open_child(fail_in_red):
            await trio.sleep_forever()
    assert "\\x1b[31mred" in str(caught.value.remote_traceback)
    assert "\x1b" not in str(caught.value.remote_traceback)


async def fail_in_red(parent: Parent) -> None:
    raise RuntimeError("\x1b[31mred")


def test_the_threat_model_names_the_limits() -> None:
    text = Path(__file__).parent.parent.joinpath("docs", "threat_model.md").read_text()
    for limit in ("16 messages", "64 KiB", "half a second", "SO_PASSRIGHTS"):
        assert limit in text
