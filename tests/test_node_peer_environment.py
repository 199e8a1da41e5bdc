"""How a script finds the channel of its Node parent, and what it may find instead."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import trio_ipc
from trio_ipc._process import CHANNEL

from .node_peers.raw import ACK, Raw, handle_frame, line

FD, MODE = "NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE"

CHILD = Path(__file__).parent / "node_peers" / "child.py"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (FD, MODE, CHANNEL):
        monkeypatch.delenv(name, raising=False)


async def find_no_parent() -> str:
    with pytest.raises(trio_ipc.NoParent) as caught:
        async with trio_ipc.open_parent():
            pass
    for name in (FD, MODE):
        assert not os.environ.get(name)  # nobody who is started from here finds it
    with pytest.raises(trio_ipc.NoParent, match="not started with a channel"):
        async with trio_ipc.open_parent():
            pass
    return str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "foo",
        "-1",
        "3abc",
        "0x3",
        " 3",
        "3 ",
        "+3",
        "3.0",
        "1e1",
        "1_0",
        "٣",
        "³",
        "\udcff",
        "3:1:2",
        "9" * 20,
        "9" * 5000,
    ],
)
async def test_no_number(value: str) -> None:
    os.environ[FD] = value
    assert await find_no_parent() != ""
    os.environ[FD] = value
    os.environ[MODE] = "advanced"
    text = await find_no_parent()
    assert FD in text
    assert "is no channel" in text


async def test_nothing_at_all_is_no_channel() -> None:
    os.environ[FD] = ""
    assert "not started with a channel" in await find_no_parent()


async def test_a_closed_descriptor() -> None:
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    os.environ[FD] = str(number)
    assert "Bad file descriptor" in await find_no_parent()


@pytest.mark.parametrize("beyond", [2**32, 2**64])
async def test_a_number_beyond_all_descriptors(beyond: int) -> None:
    ends = socket.socketpair()
    with ends[0], ends[1]:
        os.environ[FD] = str(beyond + ends[0].fileno())
        assert "is no channel" in await find_no_parent()


async def check_not_adopted(number: int, text: str) -> None:
    """It is somebody else's, and stays as it was."""
    before = os.fstat(number), os.get_inheritable(number), os.get_blocking(number)
    os.environ[FD] = str(number)
    assert text in await find_no_parent()
    assert (os.fstat(number), os.get_inheritable(number), os.get_blocking(number)) == before


async def test_a_pipe() -> None:
    for number in os.pipe():
        await check_not_adopted(number, "is no channel")
        os.close(number)


async def test_a_file() -> None:
    with tempfile.TemporaryFile() as file:
        os.set_inheritable(file.fileno(), True)
        await check_not_adopted(file.fileno(), "is no channel")


SOCKETS: dict[str, Callable[[], socket.socket]] = {
    "TCP": socket.socket,
    "UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "Unix datagram": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
    "sequential packets": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),
    "a TCP listener": lambda: socket.create_server(("127.0.0.1", 0)),
}


@pytest.mark.parametrize("name", SOCKETS)
async def test_another_socket(name: str) -> None:
    with SOCKETS[name]() as sock:
        await check_not_adopted(sock.fileno(), "not a connected Unix stream socket")


