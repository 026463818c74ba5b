"""settle: facts land, everything else needs the claim."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import DataError, connection
from django.test.utils import CaptureQueriesContext

from mail_outbox import outbox, transitions
from mail_outbox.core.outcomes import Ambiguous, Outcome, Partial, Permanent, Refusal, Sent, Throttled, Transient
from mail_outbox.core.retry import Decision, History, Policy, decide
from mail_outbox.core.states import State
from mail_outbox.models import Attempt, OutboxEntry, Recipient
from mail_outbox.transitions import Settlement, settle
from tests.support import a_message

pytestmark = pytest.mark.django_db

LEASE = timedelta(minutes=4)
FOR_GOOD = Refusal("550", "no such user", for_good=True)
FOR_NOW = Refusal("450", "greylisted", for_good=False)


def claimed(**keywords) -> OutboxEntry:
    entry = outbox.enqueue(a_message(**keywords))
    transitions.claim("default", 1, claim_id=uuid4(), worker="w", lease=LEASE, database="default")
    entry.refresh_from_db()
    return entry


def settlement(entry: OutboxEntry, outcome: Outcome | None, decision: Decision | None = None, **keywords) -> Settlement:
    from mail_outbox.conf import get_conf
    from mail_outbox.drain.work import policy_of

    policy: Policy = policy_of(entry, get_conf())
    history = History(attempts=entry.attempts, age=timedelta(0))
    return Settlement(
        entry=entry,
        claim_id=keywords.pop("claim_id", entry.claim_id),
        outcome=outcome,
        decision=decision or decide(outcome, history=history, policy=policy, luck=1.0),
        started_at=datetime.now(UTC),
        duration=timedelta(seconds=1),
        **keywords,
    )


def settled(entry: OutboxEntry, outcome: Outcome, **keywords) -> OutboxEntry:
    settle([settlement(entry, outcome, **keywords)], database="default")
    entry.refresh_from_db()
    return entry


def recipients() -> dict[str, str]:
    return dict(Recipient.objects.values_list("address", "status"))


def test_a_success_ends_the_entry_and_says_who_has_it():
    entry = settled(claimed(), Sent(code="250", provider_message_id="id-1"))

    assert (entry.state, entry.claim_id, entry.lease_expires_at) == (State.SENT, None, None)
    assert entry.finished_at is not None
    assert entry.provider_message_id == "id-1"
    assert recipients() == {"jane@example.com": "accepted"}


def test_a_lost_claim_settles_nothing_but_success():
    entry = claimed()

    for outcome in (Transient(), Permanent(), Throttled(), Ambiguous()):
        assert settle([settlement(entry, outcome, claim_id=uuid4())], database="default") == []
    entry.refresh_from_db()
    assert (entry.state, entry.attempts) == (State.SENDING, 1)
    assert recipients() == {"jane@example.com": "open"}

    assert settled(entry, Sent(), claim_id=uuid4()).state == State.SENT


@pytest.mark.parametrize("state", [state for state in State if state is not State.SENT])
def test_a_late_success_settles_whatever_state_the_entry_is_in(state):
    entry = claimed()
    OutboxEntry.objects.filter(pk=entry.pk).update(state=state, claim_id=None)

    assert settled(entry, Sent()).state == State.SENT


def test_a_late_failure_is_noted_and_changes_nothing():
    entry = settled(claimed(), Sent())

    settled(entry, Permanent(code="550"), claim_id=uuid4())

    assert entry.state == State.SENT
    assert recipients() == {"jane@example.com": "accepted"}
    assert sorted(Attempt.objects.values_list("kind", flat=True)) == ["permanent", "sent"]


def meanwhile_failed(entry: OutboxEntry) -> None:
    """Let another attempt be refused for good by everybody, and the entry be given up."""
    transitions.claim("default", 1, claim_id=uuid4(), worker="v", lease=LEASE, database="default")
    again = OutboxEntry.objects.get(pk=entry.pk)
    everybody = dict.fromkeys(recipients(), FOR_GOOD)
    settle([settlement(again, Permanent(code="550", refused=everybody))], database="default")
    assert set(recipients().values()) == {"refused"}


def meanwhile_given_up(entry: OutboxEntry) -> None:
    """Let the attempts of another worker be used up, with nobody having been refused by name."""
    transitions.claim("default", 1, claim_id=uuid4(), worker="v", lease=LEASE, database="default")
    again = OutboxEntry.objects.get(pk=entry.pk)
    decision = Decision(state=State.FAILED, reason="attempts used up")
    settle([settlement(again, Transient(code="451"), decision)], database="default")
    assert set(recipients().values()) == {"refused"}


def meanwhile_expired(entry: OutboxEntry) -> None:
    OutboxEntry.objects.filter(pk=entry.pk).update(expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert transitions.expire(database="default") == 1


def meanwhile_retried(entry: OutboxEntry) -> None:
    meanwhile_failed(entry)
    assert outbox.retry(entry) == 1


OVER = {
    "failed": meanwhile_failed,
    "given up": meanwhile_given_up,
    "cancelled": outbox.cancel,
    "expired": meanwhile_expired,
}
WAITING = {"waiting": lambda entry: None, "retried": meanwhile_retried}


def lost(entry: OutboxEntry) -> OutboxEntry:
    """Let the claim be lost and the entry wait again, as a rescue leaves it."""
    entry.claim_id = uuid4()  # so that what the test settles later is the lost worker's
    OutboxEntry.objects.filter(pk=entry.pk).update(state=State.QUEUED, claim_id=None, lease_expires_at=None)
    return entry


@pytest.mark.parametrize("meanwhile", [pytest.param(act, id=name) for name, act in (OVER | WAITING).items()])
def test_a_late_success_says_who_has_it_whatever_was_written_of_them_meanwhile(meanwhile):
    entry = lost(claimed(to=["a@x.org", "b@x.org"]))
    meanwhile(entry)

    settled(entry, Sent())

    assert (entry.state, entry.state_reason) == (State.SENT, "")
    assert recipients() == {"a@x.org": "accepted", "b@x.org": "accepted"}


@pytest.mark.parametrize("meanwhile", [pytest.param(act, id=name) for name, act in OVER.items()])
@pytest.mark.parametrize("refusal", [FOR_GOOD, FOR_NOW], ids=["for good", "for now"])
def test_a_late_success_for_some_ends_what_is_over_with_those_who_have_it(meanwhile, refusal):
    entry = lost(claimed(to=["a@x.org", "b@x.org"]))
    meanwhile(entry)

    late = settlement(entry, Partial(refused={"b@x.org": refusal}))
    effective = settle([late], database="default")

    entry.refresh_from_db()
    assert (entry.state, entry.state_reason) == (State.SENT, "some recipients refused")
    assert [(each.entry.pk, each.decision.state) for each in effective] == [(entry.pk, State.SENT)]
    assert recipients() == {"a@x.org": "accepted", "b@x.org": "refused"}


@pytest.mark.parametrize("meanwhile", [pytest.param(act, id=name) for name, act in WAITING.items()])
def test_a_late_success_for_some_leaves_the_others_to_the_next_attempt(meanwhile):
    entry = lost(claimed(to=["a@x.org", "b@x.org"]))
    meanwhile(entry)

    effective = settle([settlement(entry, Partial(refused={"b@x.org": FOR_NOW}))], database="default")

    entry.refresh_from_db()
    assert (entry.state, effective) == (State.QUEUED, [])
    assert recipients() == {"a@x.org": "accepted", "b@x.org": "open"}


def test_a_late_success_for_some_leaves_what_is_held_to_the_person_who_looks_at_it():
    entry = lost(claimed(to=["a@x.org", "b@x.org"]))
    outbox.hold(entry, reason="to be looked at")

    settled(entry, Partial(refused={"b@x.org": FOR_NOW}))

    assert (entry.state, entry.state_reason) == (State.HELD, "to be looked at")
    assert recipients() == {"a@x.org": "accepted", "b@x.org": "open"}


@pytest.mark.parametrize("kind", [Sent, Partial])
def test_a_late_success_says_nothing_of_whom_the_guard_kept_it_from(kind):
    entry = lost(claimed(to=["a@x.org", "b@x.org"]))
    meanwhile_failed(entry)
    refused = {"b@x.org": Refusal("not allowed", "", for_good=True)} if kind is Partial else {}

    settled(entry, kind(withheld={"b@x.org": "not allowed"}, refused=refused))

    assert entry.state == State.SENT
    assert recipients() == {"a@x.org": "accepted", "b@x.org": "suppressed"}


@pytest.mark.parametrize("outcome", [Permanent(), Transient(), Ambiguous()], ids=lambda outcome: outcome.kind)
@pytest.mark.parametrize("meanwhile", [pytest.param(act, id=name) for name, act in (OVER | WAITING).items()])
def test_a_late_failure_says_nothing_of_the_recipients(meanwhile, outcome):
    entry = lost(claimed(to=["a@x.org", "b@x.org"]))
    meanwhile(entry)
    before = list(Recipient.objects.order_by("pk").values())

    settle([settlement(entry, replace(outcome, refused={"a@x.org": FOR_GOOD}))], database="default")

    assert list(Recipient.objects.order_by("pk").values()) == before


def test_what_is_tried_again_waits_in_scheduled():
    entry = settled(claimed(), Transient(code="451", text="try later"))

    assert (entry.state, entry.attempts) == (State.SCHEDULED, 1)
    assert timedelta(seconds=25) < entry.due_at - datetime.now(UTC) < timedelta(seconds=35)
    assert (entry.outcome_kind, entry.outcome_code, entry.outcome_text) == ("transient", "451", "try later")


def test_what_the_mailer_could_not_take_keeps_its_place_and_its_attempt():
    entry = claimed()
    due_at = entry.due_at

    settled(entry, Throttled())

    assert (entry.state, entry.attempts, entry.due_at) == (State.QUEUED, 0, due_at)


def test_what_was_given_back_leaves_no_attempt():
    entry = claimed()

    settle([settlement(entry, None, Decision(state=State.QUEUED, counted=False))], database="default")

    entry.refresh_from_db()
    assert (entry.state, entry.attempts, entry.attempt_set.count()) == (State.QUEUED, 0, 0)


def test_some_recipients_refused_for_good_is_sent_all_the_same():
    entry = settled(claimed(to=["a@x.org", "b@x.org"]), Partial(refused={"b@x.org": FOR_GOOD}))

    assert (entry.state, entry.state_reason) == (State.SENT, "some recipients refused")
    assert recipients() == {"a@x.org": "accepted", "b@x.org": "refused"}
    assert Recipient.objects.get(address="b@x.org").code == "550"


def test_recipients_refused_for_now_stay_open_for_the_next_attempt():
    entry = settled(claimed(to=["a@x.org", "b@x.org"]), Partial(refused={"b@x.org": FOR_NOW}))

    assert entry.state == State.SCHEDULED
    assert recipients() == {"a@x.org": "accepted", "b@x.org": "open"}


def test_giving_up_closes_who_was_still_open():
    entry = settled(claimed(to=["a@x.org", "b@x.org"]), Permanent(code="554", refused={"a@x.org": FOR_GOOD}))

    assert entry.state == State.FAILED
    assert set(recipients().values()) == {"refused"}


def test_the_same_settle_twice_writes_its_facts_once():
    entry = claimed()
    lost_reply = settlement(entry, Transient())

    assert settle([lost_reply], database="default") == [lost_reply]
    assert settle([lost_reply], database="default") == []

    assert Attempt.objects.count() == 1


def test_all_that_was_sent_is_written_in_one_update_and_one_insert():
    outbox.enqueue_many(a_message() for _ in range(20))
    transitions.claim("default", 20, claim_id=uuid4(), worker="w", lease=LEASE, database="default")
    settlements = [settlement(entry, Sent()) for entry in OutboxEntry.objects.all()]

    with CaptureQueriesContext(connection) as queries:
        settle(settlements, database="default")

    # "20 times: INSERT" is how Django notes a statement that SQLite runs for one row after the other.
    verbs = [verb for query in queries for verb in re.findall(r"^(?:\d+ times: )?(INSERT|UPDATE)", query["sql"])]
    # Entries, their recipients, and the attempts.
    assert sorted(verbs) == ["INSERT", "UPDATE", "UPDATE"]


def test_an_entry_that_is_gone_does_not_keep_the_others_from_being_settled(transactional_db):
    gone, there = claimed(), claimed()
    settlements = [settlement(gone, Sent()), settlement(there, Sent())]
    OutboxEntry.objects.filter(pk=gone.pk).delete()

    settle(settlements, database="default")

    there.refresh_from_db()
    assert there.state == State.SENT


def test_an_entry_that_is_gone_raises_nothing_when_it_is_settled_alone(transactional_db):
    gone = claimed()
    alone = settlement(gone, Transient())
    OutboxEntry.objects.filter(pk=gone.pk).delete()

    assert settle([alone], database="default") == []


def test_a_success_is_written_though_its_attempt_cannot_be(transactional_db):
    entry = claimed()

    def refuse_attempts(execute, sql, params, many, context):
        if sql.startswith("INSERT") and Attempt._meta.db_table in sql:
            raise DataError("cannot be stored")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse_attempts):
        settle([settlement(entry, Sent())], database="default")

    entry.refresh_from_db()
    assert (entry.state, entry.attempt_set.count()) == (State.SENT, 0)
    assert recipients() == {"jane@example.com": "accepted"}


def test_text_that_no_database_takes_is_cleaned():
    entry = settled(claimed(), Transient(text="nul \x00 lone \ud800 " + "x" * 500))

    assert len(entry.outcome_text) == 256
    assert "\x00" not in entry.outcome_text
