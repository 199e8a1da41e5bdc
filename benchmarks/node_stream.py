"""Many small messages in one direction, between Trio and Node.

Node just sends: to stop when ``send()`` returns false until its callback comes, or to send in
batches, was not faster. A message takes less time there than a turn of Trio's event loop, so the
target is for the calls that take none.
"""

from __future__ import annotations

from ._measure import Effort
from ._node import duels, node_x_node, node_x_trio, trio_x_node
from ._result import Report, Unit, at_least

__all__ = ["measure", "measure_awaited", "measure_child"]

THOUSANDS = Unit("k/s", 1e-3, rate=True)
TARGET = at_least(0.8)


def measure(effort: Effort) -> Report:
    """Small messages to and from a Node child, with send_nowait and receive_nowait"""
    to_node = trio_x_node("receive"), node_x_node("receive", TARGET)
    to_trio = trio_x_node("send"), node_x_node("send", TARGET)
    pairs = [("nowait stream to a Node child", *to_node), ("… from a Node child", *to_trio)]
    return duels(pairs, THOUSANDS, effort)


def measure_awaited(effort: Effort) -> Report:
    """The same with await send() and await receive()"""
    to_node = trio_x_node("receive", "receive-awaited"), node_x_node("receive")
    to_trio = trio_x_node("send", "send-awaited"), node_x_node("send")
    pairs = [("awaited stream to a Node child", *to_node), ("… from a Node child", *to_trio)]
    return duels(pairs, THOUSANDS, effort)


def measure_child(effort: Effort) -> Report:
    """Small messages to and from a Trio child, with receive_nowait and send_nowait"""
    to_trio = node_x_trio("receive"), node_x_node("receive", TARGET)
    to_node = node_x_trio("send"), node_x_node("send", TARGET)
    pairs = [("nowait stream to a Trio child", *to_trio), ("… from a Trio child", *to_node)]
    return duels(pairs, THOUSANDS, effort)
