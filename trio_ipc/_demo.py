"""``python -m trio_ipc demo``: the steps, each with the functions that its children run.

Made to be read as well: each step stands for itself, and uses nothing but what everyone can use.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import trio

import trio_ipc

from ._demo_runner import Console, Result, Say, Seen, Step, expect, run_step, run_steps

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

assert sys.platform != "win32"  # see __main__.py, which says so in a friendlier way

HOST = "127.0.0.1"
HTTP_HEAD = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n"
INTERRUPTED = 128 + signal.SIGINT  # what a shell shows for Ctrl-C


# Messages ---------------------------------------------------------------------------------------


async def messages(say: Say) -> Seen:
    """An open child is a channel, whatever it is that runs at the other end."""
    async with trio_ipc.open_child(add_up) as child:
        numbers = [1, 2, 3.5]
        await child.send(numbers)
        say(f"parent {os.getpid()} -> function child {child.pid}: {numbers}")
        total = await child.receive()
        say(f"function child {child.pid} -> parent {os.getpid()}: {total}")
        expect(total == {"sum": 6.5, "pid": child.pid}, "the function child answered the sum")

    # A script has to find the library as well, which may not be installed.
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    script = Path(__file__).with_name("_demo_script.py")
    async with trio_ipc.open_child(script, "a script", env=environ) as child:
        greeting = await child.receive()
        say(f"script child {child.pid} -> parent {os.getpid()}: {greeting}")
        expect(greeting == {"text": "a script is here", "pid": child.pid}, "the script spoke first")
        await child.send("hello")
        say(f"parent {os.getpid()} -> script child {child.pid}: 'hello'")
        answer = await child.receive()
        say(f"script child {child.pid} -> parent {os.getpid()}: {answer}")
        expect(answer == {"text": "HELLO", "pid": child.pid}, "the script child answered")
    return {"function_child": total, "script_child": [greeting, answer]}


async def add_up(parent: trio_ipc.Channel[Any, list[float]]) -> None:
    async for numbers in parent:
        await parent.send({"sum": sum(numbers), "pid": os.getpid()})


# One listening socket, two processes --------------------------------------------------------------


async def shared_listener(port: int, say: Say) -> Seen:
    """Both accept from the same socket at the same time, and each stops when it has its share."""
    share = 3
    [listener] = await trio.open_tcp_listeners(port, host=HOST)
    async with listener, trio_ipc.open_child(answer_in_child) as child:
        await child.send(share, listener)  # shared: it stays open here, too
        expect(await child.receive() == "got it", "the child has the listener")
        say(f"parent {os.getpid()} and child {child.pid} both accept on {address(listener)}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_some, share, listener, "the parent")
            answers = await ask_all(listener, [""] * (2 * share), say)
    seen = Counter(answers)
    by_parent = seen[f"answered by the parent, {os.getpid()}"]
    by_child = seen[f"answered by the child, {child.pid}"]
    expect(by_parent == by_child == share, f"parent and child answered {share} clients each")
    return {"clients": len(answers), "by_parent": by_parent, "by_child": by_child}


async def answer_in_child(parent: trio_ipc.Channel[Any, Any]) -> None:
    share, listener = await parent.receive()
    async with listener:
        await parent.send("got it")
        await answer_some(share, listener, "the child")


async def answer_some(share: int, listener: trio.SocketListener, who: str) -> None:
    for _ in range(share):
        async with await listener.accept() as client:
            await client.send_all(f"answered by {who}, {os.getpid()}\n".encode())


# The parent accepts, and hands over ---------------------------------------------------------------


class Visit(msgspec.Struct):
    """What the parent hands over: a connection, and what it has read from it already."""

    request: bytes
    client: trio.SocketStream


VisitorsChild = trio_ipc.ChildChannel[Visit, Any]


class Reception(NamedTuple):
    """A listener, and the children that its connections go to."""

    listener: trio.SocketListener
    normal: VisitorsChild
    special: VisitorsChild


async def hand_over(port: int, say: Say) -> Seen:
    """The parent reads just enough to choose; the answer comes from the child alone."""
    paths = ["/", "/special", "/news", "/special/offer", "/special", "/old/news"]
    async with open_reception(port) as (listener, normal, special):
        say(f"parent {os.getpid()} accepts on {address(listener)}")
        say(f"normal child {normal.pid}, special child {special.pid}")
        requests = [f"GET {path} HTTP/1.0\r\n\r\n" for path in paths]
        answers = await ask_all(listener, requests, say)
    for path, answer in zip(paths, answers, strict=True):
        name, pid = ("special", special.pid) if "special" in path else ("normal", normal.pid)
        expected = f"answered by the {name} child, {pid}"
        expect(answer == HTTP_HEAD + expected, f"{path} was {expected}")
    by_special = sum("special" in path for path in paths)
    return {"clients": len(paths), "by_normal": len(paths) - by_special, "by_special": by_special}


@asynccontextmanager
async def open_reception(port: int) -> AsyncGenerator[Reception, None]:
    """Hand over what connects to ``port``, as long as the block lasts."""
    [listener] = await trio.open_tcp_listeners(port, host=HOST)
    async with (
        listener,
        trio_ipc.open_child(receive_visits, "normal", child_message_type=Visit) as normal,
        trio_ipc.open_child(receive_visits, "special", child_message_type=Visit) as special,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(trio.serve_listeners, partial(usher, normal, special), [listener])
        yield Reception(listener, normal, special)
        # Accept no more. The children may finish what they are at: leaving their blocks lets them.
        nursery.cancel_scope.cancel()


async def usher(normal: VisitorsChild, special: VisitorsChild, client: trio.SocketStream) -> None:
    request = await read_request(client)
    child = special if b"special" in first_line(request) else normal
    await child.send(Visit(request, client))  # a connection moves: it is closed here


async def read_request(client: trio.SocketStream) -> bytes:
    """At least the first line, or what there is of it."""
    data = b""
    with trio.move_on_after(3):  # whoever connects and says nothing is answered, too
        try:
            while b"\n" not in data and len(data) < 4096:
                chunk = await client.receive_some()
                if not chunk:
                    break
                data += chunk
        except trio.BrokenResourceError:
            pass  # the client has gone, and its child will notice
    return data


def first_line(request: bytes) -> bytes:
    return request.partition(b"\n")[0]


async def receive_visits(parent: trio_ipc.Channel[Any, Visit], name: str) -> None:
    """A child that answers many clients at once, and the last of them after the channel's end."""
    async with trio.open_nursery() as nursery:
        async for visit in parent:
            nursery.start_soon(answer_visit, visit, name)


