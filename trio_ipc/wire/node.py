"""Node's protocol: what ``child_process`` speaks on its IPC channel.

Each message is a frame of its own, see `NodeCodec`. Around those of the user there are *internal*
ones, which he never sees:

* ``NODE_HANDLE`` is a message with a handle. Its descriptor rides on the frame's first byte, and
  the receiver answers ``NODE_HANDLE_ACK``, or ``NODE_HANDLE_NACK`` if it got the frame without the
  descriptor; then it is sent again. Until the answer comes nothing else is written, because a Node
  that reads two of them at once mixes up their descriptors (libuv keeps a single pending one).
* ``NODE_SOCKET_GET_COUNT`` and ``NODE_SOCKET_NOTIFY_CLOSE`` ask about the sockets of one server,
  named by a key that came with each: how many are still open here, and tell when there are none.

There is no greeting, no credit and no goodbye. What is unsent is bounded by its bytes, what is
unread by not reading on, and the end of the socket is the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import HANDLE_WINDOW
from .node_receiving import Receiving
from .node_sending import Sending

if TYPE_CHECKING:
    from . import Limits
    from .node_values import NodeCodec, NodeHandleKinds


class NodeWire(Sending, Receiving):
    """One end of a channel in Node's protocol. Implements `Wire`.

    Args:
      codec: between values and frames.
      kinds: what can travel.
      limits: what this end accepts.
      handle_window: how many handles may wait unreceived.
    """

    # There is no greeting in this protocol, no credit, and nobody fails with last words in it.
    greeted = True
    grants_pending = 0
    grant_at = 1
    starving = False
    rendezvous = False
    failure_text: str | None = None

    def __init__(
        self,
        codec: NodeCodec,
        kinds: NodeHandleKinds,
        limits: Limits,
        *,
        handle_window: int = HANDLE_WINDOW,
    ) -> None:
        self.codec = codec
        self.kinds = kinds
        self.limits = limits
        self._start_sending()
        self._start_receiving(handle_window)

    def want(self, receivers: int) -> None:
        """There is no credit to give."""

    def needs_grant(self) -> bool:
        return False

    def flush_grants(self) -> None:
        """There is no credit to give."""

    def close(self) -> None:
        self.abandon_output()
        self.abandon_input()
        self.skip_unread()
        while self.answers:
            self.answers.popleft().token.close()
