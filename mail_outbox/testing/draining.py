"""Delivery inside a test: in its thread, in its transaction, and at whatever time it likes."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.apps import apps
from django.db.models import DateTimeField, F, Min

from mail_outbox import conf as settings
from mail_outbox.core.states import State
from mail_outbox.drain import DrainResult, deliver_due
from mail_outbox.models import MailerState, OutboxEntry, UtcNow, Wake
from mail_outbox.outbox.delivering import refuse_in_transaction
from mail_outbox.outbox.options import check_mailer, check_moment

MOST_ROUNDS = 1000
A_MOMENT = timedelta(milliseconds=1)
FROZEN = ("date",)
"""Moments that are content: what stands in the message's header."""


def drain_outbox(
    *, using: str | None = None, at: datetime | timedelta | None = None, until_idle: bool = False
) -> DrainResult:
    """Deliver all that is due, one message after the other in this thread, and return the counts per outcome.

    `at` is when: an aware moment, or a delay from now. `until_idle` goes on, from one moment at which something is due to
    the next, until nothing waits: retries are followed, a mailer that rests is waited for. Everything the outbox has
    written is moved in time for that, and back afterwards, so that what is recorded fits; the clocks of Python and of
    the database stand where they stood. Raises InTransaction inside an `atomic()` of the test's own.
    """
    check_moment("at", at)
    if using is not None:
        check_mailer(using)
    databases = settings.get_conf().databases
    refuse_in_transaction("drain_outbox", databases=databases)
    result = DrainResult()
    for database in databases:
        moment = _now(database) + at if isinstance(at, timedelta) else at
        for _ in range(MOST_ROUNDS):
            with _moved_to(moment, database):
                result = result.plus(deliver_due(using=using, database=database))
                following = _next_moment(using, database) if until_idle else None
            if following is None:
                break
            moment = (moment or _now(database)) + following
        else:
            raise AssertionError(f"The outbox is not idle after {MOST_ROUNDS} rounds: {_waiting(database)}.")
    return result


@contextmanager
def _moved_to(moment: datetime | None, database: str) -> Iterator[None]:
    """Let it be that moment for everything the outbox has written: what lies ahead of it comes nearer."""
    if moment is None:
        yield
        return
    ahead = moment - _now(database)
    _move(-ahead, database)
    try:
        yield
    finally:
        _move(ahead, database)


def _move(by: timedelta, database: str) -> None:
    for model in apps.get_app_config("mail_outbox").get_models():
        names = [
            field.name
            for field in model._meta.concrete_fields
            if isinstance(field, DateTimeField) and field.name not in FROZEN
        ]
        if names:
            model._default_manager.using(database).update(**{name: F(name) + by for name in names})


def _next_moment(using: str | None, database: str) -> timedelta | None:
    """Return how long until something becomes due or a mailer may be tried again; None where nothing waits for time."""
    entries = OutboxEntry.objects.using(database)
    waiting = entries if using is None else entries.filter(using=using)
    moments = [waiting.filter(state=State.SCHEDULED).aggregate(first=Min("due_at"))["first"]]
    queued = set(waiting.filter(state=State.QUEUED).values_list("using", flat=True))
    for state in MailerState.objects.using(database).filter(alias__in=queued):
        if state.is_paused and state.paused_until is not None:
            moments.append(state.paused_until)
        elif not state.is_paused and state.strikes:
            moments.append(state.broken_until)
    ahead = [moment for moment in moments if moment is not None]
    return max(min(ahead) - _now(database), timedelta(0)) + A_MOMENT if ahead else None


def _now(database: str) -> datetime:
    """Ask the database what time it is, as everything is due by its clock."""
    # Any row will do, and of this table there is one.
    Wake.objects.using(database).get_or_create(pk=Wake.ONLY)
    now: datetime = Wake.objects.using(database).annotate(now=UtcNow()).values_list("now", flat=True)[0]
    return now


def _waiting(database: str) -> str:
    waiting = OutboxEntry.objects.using(database).waiting()[:5]
    return ", ".join(f"entry {entry.pk} {entry.state} ({entry.outcome_kind} {entry.outcome_code})" for entry in waiting)
