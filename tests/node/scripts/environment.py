from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import trio
from common import descriptors, run

import trio_ipc


def found_variables() -> list[str]:
    return [name for name in os.environ if re.match("NODE_CHANNEL_|NODE_UNIQUE_ID|TRIO_IPC_", name)]


async def variables() -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.send(found_variables())


async def echo() -> None:
    async with trio_ipc.open_parent() as parent:
        async for message in parent:
            await parent.send(message)


async def echo_beside_streams() -> None:
    async with trio_ipc.open_parent() as parent:
        async for message in parent:
            # The channel sits where one of these was.
            print("who prints does not print into the channel", flush=True)
            assert os.read(0, 1000) == b""
            await parent.send(message)


async def inherits_nothing() -> None:
    channel = os.readlink("/proc/self/fd/3")
    async with trio_ipc.open_parent() as parent:
        assert channel.startswith("socket:")
        code = "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in range(100)"
        code += " if os.path.exists(f'/proc/self/fd/{n}')])"
        # Not even with all that can be inherited.
        grandchild = await trio.run_process(
            [sys.executable, "-I", "-S", "-c", code],
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            close_fds=False,
        )
        assert b"/dev/null" in grandchild.stdout
        assert channel not in grandchild.stdout.decode()
        await parent.send("nothing")


async def fork_stdio() -> None:
    async with trio_ipc.open_parent() as parent:
        os.write(1, b"to stdout")
        os.write(2, b"to stderr")
        os.write(4, b"to another")
        await parent.send(sys.stdin.read())


async def fork_and_spawn(node: str, program: str) -> None:
    async with trio_ipc.open_parent() as parent:
        grandchild = await trio.run_process(
            [node, program, "without_a_channel"],
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            close_fds=False,
        )
        await parent.send(json.loads(grandchild.stdout))


async def in_the_middle(node: str, program: str) -> None:
    async with trio_ipc.open_parent() as parent:
        command = [node, program, "echo"]
        async with trio_ipc.open_child(command, protocol="node") as child:
            async for message in parent:
                await child.send(message)
                await parent.send(await child.receive())


async def twice() -> None:
    async with trio_ipc.open_parent() as parent:
        await parent.send(sorted(descriptors()))
    try:
        async with trio_ipc.open_parent():
            raise AssertionError("the channel was opened a second time")
    except trio_ipc.NoParent:
        pass


if __name__ == "__main__":
    run(
        variables,
        echo,
        echo_beside_streams,
        inherits_nothing,
        fork_stdio,
        fork_and_spawn,
        in_the_middle,
        twice,
    )
