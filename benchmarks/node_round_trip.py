"""A small message there and back, between Trio and Node."""

from __future__ import annotations

from ._measure import Effort
from ._node import Duel, duels, node_x_node, node_x_trio, trio_x_node
from ._result import Report, Unit, at_most

__all__ = ["measure", "measure_apart", "measure_child", "measure_pinned"]

MICROSECONDS = Unit("µs", 1e6)


def measure(effort: Effort) -> Report:
    """Awaited round trip of a small message from a Trio parent to a Node child"""
    return duels([_to_node("", None)], MICROSECONDS, effort)


def measure_apart(effort: Effort) -> Report:
    """The same with one CPU for each process"""
    return duels([_to_node(", two CPUs", 2)], MICROSECONDS, effort)


def measure_pinned(effort: Effort) -> Report:
    """The same with both processes on one CPU"""
    return duels([_to_node(", one CPU", 1)], MICROSECONDS, effort)


def measure_child(effort: Effort) -> Report:
    """The same from a Node parent to a Trio child, wherever, and on two CPUs"""
    return duels([_to_trio("", None), _to_trio(", two CPUs", 2)], MICROSECONDS, effort)


def _to_node(where: str, cpus: int | None) -> Duel:
    ours = trio_x_node("echo", cpus=cpus)
    return f"round trip Trio x Node{where}", ours, node_x_node("echo", at_most(1), cpus=cpus)


def _to_trio(where: str, cpus: int | None) -> Duel:
    ours = node_x_trio("echo", cpus=cpus)
    return f"round trip Node x Trio{where}", ours, node_x_node("echo", at_most(1), cpus=cpus)
