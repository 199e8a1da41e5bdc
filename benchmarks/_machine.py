"""Where and with what it was measured."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess

import msgspec
import trio

import trio_ipc

__all__ = ["describe"]


def describe() -> dict[str, str]:
    """What somebody needs to know to make sense of the figures."""
    usable = len(os.sched_getaffinity(0))
    return {
        "CPU": f"{_cpu_model()}, {usable} of {os.cpu_count()} cores usable",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        **{package.__name__: package.__version__ for package in (trio_ipc, trio, msgspec)},
        "Node": _node_version(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _cpu_model() -> str:
    with open("/proc/cpuinfo") as cpuinfo:
        for line in cpuinfo:
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "cpu model"):
                return value.strip()
    return platform.processor() or "unknown"


def _node_version() -> str:
    if shutil.which("node") is None:
        return "none on the path"
    return subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
