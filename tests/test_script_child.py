"""A script as a child: it opens its end with open_parent, says its own limits, or never does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ipc

from .handle_kinds import is_open, pipe, stream_and_client

VARIABLE = "TRIO_IPC_CHANNEL"

HEAD = """
    import os, subprocess, sys
    import msgspec, trio, trio_ipc

"""

ECHO = """
    async def main():
        async with trio_ipc.open_parent() as parent:
            async for message in parent:
                await parent.send(message)

    trio.run(main)
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str, name: str = "child.py") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(HEAD) + textwrap.dedent(text))
        return path

    return write


Script = Callable[..., Path]

# A conversation ---------------------------------------------------------------------------------


async def test_a_script_echoes(script: Script) -> None:
    async with trio_ipc.open_child(script(ECHO)) as child:
        await child.send({"some": ["message", 1, None]})
        assert await child.receive() == {"some": ["message", 1, None]}
        await child.send_channel.aclose()
        with pytest.raises(trio.EndOfChannel):
            await child.receive()
    assert child.process.returncode == 0


@pytest.mark.parametrize("how", ["str", "path", "command", "program"])
async def test_ways_to_name_it(script: Script, how: str) -> None:
    path = script(
        """
        async def main():
            async with trio_ipc.open_parent() as parent:
                await parent.send([sys.argv[1:], sys.executable])

        trio.run(main)
        """
    )
    if how == "program":  # no suffix that anybody knows, and a line that names the interpreter
        program = path.with_suffix("")
        program.write_text(f"#!{sys.executable}\n{path.read_text()}")
        program.chmod(0o700)
        opened = trio_ipc.open_child(program, "one", "two three")
    elif how == "command":
        opened = trio_ipc.open_child([sys.executable, "-u", path, "one", "two three"])
    else:
        opened = trio_ipc.open_child(str(path) if how == "str" else path, "one", "two three")
    async with opened as child:
        assert await child.receive() == [["one", "two three"], sys.executable]


async def test_arguments_of_a_script_are_strings(script: Script) -> None:
    for argument in (1, b"bytes", None, ["list"]):
        with pytest.raises(TypeError, match="arguments of a program are strings"):
            trio_ipc.open_child(script(ECHO), argument)


async def test_a_command_has_its_arguments_inside() -> None:
    with pytest.raises(TypeError, match="arguments of a command belong into its sequence"):
        trio_ipc.open_child([sys.executable], "argument")
    with pytest.raises(ValueError, match="the command is empty"):
        trio_ipc.open_child([])


async def test_what_was_sent_before_it_opened_its_channel_arrives(script: Script) -> None:
    path = script("    sys.stdin.read()\n" + ECHO)
    async with trio_ipc.open_child(path, stdin=subprocess.PIPE, max_buffer_size=3) as child:
        with pipe() as (reader, _):
            for message in ("one", "two", [reader]):
                child.send_nowait(message)
            with pytest.raises(trio.WouldBlock):
                child.send_nowait("more than the buffer holds")
            await child.process.stdin.aclose()
            assert [await child.receive() for _ in range(2)] == ["one", "two"]
            [handle] = await child.receive()
            handle.close()


async def test_handles_go_both_ways(script: Script) -> None:
    path = script(
        """
        async def main():
            async with trio_ipc.open_parent() as parent:
                async for message, stream in parent:
                    await stream.send_all(message)
                    await parent.send({"back": stream})

        trio.run(main)
        """
    )
    with stream_and_client() as (stream, client):
        async with trio_ipc.open_child(path) as child:
            await child.send(b"from the child", stream)
            assert not is_open(stream)
            async with (await child.receive())["back"] as stream:
                assert client.recv(14, socket.MSG_WAITALL) == b"from the child"
                await stream.send_all(b"and back")
                assert client.recv(8, socket.MSG_WAITALL) == b"and back"


async def test_the_block_in_the_script_may_end_before_the_script(script: Script) -> None:
    path = script(
        """
        async def main():
            async with trio_ipc.open_parent() as parent:
                await parent.send("the last message")
            print("still there")
            try:
                async with trio_ipc.open_parent():
                    print("opened again")
            except trio_ipc.NoParent as exc:
                print(exc)

        trio.run(main)
        """
    )
    async with trio_ipc.open_child(path, stdout=subprocess.PIPE) as child:
        assert await child.receive() == "the last message"
        with pytest.raises(trio.EndOfChannel):
            await child.receive()
        text = b"".join([chunk async for chunk in child.process.stdout]).decode()
        await child.process.stdout.aclose()
    assert text.startswith("still there\nthis process was not started with a channel, or it was")


