"""Each way in which a newcomer goes wrong has a text that says what happened, why, and what to do.

One table: what is done, the error that comes of it, and what its text must contain.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import io
import math
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

import trio_ipc
from trio_ipc import javascript as js
from trio_ipc._node import make_node_wire
from trio_ipc.wire import Limits

from . import error_children as children
from .handle_kinds import connection, typed_pair
from .meaning_helpers import open_pair, script

ROOT = Path(__file__).parent.parent

Case = Callable[[], Awaitable[object]]


class Custom:
    pass


@dataclasses.dataclass
class Point:
    x: int


async def open_it(target: Any, *args: Any, **options: Any) -> None:
    async with trio_ipc.open_child(target, *args, **options) as child:
        await child.receive()


def opening(target: Any, *args: Any, **options: Any) -> Case:
    return functools.partial(open_it, target, *args, **options)


def limited(**options: Any) -> Case:
    return opening(children.do_nothing, **options)


def sending(message: Any, handle: Any = None, **limits: int) -> Case:
    async def send() -> None:
        with open_pair(**limits) as (a, _):
            await a.send(message, handle)

    return send


def to_node(message: Any, handle: Any = None, serialization: str = "json") -> Case:
    async def encode() -> None:
        make_node_wire(serialization, Any, Limits()).encode(message, handle)

    return encode


def making(make: Callable[..., object], *args: Any, **options: Any) -> Case:
    async def call() -> None:
        make(*args, **options)

    return call


def circle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


async def call_the_function() -> None:
    await open_it(children.do_nothing(None))  # type: ignore[arg-type]


async def nest_it() -> None:
    async def nested(parent: children.Parent) -> None: ...

    await open_it(nested)


@contextlib.contextmanager
def module(name: str) -> Iterator[types.ModuleType]:
    """One that only this process has."""
    made = types.ModuleType(name)
    exec("async def work(parent): ...", vars(made))
    sys.modules[name] = made
    try:
        yield made
    finally:
        del sys.modules[name]


async def hide_the_module() -> None:
    with module("only_here") as only_here:
        await open_it(only_here.work)


async def send_a_tls_stream() -> None:
    plain, _ = trio.testing.memory_stream_pair()
    context = ssl.create_default_context()
    await sending(trio.SSLStream(plain, context, server_hostname="x"))()


async def send_a_closed_stream() -> None:
    with connection() as (sock, _):
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        await stream.aclose()
        await sending(stream)()


async def send_a_text_file() -> None:
    with open(__file__) as file:  # noqa: ASYNC230
        await sending(file)()


async def send_a_file_of_trios() -> None:
    async with await trio.open_file(__file__, "rb") as file:
        await sending(file)()


async def send_what_is_asyncios() -> None:
    left, right = socket.socketpair()

    async def main() -> None:
        _, writer = await asyncio.open_connection(sock=left)
        try:
            with open_pair() as (a, _):
                a.send_nowait([writer])
        finally:
            writer.close()
            await writer.wait_closed()

    with right:
        await trio.to_thread.run_sync(asyncio.run, main())


async def send_a_half(*message: str) -> None:
    with open_pair() as (a, _):
        await sending(*message, a.send_channel)()


async def send_a_temporary_file(*message: str) -> None:
    with tempfile.NamedTemporaryFile() as file:
        await sending(*message, file)()


async def send_too_many_handles() -> None:
    with connection() as both:
        await sending(list(both), max_handles=1)()


async def send_a_handle_inside_to_node() -> None:
    with connection() as (sock, _):
        await to_node({"socket": sock})()


async def use_it_before_it_is_entered() -> None:
    child: Any = trio_ipc.open_child(children.do_nothing)
    await child.send(1)


async def await_it() -> None:
    opening: Any = trio_ipc.open_child(children.do_nothing)
    await opening


async def enter_it_with_with() -> None:
    opening: Any = trio_ipc.open_child(children.do_nothing)
    with opening:
        pass


async def enter_it_twice() -> None:
    scope = trio_ipc.open_child(children.do_nothing)
    async with scope:
        pass
    async with scope:
        pass


async def open_in_asyncio() -> None:
    await trio.to_thread.run_sync(asyncio.run, open_it(children.do_nothing))


async def send_in_asyncio() -> None:
    with open_pair() as (a, _):
        await trio.to_thread.run_sync(asyncio.run, a.send(1))


async def iterate_without_async() -> None:
    with open_pair() as (a, _):
        for _message in a:  # type: ignore[attr-defined]
            pass


async def open_no_parent() -> None:
    async with trio_ipc.open_parent():
        pass


async def use_it_when_closed(call: str, *args: Any) -> None:
    with open_pair() as (a, _):
        a.close()
        await getattr(a, call)(*args)


async def use_it_after_the_block() -> None:
    async with trio_ipc.open_child(children.do_nothing) as child:
        pass
    await child.send(1)


async def receive_after_the_end() -> None:
    with open_pair() as (a, b):
        b.close()
        await a.receive()


async def send_to_who_receives_no_more() -> None:
    with open_pair() as (a, b):
        b.close()
        await a.send(1)


async def receive_what_is_of_another_type() -> None:
    with typed_pair(Point) as (a, b):
        await a.send({"x": "one"})
        await b.receive()


async def describe_a_local_type() -> None:
    class Local(msgspec.Struct):
        pass

    await limited(child_message_type=Local)()


DO_NOTHING = children.do_nothing

CASES: dict[str, tuple[Case, type[BaseException], list[str]]] = {
    # The target, and its arguments
    "a lambda": (
        opening(lambda parent: None),
        TypeError,
        ["a lambda has no name", "import it by", "use an async function", "top level of a module"],
    ),
    "a nested function": (nest_it, TypeError, ["inside another function", "top level"]),
    "a bound method": (
        opening(children.Holder().method),
        TypeError,
        ["bound method", "its object lives in this process", "pass what it needs as arguments"],
    ),
    "a method without its object": (
        opening(children.Holder.method),
        TypeError,
        ["Holder.method(self", "can't be called with the channel", "'parent'"],
    ),
    "a partial": (
        opening(functools.partial(DO_NOTHING, 1)),
        TypeError,
        ["no name", "pass what it needs as arguments"],
    ),
    "a sync function": (
        opening(children.not_async),
        TypeError,
        ["not_async is not async", "the child awaits it", "`async def`"],
    ),
    "a generator": (opening(children.generator), TypeError, ["a generator", "its `yield`"]),
    "an async generator": (
        opening(children.async_generator),
        TypeError,
        ["an async generator", "its `yield`", "`async def`"],
    ),
    "a class": (opening(children.Holder), TypeError, ["not async, but a class"]),
    "a function that was called": (
        call_the_function,
        TypeError,
        ["not 'coroutine'", "don't call the function", "open_child(function, *args)"],
    ),
    "an async generator that was called": (
        opening(children.async_generator(None)),  # type: ignore[arg-type]
        TypeError,
        ["don't call the function"],
    ),
    "None": (opening(None), TypeError, ["an async function, a path or a command", "'NoneType'"]),
    "what only this process can import": (
        hide_the_module,
        trio_ipc.ChildFailed,
        ["only_here:work, exited with status 1"],
    ),
    "too many arguments": (
        opening(DO_NOTHING, 1),
        TypeError,
        ["do_nothing(parent", "the channel and the 1 further arguments", "too many"],
    ),
    "an argument that can't be sent": (
        opening(children.end_by, Custom()),
        trio_ipc.UnsupportedMessage,
        ["the arguments of the child's function", "'Custom' can't be serialized", "dataclasses"],
    ),
    "an argument of a script that is no string": (
        opening("x.py", 5),
        TypeError,
        ["strings, not 'int'", "str()", "as a message"],
    ),
    "a part of a command that is no string": (opening(["x", 5]), TypeError, ["not 'int'"]),
    "an empty path": (opening(""), ValueError, ["the path is empty"]),
    # Programs
    "a missing program": (opening("no_such"), FileNotFoundError, ["No such file", "'no_such'"]),
    "a command in one string": (
        opening("python worker.py"),
        FileNotFoundError,
        ["'python worker.py'", "is a list", "open_child(['program', 'argument'])"],
    ),
    "a missing script": (opening("no.py"), FileNotFoundError, ["No such file", "'no.py'"]),
    "a missing script of Node's": (opening("no.js"), FileNotFoundError, ["'no.js'"]),
    "a missing script elsewhere": (opening("no.py", cwd=b"/"), FileNotFoundError, ["'no.py'"]),
    "a script below a file": (
        opening(f"{__file__}/no.py"),
        NotADirectoryError,
        ["Not a directory", "no.py"],
    ),
    "a missing directory": (
        opening(DO_NOTHING, cwd="/nowhere at all"),
        FileNotFoundError,
        ["No such file or directory: '/nowhere at all'"],
    ),
    # Options
    "an unknown protocol": (
        opening("x", protocol="http"),
        ValueError,
        ["must be 'native' or 'node', not 'http'"],
    ),
    "Node's protocol for a function": (
        limited(protocol="node"),
        ValueError,
        ["function child speaks the native protocol", "'node' is for programs"],
    ),
    "an unknown serialization": (
        opening("x.js", serialization="pickle"),
        ValueError,
        ["'json' or 'advanced', not 'pickle'"],
    ),
    "a serialization of the other protocol": (
        limited(serialization="json"),
        ValueError,
        ["'msgpack', not 'json'", "needs protocol='node'"],
    ),
    "an option that nobody has": (
        limited(patience=5),
        TypeError,
        ["no option 'patience'", "neither has trio.lowlevel.open_process"],
    ),
    "an option that Trio refuses": (limited(text=True), TypeError, ["'text' option"]),
    "a negative max_buffer_size": (
        limited(max_buffer_size=-1),
        ValueError,
        ["max_buffer_size must be >= 0"],
    ),
    "a max_buffer_size that is a bool": (
        limited(max_buffer_size=True),
        TypeError,
        ["an integer or math.inf, not True"],
    ),
    "a max_buffer_size that is a str": (limited(max_buffer_size="9"), TypeError, ["not '9'"]),
    "a huge max_buffer_size": (limited(max_buffer_size=1 << 32), ValueError, ["math.inf", "2**32"]),
    "a max_message_size that is a float": (
        limited(max_message_size=1e6),
        TypeError,
        ["max_message_size must be an integer, not 1000000.0"],
    ),
    "a negative max_message_size": (limited(max_message_size=-1), ValueError, ["not -1"]),
    "a max_handles that is a bool": (limited(max_handles=True), TypeError, ["not True"]),
    "a large max_handles": (limited(max_handles=254), ValueError, ["between 0 and 253, not 254"]),
    "a grace_period that is a str": (
        limited(grace_period="5"),
        TypeError,
        ["a number of seconds, not '5'"],
    ),
    "a grace_period that is a bool": (limited(grace_period=False), TypeError, ["not False"]),
    "a grace_period that is none": (limited(grace_period=math.nan), ValueError, ["not nan"]),
    "a message_type that is none": (
        limited(message_type=3),
        TypeError,
        ["message_type can't be decoded to", "'3'"],
    ),
    "a child_message_type for a script": (
        opening("x.py", child_message_type=int),
        TypeError,
        ["for function children", "message_type of its open_parent"],
    ),
    "a child_message_type that is local": (
        describe_a_local_type,
        TypeError,
        ["Local", "by name in another process", "top level of a module"],
    ),
    # Blocks
    "a block that is not entered": (
        use_it_before_it_is_entered,
        AttributeError,
        ["has no 'send'", "no channel yet", "`async with open_child(...) as child:`"],
    ),
    "await instead of async with": (await_it, TypeError, ["no channel yet", "`async with"]),
    "with instead of async with": (enter_it_with_with, TypeError, ["no channel yet", "`async w"]),
    "a block that is entered twice": (enter_it_twice, RuntimeError, ["entered before", "its own"]),
    "asyncio instead of Trio": (
        open_in_asyncio,
        RuntimeError,
        ["no task of Trio's", "trio.run()", "asyncio can't run it"],
    ),
    "a channel in asyncio": (
        send_in_asyncio,
        RuntimeError,
        ["must be called from async context"],  # Trio's
    ),
    "for instead of async for": (
        iterate_without_async,
        TypeError,
        ["'Channel' object is not iterable"],  # Python's
    ),
    "open_parent where there is none": (
        open_no_parent,
        trio_ipc.NoParent,
        ["was not started with a channel", "trio_ipc.open_child", "fork()", "its first argument"],
    ),
    # Messages
    "an object of one's own": (
        sending({"key": [Custom()]}),
        trio_ipc.UnsupportedMessage,
        ["can't send 'dict'", "'Custom' can't be serialized", "dataclasses, msgspec.Structs"],
    ),
    "a function": (sending(print), trio_ipc.UnsupportedMessage, ["code does not travel", "a name"]),
    "a lambda in a message": (sending(lambda: 0), trio_ipc.UnsupportedMessage, ["does not travel"]),
    "a generator in a message": (
        sending(x for x in ()),
        trio_ipc.UnsupportedMessage,
        ["send a list of its items"],
    ),
    "an exception": (sending(ValueError()), trio_ipc.UnsupportedMessage, ["its str()"]),
    "a path": (sending(pathlib.Path("/")), trio_ipc.UnsupportedMessage, ["send its str()"]),
    "a message that contains itself": (
        sending(circle()),
        trio_ipc.UnsupportedMessage,
        ["it contains itself, or is nested too deeply"],
    ),
    "a large integer": (
        sending(1 << 64),
        trio_ipc.UnsupportedMessage,
        ["can't serialize ints", "send it as a str"],
    ),
    "a lone surrogate": (sending("\udcff"), trio_ipc.UnsupportedMessage, ["os.fsencode()"]),
    "a large message": (
        sending("x" * 1000, max_message_size=100),
        trio_ipc.MessageTooLarge,
        ["of 1003 bytes", "max_message_size is 100", "raise it, or send the message in parts"],
    ),
    "a message of another type": (
        receive_what_is_of_another_type,
        trio_ipc.InvalidMessage,
        ["Expected `int`, got `str` - at `$.x`"],
    ),
    "a bool as the name of a property": (
        to_node({True: 1}),
        trio_ipc.UnsupportedMessage,
        ["named by a 'bool'", "use a str"],
    ),
    "a tuple as the name of a property, advanced": (
        to_node({(1, 2): 1}, serialization="advanced"),
        trio_ipc.UnsupportedMessage,
        ["named by a 'tuple'", "use a str, or a javascript.Map"],
    ),
    "a reserved message": (
        to_node({"cmd": "NODE_X"}),
        trio_ipc.UnsupportedMessage,
        ["begins with 'NODE_'", "hides such a message", "call it otherwise"],
    ),
    "a value of JavaScript's as JSON": (
        to_node(js.undefined),
        trio_ipc.UnsupportedMessage,
        ["'Undefined' can't be serialized as JSON", "serialization='advanced'"],
    ),
    "a large message to Node": (
        to_node("x" * (16 * 1024 * 1024)),
        trio_ipc.MessageTooLarge,
        ["16777218 bytes", "max_message_size is 16777216", "in parts"],
    ),
    # Handles
    "what is no handle": (
        sending("x", 5),
        trio_ipc.UnsupportedHandle,
        ["'int' objects are no handles", "send(message, handle) takes", "send a list"],
    ),
    "a path as a handle": (
        sending("x", pathlib.Path("/")),
        trio_ipc.UnsupportedHandle,
        ["objects are no handles", "send its str()"],
    ),
    "half a channel as a handle": (
        functools.partial(send_a_half, "x"),
        trio_ipc.UnsupportedHandle,
        ["'SendChannel' objects are no handles", "whole: send the Channel"],
    ),
    "an event as a handle": (
        sending("x", trio.Event()),
        trio_ipc.UnsupportedHandle,
        ["'Event' objects are no handles", "send(message, handle) takes"],
    ),
    "a temporary file with a name": (
        functools.partial(send_a_temporary_file, "x"),
        trio_ipc.UnsupportedHandle,
        ["are no handles: send its .file"],
    ),
    "a temporary file with a name in a message": (
        send_a_temporary_file,
        trio_ipc.UnsupportedMessage,
        ["send its .file"],
    ),
    "what is no handle, to Node": (to_node("x", 5), trio_ipc.UnsupportedHandle, ["no handles"]),
    "a handle inside, to Node": (
        send_a_handle_inside_to_node,
        trio_ipc.UnsupportedHandle,
        ["beside a message, not inside", "send(message, handle)"],
    ),
    "a TLS stream": (
        send_a_tls_stream,
        trio_ipc.UnsupportedHandle,
        ["an SSLStream can't travel", "TLS session lives in this process", "before the handshake"],
    ),
    "a closed stream": (
        send_a_closed_stream,
        trio_ipc.UnsupportedHandle,
        ["this SocketStream is closed", "keep_open=True"],
    ),
    "a text file": (send_a_text_file, trio_ipc.UnsupportedHandle, ["binary files", ".buffer"]),
    "a file in memory": (sending(io.BytesIO()), trio_ipc.UnsupportedHandle, ["its getvalue()"]),
    "a file of Trio's": (send_a_file_of_trios, trio_ipc.UnsupportedMessage, ["send its .wrapped"]),
    "asyncio's": (
        send_what_is_asyncios,
        trio_ipc.UnsupportedMessage,
        ["'StreamWriter'", "asyncio goes on reading", "get_extra_info('socket').dup()"],
    ),
    "half a channel": (send_a_half, trio_ipc.UnsupportedMessage, ["whole: send the Channel"]),
    "too many handles": (
        send_too_many_handles,
        trio_ipc.MessageTooLarge,
        ["with 2 handles", "max_handles is 1", "raise it, or send them in several messages"],
    ),
    # The end
    "send on a closed channel": (
        functools.partial(use_it_when_closed, "send", 1),
        trio.ClosedResourceError,
        ["closed in this process", "close()"],
    ),
    "receive on a closed channel": (
        functools.partial(use_it_when_closed, "receive"),
        trio.ClosedResourceError,
        ["closed in this process", "close()"],
    ),
    "send after the block": (
        use_it_after_the_block,
        trio.ClosedResourceError,
        ["its block was left"],
    ),
    "receive after the end": (
        receive_after_the_end,
        trio.EndOfChannel,
        ["its peer will send no more messages"],
    ),
    "send to who receives no more": (
        send_to_who_receives_no_more,
        trio.BrokenResourceError,
        ["its peer receives no more messages"],
    ),
    "a child that is killed": (
        opening(children.end_by, int(signal.SIGKILL)),
        trio_ipc.ChildFailed,
        ["was killed by SIGKILL", "memory ran out"],
    ),
    "a child that crashes": (
        opening(children.end_by, int(signal.SIGSEGV)),
        trio_ipc.ChildFailed,
        ["was killed by SIGSEGV", "python -X faulthandler"],
    ),
    "a child that somebody ends": (
        opening(children.end_by, int(signal.SIGUSR1)),
        trio_ipc.ChildFailed,
        ["was killed by SIGUSR1", "somebody sent that"],
    ),
    "a child that goes away": (
        opening(children.leave),
        trio.BrokenResourceError,
        ["exited with status 0", "went away without closing its channel"],
    ),
    # JavaScript's values
    "a Map of a list": (making(js.Map, [1]), TypeError, ["a mapping, or of pairs"]),
    "an Array of a list": (
        making(js.Array, [1]),
        TypeError,
        ["a list is sent as an array as it is"],
    ),
    "an Array of length None": (making(js.Array, length="3"), TypeError, ["must be int, not str"]),
    "an Array of length True": (making(js.Array, length=True), TypeError, ["int, not bool"]),
    "an Array of length -1": (making(js.Array, length=-1), ValueError, ["must be >= 0, not -1"]),
    "a Date of a str": (
        making(js.Date, "2020"),
        TypeError,
        ["milliseconds must be int or float, not str", "a datetime is sent as it is"],
    ),
    "a RegExp of a pattern": (
        making(js.RegExp, re.compile("x")),
        TypeError,
        ["source must be str, not Pattern", ".pattern"],
    ),
    "a RegExp with number flags": (making(js.RegExp, "x", re.I), TypeError, ["flags must be str"]),
    "a RegExp with unknown flags": (
        making(js.RegExp, "x", "x"),
        ValueError,
        ["invalid flags", "'x'", "dgimsuvy"],
    ),
    "an Error of a number": (making(js.Error, 5), TypeError, ["message must be str or None"]),
    "an Error with a bad name": (making(js.Error, name=None), TypeError, ["name must be str"]),
    "an Error with a bad stack": (making(js.Error, stack=5), TypeError, ["stack must be str"]),
    "a Boxed None": (making(js.Boxed, None), TypeError, ["value must be", "not NoneType"]),
    "a typed array of a length": (
        making(js.Uint8Array, 5),
        TypeError,
        ["not of a length", "Uint8Array([0] * 5)"],
    ),
    "a TypedArray": (making(js.TypedArray), TypeError, ["use one such as Uint8Array"]),
}


def assert_says(error: BaseException, kind: type[BaseException], texts: list[str]) -> None:
    assert type(error) is kind, repr(error)
    for text in texts:
        assert text in str(error)


@pytest.mark.parametrize("name", CASES)
async def test_it_says_what_and_why_and_what_to_do(name: str) -> None:
    case, kind, texts = CASES[name]
    with pytest.raises(kind) as caught:
        await case()
    assert_says(caught.value, kind, texts)


SCRIPTS = {
    "one that never opens its channel": (
        "",
        trio.BrokenResourceError,
        ["status 0", "has never opened its channel", "open_parent()?", "protocol='node'"],
    ),
    "one that exits with a status": (
        "raise SystemExit(3)",
        trio_ipc.ChildFailed,
        ["exited with status 3", "its standard error may say why"],
    ),
    "one with a syntax error": ("def", trio_ipc.ChildFailed, ["status 1", "standard error"]),
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_what_is_said_of_a_script(name: str, tmp_path: Path) -> None:
    source, kind, texts = SCRIPTS[name]
    with pytest.raises(kind) as caught:
        await open_it(script(tmp_path, source), stderr=subprocess.DEVNULL)
    assert_says(caught.value, kind, texts)


@pytest.mark.parametrize(
    ("mode", "kind", "texts"),
    [
        (0o644, PermissionError, ["permission to execute it", "chmod +x"]),
        (0o755, OSError, ["Exec format error", "#!/usr/bin/env python3"]),
    ],
)
async def test_what_is_said_of_a_file_that_is_no_program(
    mode: int, kind: type[OSError], texts: list[str], tmp_path: Path
) -> None:
    path = script(tmp_path, "print('hello')", "program")
    os.chmod(path, mode)
    with pytest.raises(kind) as caught:
        await open_it(path)
    assert_says(caught.value, kind, [*texts, path])


async def test_what_is_said_where_there_is_no_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        await open_it(script(tmp_path, "", "worker.js"))
    texts = ["Node.js is not installed, or not found by PATH", "open_child(['bun', script]"]
    assert_says(caught.value, FileNotFoundError, texts)
    assert caught.value.filename == "node"


async def test_a_script_that_can_not_be_looked_at_is_started_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    path = script(tmp_path, "raise SystemExit(3)")
    with monkeypatch.context() as context:
        context.setattr("trio_ipc._process.os.stat", refuse)
        with pytest.raises(trio_ipc.ChildFailed) as caught:
            await open_it(path)
    assert caught.value.returncode == 3


async def test_what_is_not_the_script_is_not_looked_for(tmp_path: Path) -> None:
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        await open_it("no.py", executable="/bin/false")
    assert caught.value.returncode == 1


@pytest.mark.parametrize(
    ("target", "texts"),
    [
        (children.fail, ["Traceback", "in fail", "ValueError: no such colour"]),
        (children.open_it_again, ["NoParent: ", "or it was opened already", "its first argument"]),
    ],
)
async def test_the_traceback_of_a_child_is_the_cause(target: Any, texts: list[str]) -> None:
    with pytest.raises(trio_ipc.ChildFailed) as caught:
        await open_it(target)
    assert_says(caught.value, trio_ipc.ChildFailed, ["exited with status 1"])
    assert caught.value.__cause__ is not None
    assert_says(caught.value.__cause__, trio_ipc.RemoteTraceback, texts)


def test_what_is_said_of_a_block_that_nobody_enters() -> None:
    text = "never entered, so that nothing was opened: `async with open_child"
    with pytest.warns(RuntimeWarning, match=text):
        trio_ipc.open_child(DO_NOTHING)


def test_what_python_says_of_a_forgotten_await() -> None:
    with open_pair() as (a, _), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        a.send(1)  # type: ignore[unused-coroutine]
        gc.collect()
    assert [str(each.message) for each in caught] == [
        "coroutine 'SendChannel.send' was never awaited"
    ]


CALLS: list[Callable[[], object]] = [
    lambda: trio_ipc.open_child(DO_NOTHING),
    lambda: trio_ipc.open_parent(),
    lambda: trio_ipc.open_channel_pair(1),
]


@pytest.mark.parametrize("call", CALLS)
def test_what_is_said_on_windows(
    call: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setattr(sys, "platform", "win32")
        with pytest.raises(NotImplementedError) as caught:
            call()
    texts = ["does not work on Windows", "Unix sockets", "Windows Subsystem for Linux"]
    assert_says(caught.value, NotImplementedError, texts)


# Scripts of newcomers ---------------------------------------------------------------------------

UNGUARDED = """
    import trio
    import trio_ipc

    async def worker(parent):
        await parent.send("hello")

    async def main():
        async with trio_ipc.open_child(worker) as child:
            print(await child.receive())

    trio.run(main)
"""


async def stderr_of(path: str) -> str:
    done = await trio.run_process(
        [sys.executable, path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == b""
    return done.stderr.decode()


async def test_a_script_without_its_guard_is_told_of_it(tmp_path: Path) -> None:
    text = await stderr_of(script(tmp_path, UNGUARDED, "newcomer.py"))
    assert "ImportError: the child can't import '__main__:worker'" in text
    assert "do nothing else when it is imported" in text
    assert 'must stand under `if __name__ == "__main__":`' in text
    # All of it is the parent's: the child itself has written nothing.
    assert text.rstrip().splitlines()[-1].startswith("trio_ipc.ChildFailed: child ")


async def test_a_second_open_parent_is_told_so(tmp_path: Path) -> None:
    source = """
        import trio
        import trio_ipc

        async def main():
            async with trio_ipc.open_parent():
                async with trio_ipc.open_parent():
                    pass

        trio.run(main)
    """
    with (tmp_path / "stderr").open("w+") as stderr:
        with pytest.raises(trio_ipc.ChildFailed):
            await open_it(script(tmp_path, source), stderr=stderr)
        stderr.seek(0)
        assert "NoParent: this process was not started with a channel, or it was" in stderr.read()
