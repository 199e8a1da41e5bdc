"""An async function as a child: which can be, how the child finds it, what it starts with."""

from __future__ import annotations

import datetime
import functools
import os
import subprocess
import sys
import types
import typing
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, TypeVar, Union

import msgspec
import pytest
import trio

import trio_ipc
from trio_ipc import _target

from . import function_workers
from .function_workers import Box, Circle, Colour, Job, Outer, Square, UserId
from .handle_kinds import is_open, stream_and_client

T = TypeVar("T")


# Which functions -------------------------------------------------------------------------------


async def run_here(parent: function_workers.Parent) -> None:
    """It lives in a module of tests, and the child imports that."""
    await parent.send(__name__)


async def test_a_function_of_a_module_in_a_package() -> None:
    async with trio_ipc.open_child(run_here) as child:
        assert await child.receive() == __name__ == "tests.test_function_child"
        assert child.pid == child.process.pid != os.getpid()
    assert child.process.returncode == 0


async def test_its_arguments_are_messages() -> None:
    args = [None, 1, "two", b"three", [4.0], {"five": [True]}]
    async with trio_ipc.open_child(function_workers.return_args, *args) as child:
        assert await child.receive() == args
    async with trio_ipc.open_child(function_workers.return_args, (1, 2), Job("it")) as child:
        assert await child.receive() == [[1, 2], {"name": "it"}]


async def test_large_arguments() -> None:
    big = bytes(range(256)) * 10_000
    async with trio_ipc.open_child(function_workers.return_args, big, "x" * 100_000) as child:
        assert await child.receive() == [big, "x" * 100_000]


async def test_arguments_are_as_large_as_messages_may_be() -> None:
    with pytest.raises(trio_ipc.MessageTooLarge):
        async with trio_ipc.open_child(
            function_workers.return_args, bytes(1000), max_message_size=1000
        ):
            pytest.fail("a child was started")


async def test_a_static_method_and_a_decorated_function_can_be_found() -> None:
    async with trio_ipc.open_child(Outer.echo) as child:
        await child.send("there and back")
        assert await child.receive() == "there and back"
    async with trio_ipc.open_child(function_workers.decorated) as child:
        assert [message async for message in child] == ["decorated", "the function"]


def local_function() -> Any:
    async def local(parent: function_workers.Parent) -> None: ...

    return local


not_the_one_of_that_name = functools.wraps(function_workers.echo)(local_function())

