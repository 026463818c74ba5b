"""django-post_office, with as many processes and threads as the shape says, in batches large enough to feed them all."""

from typing import Any

APPS = ("post_office",)
PACKAGE = "post_office"
FORKS = True


def settings(mailer: dict[str, Any], *, processes: int, senders: int) -> dict[str, Any]:
    """Return the settings of the process that forks the others."""
    return {
        "EMAIL_BACKEND": "post_office.EmailBackend",
        "EMAIL_HOST": mailer["OPTIONS"]["host"],
        "EMAIL_PORT": mailer["OPTIONS"]["port"],
        "POST_OFFICE": {
            "BACKENDS": {"default": mailer["BACKEND"]},
            "BATCH_SIZE": 1000 * processes,
            "THREADS_PER_PROCESS": senders,
        },
        "BENCHMARK_PROCESSES": processes,
    }


def _arguments(number: int) -> dict[str, Any]:
    from benchmarks.message import SENDER, parts

    part = parts(number)
    return {
        "sender": SENDER,
        "recipients": [part["to"]],
        "subject": part["subject"],
        "message": part["text"],
        "html_message": part["html"],
    }


def fill(count: int) -> None:
    """Queue so many messages."""
    from post_office import mail

    mail.send_many([_arguments(number) for number in range(count)])


def enqueue(number: int) -> None:
    """Queue one message."""
    from post_office import mail

    mail.send(**_arguments(number))


def drain(count: int) -> int:
    """Send until nothing is left."""
    from django.conf import settings
    from django.db import connections
    from post_office.mail import send_queued

    sent = 0
    while sent < count and (found := send_queued(processes=settings.BENCHMARK_PROCESSES)[0]):
        sent += found
        connections.close_all()  # the processes it forked have closed it for us, too
    return sent
