"""Lay out all that the tests need but the package: they are to find the one that is installed.

``python tests/elsewhere.py FOLDER``; tox does so, and runs them there. In the repository they, and
what they start there, would find the package beside them, whatever is installed.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def leave_out(folder: str, names: list[str]) -> list[str]:
    made = {"__pycache__", "_build", "build", "dist", "htmlcov"}
    if Path(folder) == ROOT:
        made |= {"trio_ipc", *(name for name in names if name.startswith("."))}
    return [name for name in names if name in made]


if __name__ == "__main__":
    shutil.copytree(ROOT, sys.argv[1], ignore=leave_out, dirs_exist_ok=True)
