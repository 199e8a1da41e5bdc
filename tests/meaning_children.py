"""What the children of the meaning tests do.

In a module of its own, because a child that would import pytest takes twice as long to start.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from typing import Any

import trio

import trio_ipc

# A message that no kernel takes at once.
MANY_BYTES = 4_000_000

Parent = trio_ipc.Channel[Any, Any]


async def do_nothing(parent: Parent) -> None:
    pass


async def echo(parent: Parent) -> None:
    async for message in parent:
        await parent.send(message)


async def send_all(parent: Parent, messages: list[Any]) -> None:
    for message in messages:
        await parent.send(message)


# A second way to the test: the standard streams -----------------------------------------------


class Listener:
    """What the test says on the child's standard input."""

    def __init__(self) -> None:
        self._stream = trio.lowlevel.FdStream(os.dup(0))

    async def hear(self) -> str:
        """Wait for a line, of which there is never more than one under way; at the end, none."""
        return (await self._stream.receive_some()).decode()


def say(line: object) -> None:
    os.write(1, f"{line}\n".encode())


# 2: send --------------------------------------------------------------------------------------


async def check_chaos(parent: Parent) -> None:
    got = []
    async for message in parent:
        assert set(message["data"]) <= {message["number"] % 251}
        got.append(message["number"])
    await parent.send(got)


async def count_bytes_when_told(parent: Parent) -> None:
    await Listener().hear()
    count = 0
    async for message in parent:
        count += len(message)
    say(f"{count} bytes, then the end")


async def send_much_and_leave(parent: Parent, how: str, size: int) -> None:
    await parent.send(b"x" * size)
    await parent.send("after it")
    if how == "raise":
        raise ValueError("on purpose")
    if how == "cancel":
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep_forever()


# 3: receive -----------------------------------------------------------------------------------


async def say_sizes(parent: Parent) -> None:
    async for message in parent:
        say(len(message))


async def send_and_be_elsewhere(parent: Parent, size: int) -> None:
    parent.send_nowait("before it")
    parent.send_nowait(b"x" * size)
    await Listener().hear()


async def send_drain_and_say(parent: Parent, size: int) -> None:
    await parent.send(b"x" * size)
    await parent.send("x" * size)
    await parent.drain()
    say("drained")
    await Listener().hear()


# 4: order -------------------------------------------------------------------------------------


async def send_when_told(parent: Parent) -> None:
    await Listener().hear()
    await parent.send(0)


async def take_when_told(parent: Parent) -> None:
    listener = Listener()
    while order := await listener.hear():
        receive, send = map(int, order.split())
        got = [await parent.receive() for _ in range(receive)]
        for number in range(send):
            await parent.send(number)
        say([len(message) if len(message) > 10 else message for message in got])


# 5: bounds ------------------------------------------------------------------------------------


async def take_some_when_told(parent: Parent) -> None:
    listener = Listener()
    await parent.send("ready")
    while count := await listener.hear():
        for _ in range(int(count)):
            received = await parent.receive()
            if isinstance(received, list):
                for handle in received:
                    handle.close()
        say(f"took {int(count)}")


async def fill_and_say(parent: Parent) -> None:
    def fill() -> int:
        count = 0
        try:
            while True:
                parent.send_nowait("x")
                count += 1
        except trio.WouldBlock:
            return count

    say(filled := fill())
    for _ in range(3):
        await parent.send("x")
        # With no buffer, the parent may be in `receive` again, and have room for one more.
        say("sent one more" + (", and no other" if filled and not fill() else ""))


async def check_numbers(parent: Parent) -> None:
    await parent.send("ready")
    count = 0
    async for number, data in parent:
        assert number == count
        assert data == b"x" * len(data)
        count += 1
    await parent.send(count)


async def send_then_receive(channel: Parent, count: int, size: int) -> None:
    for number in range(count):
        await channel.send([number, b"x" * size])
    for number in range(count):
        assert await channel.receive() == [number, b"x" * size]


async def send_while_receiving(channel: Parent, count: int, size: int) -> None:
    async def send_all() -> None:
        for _ in range(count):
            await channel.send(b"x" * size)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all)
        for _ in range(count):
            assert len(await channel.receive()) == size


