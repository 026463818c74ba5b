"""A service that is there before its database waits for it."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from django.db import connection

from tests.faults.smtp_server import SMTPFaultServer
from tests.journey.conftest import only_on
from tests.journey.processes import Processes, commit, eventually, unfinished

pytestmark = [pytest.mark.journey, only_on("postgresql", "mariadb")]


class Door:
    """A port of the loopback that refuses everybody until it is opened; then it leads to the database."""

    def __init__(self) -> None:
        self._target = (connection.settings_dict["HOST"], int(connection.settings_dict["PORT"]))
        self._sockets = [socket.socket()]
        self._sockets[0].bind(("127.0.0.1", 0))
        self.port = self._sockets[0].getsockname()[1]

    def open(self) -> None:
        """Let everybody through from now on."""
        self._sockets[0].listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Hang up on everybody."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._sockets[0].accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """Put a closed door before the database of the child processes."""
    door = Door()
    kind = os.environ["MAIL_OUTBOX_TEST_DB"].upper()
    monkeypatch.setenv(f"MAIL_OUTBOX_TEST_{kind}_HOST", "127.0.0.1")
    monkeypatch.setenv(f"MAIL_OUTBOX_TEST_{kind}_PORT", str(door.port))
    yield door
    door.close()


def test_a_drain_for_ever_that_finds_no_database_waits_for_it_and_says_so(
    processes: Processes, sink: SMTPFaultServer, door: Door
):
    commit("early")
    drain = processes.start(["-m", "django", "outbox", "drain", "--forever"], name="drain")
    eventually(lambda: "mail_outbox.worker WARNING database trouble" in drain.errors or not drain.is_running, within=30)
    assert drain.is_running, drain.errors
    assert "Traceback" not in drain.errors

    door.open()
    eventually(lambda: not unfinished(), within=30)
    os.kill(drain.pid, signal.SIGTERM)

    assert drain.wait(within=20) == 0, drain.errors
    assert len(sink.journal) == 1


def test_a_drain_for_ever_that_finds_no_database_can_be_stopped(processes: Processes, door: Door):
    drain = processes.start(["-m", "django", "outbox", "drain", "--forever"], name="drain")
    eventually(lambda: "database trouble" in drain.errors or not drain.is_running, within=30)
    os.kill(drain.pid, signal.SIGTERM)

    assert drain.wait(within=20) == 0, drain.errors