async def test_a_second_call_inside_of_the_first(script: Script) -> None:
    path = script(
        """
        async def main():
            async with trio_ipc.open_parent() as parent:
                try:
                    async with trio_ipc.open_parent():
                        await parent.send("opened again")
                except trio_ipc.NoParent as exc:
                    await parent.send(str(exc))
                await parent.send("the first goes on")

        trio.run(main)
        """
    )
    async with trio_ipc.open_child(path) as child:
        assert "opened already" in await child.receive()
        assert await child.receive() == "the first goes on"


async def test_a_grandchild_inherits_neither_variable_nor_descriptor(script: Script) -> None:
    path = script(
        """
        CODE = '''if True:
            import os, sys
            seen = "TRIO_IPC_CHANNEL" in os.environ
            for number in range(256):
                try:
                    seen = seen or f"{os.fstat(number).st_ino}" == sys.argv[1]
                except OSError:
                    pass
            print("seen" if seen else "not seen", end="")
        '''

        async def main():
            async with trio_ipc.open_parent() as parent:
                inode = str(os.fstat(parent.fileno()).st_ino)
                command = [sys.executable, "-I", "-S", "-c", CODE, inode]
                done = await trio.run_process(command, capture_stdout=True, close_fds=False)
                await parent.send(done.stdout)

        trio.run(main)
        """
    )
    async with trio_ipc.open_child(path) as child:
        assert await child.receive() == b"not seen"


# Its own limits ---------------------------------------------------------------------------------

LIMITED = """
    async def main():
        async with trio_ipc.open_parent({options}) as parent:
            await parent.send("ready")
            async for message in parent:
                await parent.send(message)

    trio.run(main)
"""


@pytest.mark.parametrize("size", [1, 2, 30])
async def test_its_own_max_buffer_size(script: Script, size: int) -> None:
    waits = LIMITED.replace(
        "async for", "sys.stdin.readline()  # nothing is received meanwhile\n            async for"
    )
    path = script(waits.format(options=f"max_buffer_size={size}"))
    async with trio_ipc.open_child(path, max_buffer_size=10, stdin=subprocess.PIPE) as child:
        assert await child.receive() == "ready"
        assert child.statistics().max_buffer_size == 10
        assert child.statistics().credit == size
        for number in range(size):
            child.send_nowait(number)
        with pytest.raises(trio.WouldBlock):
            child.send_nowait("one too many")
        await child.process.stdin.send_all(b"\n")
        assert [await child.receive() for _ in range(size)] == list(range(size))
        await child.process.stdin.aclose()


async def test_without_its_own_limits_it_has_its_parents(script: Script) -> None:
    path = script(
        """
        async def main():
            async with trio_ipc.open_parent() as parent:
                statistics = parent.statistics()
                await parent.send([statistics.max_buffer_size, statistics.credit])
                for message in ("x" * 100, bytes(97), [sys.stdin.buffer, sys.stdout.buffer]):
                    try:
                        await parent.send(message)
                    except trio_ipc.MessageTooLarge as exc:
                        await parent.send(str(exc).partition(",")[0])

        trio.run(main)
        """
    )
    async with trio_ipc.open_child(
        path, max_buffer_size=7, max_message_size=100, max_handles=1
    ) as child:
        assert await child.receive() == [7, 7]
        assert "max_message_size is 100" in await child.receive()
        assert await child.receive() == bytes(97)
        assert "max_handles is 1" in await child.receive()


async def test_the_smaller_max_message_size_counts(script: Script) -> None:
    path = script(LIMITED.format(options="max_message_size=500"))
    async with trio_ipc.open_child(path, max_message_size=1000) as child:
        assert await child.receive() == "ready"
        with pytest.raises(trio_ipc.MessageTooLarge, match="max_message_size is 500"):
            await child.send("x" * 600)
        await child.send("x" * 400)
        assert await child.receive() == "x" * 400
    path = script(LIMITED.format(options="max_message_size=1000"))
    async with trio_ipc.open_child(path, max_message_size=500) as child:
        assert await child.receive() == "ready"
        with pytest.raises(trio_ipc.MessageTooLarge, match="max_message_size is 500"):
            await child.send("x" * 600)
        await child.send("x" * 400)
        assert await child.receive() == "x" * 400


async def test_the_smaller_max_handles_counts(script: Script) -> None:
    path = script(LIMITED.format(options="max_handles=1"))
    async with trio_ipc.open_child(path) as child:
        assert await child.receive() == "ready"
        with pipe() as (reader, writer):
            with pytest.raises(trio_ipc.MessageTooLarge, match="max_handles is 1"):
                await child.send([reader, writer])
            assert is_open(reader)
            await child.send([reader])
            [handle] = await child.receive()
            handle.close()