async def answer_visit(visit: Visit, name: str) -> None:
    head = HTTP_HEAD if b" HTTP/" in first_line(visit.request) else ""
    answer = f"{head}answered by the {name} child, {os.getpid()}\n"
    async with visit.client as client:
        try:
            await client.send_all(answer.encode())
            await client.send_eof()
            # To close while the client still talks would be to reset: the answer might be lost.
            with trio.move_on_after(1):
                async for _ in client:
                    pass
        except trio.BrokenResourceError:
            pass  # the client has gone


# A child that is a Node program -------------------------------------------------------------------


async def node_child(port: int, say: Say) -> Seen:
    """It speaks the protocol of `child_process.fork()`, and gets the connection with a message."""
    if shutil.which("node") is None:
        say("there is no `node` on the path, so this is left out")
        return {"node": None}
    [listener] = await trio.open_tcp_listeners(port, host=HOST)
    async with listener, trio_ipc.open_child(Path(__file__).with_name("_demo_program.js")) as child:
        await child.send({"text": "hello"})
        say(f"parent {os.getpid()} -> Node child {child.pid}: hello")
        answer = await child.receive()
        say(f"Node child {child.pid} -> parent {os.getpid()}: {answer}")
        expect(answer == {"text": "HELLO", "pid": child.pid}, "the Node child answered")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_on, listener, child)
            [text] = await ask_all(listener, ["hello"], say)
        expect(text.startswith("answered by Node "), "Node answered the client")
        expect(text.endswith(f", {child.pid}"), "and that was the child")
    return {"node": text.split()[3].rstrip(","), "returncode": child.process.returncode}


