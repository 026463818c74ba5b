"""django-tasks-db: Django's own tasks, one for every mail."""

from typing import Any

APPS = ("django_tasks_db",)
PACKAGE = "django_tasks_db"
FORKS = False


def settings(mailer: dict[str, Any], *, processes: int, senders: int) -> dict[str, Any]:
    """Return the settings of a worker."""
    return {"BENCHMARK_MAILER": mailer, "TASKS": {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}}


def enqueue(number: int) -> None:
    """Enqueue one task."""
    from benchmarks.contenders.tasks_db_task import send_task
    from benchmarks.message import parts

    send_task.enqueue(number, **parts(number))


def fill(count: int) -> None:
    """Enqueue so many tasks."""
    from django.db import transaction

    with transaction.atomic():
        for number in range(count):
            enqueue(number)


def drain(count: int) -> int:
    """Run tasks until none is left."""
    from django.core.management import call_command

    call_command("db_worker", batch=True, interval=0.1, verbosity=0, startup_delay=False, reload=False)
    return count
