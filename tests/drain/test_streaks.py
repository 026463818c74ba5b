"""A bad sender or a bad template does not burn the queue, and the good mail behind it goes."""

import smtplib
from collections import Counter
from datetime import timedelta

import pytest
from django.core.mail import EmailMessage
from django.db import connection
from django.test.utils import CaptureQueriesContext

from mail_outbox import outbox
from mail_outbox.core.outcomes import REFUSALS_IN_A_ROW
from mail_outbox.core.states import State
from mail_outbox.drain import Engine
from mail_outbox.models import Attempt, MailerState, OutboxEntry
from tests.fakes import REFUSED, Provider
from tests.support import a_message

pytestmark = pytest.mark.django_db

PAST = "2020-01-01T00:00:00Z"
BAD = "unknown@example.org"


def refuse_bad_senders(message: EmailMessage) -> None:
    """Refuse at MAIL whoever is not us."""
    if message.from_email != "shop@example.com":
        raise smtplib.SMTPSenderRefused(550, b"5.7.1 not this sender", message.from_email)


def states() -> dict[str, int]:
    """Count the entries by state, those of a bad sender and those of a good one."""
    found: Counter[str] = Counter()
    for entry in OutboxEntry.objects.select_related("content"):
        found[f"{'bad' if entry.subject == 'bad' else 'good'} {entry.state}"] += 1
    return dict(found)


def let_it_rest() -> None:
    """Let the rest of every mailer in trouble be over."""
    MailerState.objects.update(broken_until=PAST)


def enqueue_bad(count: int, *, sender: str = BAD) -> None:
    """Enqueue so many mails of a sender that is refused."""
    outbox.enqueue_many(a_message("bad", from_email=sender) for _ in range(count))


class TestABadSender:
    @pytest.fixture(autouse=True)
    def strict(self, provider: Provider) -> None:
        provider.will_always(refuse_bad_senders)

    def test_no_more_than_two_fail_and_the_mailer_rests(self):
        enqueue_bad(50)

        result = outbox.drain()

        assert result.permanent == 2
        assert 1 <= result.mailer <= 8, "as many as there are senders"
        assert states() == {"bad failed": 2, "bad queued": 48}
        assert set(OutboxEntry.objects.filter(state=State.QUEUED).values_list("attempts", flat=True)) == {0}

    def test_the_operator_sees_why(self):
        enqueue_bad(3)

        outbox.drain()

        [mailer] = [mailer for mailer in outbox.stats().mailers if mailer.broken_reason]
        assert mailer.broken_reason == (
            "mailer refusals in a row: 3 different messages in a row: 550 5.7.1 not this sender"
        )

    def test_from_then_on_there_is_one_probe_per_rest_and_nothing_fails(self):
        enqueue_bad(20)
        outbox.drain()
        for strikes in range(2, 12):
            let_it_rest()

            result = outbox.drain()

            assert (result.attempts, result.mailer) == (1, 1)
            assert MailerState.objects.get().strikes == strikes
        assert states() == {"bad failed": 2, "bad queued": 18}

    def test_each_probe_is_another_message(self):
        enqueue_bad(20)
        outbox.drain()
        for _ in range(5):
            let_it_rest()
            outbox.drain()

        probes = Attempt.objects.order_by("-pk").values_list("entry_id", flat=True)[:5]
        assert len(set(probes)) == 5

    def test_among_good_mail_all_that_is_good_goes(self):
        for number in range(100):
            outbox.enqueue(a_message("good"))
            if number % 30 == 0:
                enqueue_bad(3)
        for _ in range(20):
            outbox.drain()
            let_it_rest()

        after = states()
        assert after["good sent"] == 100
        assert set(after) <= {"good sent", "bad failed", "bad queued"}

    def test_good_mail_behind_it_goes_too(self):
        enqueue_bad(12)
        outbox.enqueue_many(a_message("good") for _ in range(100))
        burnt = []
        for _ in range(16):
            before = states().get("bad failed", 0)
            outbox.drain()
            burnt.append(states().get("bad failed", 0) - before)
            let_it_rest()

        assert states()["good sent"] == 100
        assert burnt[0] == 2
        assert max(burnt) <= 4, "good mail in between begins the count anew"

    def test_several_bad_senders_by_turns_are_told_apart(self):
        for _ in range(10):
            for sender in ("a@example.org", "b@example.org", "c@example.org"):
                enqueue_bad(1, sender=sender)

        outbox.drain()

        assert states()["bad failed"] <= 6

    def test_resuming_the_mailer_burns_nothing(self):
        enqueue_bad(20)
        for _ in range(5):
            outbox.drain()
            outbox.resume("default")

        assert states() == {"bad failed": 2, "bad queued": 18}

    def test_once_the_sender_is_allowed_all_that_waited_goes(self, provider: Provider):
        enqueue_bad(20)
        outbox.drain()
        provider.will_always(None)
        let_it_rest()

        outbox.drain()

        assert states() == {"bad failed": 2, "bad sent": 18}
        assert MailerState.objects.get().streaks == []

    def test_one_message_alone_is_given_up_after_its_own_refusal(self):
        enqueue_bad(1)

        outbox.drain()
        outbox.send_now(a_message())

        assert states() == {"bad failed": 1, "good sent": 1}
        assert MailerState.objects.get().strikes == 0


