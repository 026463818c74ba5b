"""What all tables share: the sink, the databases, how much is measured, and the processes set up for it."""

import importlib.util
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.crew import Child
from benchmarks.sinks import Sink

SIZES = ("tiny", "quick", "usual", "full")


@dataclass(kw_only=True)
class Stage:
    """One run of some tables."""

    sink: Sink
    directory: Path
    size: str
    repeats: int
    databases: Sequence[str]
    skipped: list[str] = field(default_factory=list)
    _made: dict[str, str] = field(default_factory=dict)

    def choose(self, tiny: Any, usual: Any, full: Any = None, *, quick: Any = None) -> Any:
        """Return what fits the size of this run; what is not given is as usual."""
        sizes = {"tiny": tiny, "quick": quick, "full": full}
        return usual if sizes.get(self.size) is None else sizes[self.size]

    def smtp(self) -> dict[str, Any]:
        """Return the mailer that talks SMTP to the sink."""
        options = {"host": "127.0.0.1", "port": self.sink.smtp, "timeout": 30}
        return {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": options}

    def http(self, milliseconds: int) -> dict[str, Any]:
        """Return the mailer that talks HTTP to the sink, which answers after so long."""
        options = {"api_key": "k", "api_url": f"http://127.0.0.1:{self.sink.http}/{milliseconds}/"}
        return {"BACKEND": "anymail.backends.resend.EmailBackend", "OPTIONS": options}

    @staticmethod
    def null() -> dict[str, Any]:
        """Return the mailer that takes everything at once."""
        return {"BACKEND": "benchmarks.backends.NullBackend", "OPTIONS": {}}

    def has(self, contender: ModuleType) -> bool:
        """Tell whether the contender is installed, and say so where it is not."""
        if importlib.util.find_spec(contender.PACKAGE) is not None:
            return True
        self.skip(f"{contender.PACKAGE} is not installed")
        return False

    def skip(self, what: str) -> None:
        """Note what is left out, and say it loudly."""
        if what not in self.skipped:
            self.skipped.append(what)
            print(f"SKIPPED: {what}", flush=True)

    @contextmanager
    def crew(
        self,
        contender: ModuleType,
        database: str,
        mailer: dict[str, Any],
        *,
        processes: int = 1,
        senders: int = 8,
        **more: Any,
    ) -> Iterator[list[Child]]:
        """Start the contender's processes on a database of its own, ready to be told what to do."""
        given = self.settings(contender, database, mailer, processes=processes, senders=senders)
        log = self.directory / "children.log"
        count = 1 if contender.FORKS else processes
        with ExitStack() as stack:
            yield [stack.enter_context(Child({**given, **more}, log)) for _ in range(count)]

    def settings(
        self, contender: ModuleType, database: str, mailer: dict[str, Any], *, processes: int = 1, senders: int = 8
    ) -> dict[str, Any]:
        """Return the settings of the contender's processes; its database is made where it is not there yet."""
        name = contender.__name__.rpartition(".")[2]
        apps = ["django.contrib.contenttypes", "benchmarks.apps.Benchmarks", *contender.APPS]
        given = {
            "INSTALLED_APPS": apps,
            "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
            **contender.settings(mailer, processes=processes, senders=senders),
            "DATABASES": {"default": self._database(database, name)},
        }
        key = f"{database}-{name}"
        if contender.APPS and key not in self._made:
            self._create(database, given["DATABASES"]["default"]["NAME"])
            self._made[key] = given["DATABASES"]["default"]["NAME"]
            with Child(given, self.directory / "children.log") as child:
                child.call("django.core.management.call_command", **MIGRATE)
        return given

    def drop_databases(self) -> None:
        """Take the databases away that were made on a server."""
        for key, name in self._made.items():
            if key.startswith("postgresql-"):
                with postgresql() as connection:
                    connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self._made.clear()

    def _database(self, kind: str, name: str) -> dict[str, Any]:
        from tests.settings import server, sqlite

        if kind == "sqlite":
            path = str(self.directory / f"{name}.sqlite3")
            return {**sqlite(), "NAME": path, "TEST": {}, "CONN_MAX_AGE": None}
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": f"mail_outbox_benchmark_{os.getpid()}_{name}",
            "CONN_MAX_AGE": None,
            **server("POSTGRESQL", port="5432"),
        }

    @staticmethod
    def _create(kind: str, name: str) -> None:
        if kind == "postgresql":
            with postgresql() as connection:
                connection.execute(f'CREATE DATABASE "{name}"')


MIGRATE = {"command_name": "migrate", "verbosity": 0, "run_syncdb": True}


@contextmanager
def postgresql() -> Iterator[Any]:
    """Connect to the server's own database, outside a transaction."""
    import psycopg

    from tests.settings import server

    where = server("POSTGRESQL", port="5432")
    with psycopg.connect(
        host=str(where["HOST"]),
        port=str(where["PORT"]),
        user=str(where["USER"]),
        password=str(where["PASSWORD"]) or None,
        dbname="postgres",
        autocommit=True,
        connect_timeout=5,
    ) as connection:
        yield connection


def databases_there() -> list[str]:
    """Return SQLite, and PostgreSQL where it answers."""
    found = ["sqlite"]
    with suppress(Exception), postgresql():
        found.append("postgresql")
    return found


@contextmanager
def stage(*, size: str, repeats: int, databases: Sequence[str]) -> Iterator[Stage]:
    """Set everything up, and take it away."""
    with tempfile.TemporaryDirectory() as directory, Sink() as sink:
        made = Stage(sink=sink, directory=Path(directory), size=size, repeats=repeats, databases=databases)
        try:
            yield made
        finally:
            made.drop_databases()