async def pass_on(listener: trio.SocketListener, child: trio_ipc.ChildChannel[Any, Any]) -> None:
    await child.send("a client", await listener.accept())


# Two children, without the parent -----------------------------------------------------------------


async def direct_channel(say: Say) -> Seen:
    """A channel is a handle like any other: here it is an argument."""
    one_end, other_end = trio_ipc.open_channel_pair(max_buffer_size=10)
    async with (
        trio_ipc.open_child(square, one_end) as squarer,
        trio_ipc.open_child(ask_for_squares, other_end, 1000) as asker,
    ):
        say(f"parent {os.getpid()} gave an end each to {squarer.pid} and {asker.pid}, and has none")
        for end in one_end, other_end:
            expect(end.fileno() == -1, "the parent's ends are closed")
        seen: Seen = await asker.receive()
    expect(seen["answered_by"] == [squarer.pid], "the other child answered, and nobody else")
    expect(seen["correct"] == seen["questions"], "every answer was correct")
    say(f"{asker.pid} asked {seen['questions']} questions, and {squarer.pid} answered them all:")
    say(f"{seen['microseconds_each']:.0f} us for a question and its answer")
    return seen


async def square(
    parent: trio_ipc.Channel[Any, Any], asker: trio_ipc.Channel[tuple[int, int], int]
) -> None:
    async with asker:
        async for number in asker:
            await asker.send((number * number, os.getpid()))


async def ask_for_squares(
    parent: trio_ipc.Channel[Any, Any], squarer: trio_ipc.Channel[int, list[int]], questions: int
) -> None:
    answered_by: set[int] = set()
    correct = 0
    start = time.perf_counter()
    async with squarer:
        for number in range(questions):
            await squarer.send(number)
            result, pid = await squarer.receive()
            correct += result == number * number
            answered_by.add(pid)
    seconds = time.perf_counter() - start
    await parent.send(
        {
            "questions": questions,
            "correct": correct,
            "answered_by": answered_by,
            "microseconds_each": round(seconds / questions * 1e6, 1),
        }
    )


# Children that misbehave --------------------------------------------------------------------------


async def failing_child(say: Say) -> Seen:
    """Nobody has to watch the child: why it failed is raised here."""
    try:
        async with trio_ipc.open_child(divide, 7, 0) as child:
            say(f"child {child.pid} divides 7 by 0")
            await trio.sleep_forever()  # cancelled when the child fails
    except trio_ipc.ChildFailed as exc:
        failure = exc
    remote_traceback = failure.remote_traceback or ""
    say(f"ChildFailed, exit status {failure.returncode}, and this is what the child said:")
    say(remote_traceback.rstrip())
    expect(failure.returncode == 1, "the exit status is 1")
    expect("return numerator / denominator" in remote_traceback, "the traceback shows the line")
    expect("ZeroDivisionError" in remote_traceback, "the traceback shows the exception")
    return {"returncode": failure.returncode, "remote_traceback": remote_traceback}


async def divide(parent: trio_ipc.Channel[Any, Any], numerator: int, denominator: int) -> float:
    return numerator / denominator


async def stubborn_child(say: Say) -> Seen:
    """The block is left after twice its grace period, whatever the child does."""
    grace_period = 0.3
    async with trio_ipc.open_child(ignore_sigterm, grace_period=grace_period) as child:
        expect(await child.receive() == "ready", "the child is ready")
        say(f"child {child.pid} ignores SIGTERM, and the end of its channel; leaving its block")
        start = time.perf_counter()
    seconds = time.perf_counter() - start
    returncode = child.process.returncode
    say(f"{grace_period} s to finish, SIGTERM, {grace_period} s more, SIGKILL")
    say(f"gone after {seconds:.2f} s, returncode {returncode}")
    expect(returncode == -signal.SIGKILL, "the child was killed")
    expect(seconds >= 2 * grace_period, "the child had its time")
    return {"returncode": returncode, "seconds_to_stop": round(seconds, 3)}


