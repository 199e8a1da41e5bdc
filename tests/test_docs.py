"""The reference has everything that is public, and the first example works."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio

import trio_ipc
import trio_ipc.javascript
import trio_ipc.testing
from trio_ipc import _process

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"

# A directive, how far it is indented, and what it documents: of a method the last part of its name.
DIRECTIVE = re.compile(
    r"^( *)\.\. (?:(?:auto)?(?:function|class|exception|method|attribute|data)|"
    r"automodule|(?:current)?module):: (?P<name>[\w.]+)",
    re.MULTILINE,
)


def documented() -> Iterator[str]:
    """The full name of each thing that has an entry in the reference."""
    for page in REFERENCE.glob("*.rst"):
        module = owner = ""
        for found in DIRECTIVE.finditer(page.read_text()):
            name = found["name"]
            if "module::" in found[0]:
                module = name
            elif found[1]:
                yield f"{owner}.{name}"
            else:
                owner = f"{module}.{name}"
                yield owner


def public() -> Iterator[tuple[str, Any]]:
    """The full name of everything that is exported, and the thing."""
    for module in (trio_ipc, trio_ipc.testing, trio_ipc.javascript):
        for name in getattr(module, "__all__", vars(module)):
            value = getattr(module, name)
            if not name.startswith("_") and not isinstance(value, ModuleType):
                yield f"{module.__name__}.{name}", value


def members(cls: type) -> Iterator[str]:
    """What a class of ours adds to those of others."""
    ours = [each for each in cls.__mro__ if each.__module__.startswith("trio_ipc")]
    for base in ours:
        fields = getattr(base, "_fields", ()) or base.__annotations__
        for name in [*vars(base), *fields]:
            if not name.startswith("_"):
                yield name


PUBLIC = dict(public())


def test_nothing_is_documented_twice_or_is_not_there() -> None:
    names = list(documented())
    assert len(names) == len(set(names))
    for name in names:
        owner, _, member = name.rpartition(".")
        if name not in PUBLIC and owner.startswith("trio_ipc.javascript."):
            assert f"self.{member}: " in inspect.getsource(PUBLIC[owner])
        else:
            assert name in PUBLIC or member in members(PUBLIC[owner]), name


@pytest.mark.parametrize("name", PUBLIC)
def test_it_is_in_the_reference(name: str) -> None:
    assert name in set(documented())


CHANNELS = ["Channel", "ChildChannel", "SendChannel", "ReceiveChannel"]


@pytest.mark.parametrize("name", [*CHANNELS, "HandleMessage", "ChannelStatistics"])
def test_its_members_are_in_the_reference(name: str) -> None:
    found = set(documented())
    cls = PUBLIC[f"trio_ipc.{name}"]
    owners = [name, "Channel"] if issubclass(cls, trio_ipc.Channel) else [name]
    wanted = set(members(cls))
    assert wanted
    for member in wanted:
        assert any(f"trio_ipc.{owner}.{member}" in found for owner in owners), member


@pytest.mark.parametrize("name", trio_ipc.javascript.__all__)
def test_its_attributes_are_in_the_reference(name: str) -> None:
    found = set(documented())
    cls = PUBLIC[f"trio_ipc.javascript.{name}"]
    if isinstance(cls, type) and "__init__" in vars(cls):
        source = inspect.getsource(cls.__init__)
        for attribute in re.findall(r"self\.([a-z]\w*)\b.* = ", source):
            in_docstring = (
                f"\n  {attribute}" in (inspect.getdoc(cls) or "").partition("Attributes:")[2]
            )
            assert in_docstring or f"trio_ipc.javascript.{name}.{attribute}" in found, attribute


CALLED = [name for name, value in PUBLIC.items() if inspect.isfunction(value)]
JAVASCRIPT = vars(trio_ipc.javascript)
MADE = [
    f"trio_ipc.javascript.{name}"
    for name in trio_ipc.javascript.__all__
    if "__init__" in getattr(JAVASCRIPT[name], "__dict__", ())
]


@pytest.mark.parametrize("name", [*CALLED, *MADE])
def test_its_parameters_are_explained(name: str) -> None:
    doc = inspect.getdoc(PUBLIC[name]) or ""
    for parameter in inspect.signature(PUBLIC[name]).parameters:
        assert re.search(rf"^  {parameter}(?: \(.*\))?: ", doc, re.MULTILINE), parameter


def test_the_environment_is_in_the_reference() -> None:
    page = (REFERENCE / "environment.md").read_text()
    for variable in _process._SCRUBBED:
        assert f"| `{variable}` |" in page


def test_the_options_of_the_command_are_in_the_reference() -> None:
    page = (REFERENCE / "environment.md").read_text()
    source = Path(trio_ipc.__file__).with_name("__main__.py").read_text()
    options = re.findall(r'"(--\w+)"', source)
    assert len(options) >= 3
    for option in options:
        assert re.search(rf"^\| `{option}\b", page, re.MULTILINE), option


# The first example ----------------------------------------------------------------------------

FIRST = DOCS / "examples" / "hand_over.py"


def test_the_first_example_is_that_of_the_readme() -> None:
    [block] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert ast.dump(ast.parse(block)) == ast.dump(ast.parse(FIRST.read_text()))


async def test_the_first_example_works(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[trio.SocketListener] = []
    listening = trio.Event()
    open_tcp_listeners = trio.open_tcp_listeners

    async def open_anywhere(port: int, *, host: str) -> list[trio.SocketListener]:
        opened.extend(await open_tcp_listeners(0, host=host))  # that port may be taken
        listening.set()
        return opened

    monkeypatch.syspath_prepend(FIRST.parent)
    monkeypatch.setattr(trio, "open_tcp_listeners", open_anywhere)
    example = importlib.import_module(FIRST.stem)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(example.main)
            await listening.wait()
            [listener] = opened
            for _ in range(2):
                port = listener.socket.getsockname()[1]
                async with await trio.open_tcp_stream("127.0.0.1", port) as client:
                    answer = b"".join([part async for part in client])
                assert answer == b"handled by a worker\n"
            nursery.cancel_scope.cancel()
    await listener.aclose()
