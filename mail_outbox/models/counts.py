"""What has ever been attempted, in numbers that stay when the attempts are pruned."""

from django.db import models

from mail_outbox.models.columns import ExactCharField


class AttemptCount(models.Model):
    """How many attempts of one mailer ended in one outcome within so many milliseconds, and how long they took together.

    `within_ms` is the upper bound of a bucket; 0 stands for attempts whose duration nobody knows.
    """

    using = ExactCharField(max_length=100)
    kind = models.CharField(max_length=9)
    within_ms = models.PositiveIntegerField()
    count = models.PositiveBigIntegerField(default=0)
    seconds = models.FloatField(default=0.0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["using", "kind", "within_ms"], name="mail_outbox_count_once")]

    def __str__(self) -> str:
        return f"{self.count} attempts of mailer {self.using}: {self.kind}"


class CountMark(models.Model):
    """One row: up to which attempt all have been counted, and which was the newest when somebody last looked."""

    counted_to = models.BigIntegerField(default=0)
    newest = models.BigIntegerField(default=0)
    looked_at = models.DateTimeField(null=True, blank=True)

    ONLY = 1

    def __str__(self) -> str:
        return f"attempts counted up to {self.counted_to}"
