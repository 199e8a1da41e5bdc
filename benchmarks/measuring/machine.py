"""Where and with what it was measured."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import version

__all__ = ["describe"]


def describe() -> dict[str, str]:
    """What somebody needs to know to make sense of the figures."""
    usable = len(os.sched_getaffinity(0))
    return {
        "cpu": f"{_cpu_model()}, {usable} of {os.cpu_count()} usable",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: version(name) for name in ("trio_ipc", "trio", "msgspec")},
        **{name: _version_of(name) for name in ("node", "bun")},
        "commit": _commit(),
        "load_before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _cpu_model() -> str:
    with open("/proc/cpuinfo") as cpuinfo:
        for line in cpuinfo:
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "cpu model"):
                return value.strip()
    return platform.processor() or "unknown"


def _version_of(program: str) -> str:
    return _output([program, "--version"]).lstrip("v") or "not installed"


def _commit() -> str:
    commit = _output(["git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty"])
    return commit or "unknown"


def _output(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
