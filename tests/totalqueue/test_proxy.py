"""The proxy between a client and PostgreSQL, before a server that says yes to everything."""

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.totalqueue.proxy import Proxy

STARTUP = (8).to_bytes(4, "big") + b"\x00\x03\x00\x00"
DONE = b"C\x00\x00\x00\x0bCOMMIT\x00"


def query(text: bytes) -> bytes:
    """Return the message of a simple query."""
    return b"Q" + (len(text) + 5).to_bytes(4, "big") + text + b"\x00"


class Server(threading.Thread):
    """Takes one connection, remembers what it was told, and answers each message alike."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.start()

    def run(self) -> None:
        sock, _ = self._listener.accept()
        self._listener.close()
        with sock:
            while data := sock.recv(65536):
                self.heard += data
                if data.endswith(b"\x00") and not self.heard.endswith(STARTUP):
                    sock.sendall(DONE)

    def everything(self) -> bytes:
        """Wait for the end of the connection, and return what was said."""
        self.join(120)
        return self.heard


@pytest.fixture
def server() -> Server:
    """Run the server."""
    return Server()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """Run a proxy before it."""
    with Proxy("127.0.0.1", server.port) as proxy:
        yield proxy


def connect(proxy: Proxy) -> socket.socket:
    """Open a connection, as a client of PostgreSQL does."""
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=120)
    client.sendall(STARTUP)
    return client


def ask(client: socket.socket, text: bytes) -> bytes:
    """Send a query, and return the answer; nothing where the line was cut."""
    try:
        client.sendall(query(text))
        return client.recv(65536)
    except ConnectionError:
        return b""


def test_everything_passes_by_itself(proxy: Proxy, server: Server):
    with connect(proxy) as client:
        assert ask(client, b"SELECT 1") == DONE
        assert ask(client, b"COMMIT") == DONE

    assert server.everything() == STARTUP + query(b"SELECT 1") + query(b"COMMIT")
    assert proxy.lost == 0


def test_a_commit_whose_answer_is_lost_has_been_done(proxy: Proxy, server: Server):
    proxy.lose_answers(1)

    with connect(proxy) as client:
        assert ask(client, b"SELECT 1") == DONE
        assert ask(client, b"COMMIT") == b""

    assert server.everything().endswith(query(b"COMMIT"))
    assert proxy.lost == 1


def test_a_commit_that_is_lost_has_not_been_done(proxy: Proxy, server: Server):
    proxy.lose_commits(1)

    with connect(proxy) as client:
        assert ask(client, b"SELECT 1") == DONE
        assert ask(client, b"COMMIT") == b""

    assert server.everything() == STARTUP + query(b"SELECT 1")
    assert proxy.lost == 1


def test_who_is_cut_off_is_hung_up_on_and_not_let_in_again(proxy: Proxy):
    with connect(proxy) as client:
        assert ask(client, b"SELECT 1") == DONE
        proxy.cut()
        assert client.recv(1) == b""

    with connect(proxy) as client:
        assert ask(client, b"SELECT 1") == b""


def test_mending_disarms_everything(proxy: Proxy):
    proxy.lose_answers(1)
    proxy.lose_commits(1)
    proxy.mend()

    with connect(proxy) as client:
        assert ask(client, b"COMMIT") == DONE