def peak_memory() -> int:
    """Of this process since its exec; `ru_maxrss` counts the parent's, too."""
    with open("/proc/self/status") as file:
        [line] = [line for line in file if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


async def measure_memory(parent: Parent, count: int, size: int) -> None:
    before = peak_memory()
    for _ in range(count):
        assert len(await parent.receive()) == size
    for _ in range(count):
        await parent.send(b"x" * size)
    await parent.send(peak_memory() - before)


# 6: the end -----------------------------------------------------------------------------------


async def collect(parent: Parent) -> None:
    got = []
    async for message in parent:
        got.append(len(message) if isinstance(message, bytes) else message)
    await parent.send([*got, "the end"])


async def send_and_end(parent: Parent, how: str) -> None:
    for number in range(100):
        parent.send_nowait(number)
    await parent.send("x" * MANY_BYTES)
    if how == "close":
        parent.close()
    elif how == "aclose":
        await parent.aclose()
    elif how == "close-half":
        parent.send_channel.close()
        async for _ in parent:
            pass


async def close_and_live(parent: Parent) -> None:
    await parent.send("a message")
    parent.close()
    await Listener().hear()
    say("alive")


async def stop_receiving(parent: Parent) -> None:
    parent.receive_channel.close()
    say("stopped")
    await Listener().hear()
    await parent.send("still")


async def send_until_broken(parent: Parent) -> None:
    try:
        while True:
            await parent.send("x")
    except trio.BrokenResourceError as exc:
        say(type(exc).__name__)
    say(await parent.receive())


async def wait_for_kill(parent: Parent) -> None:
    await parent.send("ready")
    await trio.sleep_forever()


async def send_and_exit_at_once(parent: Parent) -> None:
    for number in range(3):
        await parent.send(number)
    await parent.drain()
    os._exit(0)


# 7: leaving --------------------------------------------------------------------------------


def note(log: str, line: object) -> None:
    with open(log, "a") as file:
        print(line, file=file)


async def log_sizes(parent: Parent, log: str) -> None:
    async for message in parent:
        note(log, len(message))
    note(log, "the end")


async def finish_slowly(parent: Parent, log: str) -> None:
    async for _ in parent:
        pass
    note(log, "the end")
    await trio.sleep(0.2)
    note(log, "finished")


async def send_much(parent: Parent, log: str) -> None:
    for number in range(3000):
        await parent.send(number)
    await parent.send("x" * MANY_BYTES)
    await parent.drain()
    note(log, "sent everything")


async def ignore_the_end(parent: Parent, log: str) -> None:
    await parent.send("ready")
    try:
        await trio.sleep_forever()
    except BaseException as exc:
        note(log, type(exc).__name__)
        raise


async def never_end(parent: Parent, how: str) -> None:
    await parent.send("ready")
    await parent.drain()
    if how == "block":
        time.sleep(1000)  # noqa: ASYNC251
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def clean_up_slowly(parent: Parent, log: str) -> None:
    await parent.send("ready")
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.2)
            note(log, "cleaned up")


async def finish_when_told(parent: Parent) -> None:
    async for _ in parent:
        pass
    say("the end")
    await Listener().hear()
    say("finished")


async def say_how_it_ends(parent: Parent) -> None:
    async for _ in parent:
        pass
    say("the end")
    try:
        await trio.sleep_forever()
    except BaseException as exc:
        say(type(exc).__name__)
        raise


# 8: failing --------------------------------------------------------------------------------


async def fail(parent: Parent) -> None:
    fail_deeper()


def fail_deeper() -> None:
    raise ValueError("on purpose")


async def fail_in_two_tasks(parent: Parent) -> None:
    async def raise_it(text: str) -> None:
        raise ValueError(text)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(raise_it, "first")
        nursery.start_soon(raise_it, "second")


async def leave_with(parent: Parent, status: Any) -> None:
    sys.exit(status)


async def fail_at_the_end(parent: Parent) -> None:
    async for _ in parent:
        pass
    raise ValueError("at the end")


async def fail_when_told(parent: Parent) -> None:
    await parent.receive()
    raise ValueError("when told")


async def fail_when_cancelled(parent: Parent) -> None:
    await parent.send("ready")
    try:
        await trio.sleep_forever()
    finally:
        raise ValueError("in its clean-up")


@dataclasses.dataclass
class Unhashable(Exception):
    what: str


async def fail_unhashably(parent: Parent) -> None:
    raise Unhashable("the child's")


# 9: signals --------------------------------------------------------------------------------


