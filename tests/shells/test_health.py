"""The health view: 200 or 503, and nothing in it that only insiders may know."""

import json

import pytest
from django.db import OperationalError, connection
from django.test import RequestFactory
from django.utils.module_loading import import_string

from mail_outbox import outbox
from mail_outbox.health import judge, outbox_health
from tests.support import a_message

pytestmark = pytest.mark.django_db


def ask(method: str = "get"):
    return outbox_health(getattr(RequestFactory(), method)("/health/"))


@pytest.fixture
def no_database():
    """Let every statement fail, with a text that tells too much."""

    def fail(*_: object) -> None:
        raise OperationalError("could not connect to db.internal as shop")

    with connection.execute_wrapper(fail):
        yield


def test_a_healthy_outbox_is_200_and_never_cached(providers):
    response = ask()

    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    assert json.loads(response.content) == {"is_flowing": True, "problems": []}


def test_a_paused_mailer_is_503_with_the_reason(providers):
    outbox.pause("bulk", reason="audit")

    response = ask()

    assert response.status_code == 503
    assert json.loads(response.content) == {
        "is_flowing": False,
        "problems": [{"code": "mailer_paused", "mailer": "bulk", "text": "Mailer 'bulk' is paused: audit."}],
    }


def test_it_shows_no_address_not_even_one_in_a_reason(providers):
    outbox.enqueue(a_message(to=["jane@example.com"]))
    outbox.pause(reason="jane.doe@example.com complained")

    text = ask().content.decode()

    assert "jane" not in text
    assert "***@example.com complained" in text


@pytest.mark.usefixtures("no_database")
def test_a_database_that_is_away_is_503_without_details(providers):
    response = ask()

    assert response.status_code == 503
    assert [problem["code"] for problem in json.loads(response.content)["problems"]] == ["database"]
    assert "internal" not in response.content.decode()


def test_it_is_not_wrapped_in_a_transaction_that_would_fail_first():
    assert outbox_health._non_atomic_requests == {"default"}


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_it_only_answers_questions(method: str):
    assert ask(method).status_code == 405


def test_every_database_of_the_outbox_is_judged(providers, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "mail_outbox.outbox.measuring.health", lambda database: asked.append(database) or outbox.health()
    )
    with providers_on(["default", "other"]):
        assert judge() == ()

    assert asked == ["default", "other"]


def providers_on(databases: list[str]):
    from django.conf import settings
    from django.test import override_settings

    return override_settings(MAIL_OUTBOX={**settings.MAIL_OUTBOX, "DATABASE": databases})


def test_the_check_for_django_health_check_has_what_that_expects():
    base = pytest.importorskip("health_check.base")
    check = import_string("mail_outbox.health.check.OutboxHealthCheck")

    assert issubclass(check, base.HealthCheck)
    assert repr(check()) == "OutboxHealthCheck()"
