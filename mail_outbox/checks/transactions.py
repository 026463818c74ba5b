"""The transactions of the outbox: what they see, how they lock, and whose data they share."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage
from django.db import connections, router
from django.utils.module_loading import import_string

from mail_outbox.checks.messages import warning
from mail_outbox.conf import Conf

READ_COMMITTED = "READ COMMITTED"
NOT_BUSINESS = frozenset({"mail_outbox", "django_q"})
"""Apps whose tables say nothing of where the project keeps its own."""


def isolation(conf: Conf) -> Iterator[CheckMessage]:
    """Check that transactions see what others have committed meanwhile; told by the settings alone."""
    for alias in _known(conf):
        level, good = _isolation_of(alias)
        if level not in (None, READ_COMMITTED, "READ UNCOMMITTED"):
            yield warning(
                "W009",
                f"Database '{alias}' works with {level}: workers would claim by an old picture of the queue, and fail each "
                "other.",
                f"Set DATABASES['{alias}']['OPTIONS']['isolation_level'] to {good}, or leave it out.",
            )


def locks(conf: Conf, databases: Sequence[str]) -> Iterator[CheckMessage]:
    """Check that workers can pass by what others have locked; asks the database for its version."""
    for alias in _known(conf):
        connection = connections[alias]
        # SQLite locks the database as a whole, and the engine knows.
        if alias in databases and connection.vendor == "mysql" and not _can_skip(connection):
            yield warning(
                "W009",
                f"Database '{alias}' has no SKIP LOCKED: workers wait for each other with every claim.",
                f"Let DATABASES['{alias}'] be MariaDB 10.6, MySQL 8.0.11 or newer.",
            )


def shared_transactions(conf: Conf) -> Iterator[CheckMessage]:
    """Check that `enqueue` writes where the project's own data is written, which one transaction can then commit."""
    models = [model for model in apps.get_models() if model._meta.app_label not in NOT_BUSINESS]
    written = {router.db_for_write(model) for model in models}
    first = conf.databases[0]
    if written and first not in written:
        names = " or ".join(f"'{alias}'" for alias in sorted(written))
        yield warning(
            "W012",
            f"The outbox is in database '{first}', where no model of the project is written: a rollback of your own data "
            "does not take its mail along, and a crash between the two commits loses mail.",
            f"Set MAIL_OUTBOX['DATABASE'] to {names}, or let DATABASE_ROUTERS write there too.",
        )


def _known(conf: Conf) -> list[str]:
    return [alias for alias in conf.databases if alias in connections.settings]


def _isolation_of(alias: str) -> tuple[str | None, str]:
    """Return the isolation level the settings ask for, None where they leave it to a good default, and a good value."""
    connection = connections[alias]
    options = connection.settings_dict.get("OPTIONS", {})
    if "isolation_level" not in options:
        return None, ""
    given: Any = options["isolation_level"]
    match connection.vendor:
        case "mysql":
            return ("REPEATABLE READ" if given is None else str(given).upper()), "'read committed'"
        case "postgresql":
            return _postgresqls(given), "psycopg.IsolationLevel.READ_COMMITTED"
    return None, ""


def _postgresqls(given: Any) -> str | None:
    try:
        level = import_string("django.db.backends.postgresql.psycopg_any.IsolationLevel")(given)
    except (ImportError, ValueError):
        return None  # Django itself says what is wrong
    return str(level.name).replace("_", " ")


def _can_skip(connection: Any) -> bool:
    return bool(connection.features.has_select_for_update_skip_locked)
