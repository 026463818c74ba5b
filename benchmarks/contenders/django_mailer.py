"""django-mailer: one process, which opens a connection for every mail unless it is told otherwise."""

from typing import Any

APPS = ("mailer",)
PACKAGE = "mailer"
FORKS = False


def settings(mailer: dict[str, Any], *, processes: int, senders: int) -> dict[str, Any]:
    """Return the settings of a process: under Django 6.1 it works with the older settings only."""
    return {
        "EMAIL_BACKEND": "mailer.backend.DbBackend",
        "MAILER_EMAIL_BACKEND": mailer["BACKEND"],
        "EMAIL_HOST": mailer["OPTIONS"]["host"],
        "EMAIL_PORT": mailer["OPTIONS"]["port"],
        "MAILER_EMAIL_MAX_BATCH": None,
        "MAILER_USE_FILE_LOCK": False,
    }


def fill(count: int) -> None:
    """Queue so many messages."""
    from mailer.backend import DbBackend

    from benchmarks.message import a_message

    DbBackend().send_messages([a_message(number) for number in range(count)])


def enqueue(number: int) -> None:
    """Queue one message."""
    from mailer.backend import DbBackend

    from benchmarks.message import a_message

    DbBackend().send_messages([a_message(number)])


def drain(count: int) -> int:
    """Send until nothing is left."""
    from mailer.engine import send_all

    send_all()
    return count
