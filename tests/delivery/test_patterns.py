"""Refusals for the same reason are alike, refusals that say something of one message are not."""

import smtplib

import pytest

from mail_outbox.core.outcomes import Kind, Outcome, Permanent
from mail_outbox.delivery import classify
from mail_outbox.delivery.patterns import of_answer
from mail_outbox.delivery.trace import Phase, Trace
from tests.delivery.conftest import OpenLine, a_message, a_parcel
from tests.faults.http_server import Answer, HTTPFaultServer
from tests.faults.smtp_server import SMTPFaultServer


def pattern_of(outcome: Outcome) -> str:
    """Return the pattern of what must be a refusal."""
    assert isinstance(outcome, Permanent), outcome
    return outcome.pattern


class TestOverSMTP:
    def refused(self, smtp_line: OpenLine, step: str, reply: str, *senders: str) -> list[str]:
        """Return the patterns of messages of these senders, refused at this step."""
        with SMTPFaultServer({step: reply}) as server:
            line = smtp_line(server)
            outcomes = [line.deliver(a_parcel(a_message(from_email=sender))) for sender in senders]
            line.close()
        return [pattern_of(outcome) for outcome in outcomes]

    def test_a_refusal_at_mail_is_the_senders(self, smtp_line: OpenLine):
        senders = ("a@example.com", "A <a@EXAMPLE.com>", "b@example.com")
        first, again, other = self.refused(smtp_line, "mail", "550 5.7.1 not this sender", *senders)

        assert first == again != other
        assert first.startswith("sender:")
        assert "example" not in first

    @pytest.mark.parametrize(
        ("step", "reply"),
        [
            ("mail", "552 5.3.4 message too big"),
            ("mail", "554 5.3.4 message too big"),
            ("rcpt", "550 5.1.1 unknown user"),
            ("data", "554 5.6.0 no"),
            ("dot", "550 5.7.26 DMARC"),
        ],
    )
    def test_a_refusal_of_the_message_or_its_recipients_is_not(self, smtp_line: OpenLine, step: str, reply: str):
        assert self.refused(smtp_line, step, reply, "a@example.com") == [""]

    def test_a_mailer_that_we_cannot_look_into_tells_it_by_its_exception(self):
        trace = Trace()
        trace.phase = Phase.HANDED
        error = smtplib.SMTPSenderRefused(550, b"5.7.1 no", "a@example.com")

        assert pattern_of(classify.foreign_failed(error, trace)).startswith("sender:")


class TestOverHTTP:
    @pytest.mark.parametrize("status", [400, 422])
    def test_the_same_answer_is_the_same_refusal(self, esp_line: OpenLine, status: int):
        answers = [
            Answer(status, {"message": "No such template", "request": f"{number:08}-0a1b-4c2d-8e3f-{number:012}"})
            for number in range(2)
        ]
        with HTTPFaultServer([*answers, Answer(status, {"message": "Bad sender"})]) as server:
            line = esp_line("mailgun", server)
            first, again, other = (pattern_of(line.deliver(a_parcel())) for _ in range(3))

        assert first == again != other
        assert first.startswith(f"http:{status}:")

    @pytest.mark.parametrize(
        ("body", "other"),
        [
            ('{"message": "bad address ann1@example.com"}', '{"message": "bad address ann2@example.com"}'),
            ('{"code": 300}', '{"code": 406}'),
        ],
    )
    def test_an_answer_that_names_an_address_or_another_code_is_another(self, body: str, other: str):
        assert of_answer(400, "", body) != of_answer(400, "", other)

    @pytest.mark.parametrize(
        ("body", "other"),
        [
            ("at 2026-11-20T12:00:00.123Z", "at 2026-11-21T13:01:02.456Z"),
            ("id req_0a1b2c3d4e5f", "id req_5f4e3d2c1b0a"),
            ("at 1795176060", "at 1795176061"),
            ("two\n  lines", "two lines"),
        ],
    )
    def test_ids_moments_and_spaces_make_no_difference(self, body: str, other: str):
        assert of_answer(400, "", body) == of_answer(400, "", other)

    def test_only_what_a_template_may_be_refused_for_counts(self):
        assert of_answer(413, "", "too big") == ""

    def test_a_refusal_of_the_recipients_does_not_count(self, esp_line: OpenLine):
        said = "Found inactive addresses: ann@example.com. Inactive recipients are ones that have bounced."
        with HTTPFaultServer(Answer(422, {"ErrorCode": 406, "Message": said})) as server:
            outcome = esp_line("postmark", server).deliver(a_parcel())

        assert outcome.kind is Kind.PERMANENT
        assert outcome.refused
        assert pattern_of(outcome) == ""

    def test_a_refusal_of_the_message_counts_although_it_names_every_recipient(self, esp_line: OpenLine):
        error = {"ErrorIdentifier": "0a1b2c3d-0a1b-4c2d-8e3f-0a1b2c3d4e5f", "ErrorMessage": "Unknown sender"}
        refused = Answer(400, {"Messages": [{"Status": "error", "Errors": [error]}]})
        with HTTPFaultServer(refused) as server:
            outcome = esp_line("mailjet", server).deliver(a_parcel())

        assert outcome.refused
        assert pattern_of(outcome).startswith("http:400:")
