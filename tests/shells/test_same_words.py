"""Whether mail flows: every surface says so in the same words."""

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.test import Client, RequestFactory
from django.utils.html import escape

from mail_outbox import outbox
from mail_outbox.health import outbox_health
from mail_outbox.models import UtcNow, Worker
from tests.shells.admin.conftest import ENTRIES
from tests.support import a_message, age

pytestmark = pytest.mark.django_db

Surface = Callable[[Client, list[outbox.Problem]], bool]


def a_worker(seen: timedelta) -> None:
    row = Worker(name="host:1:a", host="host", pid=1, started_at=UtcNow(), last_seen_at=UtcNow() + seen)
    Worker.objects.bulk_create([row])


def stop_the_worker() -> None:
    a_worker(-timedelta(minutes=10))
    age(outbox.enqueue(a_message()), due_at=-timedelta(minutes=2))


def pause_a_mailer() -> None:
    a_worker(timedelta(0))
    outbox.pause("bulk", reason="audit")


def let_the_queue_grow_old() -> None:
    a_worker(timedelta(0))
    age(outbox.enqueue(a_message()), due_at=-timedelta(hours=1))


TROUBLES = {"no_worker": stop_the_worker, "mailer_paused": pause_a_mailer, "overdue": let_the_queue_grow_old}


def in_the_view(client: Client, problems: list[outbox.Problem]) -> bool:
    """Tell whether the health view tells exactly these problems."""
    response = outbox_health(RequestFactory().get("/"))
    told = [(problem["code"], problem["text"]) for problem in json.loads(response.content)["problems"]]
    assert response.status_code == (503 if problems else 200)
    return told == [(problem.code, problem.text) for problem in problems]


def in_django_health_check(client: Client, problems: list[outbox.Problem]) -> bool:
    """Tell whether the check for django-health-check tells exactly these problems."""
    pytest.importorskip("health_check")
    from health_check.exceptions import ServiceUnavailable

    from mail_outbox.health.check import OutboxHealthCheck

    try:
        async_to_sync(OutboxHealthCheck().run)()
    except ServiceUnavailable as error:
        return error.message == " ".join(problem.text for problem in problems)
    return not problems


def in_the_metrics(client: Client, problems: list[outbox.Problem]) -> bool:
    """Tell whether the metrics name exactly these problems."""
    pytest.importorskip("prometheus_client")
    from mail_outbox.metrics import OutboxCollector

    samples = [sample for metric in OutboxCollector().collect() for sample in metric.samples]
    [flowing] = [sample.value for sample in samples if sample.name == "mail_outbox_flowing"]
    told = [sample.labels for sample in samples if sample.name == "mail_outbox_problem"]
    assert flowing == (not problems)
    return told == [{"code": problem.code, "mailer": problem.mailer} for problem in problems]


def in_the_admin(client: Client, problems: list[outbox.Problem]) -> bool:
    """Tell whether the banner over the list tells these problems."""
    page = client.get(ENTRIES).content.decode()
    return all(escape(problem.text) in page for problem in problems)


def in_the_command(client: Client, problems: list[outbox.Problem]) -> bool:
    """Tell whether `outbox status --fail-if-unhealthy` ends with exactly these problems."""
    try:
        call_command("outbox", "status", "--fail-if-unhealthy", stdout=StringIO())
    except CommandError as error:
        return str(error) == " ".join(problem.text for problem in problems)
    return not problems


SURFACES = [in_the_view, in_django_health_check, in_the_metrics, in_the_admin, in_the_command]


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("code", TROUBLES)
def test_each_trouble_is_told_in_the_same_words(admin_client, providers, code: str, surface: Surface):
    assert surface(admin_client, [])

    TROUBLES[code]()

    problems = list(outbox.health().problems)
    assert [problem.code for problem in problems] == [code]
    assert surface(admin_client, problems)
    assert not surface(admin_client, [outbox.Problem(code="other", text="Something else is wrong.")])
