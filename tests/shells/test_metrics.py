"""Metrics for Prometheus: named as documented, read on scrape, never backwards, and without anything personal."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.db.models import F
from django.test import RequestFactory, override_settings

pytest.importorskip("prometheus_client", reason="the extra metrics is not installed")

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from mail_outbox import outbox, transitions
from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import State
from mail_outbox.metrics import OutboxCollector, outbox_metrics
from mail_outbox.models import CountMark, OutboxEntry, UtcNow, Worker
from tests.fakes import NOBODY_KNOWS, REFUSED
from tests.support import a_message, age

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("providers")]

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "how-to" / "monitoring.md"
SUFFIX = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}


def read() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Scrape, and return every sample."""
    text = outbox_metrics(RequestFactory().get("/metrics/")).content.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(name: str, **labels: str) -> float | None:
    return read().get((name, frozenset(labels.items())))


def count_attempts() -> None:
    """Count what there is, as two sweeps do."""
    for _ in range(2):
        transitions.count_attempts(limit=10**9, database="default")
        CountMark.objects.update(looked_at=F("looked_at") - timedelta(minutes=1))
    transitions.count_attempts(limit=10**9, database="default")


def test_entries_are_counted_by_state_and_mailer(providers):
    providers["default"].will(REFUSED)
    outbox.enqueue(a_message())
    outbox.drain()
    outbox.enqueue(a_message(), send_at=timedelta(hours=1))
    outbox.enqueue_many([a_message()] * 3, using="bulk")

    assert value("mail_outbox_entries", state="failed", mailer="default") == 1
    assert value("mail_outbox_entries", state="scheduled", mailer="default") == 1
    assert value("mail_outbox_entries", state="queued", mailer="bulk") == 3
    assert value("mail_outbox_entries", state="held", mailer="bulk") == 0


def test_a_state_is_counted_no_further_than_it_must(monkeypatch):
    monkeypatch.setattr("mail_outbox.outbox.measuring.MOST", 1)
    monkeypatch.setattr("mail_outbox.outbox.measuring.MOST_QUEUED", 2)
    outbox.enqueue_many([a_message()] * 3)
    outbox.enqueue_many([a_message()] * 3, send_at=timedelta(hours=1))

    assert value("mail_outbox_entries", state="queued", mailer="default") == 2
    assert value("mail_outbox_entries", state="scheduled", mailer="default") == 1


def test_the_oldest_due_counts_whether_promoted_or_not():
    assert value("mail_outbox_oldest_due_seconds", mailer="default") == 0

    age(outbox.enqueue(a_message()), due_at=-timedelta(minutes=1))
    age(outbox.enqueue(a_message(), using="bulk", send_at=timedelta(hours=1)), due_at=-timedelta(hours=2))

    assert value("mail_outbox_oldest_due_seconds", mailer="default") == pytest.approx(60, abs=30)
    assert value("mail_outbox_oldest_due_seconds", mailer="bulk") == pytest.approx(3600, abs=30)


def test_attempts_and_durations_are_counted_and_do_not_go_backwards_when_pruned(providers):
    providers["default"].will(REFUSED, NOBODY_KNOWS)
    outbox.enqueue_many([a_message()] * 3)
    outbox.drain()
    assert value("mail_outbox_attempts_total", mailer="default", outcome="permanent") is None

    count_attempts()
    before = {key: number for key, number in read().items() if "attempts" in key[0] or "delivery_seconds" in key[0]}
    OutboxEntry.objects.update(state=State.SENT, finished_at=UtcNow() - timedelta(days=400))
    assert outbox.prune().attempts == 3
    count_attempts()

    after = read()
    assert {key: after[key] for key in before} == before
    assert value("mail_outbox_attempts_total", mailer="default", outcome="permanent") == 1
    assert value("mail_outbox_attempts_total", mailer="default", outcome="ambiguous") == 1
    assert value("mail_outbox_delivery_seconds_count", mailer="default") == 3
    assert value("mail_outbox_delivery_seconds_bucket", mailer="default", le="+Inf") == 3
    assert value("mail_outbox_delivery_seconds_bucket", mailer="default", le="180.0") == 3


def test_a_pause_of_everything_pauses_every_mailer():
    outbox.pause("bulk")
    assert value("mail_outbox_paused", mailer="bulk") == 1
    assert value("mail_outbox_paused", mailer="default") == 0

    outbox.pause()
    assert value("mail_outbox_paused", mailer="default") == 1


