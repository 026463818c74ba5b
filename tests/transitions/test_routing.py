"""reroute: what waits for one mailer goes to another; and who may never go."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from mail_outbox import outbox, transitions
from mail_outbox.core.outcomes import Ambiguous, MailerTrouble, Outcome, Partial, Refusal, Transient
from mail_outbox.core.retry import Decision
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry
from mail_outbox.transitions import Settlement, settle
from tests.support import a_message, age, scripted

pytestmark = pytest.mark.django_db

SOON = timedelta(hours=1)
FOR_NOW = Refusal("450", "greylisted", for_good=False)
BACK_IN_LINE = Decision(state=State.QUEUED)


@pytest.fixture(autouse=True)
def routes():
    """Configure two routes over three mailers."""
    with scripted("a", "b", "c", ROUTES={"main": ["a", "b"], "bulk": {"a": 1, "b": 1}}):
        yield


def reroute(limit: int = 1000) -> int:
    return transitions.reroute("main", "a", to="b", limit=limit, database="default")


def claim(mailer: str = "a") -> OutboxEntry:
    claim_id = uuid4()
    transitions.claim(mailer, 1, claim_id=claim_id, worker="w", lease=SOON, database="default")
    return OutboxEntry.objects.claimed(claim_id).get()


def settled(entry: OutboxEntry, outcome: Outcome | None, decision: Decision = BACK_IN_LINE) -> OutboxEntry:
    settlement = Settlement(
        entry=entry, claim_id=entry.claim_id, outcome=outcome, decision=decision, started_at=datetime.now(UTC)
    )
    settle([settlement], database="default")
    entry.refresh_from_db()
    return entry


def subjects(mailer: str) -> list[str]:
    """Return the subjects of what waits for the mailer, in the order in which it will be claimed."""
    entries = OutboxEntry.objects.queued(mailer).order_by("rank", "due_at", "pk")
    return list(entries.values_list("subject", flat=True))


def test_what_waits_goes_to_the_other_and_nothing_else_of_it_changes():
    entry = outbox.enqueue(a_message(), using="main", priority=7)
    before = OutboxEntry.objects.values().get()

    assert reroute() == 1

    assert OutboxEntry.objects.values().get() == {**before, "using": "b"}
    assert claim("b").pk == entry.pk


def test_the_order_is_kept():
    for subject, priority in (("low", -50), ("normal", 0), ("high", 50), ("older", 0)):
        entry = outbox.enqueue(a_message(subject), using="main", priority=priority)
    age(entry, due_at=-SOON)
    before = subjects("a")

    reroute()

    assert subjects("b") == before == ["high", "older", "normal", "low"]


def test_the_first_in_line_go_first():
    outbox.enqueue(a_message("low"), using="main", priority=outbox.LOW)
    outbox.enqueue_many((a_message(f"normal {number}") for number in range(3)), using="main")

    assert reroute(limit=2) == 2

    assert (subjects("b"), subjects("a")) == (["normal 0", "normal 1"], ["normal 2", "low"])


def test_nobody_else_is_touched():
    outbox.enqueue(a_message("direct"), using="a")
    outbox.enqueue(a_message("later"), using="main", send_at=SOON)
    outbox.hold(outbox.enqueue(a_message("held"), using="main"), reason="r")
    outbox.cancel(outbox.enqueue(a_message("cancelled"), using="main"))
    OutboxEntry.objects.filter(pk=outbox.enqueue(a_message("other"), using="bulk").pk).update(using="a")
    outbox.enqueue(a_message("sending"), using="main", priority=100)
    claim()
    before = list(OutboxEntry.objects.values())

    assert reroute() == 0

    assert list(OutboxEntry.objects.values()) == before


def test_a_settle_may_name_another_mailer_and_the_attempt_keeps_its_own():
    outbox.enqueue(a_message(), using="main")

    entry = settled(claim(), MailerTrouble(), Decision(state=State.QUEUED, counted=False, using="b"))

    assert (entry.using, entry.route, entry.attempts) == ("b", "main", 0)
    assert [attempt.using for attempt in entry.attempt_set.all()] == ["a"]


@pytest.mark.parametrize(
    "outcome",
    [Ambiguous(), Partial(refused={"jane@example.com": FOR_NOW})],
    ids=["who may have it", "of whom some have it"],
)
def test_an_entry_somebody_may_have_stays_for_ever(outcome: Outcome):
    outbox.enqueue(a_message(), using="main")
    settled(claim(), outcome)

    # Whatever comes after it.
    entry = settled(claim(), Transient())

    assert entry.is_pinned
    assert reroute() == 0
    assert subjects("a") == ["Hello"]


def test_a_retry_by_a_person_does_not_make_it_forget():
    entry = outbox.enqueue(a_message(), using="main", on_ambiguous="hold")
    settled(claim(), Ambiguous(), Decision(state=State.HELD))

    outbox.retry(entry)

    assert reroute() == 0


@pytest.mark.parametrize("outcome", [Transient(), MailerTrouble(), None], ids=["transient", "mailer", "given back"])
def test_an_entry_nobody_can_have_goes(outcome: Outcome | None):
    outbox.enqueue(a_message(), using="main")
    settled(claim(), outcome)

    assert reroute() == 1


def test_a_lost_worker_may_have_sent_it():
    outbox.enqueue(a_message(), using="main")
    OutboxEntry.objects.filter(pk=claim().pk).update(lease_expires_at="2020-01-01T00:00:00Z")

    outbox.drain()

    assert OutboxEntry.objects.get().is_pinned
