"""The process that is lost: it brings a channel into a state, says so, and then it is lost.

Without the library and without Trio, so that it is ready in milliseconds, and can stop in the
middle of a frame. Its one argument is JSON, see `matrix.describe`. It says ``r`` and a line on its
standard output when it is ready, and does what is to happen to it at the first byte on its input,
unless that is done to it.
"""

import json
import os
import socket
import struct
import sys
import time

ACK = b'{"cmd":"NODE_HANDLE_ACK"}\n'
NACK = b'{"cmd":"NODE_HANDLE_NACK"}\n'
# Version, messages that may wait, bytes of one, handles of one, and no socket to be told from.
HELLO = b"\x96\x01\x03\xce\x01\x00\x00\x00\x10\x00\x00"


def frame(kind, payload=b"", handles=0, grant=0):
    return struct.pack("!BBHI", kind[0], handles, grant, len(payload)) + payload


class Peer:
    """One end of a channel, and what it is made to hold."""

    def __init__(self, sock, fds, is_parent):
        self.sock = sock
        self.fds = fds
        self.is_parent = is_parent
        self.data = b""
        self.held = []

    def say(self, data, fds=()):
        if fds:
            assert socket.send_fds(self.sock, [data], fds) == len(data)
        else:
            self.sock.sendall(data)

    def read(self):
        data, fds, _, _ = socket.recv_fds(self.sock, 65536, 16)
        assert data
        self.data += data
        self.held += fds

    def read_until(self, ready):
        while not ready():
            self.read()

    def hear_frame(self):
        self.read_until(lambda: len(self.data) >= 8)
        kind, _, _, length = struct.unpack("!BBHI", self.data[:8])
        self.read_until(lambda: len(self.data) >= 8 + length)
        self.data = self.data[8 + length :]
        return kind

    def hear_line(self):
        self.read_until(lambda: b"\n" in self.data)
        self.data = self.data.partition(b"\n")[2]

    def let_go(self):
        """What was sent is the other side's alone."""
        while self.fds:
            os.close(self.fds.pop())


# The steps, in the native protocol ----------------------------------------------------------------


def greet(peer):
    if peer.is_parent:
        peer.say(frame(b"H", HELLO))
        assert peer.hear_frame() == b"H"[0]
    else:
        assert peer.hear_frame() == b"H"[0]
        peer.say(frame(b"H", HELLO))


def in_greeting(peer):
    peer.say(frame(b"H", HELLO)[:5])


def in_header(peer):
    peer.say(frame(b"B", b"x" * 100)[:4])


def in_payload(peer):
    peer.say(frame(b"B", b"x" * 100)[:50])


# An array of one message, which is a list of the number 1 and a stream, handle 0: see the codec.
WITH_STREAM = b"\xdd\0\0\0\x01\x92\x01\xd5\xd6\x00\x01"


def in_payload_with_handles(peer):
    peer.say(frame(b"M", WITH_STREAM, 1)[:-2], peer.fds[:1])
    peer.let_go()


def handles_unread(peer):
    for fd in peer.fds:
        peer.say(frame(b"M", WITH_STREAM, 1), [fd])
    peer.let_go()


def handles_read(peer):
    peer.read_until(lambda: len(peer.held) == 3)


def in_grant(peer):
    handles_read(peer)
    peer.say(frame(b"G", grant=1)[:3])


def ended(peer):
    peer.say(frame(b"E"))


def stopped(peer):
    peer.say(frame(b"S"))


def nothing(peer):
    pass


NATIVE = {
    "spawning": (),
    "before the greeting": (),
    "in the greeting": (in_greeting,),
    "idle": (greet,),
    "in a header": (greet, in_header),
    "in a payload": (greet, in_payload),
    "in a payload with handles": (greet, in_payload_with_handles),
    "handles unread": (greet, handles_unread),
    "handles read": (greet, handles_read),
    "in a grant": (greet, in_grant),
    "drain": (greet,),
    "they have ended": (greet, ended),
    "they have stopped": (greet, stopped),
    "we have ended": (greet,),
    "leaving": (greet,),
}


