"""What is tested is what is installed, in the children too."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import trio_ipc

from .meaning_helpers import script

ROOT = Path(__file__).parent.parent


async def tell_file(parent: trio_ipc.Channel[Any, Any]) -> None:
    await parent.send(trio_ipc.__file__)


def test_the_package_comes_from_its_installation() -> None:
    installed = importlib.metadata.distribution("trio_ipc")
    files = [file for file in installed.files or () if str(file) == "trio_ipc/py.typed"]
    if not files:
        pytest.skip("it is installed as editable")
    [file] = files
    assert Path(str(file.locate())).with_name("__init__.py").samefile(trio_ipc.__file__)


async def test_a_function_child_has_the_same_package() -> None:
    async with trio_ipc.open_child(tell_file) as child:
        assert await child.receive() == trio_ipc.__file__


async def test_a_script_has_the_same_package(tmp_path: Path) -> None:
    source = """
        import trio, trio_ipc
        async def main():
            async with trio_ipc.open_parent() as parent:
                await parent.send(trio_ipc.__file__)
        trio.run(main)
    """
    async with trio_ipc.open_child(script(tmp_path, source)) as child:
        assert await child.receive() == trio_ipc.__file__


def test_what_is_started_in_the_folder_of_the_tests_has_the_same_package() -> None:
    code = "import trio_ipc; print(trio_ipc.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    assert found.stdout.strip() == trio_ipc.__file__
