"""A client that does nothing but send the same bytes: what the sink itself can take."""

import socket
import time

from benchmarks.message import HTML, TEXT

DIALOGUE = (b"MAIL FROM:<shop@example.com>\r\n", b"RCPT TO:<reader@example.com>\r\n", b"DATA\r\n")


def send(port: int, count: int) -> float:
    """Send so many messages over one connection, and return the seconds it took."""
    body = (TEXT + HTML).replace("\n", "\r\n").encode() + b"\r\n.\r\n"
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.recv(1024)
        began = time.perf_counter()
        for _ in range(count):
            for piece in (*DIALOGUE, body):
                sock.sendall(piece)
                sock.recv(1024)
        return time.perf_counter() - began
