"""A Python script as the child of a Node parent: handles. What is asserted stands in
``programs/handles_parent.js``, and in the script."""

from __future__ import annotations

from pathlib import Path

from .helpers import run_parent


async def test_recv_handle(node: str) -> None:
    await run_parent(node, "handles", "recv_handle")


async def test_recv_handle_from_the_child(node: str) -> None:
    await run_parent(node, "handles", "recv_handle_from_the_child")


async def test_pass_fd(node: str) -> None:
    await run_parent(node, "handles", "pass_fd")


async def test_cluster_net_send(node: str) -> None:
    await run_parent(node, "handles", "net_send")


async def test_cluster_send_handle_large_payload(node: str) -> None:
    await run_parent(node, "handles", "large_payload")


async def test_fork_net_socket(node: str) -> None:
    await run_parent(node, "handles", "fork_net_socket")


async def test_fork_net(node: str) -> None:
    await run_parent(node, "handles", "fork_net")


async def test_fork_net_server(node: str) -> None:
    await run_parent(node, "handles", "fork_net_server")


async def test_fork_net_server_of_the_child(node: str) -> None:
    await run_parent(node, "handles", "fork_net_server_of_the_child")


async def test_net_listen_handle_in_cluster_1(node: str) -> None:
    await run_parent(node, "handles", "net_listen_handle")


async def test_each_kind(node: str, tmp_path: Path) -> None:
    await run_parent(node, "handles", "each_kind", str(tmp_path / "a socket"))


async def test_fork_dgram(node: str) -> None:
    await run_parent(node, "handles", "fork_dgram")


async def test_fork_dgram_of_the_child(node: str) -> None:
    await run_parent(node, "handles", "fork_dgram_of_the_child")


async def test_send_keep_open(node: str) -> None:
    await run_parent(node, "handles", "send_keep_open")


async def test_send_keep_open_by_the_child(node: str) -> None:
    await run_parent(node, "handles", "send_keep_open_by_the_child")


async def test_fork_closed_channel_segfault(node: str) -> None:
    await run_parent(node, "handles", "fork_closed_channel_segfault")


async def test_cluster_send_deadlock(node: str) -> None:
    await run_parent(node, "handles", "deadlock")


async def test_a_disconnect_behind_handles(node: str) -> None:
    await run_parent(node, "handles", "disconnect_behind_handles")


async def test_cluster_send_handle_twice(node: str) -> None:
    await run_parent(node, "handles", "handle_twice")


async def test_cluster_send_handle_twice_by_the_child(node: str) -> None:
    await run_parent(node, "handles", "handle_twice_by_the_child")


async def test_listen_fd(node: str) -> None:
    await run_parent(node, "handles", "listen_fd")


async def test_dgram_cluster_close_during_bind(node: str) -> None:
    await run_parent(node, "handles", "close_during_bind")


async def test_handles_that_nobody_receives_are_closed(node: str) -> None:
    await run_parent(node, "handles", "never_received")


async def test_what_node_can_not_take_is_refused(node: str) -> None:
    await run_parent(node, "handles", "refused")
