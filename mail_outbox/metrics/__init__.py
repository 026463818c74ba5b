"""The outbox for Prometheus, read from the database on scrape because workers come and go; needs the extra `metrics`."""

from mail_outbox.metrics.collector import OutboxCollector
from mail_outbox.metrics.view import outbox_metrics

__all__ = ["OutboxCollector", "outbox_metrics"]