async def test_its_own_message_type(script: Script) -> None:
    path = script(
        """
        class Job(msgspec.Struct):
            name: str
            stream: trio.SocketStream | None = None

        async def main():
            async with trio_ipc.open_parent(message_type=Job | None) as parent:
                while True:
                    try:
                        job = await parent.receive()
                    except trio_ipc.InvalidMessage as exc:
                        await parent.send(["invalid", str(exc)])
                    except trio.EndOfChannel:
                        break
                    else:
                        await parent.send([type(job).__name__, job])

        trio.run(main)
        """
    )
    async with trio_ipc.open_child(path) as child:
        await child.send({"name": "it"})
        assert await child.receive() == ["Job", {"name": "it", "stream": None}]
        await child.send({"name": 1})
        assert await child.receive() == ["invalid", "Expected `str`, got `int` - at `$.name`"]
        await child.send(None)
        assert await child.receive() == ["NoneType", None]
        with stream_and_client() as (stream, _):
            await child.send({"name": "with a stream", "stream": stream})
            kind, job = await child.receive()
            assert kind == "Job"
            async with job["stream"]:
                assert job["name"] == "with a stream"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_buffer_size": -1}, ValueError),
        ({"max_buffer_size": 1.5}, TypeError),
        ({"max_message_size": -1}, ValueError),
        ({"max_message_size": "1"}, TypeError),
        ({"max_handles": 254}, ValueError),
        ({"message_type": trio.SocketStream | trio.SocketListener}, TypeError),
    ],
    ids=str,
)
async def test_options_that_make_no_sense(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        async with trio_ipc.open_parent(**options):
            pytest.fail("a parent was found")


# No parent --------------------------------------------------------------------------------------


async def assert_no_parent(why: str) -> None:
    with pytest.raises(trio_ipc.NoParent, match=why) as info:
        async with trio_ipc.open_parent():
            pytest.fail("a parent was found")
    assert isinstance(info.value, RuntimeError)
    assert VARIABLE not in os.environ  # nobody tries that again


async def test_a_process_without_a_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    await assert_no_parent("not started with a channel")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "foo",
        "3",
        "3:4",
        "3:4:5:6",
        "a:b:c",
        "3:4:",
        "-1:0:0",
        "1e3:1:1",
        "987654:1:1",
        "99999999999:1:1",
    ],
)
async def test_a_malformed_environment(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    await assert_no_parent(f"{VARIABLE}='{value}' is no channel")


def name(number: int, inode_off_by: int = 0) -> str:
    status = os.fstat(number)
    return f"{number}:{status.st_dev}:{status.st_ino + inode_off_by}"


async def test_a_number_that_is_something_else_by_now(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = socket.socketpair()
    with first, second:
        monkeypatch.setenv(VARIABLE, name(first.fileno(), inode_off_by=1))
        await assert_no_parent(f"is stale: descriptor {first.fileno()} is something else now")
        first.send(b"untouched")
        assert second.recv(100) == b"untouched"


@pytest.mark.parametrize("kind", ["file", "pipe", "TCP", "UDP", "Unix datagram", "Unix listener"])
async def test_a_descriptor_that_is_no_channel(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if kind == "file":
        number = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    elif kind == "pipe":
        number, writer = os.pipe()
        os.close(writer)
    else:
        family = socket.AF_UNIX if kind.startswith("Unix") else socket.AF_INET
        stream = kind in ("TCP", "Unix listener")
        sock = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        if kind == "Unix listener":
            sock.bind(str(tmp_path / "s"))
            sock.listen()
        number = sock.detach()
    try:
        os.set_inheritable(number, True)
        monkeypatch.setenv(VARIABLE, name(number))
        await assert_no_parent("is no channel|was gone")
        if kind != "Unix listener":
            # It belongs to somebody else, who finds it as it was.
            assert os.get_inheritable(number)
            assert os.get_blocking(number)
    finally:
        try:
            os.close(number)
        except OSError:
            pass


async def test_a_parent_that_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    monkeypatch.setenv(VARIABLE, name(ours.fileno()))
    number = ours.detach()  # from now on it is open_parent's
    await assert_no_parent("the parent was gone before the channel was opened")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


async def test_a_parent_that_speaks_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.send(b'{"cmd": "NODE_HANDLE"}\n')
        monkeypatch.setenv(VARIABLE, name(ours.fileno()))
        ours.detach()
        await assert_no_parent("no parent of its kind: unexpected frame of kind '{'")


async def test_waiting_for_the_parent_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        monkeypatch.setenv(VARIABLE, name(ours.fileno()))
        ours.detach()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def open_parent() -> None:
                    async with trio_ipc.open_parent():
                        pytest.fail("a parent was found")

                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
        assert theirs.recv(1) == b""  # and nothing of it is left


# A program that never opens its channel -----------------------------------------------------------


async def test_a_program_that_exits_without_a_word() -> None:
    async with trio_ipc.open_child([sys.executable, "-I", "-S", "-c", "pass"]) as child:
        with pytest.raises(
            trio.BrokenResourceError,
            match=rf"child {child.pid}, which exited with status 0, has never opened its channel:"
            r" does it call open_parent\(\)\? A Node program needs protocol='node'",
        ):
            await child.receive()
        with pytest.raises(trio.BrokenResourceError, match="exited with status 0, is gone"):
            await child.send("anything")
    assert child.process.returncode == 0


async def test_a_program_that_nobody_talks_to() -> None:
    async with trio_ipc.open_child([sys.executable, "-I", "-S", "-c", "pass"]) as child:
        await child.process.wait()
    assert child.process.returncode == 0


async def test_a_program_that_fails_without_a_word() -> None:
    with pytest.raises(trio_ipc.ChildFailed) as info:
        async with trio_ipc.open_child([sys.executable, "-c", "raise SystemExit(3)"]) as child:
            await child.receive()
    assert info.value.returncode == 3
    assert info.value.remote_traceback is None
    assert info.value.cmd == [sys.executable, "-c", "raise SystemExit(3)"]


async def test_a_program_that_goes_on_without_its_channel() -> None:
    sleeper = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)"]
    with stream_and_client() as (stream, client):
        async with trio_ipc.open_child(sleeper, grace_period=0.1) as child:
            await child.send("nobody reads this")
            await child.send([stream])
            with pytest.raises(trio.WouldBlock):
                child.receive_nowait()
        assert child.process.returncode == -signal.SIGTERM
        assert client.recv(1) == b""


async def test_a_program_that_closes_its_channel_and_stays() -> None:
    code = """if True:
        import os, sys
        os.close(int(os.environ["TRIO_IPC_CHANNEL"].split(":")[0]))
        sys.stdin.read()
    """
    command = [sys.executable, "-I", "-S", "-c", code]
    async with trio_ipc.open_child(command, stdin=subprocess.PIPE) as child:
        with pytest.raises(trio.BrokenResourceError, match="has never opened its channel"):
            await child.receive()
        assert child.process.returncode is None
        await child.process.stdin.aclose()
    assert child.process.returncode == 0


async def test_a_program_that_does_not_exist(tmp_path: Path) -> None:
    for target in ([str(tmp_path / "nothing")], tmp_path / "nothing"):
        with pytest.raises(FileNotFoundError):
            async with trio_ipc.open_child(target):
                pytest.fail("a child was started")


async def test_a_raw_program_finds_the_channel_by_its_description() -> None:
    # What is said about the variable: number, device, inode. The rest is the protocol's.
    code = """if True:
        import os, socket, struct
        number, device, inode = map(int, os.environ["TRIO_IPC_CHANNEL"].split(":"))
        status = os.fstat(number)
        assert (status.st_dev, status.st_ino) == (device, inode)
        assert number > 2
        parent = socket.socket(fileno=number)
        kind, handles, grant, length = struct.unpack("!BBHI", parent.recv(8, socket.MSG_WAITALL))
        assert kind == ord("H")
        hello = parent.recv(length, socket.MSG_WAITALL)
        header = struct.pack("!BBHI", ord("H"), 0, 0, length)
        message = b"\\xdd\\0\\0\\0\\1\\xa5hello"
        parent.sendall(header + hello)
        parent.sendall(struct.pack("!BBHI", ord("M"), 0, 0, len(message)) + message)
        parent.sendall(struct.pack("!BBHI", ord("E"), 0, 0, 0))
    """
    async with trio_ipc.open_child([sys.executable, "-I", "-S", "-c", code]) as child:
        assert await child.receive() == "hello"
        with pytest.raises(trio.EndOfChannel):
            await child.receive()


async def test_a_program_that_talks_nonsense() -> None:
    code = """if True:
        import os, socket
        parent = socket.socket(fileno=int(os.environ["TRIO_IPC_CHANNEL"].split(":")[0]))
        parent.sendall(b"hello, parent!")
    """
    async with trio_ipc.open_child([sys.executable, "-I", "-S", "-c", code]) as child:
        with pytest.raises(trio_ipc.ProtocolError, match="unexpected frame of kind 'h'"):
            await child.receive()
        with pytest.raises(trio_ipc.ProtocolError):
            await child.send("anything")