async def live_until_cancelled(parent: Parent, where: str) -> None:
    async def another(*, task_status: Any) -> None:
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            say("finally in another task")

    async with trio.open_nursery() as nursery:
        await nursery.start(another)
        say("begun")
        try:
            if where == "receive":
                async for _ in parent:
                    pass
            elif where == "receive_nothing_and_send":
                while True:
                    await parent.send("x")
            elif where == "other-scope":
                with trio.fail_after(1000):
                    await trio.sleep_forever()
            else:
                await trio.sleep_forever()
        except BaseException as exc:
            say(type(exc).__name__)
            raise
        finally:
            say("finally")


async def receive_after_the_death(parent: Parent) -> None:
    with trio.CancelScope(shield=True):
        say("begun")
        await parent._connection.gone.wait()  # type: ignore[attr-defined]
        say(await parent.receive())
        try:
            await parent.receive()
        except trio.BrokenResourceError as exc:
            say(type(exc).__name__)


async def have_a_child(parent: Parent) -> None:
    async with trio_ipc.open_child(live_until_cancelled, "sleep"):
        await trio.sleep_forever()


async def how_a_grandchild_takes_sigint(parent: Parent) -> None:
    code = "import signal; print(getattr(signal.getsignal(signal.SIGINT), '__name__', 'ignored'))"
    await trio.run_process([sys.executable, "-I", "-S", "-c", code])


async def shield_until_told(parent: Parent) -> None:
    try:
        with trio.CancelScope(shield=True):
            say("begun")
            say(await parent.receive())
            say(await parent.receive())
        await trio.lowlevel.checkpoint()
    finally:
        say("finally")


async def handle_sigterm(parent: Parent) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        say("begun")
        async for _ in signals:
            say("SIGTERM")
            return


async def send_and_terminate(parent: Parent) -> None:
    for number in range(1000):
        parent.send_nowait(number)
    os.kill(os.getpid(), signal.SIGTERM)
    await trio.sleep_forever()


# 10: handles -------------------------------------------------------------------------------


async def echo_on(parent: Parent) -> None:
    """Echo on a handle, be it a channel or a stream, see its end, and keep it open."""
    async with await parent.receive() as handle:
        if isinstance(handle, trio_ipc.Channel):
            async for message in handle:
                await handle.send(message)
        else:
            while data := await handle.receive_some():
                await handle.send_all(data)
        await parent.send("seen the end")
        async for _ in parent:
            pass


# 11: the environment -----------------------------------------------------------------------


async def report_environment(parent: Parent, names: list[str]) -> None:
    done = await trio.run_process(["env"], capture_stdout=True)
    inherited = [line.partition("=")[0] for line in done.stdout.decode().splitlines()]
    await parent.send(
        {
            "number": parent.fileno(),
            "variables": [name for name in names if name in os.environ],
            "variables of a grandchild": [name for name in names if name in inherited],
            "inheritable": os.get_inheritable(parent.fileno()),
        }
    )


# What a process has open, a line each.
LIST_OPEN = """
import os
for number in os.listdir("/proc/self/fd"):
    try:
        print(os.readlink(f"/proc/self/fd/{number}"))
    except FileNotFoundError:
        pass  # that of the directory
"""


async def list_what_a_grandchild_inherits(parent: Parent) -> None:
    done = await trio.run_process(
        [sys.executable, "-I", "-S", "-c", LIST_OPEN], capture_stdout=True, close_fds=False
    )
    await parent.send(
        {
            "channel": os.readlink(f"/proc/self/fd/{parent.fileno()}"),
            "inherited": done.stdout.decode().splitlines(),
        }
    )


# Idle --------------------------------------------------------------------------------------


class Steps(trio.abc.Instrument):
    """How many steps the tasks of this process take, except for this one."""

    def __init__(self) -> None:
        self.count = 0
        self._task = trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is not self._task


async def count_steps(seconds: float) -> int:
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    try:
        await trio.sleep(seconds)
    finally:
        trio.lowlevel.remove_instrument(steps)
    return steps.count


async def count_steps_of_its_own(parent: Parent, how: str) -> None:
    await parent.send(await parent.receive())
    async with trio.open_nursery() as nursery:
        if how == "receive":
            nursery.start_soon(parent.receive)
        while await count_steps(0.1):
            pass
        say(f"{await count_steps(0.2)} steps")
        nursery.cancel_scope.cancel()


# What it is called -------------------------------------------------------------------------


async def say_its_name(parent: Parent) -> None:
    await parent.send(repr(parent))
