"""What is public is exported, documented, and made by nobody but us."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import pickle
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ipc

FUNCTIONS = ["open_channel_pair", "open_child", "open_parent"]
HANDED_OUT = ["Channel", "ChildChannel", "ReceiveChannel", "SendChannel"]
VALUES = ["ChannelStatistics", "HandleMessage"]
ERRORS: dict[str, tuple[type[BaseException], ...]] = {
    "ChildFailed": (subprocess.CalledProcessError,),
    "HandleNotDelivered": (OSError,),
    "InvalidMessage": (ValueError,),
    "MessageTooLarge": (ValueError,),
    "NoParent": (RuntimeError,),
    "ProtocolError": (trio.BrokenResourceError,),
    "RemoteTraceback": (Exception,),
    "UnsupportedHandle": (TypeError,),
    "UnsupportedMessage": (TypeError,),
}
PUBLIC = [*FUNCTIONS, *HANDED_OUT, *VALUES, *ERRORS]


def get(name: str) -> Any:
    return getattr(trio_ipc, name)


def test_exactly_these_names_are_public() -> None:
    found = {
        name
        for name, value in vars(trio_ipc).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert found == set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_it_says_that_it_is_ours(name: str) -> None:
    assert get(name).__module__ == "trio_ipc"
    assert get(name).__name__ == get(name).__qualname__ == name


@pytest.mark.parametrize("name", PUBLIC)
def test_it_is_documented(name: str) -> None:
    doc = inspect.getdoc(get(name))
    assert doc
    assert doc != inspect.getdoc(get(name).__mro__[1] if isinstance(get(name), type) else object)


@pytest.mark.parametrize("name", HANDED_OUT)
def test_its_methods_are_documented_and_say_whether_they_are_checkpoints(name: str) -> None:
    cls = get(name)
    methods = {
        member: value
        for member, value in inspect.getmembers(cls, inspect.isfunction)
        if not member.startswith("_")
    }
    assert len(methods) >= 4
    for member, method in methods.items():
        doc = inspect.getdoc(method) or ""
        assert doc, member
        if member not in ("clone",):
            assert ("checkpoint" in doc) or "See `" in doc, member
        says_not = "ot a checkpoint" in doc
        assert says_not != inspect.iscoroutinefunction(inspect.unwrap(method)), member


@pytest.mark.parametrize("name", FUNCTIONS)
def test_its_arguments_are_documented(name: str) -> None:
    doc = inspect.getdoc(get(name)) or ""
    for parameter in inspect.signature(get(name)).parameters:
        assert f"\n  {parameter}: " in doc, parameter
    assert "\nReturns:\n" in doc
    assert "\nRaises:\n" in doc


def test_every_field_of_the_statistics_is_documented() -> None:
    path = inspect.getsourcefile(trio_ipc.Channel.statistics)
    assert path is not None
    [cls] = [
        node
        for node in ast.walk(ast.parse(Path(path).read_text()))
        if isinstance(node, ast.ClassDef) and node.name == "ChannelStatistics"
    ]
    body = cls.body[1:]
    assert len(body) >= 16
    for field, doc in zip(body[::2], body[1::2], strict=True):
        assert isinstance(field, ast.AnnAssign)
        assert isinstance(doc, ast.Expr)
        assert isinstance(doc.value, ast.Constant)
        assert isinstance(doc.value.value, str)


@pytest.mark.parametrize("name", HANDED_OUT)
def test_what_is_handed_out_has_no_public_constructor(name: str) -> None:
    with pytest.raises(TypeError, match=rf"trio_ipc\.{name} has no public constructor"):
        get(name)()
    with pytest.raises(TypeError, match="no public constructor"):
        get(name)(1, two=2)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="final() leaves no mark before 3.11")
@pytest.mark.parametrize("name", [*HANDED_OUT, "ChannelStatistics"])
def test_what_is_handed_out_is_final(name: str) -> None:
    # A Channel is not, because a ChildChannel is one.
    assert getattr(get(name), "__final__", False) == (name != "Channel")


def test_halves_have_all_that_trios_have() -> None:
    for ours, theirs in (
        (trio_ipc.SendChannel, trio.MemorySendChannel),
        (trio_ipc.ReceiveChannel, trio.MemoryReceiveChannel),
    ):
        for name in dir(theirs):
            if name.startswith("_"):
                continue
            a, b = getattr(ours, name), getattr(theirs, name)
            assert inspect.iscoroutinefunction(a) == inspect.iscoroutinefunction(b), name
            assert list(inspect.signature(a).parameters)[:1] == ["self"]
        for name in ("__enter__", "__exit__", "__aenter__", "__aexit__"):
            assert hasattr(ours, name)
    assert hasattr(trio_ipc.ReceiveChannel, "__aiter__")


def test_channels_are_trios_kind_of_channels() -> None:
    assert issubclass(trio_ipc.SendChannel, trio.abc.SendChannel)
    assert not issubclass(trio_ipc.SendChannel, trio.abc.ReceiveChannel)
    assert issubclass(trio_ipc.ReceiveChannel, trio.abc.ReceiveChannel)
    assert not issubclass(trio_ipc.ReceiveChannel, trio.abc.SendChannel)
    for cls in (trio_ipc.Channel, trio_ipc.ChildChannel):
        assert issubclass(cls, trio.abc.SendChannel)
        assert issubclass(cls, trio.abc.ReceiveChannel)


def test_they_are_generic() -> None:
    assert trio_ipc.Channel[int, str]
    assert trio_ipc.ChildChannel[int, str]
    assert trio_ipc.SendChannel[int]
    assert trio_ipc.ReceiveChannel[int]


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_of_the_kinds_that_a_caller_expects(name: str) -> None:
    for base in ERRORS[name]:
        assert issubclass(get(name), base)


@pytest.mark.parametrize(
    "failure",
    [
        trio_ipc.ChildFailed(3, ["a", "command"], 42),
        trio_ipc.ChildFailed(1, "module:function", 42, "Traceback"),
        trio_ipc.ChildFailed(-9, "module:function", 42),
    ],
    ids=str,
)
def test_a_failure_says_who_and_how_and_survives_pickling(
    failure: trio_ipc.ChildFailed,
) -> None:
    copy = pickle.loads(pickle.dumps(failure))
    for each in (failure, copy):
        assert "42" in str(each)
        assert ("module:function" if isinstance(failure.cmd, str) else "a command") in str(each)
        assert ("SIGKILL" if failure.returncode == -9 else str(failure.returncode)) in str(each)
    assert (copy.returncode, copy.cmd, copy.pid, copy.remote_traceback) == (
        failure.returncode,
        failure.cmd,
        failure.pid,
        failure.remote_traceback,
    )
    assert isinstance(copy.__cause__, trio_ipc.RemoteTraceback) == (
        failure.remote_traceback is not None
    )


def test_the_version_is_that_of_the_package() -> None:
    assert trio_ipc.__version__ == importlib.metadata.version("trio_ipc")


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(trio_ipc.__file__).parent / "py.typed").exists()


def test_importing_it_imports_no_tests() -> None:
    code = "import sys, trio_ipc; print(*sorted(set(sys.modules) & {'trio_ipc.testing', 'pytest'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.split() == []
