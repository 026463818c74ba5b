"""django-q2 on its ORM broker, one task for every mail, with nothing saved of those that succeed."""

from typing import Any

APPS = ("django_q",)
PACKAGE = "django_q"
FORKS = True


def settings(mailer: dict[str, Any], *, processes: int, senders: int) -> dict[str, Any]:
    """Return the settings of the process that starts the cluster."""
    return {
        "BENCHMARK_MAILER": mailer,
        "Q_CLUSTER": {
            "name": "benchmarks",
            "orm": "default",
            "workers": processes,
            "bulk": 20,
            "queue_limit": 200,
            "poll": 0.2,
            "timeout": 60,
            "retry": 120,
            "save_limit": -1,
            "ack_failures": True,
        },
    }


def enqueue(number: int) -> None:
    """Enqueue one task."""
    from django_q.tasks import async_task

    from benchmarks.message import parts

    async_task("benchmarks.contenders.sending.send", number, **parts(number))


def fill(count: int) -> None:
    """Enqueue so many tasks."""
    from django.db import transaction

    with transaction.atomic():
        for number in range(count):
            enqueue(number)


def drain(count: int) -> int:
    """Run a cluster until its queue is empty."""
    import time

    from django.db import connections
    from django_q.cluster import Cluster
    from django_q.models import OrmQ

    connections.close_all()  # the cluster is forked
    cluster = Cluster()
    cluster.start()
    while OrmQ.objects.exists():
        time.sleep(0.05)
    cluster.stop()
    return count
