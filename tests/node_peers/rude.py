"""A child that plays Node's part badly, without any library: the arguments say how.

It starts quickly, talks bytes over a blocking socket, and never tidies up.
"""

import os
import socket
import sys
import time

sock = socket.socket(fileno=int(os.environ["NODE_CHANNEL_FD"]))
ACK = b'{"cmd":"NODE_HANDLE_ACK"}\n'
NACK = b'{"cmd":"NODE_HANDLE_NACK"}\n'
heard = b""
fds = []


def hear():
    global heard
    while b"\n" not in heard:
        data, found, _, _ = socket.recv_fds(sock, 65536, 16)
        fds.extend(found)
        if not data:
            sys.exit(0)
        heard += data
    line, _, heard = heard.partition(b"\n")
    return line + b"\n"


def say(data):
    sock.sendall(data)


def wait():
    """Until our parent ends the channel."""
    while True:
        hear()


def echo():
    while True:
        line = hear()
        if b'"NODE_HANDLE"' in line:
            say(ACK)
            socket.send_fds(sock, [line], fds)
            os.close(fds.pop())
        elif b"NODE_HANDLE" not in line:
            say(line)


def refuse():
    """Each handle four times, and tell how many there were."""
    for _ in range(4):
        assert b"NODE_HANDLE" in hear()
        os.close(fds.pop())
        say(NACK)
    say(b'"refused"\n')
    echo()


def never_answer():
    hear()
    say(b'"heard"\n')
    wait()


def die_with_much_unread(how):
    # More than a parent reads ahead, all of which the socket takes.
    say(b"".join(b"%d\n" % number for number in range(3000)))
    end(how)


def die_with_handle(how="0"):
    hear()
    end(how)


def die_after_answer(how="0"):
    hear()
    say(ACK + b'"last words"\n')
    end(how)


def end(how):
    if how.startswith("-"):
        os.kill(os.getpid(), -int(how))
    os._exit(int(how))


def garbage():
    say(b'"before"\n')
    hear()
    say(b"hello\n")
    time.sleep(1000)


def cut(count="219263"):
    say(b'"before"\n"' + b"x" * int(count))
    os._exit(0)


def exit_with_unread(how="0"):
    """Closed with what our parent wrote unread, which is a reset to it."""
    say(b'"ready"\n')
    socket.socket.recv(sock, 1)
    say(b'"last words"\n')
    end(how)


def disconnect():
    """As Node's process.disconnect(), and then on with its own affairs."""
    say(b'"bye"\n')
    sock.close()
    sys.stdin.read()


def disconnect_with_handle():
    hear()
    os.close(fds.pop())
    sock.close()
    sys.stdin.read()


def flood():
    for _ in range(200_000):
        say(b'"' + b"x" * 997 + b'"\n')
    wait()


def environment():
    prefixes = ("NODE_CHANNEL", "NODE_UNIQUE", "TRIO_IPC")
    names = " ".join(sorted(name for name in os.environ if name.startswith(prefixes)))
    mode = os.environ.get("NODE_CHANNEL_SERIALIZATION_MODE", "")
    say(f'["{names}","{mode}",{sock.fileno()}]\n'.encode())
    wait()


globals()[sys.argv[1]](*sys.argv[2:])
