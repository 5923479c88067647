#!/usr/bin/env python3
"""What nc cannot do: a client that paces its bytes by the server's answers, one that resets.

    client.py byte_by_byte PORT       fib_server: a request in one-byte segments
    client.py shares PORT CLIENTS N   fib_server: all ask for fib(N) at once, and share
    client.py reset PORT              sends a line of input, resets the connection at the next
    client.py chat_storm PORT LINES   chat_server: one talks, one listens, no line may be missing
    client.py kernel_has_io_uring     exit status 0 when io_uring can be had here
"""

import ctypes
import selectors
import socket
import struct
import sys
import time

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


def shares(port, clients, n):
    """Prints the answer of each client, then whether all had to wait about equally long.

    One after the other, two at a time, the first of six would have its answer after a third of the
    whole time. Where they share it has it near the end.
    """
    waiting = selectors.DefaultSelector()
    peers = [connect(port) for _ in range(int(clients))]
    for peer in peers:
        waiting.register(peer, selectors.EVENT_READ)
    start = time.monotonic()
    for peer in peers:
        peer.sendall(n.encode() + b"\n")
    answered = []
    while waiting.get_map():
        for key, _ in waiting.select():
            answered.append(time.monotonic() - start)
            print(key.fileobj.makefile("rb").readline().decode(), end="")
            waiting.unregister(key.fileobj)
    print("together" if answered[0] > 0.6 * answered[-1] else f"one after the other: {answered}")


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
    for peer, answers in (talker, said), (listener, heard):
        # Whoever is told of a mistake is in the room.
        peer.sendall(b"." * 5000 + b"\n")
        assert answers.readline().startswith(b"error: ")
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
    commands = (byte_by_byte, shares, reset, chat_storm, kernel_has_io_uring)
    {f.__name__: f for f in commands}[sys.argv[1]](*sys.argv[2:])
