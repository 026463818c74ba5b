"""The database of one run: made for it, broken with it, removed after it."""

import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.settings import server

NAMES = ("sqlite", "postgresql", "mariadb")
OURS = "mail_outbox_total_queue"
"""What the run itself is called at PostgreSQL, so that it does not end its own connection."""
Storm = Callable[[Any], int]


class Database:
    """Where a run keeps its outbox; subclasses say what can be done to it."""

    kind = "sqlite"
    can_restart = False
    can_end_connections = False

    def settings(self, *, port: int | None = None, name: str = "") -> dict[str, Any]:
        """Return Django's settings for it, through a proxy on this port, under this name of the application."""
        raise NotImplementedError

    def end_connections(self, cursor: Any) -> int:
        """End every connection but that of the cursor, and return how many."""
        raise NotImplementedError

    def restart(self, mode: str) -> None:
        """Stop and start the server, "fast" or "immediate"."""
        raise NotImplementedError

    def remove(self) -> None:
        """Leave nothing behind."""


class SQLite(Database):
    """A file."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "outbox.sqlite3"

    def settings(self, *, port: int | None = None, name: str = "") -> dict[str, Any]:
        """Return the settings that the documentation asks for."""
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(self._file),
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
                "timeout": 20,
            },
        }


class PostgreSQL(Database):
    """A database on the server that the test settings name."""

    kind = "postgresql"
    can_end_connections = True

    def __init__(self, name: str) -> None:
        self._name = name
        given = server("POSTGRESQL", port="5432")
        self.host, self.port = str(given["HOST"]), int(str(given["PORT"]))
        self._login = {"USER": given["USER"], "PASSWORD": given["PASSWORD"]}

    def create(self) -> None:
        """Create the database."""
        self._execute(f'CREATE DATABASE "{self._name}"')

    def settings(self, *, port: int | None = None, name: str = "") -> dict[str, Any]:
        """Return the settings; without TLS, so that the proxy can read along."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": self._name,
            "HOST": self.host if port is None else "127.0.0.1",
            "PORT": port or self.port,
            **self._login,
            "OPTIONS": {"sslmode": "disable", "application_name": name, "connect_timeout": 5},
        }

    def end_connections(self, cursor: Any) -> int:
        """Terminate every backend of this database but our own."""
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s AND application_name <> %s",
            [self._name, OURS],
        )
        return int(cursor.fetchone()[0])

    def remove(self) -> None:
        """Drop the database, whoever is still connected."""
        self._execute(f'DROP DATABASE IF EXISTS "{self._name}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        import psycopg

        login = {"user": self._login["USER"], "password": self._login["PASSWORD"] or None, "dbname": "postgres"}
        with psycopg.connect(host=self.host, port=self.port, autocommit=True, **login) as connection:  # type: ignore[arg-type]
            connection.execute(statement)  # type: ignore[arg-type]


class PrivatePostgreSQL(PostgreSQL):
    """A server of the run's own, which may be restarted without hurting anybody."""

    can_restart = True

    def __init__(self, programs: Path) -> None:
        super().__init__("postgres")
        self._programs = programs
        self._directory = Path(tempfile.mkdtemp(prefix="mail_outbox-postgresql-"))
        self.host, self.port = "127.0.0.1", free_port()
        self._login = {"USER": "root", "PASSWORD": ""}
        # The server does not run as root, so root becomes its user.
        self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else []
        if self._as:
            shutil.chown(self._directory, "postgres", "postgres")

    @property
    def _data(self) -> str:
        return str(self._directory / "data")

    def create(self) -> None:
        """Make a cluster and start it; what the run breaks is processes, so nothing has to reach the disk."""
        self._call(
            "initdb",
            "--auth=trust",
            "--username=root",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
            "--no-instructions",
        )
        self._start()

    def restart(self, mode: str) -> None:
        """Restart the server, "immediate" without a checkpoint, as if it had crashed."""
        self._stop(mode)
        self._start()

    def remove(self) -> None:
        """Stop the server and delete its files."""
        with suppress(subprocess.CalledProcessError):
            self._stop("immediate")
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=200"
        self._call("pg_ctl", "start", f"--log={self._directory / 'log'}", "--wait", f"--options={options}")

    def _stop(self, mode: str) -> None:
        self._call("pg_ctl", "stop", f"--mode={mode}", "--wait")

    def _call(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._programs / program), *arguments, f"--pgdata={self._data}"]
        subprocess.run(
            command,
            check=True,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )


class MariaDB(Database):
    """A database on the server that the test settings name."""

    kind = "mariadb"
    can_end_connections = True

    def __init__(self, name: str) -> None:
        self._name = name
        self._server = server("MARIADB", port="3306")

    def create(self) -> None:
        """Create the database."""
        self._execute(f"CREATE DATABASE `{self._name}` CHARACTER SET utf8mb4")

    def settings(self, *, port: int | None = None, name: str = "") -> dict[str, Any]:
        """Return the settings."""
        return {
            "ENGINE": "django.db.backends.mysql",
            "NAME": self._name,
            **self._server,
            "OPTIONS": {"charset": "utf8mb4", "isolation_level": "read committed"},
        }

    def end_connections(self, cursor: Any) -> int:
        """Kill every connection to this database but our own."""
        cursor.execute(
            "SELECT id FROM information_schema.processlist WHERE db = %s AND id <> connection_id()", [self._name]
        )
        keys = [key for (key,) in cursor.fetchall()]
        for key in keys:
            with suppress(Exception):  # it has ended by itself
                cursor.execute(f"KILL CONNECTION {int(key)}")
        return len(keys)

    def remove(self) -> None:
        """Drop the database."""
        self._execute(f"DROP DATABASE IF EXISTS `{self._name}`")

    def _execute(self, statement: str) -> None:
        import pymysql

        connection = pymysql.connect(
            host=str(self._server["HOST"]),
            port=int(str(self._server["PORT"])),
            user=str(self._server["USER"]),
            password=str(self._server["PASSWORD"]),
        )
        try:
            connection.cursor().execute(statement)
        finally:
            connection.close()


def postgresql_programs() -> Path | None:
    """Return where PostgreSQL's programs are, the newest where there are several."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(on_path).resolve().parent if on_path else None


def free_port() -> int:
    """Return a port of the loopback that nobody listens on, and that no system gives away by itself.

    A server that is restarted must find its port again.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def database(kind: str, directory: Path) -> Iterator[Database]:
    """Make the database of a run, and remove it afterwards."""
    name = f"mail_outbox_total_{os.getpid()}_{int(time.time())}"
    made: Any
    match kind:
        case "sqlite":
            yield SQLite(directory)
            return
        case "postgresql":
            programs = postgresql_programs()
            made = PostgreSQL(name) if programs is None else PrivatePostgreSQL(programs)
        case "mariadb":
            made = MariaDB(name)
        case _:
            raise ValueError(f"No database '{kind}'. Known: {', '.join(NAMES)}.")
    try:
        made.create()
        yield made
    finally:
        made.remove()
