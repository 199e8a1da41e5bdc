"""A child without the library and without Trio: it sends numbers, and sends back each stream that
comes, until it is killed."""

import os
import select
import socket
import struct

# An array of one message, which is a list of the number 1 and a stream, handle 0.
WITH_STREAM = b"\xdd\0\0\0\x01\x92\x01\xd5\xd6\x00\x01"


def frame(kind, payload, handles=0):
    return struct.pack("!BBHI", kind[0], handles, 0, len(payload)) + payload


def main():
    sock = socket.socket(fileno=int(os.environ["TRIO_IPC_CHANNEL"].partition(":")[0]))
    header = sock.recv(8, socket.MSG_WAITALL)
    length = struct.unpack("!BBHI", header)[3]
    # What the parent says of itself does for us as well.
    sock.sendall(header + sock.recv(length, socket.MSG_WAITALL))
    number = 0
    while True:
        sock.sendall(frame(b"B", b"%d" % number))
        number += 1
        while select.select([sock], [], [], 0.0002)[0]:
            data, fds, _, _ = socket.recv_fds(sock, 65536, 64)
            if not data:
                return
            for fd in fds:
                socket.send_fds(sock, [frame(b"M", WITH_STREAM, 1)], [fd])
                os.close(fd)


if __name__ == "__main__":
    main()