@pytest.mark.parametrize("mode", ["foo", "JSON", "msgpack", " json", "json,advanced"])
async def test_an_unknown_serialization(mode: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.environ[FD] = str(ours.fileno())
        os.environ[MODE] = mode
        assert "is no serialization" in await find_no_parent()


async def test_the_channel_is_ours_alone() -> None:
    ours, theirs = socket.socketpair()
    raw = Raw(theirs)
    number = ours.detach()
    os.set_inheritable(number, True)
    os.set_blocking(number, True)
    os.environ[FD] = str(number)
    os.environ[MODE] = "json"
    async with trio_ipc.open_parent() as channel:
        assert channel.fileno() == number
        assert FD not in os.environ
        assert MODE not in os.environ
        assert fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        assert not os.get_blocking(number)
        with pytest.raises(trio_ipc.NoParent):
            async with trio_ipc.open_parent():
                pass
        process = await trio.run_process(
            [sys.executable, "-c", LOOK, str(number)], capture_stdout=True, close_fds=False
        )
        assert process.stdout == b"nothing\n"
        await raw.say(line("x"))
        assert await channel.receive() == "x"
        raw.close()


# What a grandchild finds of the channel.
LOOK = """
import os, sys
try:
    os.fstat(int(sys.argv[1]))
    print("a descriptor")
except OSError:
    print(*[name for name in os.environ if name.startswith("NODE_CHANNEL")] or ["nothing"])
"""


async def test_a_stale_channel_of_ours_beside_nodes() -> None:
    """Node passes its own environment on, and our variable with it."""
    ours, theirs = socket.socketpair()
    raw = Raw(theirs)
    os.environ[FD] = str(ours.detach())
    os.environ[CHANNEL] = "3:1:2"
    async with trio_ipc.open_parent() as channel:
        await raw.say(line("x"))
        assert await channel.receive() == "x"
        assert CHANNEL not in os.environ
        raw.close()


async def test_options_that_make_no_sense_consume_nothing() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        os.environ[FD] = str(ours.fileno())
        with pytest.raises(ValueError, match="max_buffer_size"):
            async with trio_ipc.open_parent(max_buffer_size=-1):
                pass
        assert os.environ[FD] == str(ours.detach())
        async with trio_ipc.open_parent() as channel:
            theirs.close()
            with pytest.raises(trio.EndOfChannel):
                await channel.receive()


# Scripts that a raw parent has started -----------------------------------------------------------


async def run_script(role: str, number: int, **options: str) -> tuple[Raw, trio.Process]:
    """Start a script with its channel at this number, as a Node parent may."""
    ours, theirs = socket.socketpair()
    raw = Raw(ours)
    with theirs:
        command = [
            sys.executable,
            "-c",
            "import os, sys; os.dup2(int(sys.argv[1]), int(sys.argv[2]));"
            "os.set_inheritable(int(sys.argv[2]), True);"
            "os.environ['NODE_CHANNEL_FD'] = sys.argv[2];"
            "os.execv(sys.executable, [sys.executable, *sys.argv[3:]])",
            str(theirs.fileno()),
            str(number),
            str(CHILD),
            role,
        ]
        process = await trio.lowlevel.open_process(
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(CHILD.parent.parent.parent)},
        )
    return raw, process


async def end_script(raw: Raw, process: trio.Process) -> int:
    raw.close()
    assert process.stderr is not None
    async with process.stderr:
        errors = b"".join([chunk async for chunk in process.stderr])
    returncode = await process.wait()
    assert errors == b""
    return returncode


@pytest.mark.parametrize("number", [0, 1, 3, 9, 200])
async def test_the_channel_at_any_number(number: int) -> None:
    """0 and 1 included: then a standard stream is none, and what is printed does no harm."""
    raw, process = await run_script("echo", number)
    await raw.say(line({"a": 1}))
    assert await raw.hear() == line({"a": 1})
    assert await raw.hear() == line("printed")
    assert await end_script(raw, process) == 0


async def test_a_handle_to_a_script_and_back() -> None:
    raw, process = await run_script("echo", 3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        await raw.say(handle_frame({"a": 1}, "net.Server"), server)
        assert await raw.hear() == ACK
        assert await raw.hear() == handle_frame({"a": 1}, "net.Server")
        await raw.say(ACK)
        with raw.take_socket() as back:
            assert back.getsockname() == server.getsockname()
        assert await raw.hear() == line("printed")
    assert await end_script(raw, process) == 0


async def test_a_script_with_an_unreadable_channel() -> None:
    process = await trio.run_process(
        [sys.executable, CHILD, "echo"],
        capture_stderr=True,
        check=False,
        env={
            **os.environ,
            FD: "3abc",
            "PYTHONPATH": str(CHILD.parent.parent.parent),
        },
    )
    assert process.returncode == 1
    assert b"NoParent: NODE_CHANNEL_FD='3abc' is no channel" in process.stderr
