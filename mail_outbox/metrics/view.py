"""A page of the outbox's metrics alone, for projects without a registry of their own."""

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from mail_outbox.metrics.collector import OutboxCollector

REGISTRY = CollectorRegistry()
REGISTRY.register(OutboxCollector())


@transaction.non_atomic_requests
@require_safe
def outbox_metrics(request: HttpRequest) -> HttpResponse:
    """Answer with the outbox's metrics in Prometheus' text format; `mail_outbox_up` is 0 where the database is away."""
    return HttpResponse(
        generate_latest(REGISTRY), content_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"}
    )
