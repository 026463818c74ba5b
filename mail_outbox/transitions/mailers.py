"""What becomes of a mailer: paused and resumed by people, broken and recovered by what its attempts come to."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from mail_outbox.core.outcomes import Kind, Outcome
from mail_outbox.core.throttle import REACHED, Trouble, slowed, trouble_in
from mail_outbox.models import TEXT_LENGTH, MailerState, UtcNow
from mail_outbox.transitions.locking import locked_mailer
from mail_outbox.transitions.settling import cut


def pause(alias: str, *, reason: str, until: datetime | timedelta | None, database: str) -> None:
    """Pause the mailer by a person's hand; only `clear_pause` or the end of `until` undoes it."""
    paused_until = UtcNow() + until if isinstance(until, timedelta) else until
    with locked_mailer(alias, database=database):
        MailerState.objects.using(database).filter(alias=alias).update(
            is_paused=True, paused_until=paused_until, pause_reason=reason[:TEXT_LENGTH]
        )


def clear_pause(alias: str | None, *, database: str) -> None:
    """Undo a person's pause and close the breaker; of every mailer where the alias is None."""
    states = MailerState.objects.using(database)
    (states.all() if alias is None else states.filter(alias=alias)).update(
        is_paused=False, paused_until=None, pause_reason="", strikes=0, broken_until=None, broken_reason=""
    )


def note_outcomes(alias: str, outcomes: Sequence[Outcome], *, probed: bool, luck: float, database: str) -> None:
    """Open the mailer's breaker after trouble; close it when a probe has shown that the mailer works."""
    trouble = trouble_in(outcomes)
    if trouble is not None:
        _strike(alias, trouble, probed=probed, luck=luck, database=database)
    elif probed and any(outcome.kind in REACHED for outcome in outcomes):
        close_breaker(alias, database=database)


def _strike(alias: str, trouble: Trouble, *, probed: bool, luck: float, database: str) -> None:
    with locked_mailer(alias, database=database) as state:
        # Eight senders that fail together are one strike: only the first, or the probe, finds the breaker closed.
        if state.strikes and not probed:
            return
        if trouble.outcome.kind is Kind.THROTTLED:
            _slow_down(state, database)
        MailerState.objects.using(database).filter(alias=alias).update(
            strikes=state.strikes + 1,
            broken_until=UtcNow() + trouble.pause_after(state.strikes, luck=luck),
            broken_reason=cut(f"{trouble.outcome.kind} {trouble.outcome.code}: {trouble.outcome.text}"),
            recovered_at=None,
        )


def _slow_down(state: MailerState, database: str) -> None:
    """Halve what the mailer may do; the caller holds its row."""
    states = MailerState.objects.using(database).filter(alias=state.alias)
    now = states.values_list(UtcNow(), flat=True).get()
    states.update(allowance=slowed(state.allowance_at(now)), slowed_at=now)


def close_breaker(alias: str, *, database: str) -> None:
    """Let the mailer work again, slowly at first."""
    broken = MailerState.objects.using(database).filter(alias=alias, strikes__gt=0)
    broken.update(strikes=0, broken_until=None, broken_reason="", recovered_at=UtcNow())


def take_probe(alias: str, *, window: timedelta, database: str) -> bool:
    """Tell whether this worker is the one that may send the probe; nobody else may for the length of the window."""
    rested = MailerState.objects.using(database).filter(alias=alias, strikes__gt=0, broken_until__lte=UtcNow())
    return bool(rested.update(broken_until=UtcNow() + window))


def untake_probe(alias: str, *, database: str) -> None:
    """Give the probe back: there was nothing to send."""
    MailerState.objects.using(database).filter(alias=alias, strikes__gt=0).update(broken_until=UtcNow())