def test_workers_are_counted_and_their_last_sign_is_told():
    assert value("mail_outbox_workers") == 0
    assert value("mail_outbox_worker_last_seen_seconds") is None

    for name, seen in (("a", 600), ("b", 30)):
        last = UtcNow() - timedelta(seconds=seen)
        Worker.objects.bulk_create([Worker(name=name, host="h", pid=1, started_at=last, last_seen_at=last)])

    assert value("mail_outbox_workers") == 1
    assert value("mail_outbox_worker_last_seen_seconds") == pytest.approx(30, abs=20)


def test_no_label_and_no_text_holds_anything_personal(providers):
    providers["default"].will(REFUSED)
    entry = outbox.enqueue(a_message("Very secret", to=["jane@example.com"]))
    outbox.drain()
    outbox.pause("bulk", reason="jane@example.com")

    text = outbox_metrics(RequestFactory().get("/")).content.decode()

    assert not [word for word in ("jane", "secret", "@", entry.message_id, str(entry.uuid)) if word in text]


def test_a_registry_takes_the_collector_before_there_is_a_database(django_assert_num_queries):
    with django_assert_num_queries(0):
        CollectorRegistry().register(OutboxCollector())


def test_with_the_database_away_the_page_says_so_and_nothing_else():
    def fail(*_: object) -> None:
        raise OperationalError("gone")

    with connection.execute_wrapper(fail):
        assert read() == {("mail_outbox_up", frozenset()): 0}
    assert value("mail_outbox_up") == 1


def test_the_page_is_text_for_get_only_and_never_cached():
    response = outbox_metrics(RequestFactory().get("/"))

    assert response["Content-Type"].startswith("text/plain; version=")
    assert response["Cache-Control"] == "no-store"
    assert outbox_metrics(RequestFactory().post("/")).status_code == 405


def test_a_scrape_asks_the_entries_four_times(django_assert_max_num_queries):
    with django_assert_max_num_queries(9) as queries:  # one of them whether the database is a copy
        list(OutboxCollector().collect())

    assert sum('FROM "mail_outbox_outboxentry"' in query["sql"].replace("`", '"') for query in queries) == 4


def test_several_databases_add_up(monkeypatch):
    outbox.enqueue(a_message())
    outbox.enqueue(a_message())
    measure = outbox.measure
    monkeypatch.setattr(outbox, "measure", lambda database: measure(database="default"))

    with override_settings(MAIL_OUTBOX={**settings.MAIL_OUTBOX, "DATABASE": ["default", "other"]}):
        assert value("mail_outbox_entries", state="queued", mailer="default") == 4


def names() -> set[str]:
    """Return the names of all series that there can be."""
    return {family.name + suffix for family in OutboxCollector().describe() for suffix in SUFFIX[family.type]}


def labels() -> set[str]:
    return {label for family in OutboxCollector().describe() for label in family._labelnames} | {"le"}


def named_in(text: str) -> set[str]:
    return set(re.findall(r"\bmail_outbox_[a-z_]+\b", text))


class TestFiles:
    def test_the_dashboard_asks_only_for_what_there_is(self):
        dashboard = json.loads((DEPLOY / "grafana" / "mail_outbox.json").read_text())
        queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]

        assert len(queries) >= 6
        for query in queries:
            assert named_in(query), query
            assert named_in(query) <= names(), query
            grouped = re.findall(r"by \(([^)]+)\)", query)
            assert {label.strip() for group in grouped for label in group.split(",")} <= labels(), query
        assert named_in(" ".join(queries)) >= {"mail_outbox_entries", "mail_outbox_oldest_due_seconds"}

    def test_the_alerts_ask_only_for_what_there_is_and_each_says_what_to_do(self):
        yaml = pytest.importorskip("yaml")
        groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
        rules = [rule for group in groups for rule in group["rules"]]

        assert len(rules) >= 4
        for rule in rules:
            assert named_in(rule["expr"]), rule
            assert named_in(rule["expr"]) <= names(), rule
            assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
            assert {"summary", "description"} <= set(rule["annotations"])
            told = " ".join(rule["annotations"].values())
            assert set(re.findall(r"\$labels\.(\w+)", told)) <= labels(), rule

    def test_the_values_of_labels_that_are_asked_for_exist(self):
        known = {state.value for state in State} | {kind.value for kind in Kind}
        for path in ("grafana/mail_outbox.json", "prometheus/alerts.yml"):
            text = (DEPLOY / path).read_text().replace('\\"', '"')
            for _, values in re.findall(r'\b(state|outcome)=~?"([^"]+)"', text):
                assert set(values.split("|")) <= known, values

    def test_the_page_names_every_metric_and_none_that_is_not_there(self):
        rows = re.findall(r"^\| `(mail_outbox_\w+)", PAGE.read_text(), re.MULTILINE)

        families = {
            family.name + ("_total" if family.type == "counter" else "") for family in OutboxCollector().describe()
        }
        assert set(rows) == families
