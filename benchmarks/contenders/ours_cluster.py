"""The outbox in a django-q2 cluster, whose workers are forked from one process and share what that one has loaded."""

from benchmarks.contenders.ours import APPS, PACKAGE, fill, settings

__all__ = ["APPS", "FORKS", "PACKAGE", "drain", "fill", "settings"]

FORKS = True


def drain(count: int) -> int:
    """Run a cluster until nothing waits or is being sent."""
    import time

    from django.db import connections
    from django_q.cluster import Cluster

    from mail_outbox.core.states import State
    from mail_outbox.models import OutboxEntry

    connections.close_all()  # the cluster is forked
    cluster = Cluster()
    cluster.start()
    try:
        while OutboxEntry.objects.filter(state__in=[State.QUEUED, State.SENDING]).exists():
            time.sleep(0.05)
    finally:
        cluster.stop()
    return count
