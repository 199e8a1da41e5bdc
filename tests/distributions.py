"""Fail unless a wheel and an sdist hold what they should, and nothing else.

``python -m tests.distributions FOLDER``, where FOLDER holds one of each, as tox builds them.
The sdist is to hold every file that git knows, or would add; the wheel the package alone. The
licences belong in both.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LICENCES = {"LICENSE", "LICENSE.APACHE2", "LICENSE.MIT"}


def in_repository() -> set[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).exists()}


def in_sdist(path: Path) -> set[str]:
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def in_wheel(path: Path) -> tuple[set[str], set[str]]:
    """The package, and the licences beside it."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    beside = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    return names - beside, {name.rpartition("/")[2] for name in beside if "/licenses/" in name}


def differences(what: str, found: set[str], expected: set[str]) -> list[str]:
    return [
        *(f"{what} lacks {name}" for name in sorted(expected - found)),
        *(f"{what} has {name}, too" for name in sorted(found - expected)),
    ]


def main(folder: Path) -> None:
    [sdist], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    ours = in_repository()
    package, licences = in_wheel(wheel)
    wrong = [
        *differences("the sdist", in_sdist(sdist), ours | {"PKG-INFO"}),
        *differences("the wheel", package, {name for name in ours if name.startswith("trio_ipc/")}),
        *differences("the wheel", licences, LICENCES),
    ]
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
