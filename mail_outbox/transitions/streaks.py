"""Refusals in a row, counted for all workers together in the mailer's state."""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from mail_outbox.core.outcomes import Outcome
from mail_outbox.core.streaks import SUCCESSES, Ended, Streak, Streaks, follow
from mail_outbox.models import Attempt, MailerState, UtcNow

LATEST = 1000
"""How many of the last attempts are looked at for a success that its worker did not know it had to tell."""


def follow_streaks(alias: str, attempts: Sequence[Ended], *, database: str) -> list[Outcome]:
    """Count the attempts into the mailer's streaks, and return their outcomes, those that are its trouble made so."""
    states = MailerState.objects.using(database)
    if not states.filter(alias=alias).exists():
        # Before the transaction: InnoDB keeps a shared lock on a row that is there already, and then two want it alone.
        states.bulk_create([MailerState(alias=alias)], ignore_conflicts=True)
    with transaction.atomic(using=database):
        state = states.select_for_update().get(alias=alias)
        before = _load(state)
        after, outcomes = follow(before, attempts)
        if _completes(before, after) and _has_succeeded(alias, state.streaks_since, database):
            after, outcomes = follow((), attempts)
        if after != before:
            states.filter(alias=alias).update(
                streaks=[[streak.pattern, list(streak.marks)] for streak in after],
                streaks_since=state.streaks_since if _beginnings(before) & _beginnings(after) else UtcNow(),
            )
        return outcomes


def _load(state: MailerState) -> Streaks:
    return tuple(Streak(pattern, tuple(marks)) for pattern, marks in state.streaks)


def _beginnings(streaks: Streaks) -> set[tuple[str, str]]:
    return {(streak.pattern, streak.marks[0]) for streak in streaks}


def _completes(before: Streaks, after: Streaks) -> bool:
    complete = {streak.pattern for streak in before if streak.is_complete}
    return any(streak.is_complete and streak.pattern not in complete for streak in after)


def _has_succeeded(alias: str, since: datetime | None, database: str) -> bool:
    """Tell whether another worker, which did not know of the streaks yet, has sent something since they began."""
    if since is None:
        return False
    latest = Attempt.objects.using(database).order_by("-pk").values_list("using", "kind", "started_at")[:LATEST]
    return any(using == alias and kind in SUCCESSES and started_at > since for using, kind, started_at in latest)