def test_the_workers_count_together(provider: Provider):
    provider.will_always(refuse_bad_senders)
    for _ in range(4):
        enqueue_bad(1)
        engine = Engine("default")
        engine.run()
        engine.stop()

    assert states() == {"bad failed": 2, "bad queued": 2}


def test_other_mailers_do_not_notice(providers: dict[str, Provider]):
    providers["bulk"].will_always(refuse_bad_senders)
    outbox.enqueue_many((a_message("bad", from_email=BAD) for _ in range(20)), using="bulk")
    outbox.enqueue_many(a_message("good") for _ in range(20))

    outbox.drain()

    assert states() == {"bad failed": 2, "bad queued": 18, "good sent": 20}


def test_refusals_of_recipients_never_count(provider: Provider):
    provider.will_always(REFUSED)
    outbox.enqueue_many(a_message("bad") for _ in range(30))

    result = outbox.drain()

    assert (result.permanent, result.mailer) == (30, 0)


def test_a_success_that_its_worker_did_not_tell_ends_the_streak_all_the_same(provider: Provider):
    provider.will_always(refuse_bad_senders)
    enqueue_bad(2)
    outbox.drain()
    begun = MailerState.objects.values("streaks", "streaks_since").get()
    outbox.enqueue(a_message("good"))
    outbox.drain()
    # As if the streak had begun a moment after that worker looked, and before it sent.
    MailerState.objects.update(**begun)
    enqueue_bad(1)

    result = outbox.drain()

    assert (result.permanent, result.mailer) == (1, 0)
    assert [len(marks) for _, marks in MailerState.objects.get().streaks] == [1]


def test_mail_that_goes_writes_nothing_to_the_mailers_state(provider: Provider):
    outbox.enqueue_many(a_message() for _ in range(20))
    engine = Engine("default")

    with CaptureQueriesContext(connection) as queries:
        engine.run(slice_length=timedelta(seconds=5))
    engine.stop()

    table = MailerState._meta.db_table
    assert len(provider.accepted) == 20
    assert not [query["sql"] for query in queries if table in query["sql"] and not query["sql"].startswith("SELECT")]


def test_the_attempt_says_that_it_was_one_of_many(provider: Provider):
    provider.will_always(refuse_bad_senders)
    enqueue_bad(3)

    outbox.drain()

    kinds = Attempt.objects.order_by("pk").values_list("kind", "code")
    assert sorted(kinds) == [("mailer", REFUSALS_IN_A_ROW), ("permanent", "550"), ("permanent", "550")]
