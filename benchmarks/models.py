"""The one table that the outbox is compared with: a row that holds as much as one message and no more."""

from django.db import models


class PlainRow(models.Model):
    """What a mail would be in one table: an index for whoever looks for work, and the content."""

    state = models.CharField(max_length=9, default="queued")
    due_at = models.DateTimeField(auto_now_add=True)
    sender = models.CharField(max_length=320)
    recipient = models.CharField(max_length=320)
    subject = models.CharField(max_length=255)
    payload = models.JSONField()

    class Meta:
        app_label = "benchmarks"
        indexes = [models.Index(fields=["state", "due_at"], name="benchmarks_plain_due")]

    def __str__(self) -> str:
        return f"row {self.pk}"
