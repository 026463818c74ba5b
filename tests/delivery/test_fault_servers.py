"""The fault servers themselves: fast enough, honest, and gone when they are left."""

import smtplib
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.http_server import Answer, HTTPFaultServer
from tests.faults.smtp_server import SMTPFaultServer

CONTENT = b"Message-ID: <%d@x.example>\r\nSubject: x\r\n\r\nHello\r\n"
CLIENT = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), local_hostname="child") as client:
    client.sendmail("a@x.example", ["b@x.example"], b"Subject: child\\r\\n\\r\\n")
"""


def send(server: SMTPFaultServer, number: int, count: int) -> None:
    """Send some messages over one connection."""
    with smtplib.SMTP(server.host, server.port, local_hostname="test", timeout=120) as client:
        for each in range(count):
            client.sendmail("a@x.example", ["b@x.example"], CONTENT % (number * count + each))


def test_a_hundred_connections_at_once():
    barrier = threading.Barrier(100)

    def send_with_the_others(number: int) -> None:
        with smtplib.SMTP(server.host, server.port, local_hostname="test", timeout=120) as client:
            barrier.wait(timeout=120)
            client.sendmail("a@x.example", ["b@x.example"], CONTENT % number)

    with SMTPFaultServer() as server, ThreadPoolExecutor(100) as pool:
        list(pool.map(send_with_the_others, range(100)))

    assert server.max_open_connections == 100
    assert sorted(accepted.message_id for accepted in server.journal) == sorted(f"<{n}@x.example>" for n in range(100))


def test_hundreds_of_messages_over_a_few_connections():
    with SMTPFaultServer() as server, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: send(server, number, 50), range(8)))

    assert len(server.journal) == 400
    assert server.connections == 8


def test_clients_may_be_other_processes():
    with SMTPFaultServer() as server:
        subprocess.run([sys.executable, "-c", CLIENT, str(server.port)], check=True, timeout=120)

    assert server.journal[0].header("subject") == "child"
    assert server.journal[0].recipients == ("b@x.example",)


@pytest.mark.parametrize(
    "script", [{}, {"connect": "hang"}, {"connect": ("slow", 10)}, {"data": "hang"}, {"body": "hang"}]
)
def test_leaving_ends_every_thread(script: dict[str, object]):
    before = threading.active_count()
    with SMTPFaultServer(script) as server:
        client = socket.create_connection((server.host, server.port))
        client.sendall(b"MAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\nSubject: x\r\n")
        if script != {"connect": "hang"}:
            client.recv(1)
    client.close()

    assert threading.active_count() == before
    assert server.open_connections == 0


def test_a_script_may_be_a_callable_a_row_or_differ_by_address():
    def by_size(context: object) -> str | None:
        return "552 5.3.4 too big" if len(context.data) > 100 else None  # type: ignore[attr-defined]

    script = {"dot": by_size, "mail": ["451 4.3.0 later"], "rcpt": {"No@x.example": "550 5.1.1 no"}}
    with SMTPFaultServer(script) as server, smtplib.SMTP(server.host, server.port, local_hostname="test") as client:
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("a@x.example", ["b@x.example"], b"x")
        refused = client.sendmail("a@x.example", ["b@x.example", "no@x.example"], b"x")
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail("a@x.example", ["b@x.example"], b"x" * 200)

    assert refused == {"no@x.example": (550, b"5.1.1 no")}
    assert len(server.journal) == 1


def test_a_step_that_does_not_exist_is_a_mistake():
    with pytest.raises(ValueError, match="no step 'dott'"):
        SMTPFaultServer({"dott": "drop"})


def test_the_http_server_keeps_connections_and_writes_down_what_it_accepts():
    with HTTPFaultServer([Answer(503, {"no": 1}), None]) as server:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.url}send", data=b"one")  # noqa: S310
        refused.value.close()
        with urllib.request.urlopen(f"{server.url}send", data=b"two") as response:  # noqa: S310
            assert response.read() == b'{"ok": true}'

    assert [request.body for request in server.journal] == [b"two"]
    assert [request.body for request in server.requests] == [b"one", b"two"]


def test_half_a_request_is_none():
    with HTTPFaultServer() as server:
        with socket.create_connection((server.host, server.port)) as client:
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b""

        assert (server.requests, server.journal) == ([], [])
