"""A project says what its own mailers mean, except where the message has gone and nobody has said no."""

import logging
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.mail.backends.base import BaseEmailBackend

from mail_outbox.core import outcomes
from mail_outbox.core.outcomes import (
    Ambiguous,
    Cancelled,
    Kind,
    Outcome,
    Permanent,
    Refusal,
    Sent,
    Throttled,
    Transient,
)
from tests.delivery import backends
from tests.delivery.conftest import OpenLine, a_message, a_parcel
from tests.delivery.esps import MAILGUN_OK
from tests.faults import closed_port
from tests.faults.http_server import Answer, HTTPFaultServer
from tests.faults.smtp_server import SMTPFaultServer

HERE = "tests.delivery.backends"
FOREIGN = f"{HERE}.ForeignBackend"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "classifiers.md"


@pytest.fixture(autouse=True)
def _forget_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.ForeignBackend, "sent", [])


@pytest.fixture
def classified_by(settings: Any) -> Any:
    """Return what sets the classifiers, once the mailers are set."""

    def classified_by(*classifiers: Any) -> None:
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "CLASSIFIERS": list(classifiers)}

    return classified_by


@pytest.fixture
def foreign(open_line: OpenLine, classified_by: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what delivers through a foreign mailer that returns, or raises, the given result."""

    def deliver(result: object, *classifiers: Any) -> Outcome:
        monkeypatch.setattr(backends.ForeignBackend, "result", result)
        line = open_line(FOREIGN)
        classified_by(*classifiers)
        return line.deliver(a_parcel())

    return deliver


def always(outcome: Any) -> Any:
    """Return a classifier that always says the same."""

    class Always:
        def __call__(self, error: Exception | None, **about: Any) -> Any:
            return outcome

        def __str__(self) -> str:
            return f"always {outcome!r}"

    return Always()


def never(error: Exception | None, **about: Any) -> None:
    """Have no opinion."""


def hush(error: Exception | None, **about: Any) -> Transient:
    """Take every error for a passing one."""
    return Transient(code="hush")


def fail(error: Exception | None, **about: Any) -> None:
    """Be broken."""
    raise RuntimeError("ann@example.com")


class TestForeignMailers:
    """Of a mailer that we cannot look into a classifier judges everything."""

    @pytest.mark.parametrize("result", [1, 0, None, "yes", RuntimeError("?"), ConnectionRefusedError("?")])
    def test_its_word_counts_more_than_our_rules(self, foreign: Any, result: object):
        assert foreign(result, always(Throttled(code="quota"))) == Throttled(code="quota")

    def test_no_opinion_leaves_it_to_the_next_and_at_last_to_us(self, foreign: Any):
        assert foreign(RuntimeError("?"), never, always(Permanent()), always(Sent())) == Permanent()
        assert foreign(RuntimeError("?"), never).kind is Kind.AMBIGUOUS
        assert foreign(1, never).kind is Kind.SENT

    def test_it_is_told_what_there_is_to_know(self, foreign: Any):
        told: list[Any] = []

        def listen(error: Exception | None, *, mailer: str, backend: BaseEmailBackend, result: object) -> None:
            told.append((error, mailer, type(backend), result))

        error = RuntimeError("?")
        foreign(error, listen)
        foreign(7, listen)

        assert told == [(error, "m", backends.ForeignBackend, None), (None, "m", backends.ForeignBackend, 7)]

    def test_it_may_be_named(self, foreign: Any):
        assert foreign(RuntimeError("?"), f"{__name__}.hush") == Transient(code="hush")

    def test_what_it_says_is_tidied(self, foreign: Any):
        said = Permanent(
            code="no\x00pe", text="ann@example.com\nis gone", refused={"Ann@Example.com": Refusal("5", "bob@x", True)}
        )

        outcome = foreign(RuntimeError("?"), always(said))

        assert (outcome.code, outcome.text) == ("nope", "***@example.com is gone")
        assert outcome.refused == {"ann@example.com": Refusal("5", "***@x", for_good=True)}

    @pytest.mark.parametrize(
        "broken",
        [
            fail,
            f"{__name__}.fail",
            f"{__name__}.no_such_function",
            "no.such.module",
            always("transient"),
            always(Outcome(code="of no kind")),
            always(Transient),
            always(Throttled(retry_after=30)),  # type: ignore[arg-type]
            always(Transient(not_before="later")),  # type: ignore[arg-type]
            always(Permanent(refused=["ann@example.com"])),  # type: ignore[arg-type]
            lambda error: None,
        ],
        ids=lambda broken: str(broken).partition(" at 0x")[0],
    )
    def test_a_broken_one_is_logged_and_ignored(self, foreign: Any, broken: Any, caplog: pytest.LogCaptureFixture):
        assert foreign(RuntimeError("?"), broken, always(Permanent(code="next"))) == Permanent(code="next")
        assert foreign(RuntimeError("?"), broken).kind is Kind.AMBIGUOUS

        assert {record.levelno for record in caplog.records} == {logging.ERROR}
        assert len(caplog.records) == 2
        assert all(record.getMessage().endswith("is ignored") for record in caplog.records)
        assert all(record.mailer == "m" for record in caplog.records)
        assert "ann@" not in caplog.text

    def test_a_connection_that_we_cannot_look_into_makes_a_foreign_mailer(
        self, open_line: OpenLine, classified_by: Any
    ):
        line = open_line(f"{HERE}.StrangeConnectionBackend", host="localhost")
        classified_by(hush)

        assert line.deliver(a_parcel()) == Transient(code="hush")


class TestSMTP:
    """Of an SMTP conversation a classifier judges the errors, up to the final dot."""

    @pytest.mark.parametrize(
        "script",
        [
            {"connect": "554 no"},
            {"mail": "550 5.7.1 no"},
            {"rcpt": "drop"},
            {"dot": "554 5.6.0 no"},
        ],
    )
    def test_an_error_before_the_hand_over_and_an_explicit_no(
        self, smtp_line: OpenLine, classified_by: Any, script: dict[str, str]
    ):
        with SMTPFaultServer(script) as server:
            line = smtp_line(server)
            classified_by(hush)
            assert line.deliver(a_parcel()) == Transient(code="hush")

        assert server.journal == []

    @pytest.mark.parametrize(
        ("script", "kind"),
        [
            ({}, Kind.SENT),
            ({"rcpt": {"bob@example.com": "550 5.1.1 no"}}, Kind.PARTIAL),
            ({"dot": "accept-then-drop"}, Kind.AMBIGUOUS),
            ({"dot": "accept-then-garbage"}, Kind.AMBIGUOUS),
            ({"dot": "251 2.0.0 forwarded"}, Kind.SENT),
        ],
    )
    def test_what_may_have_gone_is_never_not_sent(
        self, smtp_line: OpenLine, classified_by: Any, script: dict[str, Any], kind: Kind
    ):
        with SMTPFaultServer(script) as server:
            line = smtp_line(server)
            classified_by(hush)
            outcome = line.deliver(a_parcel(a_message("ann@example.com", "bob@example.com")))

        assert outcome.kind is kind
        assert len(server.journal) == 1

    @pytest.mark.parametrize("backend", ["BrokenAfterwardsBackend", "OneByOneBackend"])
    def test_what_has_been_accepted_is_never_not_sent(self, open_line: OpenLine, classified_by: Any, backend: str):
        with SMTPFaultServer({"mail": [None, "451 4.3.0 later"]}) as server:
            line = open_line(f"{HERE}.{backend}", host=server.host, port=server.port)
            classified_by(hush)
            outcome = line.deliver(a_parcel(a_message("ann@example.com", "bob@example.com")))

        assert outcome.kind in (Kind.SENT, Kind.AMBIGUOUS)
        assert len(server.journal) == 1

    def test_the_number_returned_is_no_matter_for_it(self, smtp_line: OpenLine, classified_by: Any):
        asked: list[Any] = []
        with SMTPFaultServer() as server:
            line = smtp_line(server)
            classified_by(lambda error, **about: asked.append(about))
            line.deliver(a_parcel())

        assert asked == []


class TestHTTP:
    """Of a request a classifier judges the errors, unless it was answered with a yes, or not at all."""

    @pytest.mark.parametrize("action", [Answer(400, {"m": 1}), Answer(500, {"m": 1}), Answer(502, "<html>")])
    def test_an_answer_that_is_no_yes(self, esp_line: OpenLine, classified_by: Any, action: Answer):
        with HTTPFaultServer(action) as server:
            line = esp_line("mailgun", server)
            classified_by(hush)
            assert line.deliver(a_parcel()) == Transient(code="hush")

    def test_a_provider_that_cannot_be_reached(self, esp_line: OpenLine, classified_by: Any):
        with closed_port() as port, HTTPFaultServer() as server:
            line = esp_line("mailgun", server, api_url=f"http://127.0.0.1:{port}/")
            classified_by(hush)
            assert line.deliver(a_parcel()) == Transient(code="hush")

    @pytest.mark.parametrize(
        ("esp", "action"),
        [
            ("mailgun", "accept-then-drop"),
            ("mailgun", "accept-then-cut"),
            ("mailgun", Answer(200, "certainly!")),
            (
                "mailjet",
                Answer(400, {"Messages": [{"Status": "success", "To": [{"Email": "ann@example.com", "MessageID": 7}]}, {"Status": "error"}]}, accepts=True),
            ),
        ],
    )  # fmt: skip
    def test_what_may_have_gone_is_never_not_sent(self, esp_line: OpenLine, classified_by: Any, esp: str, action: Any):
        with HTTPFaultServer(action, default=MAILGUN_OK) as server:
            line = esp_line(esp, server)
            classified_by(hush)
            outcome = line.deliver(a_parcel(a_message("ann@example.com", "bob@example.com")))

        assert outcome.kind in (Kind.AMBIGUOUS, Kind.PARTIAL)
        assert len(server.journal) == 1


class TestThePage:
    """The example of the page works, and its table has every outcome."""

    @pytest.mark.parametrize(
        ("reason", "expected"),
        [
            ("rate", Throttled(code="rate", retry_after=timedelta(seconds=30))),
            ("content", Permanent(code="content", text="no")),
            ("maintenance", Transient(code="maintenance", is_mailers=True)),
        ],
    )
    def test_the_example(self, foreign: Any, reason: str, expected: Outcome):
        [code] = re.findall(
            r"<!-- test: a classifier -->\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
        )
        namespace: dict[str, Any] = {}
        exec(code, namespace)  # noqa: S102 (our own page)
        error = RuntimeError("no")
        error.reason = reason  # type: ignore[attr-defined]

        assert foreign(error, namespace["classify"]) == expected
        assert foreign(RuntimeError("?"), namespace["classify"]).kind is Kind.AMBIGUOUS

    def test_the_table_has_every_outcome(self):
        rows = re.findall(r"^\| `(\w+)\(", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

        kinds = {getattr(outcomes, name).kind for name in rows}
        assert kinds == set(Kind)
        assert {Ambiguous, Cancelled} <= {getattr(outcomes, name) for name in rows}
