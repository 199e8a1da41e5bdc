"""TCP sockets, one in each message, between Trio and Node.

They are clients' ends: a socket that a ``net.Server`` has accepted would cost Node some bookkeeping
besides. Node's protocol has one of them under way at a time, and waits for the answer.
"""

from __future__ import annotations

from ._measure import Effort
from ._node import duels, node_x_node, node_x_trio, trio_x_node
from ._result import Report, Unit, at_least

__all__ = ["measure", "measure_child"]

THOUSANDS = Unit("k/s", 1e-3, rate=True)
TARGET = at_least(1)
# In one turn. Each of them has two ends here, and a process may have 1024 descriptors.
COUNT = 200


def measure(effort: Effort) -> Report:
    """TCP sockets to and from a Node child, which move and are closed where they arrive"""
    work = "receiveSockets"
    to_node = trio_x_node(work, count=COUNT), node_x_node(work, TARGET, count=COUNT)
    work = "sendSockets"
    to_trio = trio_x_node(work, count=COUNT), node_x_node(work, TARGET, count=COUNT)
    pairs = [("TCP sockets to a Node child", *to_node), ("… from a Node child", *to_trio)]
    return duels(pairs, THOUSANDS, effort)


def measure_child(effort: Effort) -> Report:
    """The same to and from a Trio child"""
    work = "receiveSockets"
    to_trio = node_x_trio(work, count=COUNT), node_x_node(work, TARGET, count=COUNT)
    work = "sendSockets"
    to_node = node_x_trio(work, count=COUNT), node_x_node(work, TARGET, count=COUNT)
    pairs = [("TCP sockets to a Trio child", *to_trio), ("… from a Trio child", *to_node)]
    return duels(pairs, THOUSANDS, effort)
