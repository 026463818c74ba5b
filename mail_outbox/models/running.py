"""Who works, which mailers are fit, and whether a drain has been asked for."""

from datetime import datetime

from django.db import models

from mail_outbox.core.throttle import allowance_after
from mail_outbox.models.columns import ExactCharField
from mail_outbox.models.entry import TEXT_LENGTH


class Worker(models.Model):
    """One worker process, with a fresh name at each start; for people and monitors, never for rescue."""

    name = models.CharField(max_length=100, primary_key=True)
    host = models.CharField(max_length=64)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    last_seen_at = models.DateTimeField(db_index=True)
    activity = models.CharField(max_length=100, blank=True)
    draining_until = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name


ALL_MAILERS = "*"
"""The alias under which a pause of every mailer is kept."""


class MailerState(models.Model):
    """What all workers know of one mailer: a person's pause, the breaker that trouble opens, how fast it may go.

    The breaker is open until `broken_until`; then one probe goes out; a success closes it and `recovered_at` starts the ramp.
    `streaks` are refusals in a row, [[pattern, [mark, …]], …], the first of them since `streaks_since`; a success ends them.
    `allowance` is the part of its speed it was left with at `slowed_at`. Where it has a rate, all slots before
    `next_slot_at` are taken, and until `awaited_until` the worker `awaited_by` waits for the next one.
    """

    alias = ExactCharField(max_length=100, primary_key=True)
    is_paused = models.BooleanField(default=False)
    paused_until = models.DateTimeField(null=True, blank=True)
    pause_reason = models.CharField(max_length=TEXT_LENGTH, blank=True)
    strikes = models.PositiveIntegerField(default=0)
    broken_until = models.DateTimeField(null=True, blank=True)
    broken_reason = models.CharField(max_length=TEXT_LENGTH, blank=True)
    recovered_at = models.DateTimeField(null=True, blank=True)
    streaks = models.JSONField(default=list, blank=True)
    streaks_since = models.DateTimeField(null=True, blank=True)
    allowance = models.FloatField(default=1.0)
    slowed_at = models.DateTimeField(null=True, blank=True)
    next_slot_at = models.DateTimeField(null=True, blank=True)
    awaited_by = models.CharField(max_length=100, blank=True)
    awaited_until = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"mailer {self.alias}"

    def allowance_at(self, now: datetime) -> float:
        """Return the part of its speed that the mailer may use at this moment of the database's clock."""
        return 1.0 if self.slowed_at is None else allowance_after(self.allowance, now - self.slowed_at)


class ConnectionShare(models.Model):
    """How many of a mailer's connections one worker may have open, and until when."""

    alias = ExactCharField(max_length=100)
    worker = models.CharField(max_length=100)
    count = models.PositiveIntegerField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["alias", "worker"], name="mail_outbox_share_once")]

    def __str__(self) -> str:
        return f"{self.count} connections of {self.worker} to mailer {self.alias}"


class Wake(models.Model):
    """One row: when a drain was asked for that has not looked yet."""

    requested_at = models.DateTimeField(null=True, blank=True)

    ONLY = 1

    def __str__(self) -> str:
        return f"wake requested at {self.requested_at}"


class Instance(models.Model):
    """One row: the name of the deployment that the database belongs to, written by the first that drains it."""

    name = models.TextField()
    adopted_at = models.DateTimeField()

    ONLY = 1

    def __str__(self) -> str:
        return f"database of {self.name}"
