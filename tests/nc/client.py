#!/usr/bin/env python3
"""What nc cannot do: a client that paces its bytes by the server's answers, one that resets.

    client.py byte_by_byte PORT       fib_server: a request in one-byte segments
    client.py reset PORT              sends a line of input, resets the connection at the next
    client.py chat_storm PORT LINES   chat_server: one talks, one listens, no line may be missing
    client.py kernel_has_io_uring     exit status 0 when io_uring can be had here
"""

import ctypes
import socket
import struct
import sys

PATIENCE = 60  # seconds


def connect(port):
    peer = socket.create_connection(("127.0.0.1", int(port)), PATIENCE)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def byte_by_byte(port):
    """Prints the answer to 20 and CR LF, each byte sent when the server has seen the one before.

    Without delay a byte sent on loopback is in the server's receive queue when send returns. The
    answer to somebody else's request, sent afterwards, says that the server has been round.
    """
    slow, pace = connect(port), connect(port)
    answers = pace.makefile("rb")
    for byte in b"20\r\n":
        slow.sendall(bytes([byte]))
        pace.sendall(b"1\n")
        assert answers.readline() == b"1\n"
    print(slow.makefile("rb").readline().decode(), end="")


def reset(port):
    peer = connect(port)
    peer.sendall(sys.stdin.readline().encode())
    sys.stdin.readline()
    # Closing with a linger time of zero sends RST instead of FIN.
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    print("reset")


def chat_storm(port, lines):
    """The talker sends a batch only when the listener has all of the last one.

    So neither of the two is slow: whatever the server does to slow clients may not happen to them.
    """
    talker, listener = connect(port), connect(port)
    said, heard = talker.makefile("rb"), listener.makefile("rb")
    listener.sendall(b"the listener is here\n")
    while said.readline() != b"the listener is here\n":
        pass
    batch = 32
    for first in range(0, int(lines), batch):
        storm = [b"%d " % i + b"." * 990 + b"\n" for i in range(first, first + batch)]
        talker.sendall(b"".join(storm))
        for line in storm:
            got = heard.readline()
            if got != line:
                sys.exit(f"sent {line[:10]}..., heard {got[:10]}...")
    print("every line arrived")


def kernel_has_io_uring():
    io_uring_setup = 425
    parameters = ctypes.create_string_buffer(256)
    sys.exit(ctypes.CDLL(None).syscall(io_uring_setup, 8, parameters) < 0)


if __name__ == "__main__":
    {f.__name__: f for f in (byte_by_byte, reset, chat_storm, kernel_has_io_uring)}[sys.argv[1]](
        *sys.argv[2:]
    )
