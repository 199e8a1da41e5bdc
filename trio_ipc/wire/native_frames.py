"""The native protocol's frames: what two trio_ipc peers write to each other.

Frames
======

A frame is a header of eight bytes, big-endian, and its payload::

    kind: u8 | handles: u8 | grant: u16 | length: u32

``handles`` descriptors ride on the header's first byte. ``grant`` gives the peer that many credits
and may stand in any frame, so that an answer carries the credit of what it answers.

====  =========  ==================================================================
kind  name       payload
====  =========  ==================================================================
H     HELLO      MessagePack array, see `Hello`; the first frame of each side, once
M     MESSAGES   MessagePack array of messages, always in its 32-bit form (``dd``)
W     WITH       MessagePack array, in its 32-bit form, of messages with handles: for each the
                 number of its handles, and then the message
P     PAIR       ``[message, handle]``: what ``send(message, handle)`` becomes
B     BYTES      one message that is a bytes object, bare
G     GRANT      none: only the header's grant counts
E     END        none: no more messages will come from here
S     STOP       none: no more messages will be taken here
C     CALL       ``[call, arguments]``: what a function child is to run, once, first
F     FAILURE    UTF-8 text: the traceback that ended the peer
====  =========  ==================================================================

Many small messages travel in one MESSAGES frame: one header, one system call and one call of the
decoder for all of them. A MESSAGES frame with handles holds exactly one message; several travel in
one WITH frame, and take their handles from those of the frame in their order.

Credit
======

A message may be sent for each credit. Credits are what the receiver's ``max_buffer_size`` was at
the beginning, and then whatever it grants: one for each message that its user took. With
``max_buffer_size=0`` it grants one for each task that waits.

Three more things hold a sender back, each computed here from the same credits, with nothing on the
wire: the bytes of messages not yet taken (`Hello.max_message_size` of the receiver, or 1 MiB if
that is less), handles not yet taken (`HANDLE_WINDOW`), and bytes not yet written
(`HIGH_WATER`). Because nothing is ever sent that the peer has no room for, the peer never has to
stop reading, and grants and ends never stand in line behind messages that nobody takes.
"""

from __future__ import annotations

import math
from struct import Struct
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from . import Limits

VERSION: Final = 1

HEADER: Final = Struct("!BBHI")
HEADER_SIZE: Final = HEADER.size
ARRAY: Final = Struct("!BI")
ARRAY_SIZE: Final = ARRAY.size
ARRAY_TAG: Final = 0xDD
ARRAY_OF_ONE: Final = ARRAY.pack(ARRAY_TAG, 1)
ARRAY_OF_TWO: Final = b"\x92"  # in its shortest form, as a pair is sent

HELLO, MESSAGES, WITH, PAIR, BYTES, GRANT, END, STOP, CALL, FAILURE = b"HMWPBGESCF"

# What may arrive in which state of the peer. The state is left by HELLO and by END. A function
# child accepts a CALL besides, and its parent a FAILURE.
GREETING: Final = (HELLO,)
TALKING: Final = (MESSAGES, WITH, PAIR, BYTES, GRANT, END, STOP)
ENDED: Final = (GRANT, STOP)

# The payload of a batch, whatever max_message_size is.
BATCH_SIZE: Final = 64 * 1024
# The most that one read brings. Larger frames are read straight to where they stay.
READ_SIZE: Final = 256 * 1024
# From here on a bytes message goes out bare, uncopied; below, the copy is cheaper than a frame.
BARE_BYTES: Final = 16 * 1024
# Senders wait while more than this is unwritten; the kernel holds about 208 KiB besides.
HIGH_WATER: Final = 256 * 1024
# Bytes are accounted for in steps of at least this, so that small messages need no bookkeeping.
MARK_SIZE: Final = 16 * 1024
# `math.inf` messages: as many as a 64-bit counter never reaches.
UNLIMITED: Final = 1 << 62
HELLO_SIZE: Final = 256
FAILURE_SIZE: Final = 64 * 1024
# What a call may need besides the arguments: it tells sys.argv, and a command line has some 2 MiB
# at most (a quarter of the limit of the stack, execve(2)).
CALL_SIZE: Final = 4 * 1024 * 1024
MOST_GRANT: Final = 0xFFFF


class Hello(msgspec.Struct, array_like=True, frozen=True):
    """The first frame: what this end accepts, and which socket it is.

    The socket's device and inode let the peer refuse to send it back to us as a handle.
    """

    version: int
    max_buffer_size: int  # negative: no limit
    max_message_size: int
    max_handles: int
    device: int = 0
    inode: int = 0
    max_handles_sent: int = -1  # negative: as many as it takes


class CreditState(msgspec.Struct, array_like=True, frozen=True):
    """What moves along when one end of a quiet channel moves to another process."""

    credit: int
    granted: int
    in_flight: int
    in_flight_size: int
    peer_max_message_size: int
    peer_max_handles: int
    marks: list[tuple[int, int]] = []


def greeting(limits: Limits, device: int = 0, inode: int = 0) -> Hello:
    window = -1 if limits.max_buffer_size == math.inf else int(limits.max_buffer_size)
    return Hello(
        VERSION,
        window,
        limits.max_message_size,
        limits.max_handles_taken,
        device,
        inode,
        limits.max_handles,
    )


def handles_sent(hello: Hello) -> int:
    """How many handles a peer may put into one message, which it takes us to accept at first."""
    return hello.max_handles if hello.max_handles_sent < 0 else hello.max_handles_sent


def credit_of(window: int) -> int:
    """The credit that a peer with this ``max_buffer_size`` starts with."""
    return UNLIMITED if window < 0 else window


def byte_window(max_message_size: int) -> int:
    """How many bytes of messages may be under way to a peer with this limit."""
    return max(max_message_size, 1024 * 1024)
