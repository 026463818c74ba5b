"""A person's word against a worker's, or against another person's: one of the two counts, and both are told."""

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry
from tests.fakes import REFUSED, TRY_LATER, Provider
from tests.races.parallel import at_once, drain
from tests.support import a_message

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

Act = Callable[[OutboxEntry], int]
ROUNDS = 8
ACTORS = 5


def cancel(entry: OutboxEntry) -> int:
    return outbox.cancel(entry)


def hold(entry: OutboxEntry) -> int:
    return outbox.hold(entry, reason="wait")


def release(entry: OutboxEntry) -> int:
    return outbox.release(entry)


def retry(entry: OutboxEntry) -> int:
    return outbox.retry(entry)


def reschedule(entry: OutboxEntry) -> int:
    return outbox.reschedule(entry, send_at=timedelta(days=1))


def mark_sent(entry: OutboxEntry) -> int:
    return outbox.mark_sent(entry)


@pytest.mark.parametrize(
    ("stop", "stopped"), [(cancel, State.CANCELLED), (hold, State.HELD), (reschedule, State.SCHEDULED)]
)
def test_what_is_stopped_is_not_sent_and_what_is_sent_is_not_reported_as_stopped(
    provider: Provider, stop: Act, stopped: State
):
    entries = outbox.enqueue_many(a_message(f"mail {number}") for number in range(100))

    # From the other end than the worker: they meet in the middle.
    reports, _ = at_once(lambda: {entry.subject: stop(entry) for entry in reversed(entries)}, drain)

    told = {subject for subject, count in reports.items() if count}
    states = dict(OutboxEntry.objects.values_list("subject", "state"))
    assert {subject for subject, state in states.items() if state == stopped} == told
    assert {subject for subject, state in states.items() if state == State.SENT} == set(provider.subjects)
    assert sorted(provider.subjects) == sorted(states.keys() - told)


@pytest.mark.parametrize(
    ("before", "acts"),
    [
        pytest.param(None, (cancel, cancel), id="cancel, cancel"),
        pytest.param(None, (hold, hold), id="hold, hold"),
        pytest.param(None, (cancel, hold), id="cancel, hold"),
        pytest.param(hold, (release, release), id="release, release"),
        pytest.param(hold, (retry, retry), id="retry, retry"),
        pytest.param(hold, (release, retry), id="release, retry"),
        pytest.param(hold, (mark_sent, mark_sent), id="mark sent, mark sent"),
        pytest.param(hold, (mark_sent, retry), id="mark sent, retry"),
    ],
)
def test_of_two_who_act_at_the_same_moment_one_does(provider: Provider, before: Act | None, acts: tuple[Act, Act]):
    for number in range(ROUNDS):
        entry = outbox.enqueue(a_message(f"mail {number}"))
        if before is not None:
            before(entry)

        counts = at_once(*[partial(act, entry) for act in acts])

        assert sorted(counts) == [0, 1]


def test_each_mail_goes_out_once_by_the_mailer_that_was_told_in_time(providers: dict[str, Provider]):
    entries = outbox.enqueue_many(a_message(f"mail {number}") for number in range(100))

    told, _ = at_once(
        lambda: {entry.subject for entry in reversed(entries) if outbox.change_mailer(entry, using="bulk")}, drain
    )
    drain()

    assert set(providers["bulk"].subjects) == told
    assert sorted([*providers["bulk"].subjects, *providers["default"].subjects]) == sorted(
        entry.subject for entry in entries
    )


def test_retries_made_while_workers_drain_are_sent_as_often_as_they_are_counted(provider: Provider):
    provider.will_always(REFUSED)
    entries = outbox.enqueue_many(a_message(f"mail {number}") for number in range(20))
    drain()
    assert set(OutboxEntry.objects.values_list("state", flat=True)) == {State.FAILED}

    def retry_all() -> int:
        return sum(retry(entry) for _ in range(3) for entry in entries)

    *retried, _ = at_once(retry_all, retry_all, lambda: [drain() for _ in range(3)] and 0)
    drain()

    attempts = sum(OutboxEntry.objects.values_list("attempts", flat=True))
    assert attempts == len(entries) + sum(retried)
    assert set(OutboxEntry.objects.values_list("state", flat=True)) == {State.FAILED}


SEVERAL: tuple[Callable[..., int], ...] = (
    outbox.cancel,
    lambda *entries: outbox.hold(*entries, reason="wait"),
    outbox.release,
    outbox.retry,
    outbox.mark_sent,
    lambda *entries: outbox.reschedule(*entries, send_at=timedelta(0)),
    lambda *entries: outbox.change_mailer(*entries, using="bulk"),
)


def test_who_acts_on_several_at_once_beside_others_workers_and_a_prune_is_no_victim_of_a_deadlock(
    providers: dict[str, Provider],
):
    for provider in providers.values():
        provider.will(*[None, REFUSED, TRY_LATER] * 100)
    outbox.enqueue_many(a_message(f"mail {number}") for number in range(60))
    everybody_has_acted = threading.Event()
    left = threading.Semaphore(0)

    def act(seed: int) -> None:
        dice = random.Random(seed)
        try:
            for _ in range(40):
                entries = list(OutboxEntry.objects.order_by("pk"))
                dice.choice(SEVERAL)(*dice.sample(entries, min(8, len(entries))))
                outbox.enqueue(a_message(), sensitive=dice.random() < 0.3)
        finally:
            left.release()

    def wait() -> None:
        for _ in range(ACTORS):
            left.acquire()
        everybody_has_acted.set()

    def work() -> None:
        while not everybody_has_acted.is_set():
            drain()

    def prune() -> None:
        while not everybody_has_acted.is_set():
            outbox.prune(sent=timedelta(0), failed=timedelta(days=1), limit=20)

    at_once(wait, *[partial(act, seed) for seed in range(ACTORS)], work, prune)