with_a_forgotten_module = types.FunctionType(local_function().__code__, {"__name__": "forgotten"})
with_a_forgotten_module.__qualname__ = "local"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (lambda parent: None, "a lambda has no name that the child could import it by"),
        (local_function(), "is defined inside another function"),
        (Outer().method, "Outer.method is a bound method, and its object lives in this process"),
        (Outer.on_class, "Outer.on_class is a bound method"),
        (function_workers.not_async, "not_async is not async"),
        (function_workers.generator, "generator is an async generator"),
        (functools.partial(function_workers.echo), "partial.* has no name"),
        (functools.partial(Outer().method), "partial.* has no name"),
        (function_workers.Callable_(), "has no name"),
        (Outer, "Outer is not async"),
        (print, "print is not async"),
        (not_the_one_of_that_name, "echo is not what the child would find under that name"),
        (with_a_forgotten_module, "local is not what the child would find under that name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_the_child_could_not_find_is_refused_at_the_call(target: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why) as info:
        trio_ipc.open_child(target)
    assert "use an async function defined with `async def` at the top level" in str(info.value)


@pytest.mark.parametrize("target", [None, 5, b"bytes", object(), {"a": 1}])
async def test_what_is_no_target_at_all_is_refused_at_the_call(target: Any) -> None:
    with pytest.raises(TypeError, match="target must be an async function, a path or a command"):
        trio_ipc.open_child(target)


async def test_a_function_speaks_the_native_protocol() -> None:
    with pytest.raises(ValueError, match="native"):
        trio_ipc.open_child(function_workers.echo, protocol="node")


# When the child can't import it ----------------------------------------------------------------


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module here that has this text in the child."""

    def make(in_child: str) -> Any:
        path = tmp_path / "made_by_a_test.py"
        path.write_text("async def work(parent):\n    pass\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "made_by_a_test", raising=False)
        module = __import__("made_by_a_test")
        path.write_text(in_child + "\n" * 100)  # its size tells the stale bytecode
        return module

    return make


async def fail_to_import(function: Any, **options: Any) -> str:
    with pytest.raises(trio_ipc.ChildFailed) as info:
        async with trio_ipc.open_child(function, **options):
            await trio.sleep_forever()
    assert info.value.returncode == 1
    assert isinstance(info.value.__cause__, trio_ipc.RemoteTraceback)
    text = info.value.remote_traceback
    assert text is not None
    assert text in str(info.value.__cause__)
    return text


async def test_a_module_that_is_not_there() -> None:
    module = types.ModuleType("nowhere_to_be_found")
    exec("async def work(parent): pass", vars(module))
    sys.modules[module.__name__] = module
    try:
        text = await fail_to_import(module.work)
    finally:
        del sys.modules[module.__name__]
    assert "ImportError: the child can't import 'nowhere_to_be_found:work'" in text
    assert "ModuleNotFoundError: No module named 'nowhere_to_be_found'" in text
    assert "must be importable in a fresh interpreter" in text


async def test_a_module_that_raises_when_it_is_imported(module: Any) -> None:
    text = await fail_to_import(module("raise LookupError('not today')").work)
    assert "the child can't import 'made_by_a_test:work': LookupError: not today" in text
    assert 'made_by_a_test.py", line 1' in text


async def test_a_module_that_does_not_define_it_there(module: Any) -> None:
    text = await fail_to_import(module("something_else = 1").work)
    assert "module 'made_by_a_test' has no attribute 'work'" in text


async def test_a_module_that_defines_something_else_there(module: Any) -> None:
    text = await fail_to_import(module("def work(parent): return None").work)
    assert "TypeError" in text


async def test_a_type_that_the_child_does_not_find(module: Any) -> None:
    made = module("async def work(parent): pass")
    made.Gone = type("Gone", (msgspec.Struct,), {"__module__": "made_by_a_test"})
    text = await fail_to_import(made.work, child_message_type=made.Gone)
    assert "Gone" in text


# child_message_type ----------------------------------------------------------------------------

TYPES: dict[str, Any] = {
    "None": None,
    "Any": Any,
    "int": int,
    "Struct": Circle,
    "nested class": Outer.Inner,
    "dataclass": Job,
    "enum": Colour,
    "NewType": UserId,
    "datetime": datetime.datetime,
    "UUID": uuid.UUID,
    "union": Circle | Square,
    "typing union": Union[Circle, Square, None],  # noqa: UP007
    "optional": Optional[Circle],  # noqa: UP045
    "list": list[Circle],
    "bare list": list,
    "bare typing.List": typing.List,  # noqa: UP006
    "bare typing.Dict": typing.Dict,  # noqa: UP006
    "typing.List": typing.List[int],  # noqa: UP006
    "dict": dict[str, list[Circle | None]],
    "tuple": tuple[int, str],
    "tuple of one": tuple[int],
    "tuple of any length": tuple[int, ...],
    "set": set[int],
    "abstract": Sequence[int],
    "Literal": Literal["go", 3, True],
    "Meta": Annotated[int, msgspec.Meta(ge=0, lt=10, description="a digit")],
    "Meta with pattern": Annotated[str, msgspec.Meta(pattern="^a", max_length=3)],
    "Meta inside": dict[str, Annotated[list[int], msgspec.Meta(min_length=1)]],
    "several Metas": Annotated[int, msgspec.Meta(ge=0), msgspec.Meta(le=5)],
    "generic Struct": Box[int],
    "generic Struct of a union": Box[Circle | Square],
    "stream": trio.SocketStream,
    "HandleMessage": trio_ipc.HandleMessage,
}


@pytest.mark.parametrize("name", TYPES)
async def test_a_type_is_found_again_by_its_description(name: str) -> None:
    described = _target.describe_type(TYPES[name])
    # It travels as plain values, in a message.
    described = msgspec.msgpack.decode(msgspec.msgpack.encode(described))
    found = _target.find_type(described)
    expected = TYPES[name]
    if name.startswith(("bare typing", "typing.List")):  # which mean the same, and differ
        expected = list[int] if typing.get_args(expected) else typing.get_origin(expected)
    assert found == expected


@pytest.mark.parametrize(
    ("kind", "good", "arrives", "bad"),
    [
        (Circle | Square, Square(2.0), ["Square", {"type": "Square", "side": 2.0}], {"side": 1}),
        (dict[str, Job], {"a": Job("it")}, ["dict", {"a": {"name": "it"}}], {"a": {"name": 1}}),
        (Annotated[int, msgspec.Meta(ge=0)], 3, ["int", 3], -3),
        (Literal["go", 3], "go", ["str", "go"], "stop"),
        (Box[Colour], {"content": "red"}, ["Box", {"content": "red"}], {"content": "blue"}),
    ],
    ids=["tagged union", "generic alias", "Annotated", "Literal", "generic Struct"],
)
async def test_what_a_function_child_receives_is_checked_there(
    kind: Any, good: Any, arrives: Any, bad: Any
) -> None:
    async with trio_ipc.open_child(function_workers.say_types, child_message_type=kind) as child:
        await child.send(good)
        assert await child.receive() == arrives
        await child.send(bad)
        assert (await child.receive())[0] == "invalid"
        await child.send(good)
        assert await child.receive() == arrives


async def test_its_arguments_are_not_of_that_type() -> None:
    async with trio_ipc.open_child(
        function_workers.return_args, "text", child_message_type=int
    ) as child:
        assert await child.receive() == ["text"]


class LocalMeta:
    pass


def local_type() -> type:
    class Local(msgspec.Struct):
        pass

    return Local


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (local_type(), "can't be found by name in another process"),
        (list[local_type()], "can't be found by name in another process"),  # type: ignore[misc]
        (Circle | local_type(), "can't be found by name in another process"),
        (T, "can't be found by name in another process"),
        ("Circle", "can't be found by name in another process"),
        (5, "can't be found by name in another process"),
        (Literal[Colour.RED], "a Literal of enum members"),
        (Annotated[int, LocalMeta()], "the annotation .*LocalMeta"),
        (Annotated[int, "text"], "the annotation 'text'"),
    ],
    ids=str,
)
async def test_a_type_that_the_child_could_not_find_is_refused_at_the_call(
    kind: Any, why: str
) -> None:
    with pytest.raises(TypeError, match=why):
        trio_ipc.open_child(function_workers.echo, child_message_type=kind)


async def test_a_type_that_nothing_can_be_decoded_to_is_refused_at_the_call() -> None:
    with pytest.raises(TypeError, match="can't be decoded to"):
        trio_ipc.open_child(function_workers.echo, message_type=Circle | Job)


async def test_child_message_type_is_for_functions() -> None:
    with pytest.raises(TypeError, match="child_message_type is for function children"):
        trio_ipc.open_child(["true"], child_message_type=int)


async def test_a_struct_with_a_generated_name_is_told_by_its_place() -> None:
    made = msgspec.defstruct("Made", [("number", int)])  # it is nowhere to be found
    with pytest.raises(TypeError, match="can't be found by name"):
        trio_ipc.open_child(function_workers.echo, child_message_type=made)


# What it is started with ------------------------------------------------------------------------


async def test_it_is_like_its_parent() -> None:
    async with trio_ipc.open_child(function_workers.describe_process) as child:
        described = await child.receive()
    assert described["argv"] == sys.argv
    assert described["path"] == sys.path
    assert described["executable"] == sys.executable
    assert described["cwd"] == os.getcwd()
    assert described["ppid"] == os.getpid()
    assert described["session"] == os.getsid(0)


async def test_paths_that_were_added_later_hold_in_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "added_later.py").write_text(
        "async def work(parent):\n    await parent.send(__file__)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import added_later  # type: ignore[import-not-found]

    try:
        async with trio_ipc.open_child(added_later.work) as child:
            assert await child.receive() == str(tmp_path / "added_later.py")
    finally:
        del sys.modules["added_later"]


async def test_environment_and_directory_pass_through(tmp_path: Path) -> None:
    env = {"ONLY": "this"}
    async with trio_ipc.open_child(
        function_workers.describe_process, env=env, cwd=tmp_path
    ) as child:
        described = await child.receive()
    assert described["cwd"] == str(tmp_path)
    assert described["env"].pop("ONLY") == "this"
    # What Python and its C library set themselves.
    assert set(described["env"]) <= {"LC_CTYPE", "PWD", "SHLVL", "_", "__CF_USER_TEXT_ENCODING"}
    assert env == {"ONLY": "this"}


async def test_an_empty_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOT_TO_BE_SEEN", "1")
    async with trio_ipc.open_child(function_workers.describe_process, env={}) as child:
        assert "NOT_TO_BE_SEEN" not in (await child.receive())["env"]


async def test_the_environment_is_inherited_but_for_other_channels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INHERITED", "1")
    stale = ("TRIO_IPC_CHANNEL", "NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE")
    for name in (*stale, "NODE_UNIQUE_ID"):
        monkeypatch.setenv(name, "7")
    async with trio_ipc.open_child(function_workers.describe_process) as child:
        env = (await child.receive())["env"]
    assert env["INHERITED"] == "1"
    assert not {*stale, "NODE_UNIQUE_ID"} & set(env)
    assert os.environ["NODE_CHANNEL_FD"] == "7"  # ours is as it was


async def test_its_output_goes_where_it_was_asked_to() -> None:
    async with trio_ipc.open_child(
        function_workers.print_lines,
        "one",
        "two",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as child:
        assert isinstance(child.process.stdout, trio.abc.ReceiveStream)
        text = b"".join([chunk async for chunk in child.process.stdout])
        await child.process.stdout.aclose()
    assert sorted(text.decode().splitlines()) == ["one", "to stderr", "two"]


async def test_its_output_is_ours_otherwise(capfd: pytest.CaptureFixture[str]) -> None:
    async with trio_ipc.open_child(function_workers.print_lines, "one", "two"):
        pass
    out, err = capfd.readouterr()
    assert out == "one\ntwo\n"
    assert err == "to stderr\n"


async def test_its_input_comes_from_where_it_was_asked_to() -> None:
    async with trio_ipc.open_child(function_workers.read_stdin, stdin=subprocess.PIPE) as child:
        assert child.process.stdin is not None
        await child.process.stdin.send_all(b"some input")
        await child.process.stdin.aclose()
        assert await child.receive() == "some input"


async def test_descriptors_of_the_user_pass_through() -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"through the pipe")
        async with trio_ipc.open_child(
            function_workers.read_descriptor, reader, pass_fds=(reader,)
        ) as child:
            os.close(writer)
            writer = -1
            assert await child.receive() == b"through the pipe"
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


async def test_options_of_the_process_pass_through() -> None:
    async with trio_ipc.open_child(
        function_workers.describe_process, start_new_session=True
    ) as child:
        assert (await child.receive())["session"] == child.pid


async def test_an_option_that_does_not_exist() -> None:
    with pytest.raises(TypeError, match="no_such_option"):
        async with trio_ipc.open_child(function_workers.echo, no_such_option=1):
            pytest.fail("a child was started")


async def test_the_limits_hold_at_both_ends() -> None:
    async with trio_ipc.open_child(
        function_workers.echo, max_buffer_size=3, max_message_size=1000, max_handles=2
    ) as child:
        await child.send("ready")
        assert await child.receive() == "ready"
        assert child.statistics().max_buffer_size == 3
        assert child.statistics().credit == 3
        with pytest.raises(trio_ipc.MessageTooLarge):
            await child.send("x" * 1000)


async def test_a_long_command_line_of_the_parent_is_no_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["x" * 100_000])
    async with trio_ipc.open_child(function_workers.echo, max_message_size=1000) as child:
        await child.send("ready")
        assert await child.receive() == "ready"


# Its own children -------------------------------------------------------------------------------


async def test_a_grandchild_inherits_neither_variable_nor_descriptor() -> None:
    async with trio_ipc.open_child(function_workers.spawn_without_channel) as child:
        variables, has_descriptor = await child.receive()
    assert "TRIO_IPC_CHANNEL" not in variables
    assert not has_descriptor


async def test_its_channel_cannot_be_opened_a_second_time() -> None:
    async with trio_ipc.open_child(function_workers.open_parent_again) as child:
        assert "opened already" in await child.receive()


async def test_a_child_has_children() -> None:
    async with trio_ipc.open_child(function_workers.open_grandchild, 2) as child:
        await child.send("hello")
        [grandchild, [pid, message]] = await child.receive()
        assert message == "hello"
        assert pid == child.pid
        assert grandchild not in (pid, os.getpid())


async def test_a_stream_goes_on_to_a_grandchild() -> None:
    with stream_and_client() as (stream, client):
        async with trio_ipc.open_child(function_workers.open_child_there) as child:
            await child.send(stream)
            assert not is_open(stream)
            assert await child.receive() == "written"
            assert client.recv(100) == b"from a grandchild"