async def ignore_sigterm(parent: trio_ipc.Channel[Any, Any]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    await parent.send("ready")
    await trio.sleep_forever()


# Clients ----------------------------------------------------------------------------------------


async def ask_all(listener: trio.SocketListener, requests: list[str], say: Say) -> list[str]:
    """Connect once for each request, all at the same time; the answers, in the same order."""
    host, port = listener.socket.getsockname()
    answers = [""] * len(requests)

    async def ask(index: int, request: str) -> None:
        async with await trio.open_tcp_stream(host, port) as stream:
            await stream.send_all(request.encode())
            answer = b"".join([chunk async for chunk in stream]).decode().rstrip("\n")
        words = [f"client {index + 1}", *request.splitlines()[:1]]
        say(f"{', '.join(words)}: {answer.splitlines()[-1]}")
        answers[index] = answer

    async with trio.open_nursery() as nursery:
        for index, request in enumerate(requests):
            nursery.start_soon(ask, index, request)
    return answers


def address(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()
    return f"{host}:{port}"


# All together -----------------------------------------------------------------------------------


def make_steps(port: int) -> list[Step]:
    """What is shown, in its order; those who listen do so on ``port``."""
    return [
        Step("messages", "Messages both ways, with a function and with a script", messages),
        Step(
            "shared-listener",
            "One listening socket: parent and child both answer",
            partial(shared_listener, port),
        ),
        Step(
            "hand-over",
            "The parent accepts, looks, and hands over to one of two children",
            partial(hand_over, port),
        ),
        Step(
            "node-child",
            "A Node program is the child, and answers a client",
            partial(node_child, port),
        ),
        Step(
            "direct-channel",
            "Two children talk directly, over a channel that the parent gave away",
            direct_channel,
        ),
        Step("failing-child", "A child fails: its traceback arrives here", failing_child),
        Step(
            "stubborn-child", "A child ignores SIGTERM: it is stopped all the same", stubborn_child
        ),
    ]


async def serve_visitors(port: int, console: Console) -> Result:
    console.title("Serving until Ctrl-C. From another terminal, try")
    step = Step("keep", "", partial(receive_until_ctrl_c, port), patience=math.inf)
    return await run_step(step, console)


async def receive_until_ctrl_c(port: int, say: Say) -> Seen:
    """The hand-over once more, for clients from outside."""
    async with open_reception(port) as (listener, normal, special):
        with trio.open_signal_receiver(signal.SIGINT) as interrupts:
            where = address(listener)
            say(f"curl http://{where}/          for normal child {normal.pid}")
            say(f"curl http://{where}/special   for special child {special.pid}")
            say(f"nc {where.replace(':', ' ')}   and a line of text, special or not")
            await anext(interrupts)
        say("closing")
    return {}


async def run(port: int, keep: bool, as_json: bool) -> int:
    """The demo; what it returns is the exit status."""
    console = Console(None if as_json else sys.stdout)
    status = INTERRUPTED
    async with trio.open_nursery() as nursery:
        await nursery.start(cancel_at_ctrl_c, nursery.cancel_scope)
        console.introduce()
        report = await run_steps(make_steps(port), console)
        status = 0 if report.ok else 1
        if as_json:
            print(report.to_json(), flush=True)
        if keep:
            served = await serve_visitors(port, Console(sys.stderr) if as_json else console)
            status = status if served.ok else 1
        nursery.cancel_scope.cancel()
    if status == INTERRUPTED:
        print("interrupted", file=sys.stderr)
    return status


async def cancel_at_ctrl_c(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """In place of the exception, which would arrive in a group, or break a step's clean-up."""
    with trio.open_signal_receiver(signal.SIGINT) as interrupts:
        task_status.started()
        await anext(interrupts)
        scope.cancel()
