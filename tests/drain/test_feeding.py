"""What providers refuse for good is on the list of suppressed addresses from then on, and nothing else is."""

import pytest
from django.conf import settings
from django.test import override_settings

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry, Suppression
from tests.drain.test_addressing import BOB, JANE, esp, fate
from tests.drain.test_guard import smtp
from tests.faults.http_server import Answer, HTTPFaultServer
from tests.faults.smtp_server import SMTPFaultServer
from tests.support import a_message

pytestmark = pytest.mark.django_db

INACTIVE = (
    "You tried to send to a recipient that has been marked as inactive.\nFound inactive addresses: {}.\n"
    "Inactive recipients are ones that have generated a hard bounce or a spam complaint."
)


def sent_to(*addresses: str) -> OutboxEntry:
    entry = outbox.enqueue(a_message(to=list(addresses)))
    outbox.drain()
    return entry


def listed() -> dict[str, str]:
    return dict(Suppression.objects.values_list("address", "reason"))


def mandrill(reason: str | None) -> Answer:
    items = [{"email": JANE, "status": "rejected", "reject_reason": reason}]
    return Answer(200, items, accepts=False)


def test_whom_a_provider_writes_to_no_more_is_on_the_list_then(monkeypatch):
    answer = Answer(422, {"ErrorCode": 406, "Message": INACTIVE.format(JANE)}, accepts=False)
    with HTTPFaultServer(default=answer) as server, esp("postmark", server, monkeypatch):
        first = sent_to(JANE)
        second = sent_to(JANE)

    assert listed() == {JANE: "rejected by default"}
    assert (fate(first)[0], fate(second)) == (State.FAILED, (State.CANCELLED, "suppressed"))
    assert len(server.requests) == 1


def test_of_two_only_the_one_it_names_is(monkeypatch):
    answer = Answer(
        200,
        {
            "ErrorCode": 0,
            "Message": "Message OK, but will not deliver to these inactive addresses: "
            f"{JANE}. Inactive recipients are ones that have generated a hard bounce or a spam complaint.",
            "MessageID": "pm-1",
            "To": f"{JANE}, {BOB}",
        },
    )
    with HTTPFaultServer(default=answer) as server, esp("postmark", server, monkeypatch):
        entry = sent_to(JANE, BOB)

    assert (fate(entry)[0], listed()) == (State.SENT, {JANE: "rejected by default"})


def test_every_provider_that_names_them_is_believed(monkeypatch):
    suppressed = {"type": "ALL_SUPPRESSED", "recipients": [{"email": JANE, "name": "", "reasons": ["hard_bounced"]}]}
    answers = {
        "mailersend": Answer(202, {"warnings": [suppressed]}, accepts=False),
        "unisender_go": Answer(
            200,
            {"status": "success", "job_id": "j", "emails": [], "failed_emails": {JANE: "unsubscribed"}},
            accepts=False,
        ),
    }
    for name, answer in answers.items():
        with HTTPFaultServer(default=answer) as server, esp(name, server, monkeypatch):
            sent_to(JANE)
        assert listed() == {JANE: "rejected by default"}, name
        outbox.unsuppress(JANE)


@pytest.mark.parametrize(
    ("reason", "is_fed"),
    [
        ("hard-bounce", True),
        ("spam", True),
        ("unsub", True),
        ("custom", True),
        ("invalid-sender", False),
        ("rule", False),
        (None, False),
    ],
)
def test_a_rejection_for_another_sake_is_not_the_addresss(monkeypatch, reason, is_fed):
    with HTTPFaultServer(default=mandrill(reason)) as server, esp("mandrill", server, monkeypatch):
        sent_to(JANE)

    assert (JANE in listed()) is is_fed


def test_an_answer_that_cannot_be_read_to_its_end_feeds_nothing(monkeypatch):
    many = [
        {"email": f"{number:020}@example.com", "status": "sent", "_id": "m", "reject_reason": None}
        for number in range(49)
    ]
    answer = Answer(200, [*mandrill("spam").body, *many])
    with HTTPFaultServer(default=answer) as server, esp("mandrill", server, monkeypatch):
        entry = sent_to(JANE, *(item["email"] for item in many))

    assert (fate(entry)[0], listed()) == (State.SENT, {})


def test_where_nobody_says_why_nobody_is(monkeypatch):
    answer = Answer(
        200, {"results": {"total_accepted_recipients": 0, "total_rejected_recipients": 1, "id": "x"}}, accepts=False
    )
    with HTTPFaultServer(default=answer) as server, esp("sparkpost", server, monkeypatch):
        entry = sent_to(JANE)

    assert (fate(entry)[0], listed()) == (State.FAILED, {})


@pytest.mark.parametrize("reply", ["550 5.1.1 no such user", "450 4.2.0 greylisted", "552 5.2.2 mailbox full"])
def test_what_a_mail_server_says_feeds_nothing(reply):
    with SMTPFaultServer({"rcpt": {JANE: reply}}) as server, smtp(server):
        sent_to(JANE, BOB)

    assert listed() == {}


def test_a_stand_in_of_a_staging_site_is_nobodys_address(monkeypatch):
    answer = Answer(422, {"ErrorCode": 406, "Message": INACTIVE.format("dev@staging.example")}, accepts=False)
    with (
        HTTPFaultServer(default=answer) as server,
        esp("postmark", server, monkeypatch),
        override_settings(MAIL_OUTBOX={**settings.MAIL_OUTBOX, "REDIRECT_TO": "dev@staging.example"}),
    ):
        sent_to(JANE)

    assert listed() == {}
