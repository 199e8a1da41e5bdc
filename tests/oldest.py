"""Fail unless what is installed is the oldest that the package says it works with.

``python -m tests.oldest``; tox does so before it runs the tests with them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version


def needed() -> Iterator[Requirement]:
    """What the package needs here, with the extra that is used where it runs."""
    for requirement in map(Requirement, requires("trio_ipc") or ()):
        extras = ("", "advanced")
        if not requirement.marker or any(
            requirement.marker.evaluate({"extra": extra}) for extra in extras
        ):
            yield requirement


def oldest(specifiers: SpecifierSet) -> Version:
    [bound] = [each.version for each in specifiers if each.operator == ">="]
    return Version(bound)


if __name__ == "__main__":
    wrong = [
        f"{requirement}, but {version(requirement.name)} is installed"
        for requirement in needed()
        if Version(version(requirement.name)) != oldest(requirement.specifier)
    ]
    python = oldest(SpecifierSet(metadata("trio_ipc")["Requires-Python"]))
    if sys.version_info[:2] != python.release[:2]:
        wrong.append(f"Python {python}, but this is {sys.version_info[0]}.{sys.version_info[1]}")
    sys.exit("\n".join(wrong) or None)
