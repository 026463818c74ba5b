"""Who works, which mailers are fit, and whether a drain has been asked for."""

from django.db import models

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
    """What all workers know of one mailer: a person's pause, and the breaker that trouble opens.

    The breaker is open until `broken_until`; then one probe goes out; a success closes it and `recovered_at` starts the ramp.
    """

    alias = ExactCharField(max_length=100, primary_key=True)
    is_paused = models.BooleanField(default=False)
    paused_until = models.DateTimeField(null=True, blank=True)
    pause_reason = models.CharField(max_length=TEXT_LENGTH, blank=True)
    strikes = models.PositiveIntegerField(default=0)
    broken_until = models.DateTimeField(null=True, blank=True)
    broken_reason = models.CharField(max_length=TEXT_LENGTH, blank=True)
    recovered_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"mailer {self.alias}"


class Wake(models.Model):
    """One row: when a drain was asked for that has not looked yet."""

    requested_at = models.DateTimeField(null=True, blank=True)

    ONLY = 1

    def __str__(self) -> str:
        return f"wake requested at {self.requested_at}"
