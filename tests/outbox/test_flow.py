"""Whether mail flows, and why not."""

from datetime import timedelta

import pytest

from mail_outbox import outbox
from mail_outbox.models import MailerState, OutboxEntry, UtcNow, Worker
from tests.fakes import BAD_LOGIN
from tests.support import a_message, age

pytestmark = pytest.mark.django_db

LONG_AGO = timedelta(hours=-1)


def a_worker(seen: timedelta = timedelta(0)) -> None:
    row = Worker(name="host:1:a", host="host", pid=1, started_at=UtcNow(), last_seen_at=UtcNow() + seen)
    Worker.objects.bulk_create([row])


def codes() -> list[str]:
    return [problem.code for problem in outbox.health().problems]


def test_an_idle_outbox_is_fine_even_without_a_worker():
    health = outbox.health()

    assert health.is_flowing
    assert (health.workers, health.last_seen_at, health.oldest_due) == (0, None, None)


def test_mail_that_nobody_sends_is_a_missing_worker_and_later_overdue(providers):
    entry = outbox.enqueue(a_message())
    assert codes() == []

    age(entry, due_at=timedelta(minutes=-2))
    assert codes() == ["no_worker"]

    age(entry, due_at=LONG_AGO)
    assert codes() == ["no_worker", "overdue"]


def test_a_worker_that_does_nothing_leaves_mail_overdue(providers):
    a_worker()
    age(outbox.enqueue(a_message()), due_at=LONG_AGO)

    health = outbox.health()

    assert [problem.code for problem in health.problems] == ["overdue"]
    assert "1 h" in health.problems[0].text
    assert health.workers == 1


def test_a_worker_that_has_not_been_seen_for_long_does_not_count(providers):
    a_worker(seen=LONG_AGO)
    age(outbox.enqueue(a_message()), due_at=LONG_AGO)

    health = outbox.health()

    assert health.problems[0].code == "no_worker"
    assert "last one was seen" in health.problems[0].text


def test_scheduled_mail_that_nobody_promotes_is_overdue(providers):
    a_worker()
    age(outbox.enqueue(a_message(), send_at=timedelta(hours=1)), due_at=timedelta(hours=-2))

    assert codes() == ["overdue"]


def test_a_pause_is_told_with_its_reason_and_end_and_explains_why_mail_waits(providers):
    a_worker()
    age(outbox.enqueue(a_message(), using="bulk"), due_at=LONG_AGO)
    outbox.pause("bulk", reason="audit.", until=timedelta(hours=1))

    [problem] = outbox.health().problems

    assert (problem.code, problem.mailer) == ("mailer_paused", "bulk")
    assert problem.text.startswith("Mailer 'bulk' is paused until ")
    assert problem.text.endswith(" UTC: audit.")


def test_a_pause_that_is_over_is_none(providers):
    outbox.pause("bulk", until=timedelta(hours=1))
    MailerState.objects.update(paused_until=UtcNow() + LONG_AGO)

    assert codes() == []


def test_a_pause_of_everything_comes_first_and_hides_what_follows_from_it(providers, settings):
    age(outbox.enqueue(a_message()), due_at=LONG_AGO)
    outbox.pause(reason="moving")
    assert [problem.text for problem in outbox.health().problems] == ["All mailers are paused: moving."]

    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "PAUSED": True}
    outbox.resume()
    assert codes() == ["paused"]


def test_a_mailer_in_trouble_is_told(providers):
    providers["default"].will(BAD_LOGIN)
    outbox.enqueue(a_message())
    outbox.drain()
    a_worker()

    [problem] = outbox.health().problems

    assert (problem.code, problem.mailer) == ("mailer_broken", "default")
    assert "535" in problem.text


@pytest.mark.parametrize("gone", ["aaa", "box", "zzz"])
def test_mail_for_a_mailer_that_is_gone_is_told_wherever_its_name_sorts(providers, gone):
    a_worker()
    OutboxEntry.objects.filter(pk=outbox.enqueue(a_message()).pk).update(using=gone)

    [problem] = outbox.health().problems

    assert (problem.code, problem.mailer) == ("unknown_mailer", gone)


def test_it_costs_one_query_on_the_entries(providers, django_assert_num_queries):
    with django_assert_num_queries(4) as queries:
        outbox.health()

    assert sum("mail_outbox_outboxentry" in query["sql"] for query in queries.captured_queries) == 1
