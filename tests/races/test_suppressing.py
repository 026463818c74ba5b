"""The list against those who enqueue, send and write to it at the same moment."""

import pytest
from django.db import connection, transaction

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry, Suppression
from mail_outbox.transitions.suppressing import feed
from tests.fakes import Provider
from tests.races.parallel import Gate, at_once, beside, drain
from tests.support import a_message

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

JANE, BOB = "jane@example.com", "bob@example.com"


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite lets nobody else write meanwhile")
def test_who_is_suppressed_between_the_enqueue_and_its_commit_is_not_written_to(provider: Provider):
    gate = Gate()

    def enqueue() -> None:
        with transaction.atomic():
            outbox.enqueue(a_message(to=[JANE, BOB]))
            gate.hold()

    with beside(enqueue) as wait:
        gate.wait_until_reached()
        outbox.suppress(JANE)
        gate.open()
        wait()
    drain()

    assert dict(OutboxEntry.objects.get().recipients.values_list("address", "status")) == {
        JANE: "suppressed",
        BOB: "accepted",
    }


def test_who_is_suppressed_while_an_attempt_is_made_is_left_out_of_the_next_mail(provider: Provider):
    gate = Gate()
    provider.will(gate)
    first, second = (outbox.enqueue(a_message(subject, to=[JANE])) for subject in ("first", "second"))
    with beside(lambda: drain(limit=1)) as wait:
        gate.wait_until_reached()
        outbox.suppress(JANE)
        gate.open()
        wait()
    drain()

    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == (State.SENT, State.CANCELLED)
    assert provider.subjects == ["first"]


def test_a_list_that_is_written_by_many_at_once_has_each_address_once():
    addresses = [f"{number}@example.com" for number in range(40)]

    def put() -> None:
        for address in addresses:
            outbox.suppress(address, reason="asked us")

    def fill() -> None:
        for start in range(0, len(addresses), 10):
            feed(dict.fromkeys(reversed(addresses[start : start + 10]), "rejected by default"), database="default")

    at_once(put, fill, fill)

    assert dict(Suppression.objects.values_list("address", "reason")) == dict.fromkeys(addresses, "asked us")
