"""The simulation itself: a build with one safeguard taken away is found out by some seed, and soon."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from mail_outbox import transitions
from mail_outbox.core import retry
from mail_outbox.core.states import State
from mail_outbox.drain import claims, reading, settler, work
from mail_outbox.models.entry import EntryQuerySet
from mail_outbox.transitions import claiming, rescuing, settling
from tests.simulation.simulate import MAILERS, broken_seed, configured
from tests.totalqueue import sabotage

pytestmark = [pytest.mark.fault, pytest.mark.django_db(transaction=True)]
WITHIN = range(1, 301)


def rescue_in_time() -> None:
    """Take a claim away from a worker that may still hold it."""
    EntryQuerySet.stuck = lambda self: self.filter(state=State.SENDING)  # type: ignore[method-assign]


def hold_repeated() -> None:
    """Repeat what nobody knows the end of, whatever the message asks for."""
    decide = rescuing.decide

    def careless(outcome: Any, *, policy: retry.Policy, **keywords: Any) -> retry.Decision:
        bold = retry.Policy(
            max_attempts=policy.max_attempts,
            max_age=policy.max_age,
            backoff=policy.backoff,
            on_ambiguous="retry",
            route=policy.route,
        )
        return decide(outcome, policy=bold, **keywords)

    settler.decide = rescuing.decide = careless
    work._needs_key = lambda _: False


def lost_is_unsent() -> None:
    """Take it that a worker that was lost has sent nothing."""
    rescuing.LOST = retry.Transient(code="worker lost")  # type: ignore[assignment]


def endless_backoff() -> None:
    """Put what is tried again so far away that it never comes."""
    retry.Backoff.delay_after = lambda *_, **__: timedelta(days=3650)  # type: ignore[method-assign]


def uncounted_claim() -> None:
    """Count no attempt when an entry is claimed."""
    mark = claiming._mark

    def careless(keys: Any, *rest: Any) -> Any:
        marked = mark(keys, *rest)
        claiming.OutboxEntry.objects.filter(pk__in=marked).update(attempts=claiming.F("attempts") - 1)
        return marked

    claiming._mark = careless


def everybody_again() -> None:
    """Write to everybody again though some have it."""
    reading.read_recipients_left = lambda *_, **__: {}


def deaf_worker() -> None:
    """Ask nobody but the enqueuer who is suppressed."""
    reading.read_suppressed = lambda *_, **__: {}


TOUCHED: list[tuple[Any, str]] = [
    (settling, "_write_decision"),
    (settling, "_write_successes"),
    (claims, "read_jobs"),
    (transitions, "rescue"),
    (claiming, "_mark"),
    (EntryQuerySet, "claimed"),
    (EntryQuerySet, "stuck"),
    (settler, "decide"),
    (rescuing, "decide"),
    (rescuing, "LOST"),
    (retry.Backoff, "delay_after"),
    (reading, "read_recipients_left"),
    (reading, "read_suppressed"),
    (work, "_needs_key"),
]


@pytest.fixture(autouse=True)
def _configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Configure what runs need, and mend afterwards what is broken in the test."""
    for place, name in TOUCHED:
        monkeypatch.setattr(place, name, getattr(place, name))
    with configured(*MAILERS):
        yield


@pytest.mark.parametrize(
    "take_away",
    [
        sabotage.no_claim_id,
        sabotage.settled_before_sent,
        sabotage.no_rescue,
        sabotage.no_mark,
        sabotage.lost_success,
        rescue_in_time,
        hold_repeated,
        lost_is_unsent,
        endless_backoff,
        uncounted_claim,
        everybody_again,
        deaf_worker,
    ],
    ids=lambda act: act.__name__,
)
def test_a_build_broken_on_purpose_is_caught(take_away: Callable[[], None]):
    take_away()

    assert broken_seed(WITHIN) is not None