# And in Node's -----------------------------------------------------------------------------------


def node_handle(peer):
    message = json.dumps({"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": 1})
    return message.encode() + b"\n"


def in_line(peer):
    peer.say(b'{"some":')


def in_line_with_handle(peer):
    peer.say(node_handle(peer)[:20], peer.fds[:1])
    peer.let_go()


def node_handles_unread(peer):
    for fd in peer.fds:
        peer.say(node_handle(peer), [fd])
    peer.let_go()


def node_handle_read(peer):
    peer.read_until(lambda: peer.held)


def in_answer(peer):
    node_handle_read(peer)
    peer.say(ACK[:9])


def second_handle_read(peer):
    node_handle_read(peer)
    peer.hear_line()
    peer.say(ACK)
    peer.read_until(lambda: len(peer.held) == 2)


def refused(peer):
    node_handle_read(peer)
    peer.hear_line()
    os.close(peer.held.pop())
    peer.say(NACK)
    node_handle_read(peer)


NODE = {
    "spawning": (),
    "idle": (),
    "in a payload": (in_line,),
    "in a payload with handles": (in_line_with_handle,),
    "handles unread": (node_handles_unread,),
    "handles read": (node_handle_read,),
    "second handle read": (second_handle_read,),
    "in an answer": (in_answer,),
    "refused": (refused,),
    "drain": (),
    "we have ended": (),
    "leaving": (),
}

STEPS = {"native": NATIVE, "node": NODE}


# What happens to it ------------------------------------------------------------------------------


def exit_well(peer):
    os._exit(0)


def close(peer):
    peer.sock.close()
    time.sleep(1000)


def shut(peer):
    peer.sock.shutdown(socket.SHUT_WR)
    time.sleep(1000)


def execute(peer):
    os.execvp("sleep", ["sleep", "1000"])


def fork(peer):
    pid = os.fork()
    if not pid:
        # It holds the channel, and reads what comes until that ends, which it does when the
        # other side gives up.
        try:
            while peer.sock.recv(65536):
                pass
        finally:
            os._exit(0)
    os.write(1, b"%d\n" % pid)
    os._exit(0)


def wait_for_it(peer):
    time.sleep(1000)


EVENTS = {
    "SIGKILL": wait_for_it,
    "SIGSTOP, SIGKILL": wait_for_it,
    "exit": exit_well,
    "close": close,
    "SHUT_WR": shut,
    "exec": execute,
    "fork": fork,
}


# --------------------------------------------------------------------------------------------------


def find_channel(about):
    if about["command"] is None:
        name = "TRIO_IPC_CHANNEL" if about["protocol"] == "native" else "NODE_CHANNEL_FD"
        fd = int(os.environ[name].partition(":")[0])
        os.set_inheritable(fd, False)
        return socket.socket(fileno=fd), ""
    import subprocess

    ours, theirs = socket.socketpair()
    if about["protocol"] == "native":
        status = os.fstat(theirs.fileno())
        text = f"{theirs.fileno()}:{status.st_dev}:{status.st_ino}"
        env = {"TRIO_IPC_CHANNEL": text}
    else:
        env = {"NODE_CHANNEL_FD": str(theirs.fileno())}
    child = subprocess.Popen(
        about["command"],
        pass_fds=[theirs.fileno(), *about["theirs"]],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=about["report"],
    )
    theirs.close()
    os.close(about["report"])
    for fd in about["theirs"]:
        os.close(fd)
    return ours, child.pid


def main():
    about = json.loads(sys.argv[1])
    sock, pid = find_channel(about)
    for fd in about["fds"]:
        os.set_inheritable(fd, False)
    peer = Peer(sock, about["fds"], about["command"] is not None)
    for act in STEPS[about["protocol"]][about["step"]]:
        act(peer)
    os.write(1, f"r{pid}\n".encode())
    os.read(0, 1)
    EVENTS[about["event"]](peer)


if __name__ == "__main__":
    main()
