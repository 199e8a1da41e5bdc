"""A child that does what no child should, without any library: the arguments say what.

It starts quickly, and ends only when it is killed, or finds that nobody is there any more.
"""

import os
import random
import signal
import socket
import struct
import sys
import time

PLENTY = 250  # descriptors in one write; the kernel takes 253

sock = None


def frame(kind, payload=b"", handles=0, grant=0, length=None):
    length = len(payload) if length is None else length
    return struct.pack("!cBHI", kind, handles, grant, length) + payload


def say(data, fds=()):
    if fds:
        data = data[socket.send_fds(sock, [data], fds) :]
    sock.sendall(data)


def forever(data, fds=()):
    while True:
        say(data, fds)


def stay():
    time.sleep(1000)


def descriptors(number):
    near, far = socket.socketpair()
    far.close()
    return [near.detach()] * number


def noise():
    return random.Random(7).randbytes(100_000)


def greet():
    """What the parent says of itself does for us as well."""
    header = sock.recv(8, socket.MSG_WAITALL)
    say(header + sock.recv(struct.unpack("!cBHI", header)[3], socket.MSG_WAITALL))


# In the native protocol -------------------------------------------------------------------------

ONE = b"\xdd\0\0\0\x01"  # an array of one message
WITH_STREAM = ONE + b"\x92\x01\xd5\xd6\x00\x01"


class Native:
    def mute(self):
        stay()

    def noise_first(self):
        forever(noise())

    def noise(self):
        greet()
        forever(noise())

    def oversized(self):
        greet()
        say(frame(b"M", length=2**32 - 1))
        forever(bytes(65536))

    def oversized_greeting(self):
        say(frame(b"H", length=2**31))
        forever(bytes(65536))

    def flood(self):
        greet()
        forever(frame(b"B", b"x" * 60_000))

    def flood_of_small_ones(self):
        greet()
        forever(frame(b"M", ONE + b"\x01") * 5000)

    def empty_grants(self):
        greet()
        forever(frame(b"G") * 5000)

    def grants(self):
        greet()
        forever(frame(b"G", grant=0xFFFF) * 5000)

    def deep(self):
        greet()
        forever(frame(b"M", ONE + b"\x91" * 60_000))

    def handles(self):
        greet()
        forever(frame(b"M", WITH_STREAM, 1), descriptors(1))

    def too_many_handles(self):
        greet()
        forever(frame(b"M", WITH_STREAM, PLENTY), descriptors(PLENTY))

    def surplus_handles(self):
        greet()
        forever(frame(b"B", b"x"), descriptors(PLENTY))

    def crumbs(self):
        greet()
        say(frame(b"B", b"x", length=200_000))
        while True:
            say(b"x")
            time.sleep(0.001)

    def half_a_frame(self):
        greet()
        say(frame(b"M", ONE, length=1000))
        stay()

    def never_reads(self):
        greet()
        stay()

    def stopped(self):
        greet()
        os.kill(os.getpid(), signal.SIGSTOP)

    def cut(self):
        greet()
        say(frame(b"M", ONE, length=1000))


# In Node's protocol -----------------------------------------------------------------------------

HANDLE = b'{"cmd":"NODE_HANDLE","type":"net.Socket","msg":1,"key":"k"}\n'


class Json:
    def mute(self):
        stay()

    def noise(self):
        forever(noise())

    def endless_line(self):
        say(b'"')
        forever(b"x" * 65536)

    def flood(self):
        forever(b'"' + b"x" * 60_000 + b'"\n')

    def flood_of_small_ones(self):
        forever(b"1\n" * 5000)

    def empty_lines(self):
        forever(b"\n" * 5000)

    def deep(self):
        forever(b"[" * 60_000 + b"\n")

    def acknowledgements(self):
        forever(b'{"cmd":"NODE_HANDLE_ACK"}\n{"cmd":"NODE_HANDLE_NACK"}\n' * 500)

    def unknown_commands(self):
        forever(b'{"cmd":"NODE_WHATEVER"}\n' * 500)

    def questions(self):
        """Each of which asks for an answer, which is never read."""
        forever(b'{"cmd":"NODE_SOCKET_GET_COUNT","key":"k"}\n' * 500)

    def handles(self):
        """Each of which asks for an acknowledgement, which is never read."""
        forever(HANDLE, descriptors(1))

    def handles_that_are_missing(self):
        forever(HANDLE * 500)

    def surplus_handles(self):
        forever(b"1\n", descriptors(PLENTY))

    def crumbs(self):
        say(b'"')
        while True:
            say(b"x")
            time.sleep(0.001)

    def stopped(self):
        os.kill(os.getpid(), signal.SIGSTOP)

    def never_reads(self):
        stay()

    def cut(self):
        say(b'"x')


class Advanced:
    def noise(self):
        forever(noise())

    def oversized(self):
        say(b"\xff\xff\xff\xff")
        forever(bytes(65536))

    def flood(self):
        text = b"\xff\x0f" + b'"' + b"\xe0\xd4\x03" + b"x" * 60_000
        forever(struct.pack("!I", len(text)) + text)

    def deep(self):
        text = b"\xff\x0f" + b"A\x01" * 30_000
        forever(struct.pack("!I", len(text)) + text)


SPEAKERS = {"native": Native, "json": Json, "advanced": Advanced}


def main(protocol, role):
    global sock
    variable = "TRIO_IPC_CHANNEL" if protocol == "native" else "NODE_CHANNEL_FD"
    sock = socket.socket(fileno=int(os.environ[variable].partition(":")[0]))
    sock.setblocking(True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        getattr(SPEAKERS[protocol](), role)()
    except OSError:
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
