"""The dashboard: counts that lead somewhere, charts with a table, causes and what to do about them."""

import re
import smtplib
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone, translation

from mail_outbox import outbox
from mail_outbox.admin.charts import HEIGHT, chart_of
from mail_outbox.models import MailerState, OutboxEntry, UtcNow, Worker
from mail_outbox.outbox.overview import Hour
from tests.fakes import BAD_LOGIN, REFUSED
from tests.shells.admin.conftest import ENTRIES
from tests.shells.admin.test_actions import confirm, told
from tests.support import a_message, age

pytestmark = pytest.mark.django_db

DASHBOARD = f"{ENTRIES}dashboard/"
START = datetime(2026, 5, 17, tzinfo=UTC)


def page(client) -> str:
    response = client.get(DASHBOARD)
    assert response.status_code == 200
    return response.content.decode()


def test_it_is_fine_when_there_is_nothing(admin_client, providers):
    text = page(admin_client)

    assert "Mail flows." in text
    assert "Nothing has failed." in text
    assert "No worker has been seen." in text


def test_counts_by_state_lead_to_the_list(admin_client, failed, sent):
    states = {state: (count, url) for state, count, url in admin_client.get(DASHBOARD).context["states"]}

    assert states["failed"] == ("1", f"{ENTRIES}?state=failed")
    assert states["held"] == ("0", f"{ENTRIES}?state=held")
    for _, url in states.values():
        assert admin_client.get(url).status_code == 200


def test_failures_are_grouped_by_cause_and_can_be_retried_together(admin_client, providers):
    providers["default"].will(REFUSED, REFUSED)
    outbox.enqueue_many([a_message()] * 2)
    outbox.drain()

    text = page(admin_client)
    [row] = admin_client.get(DASHBOARD).context["causes"]
    assert "Retry these 2" in text
    assert "5.7.1 refused" in text

    assert told(confirm(admin_client, row["retry"])) == ["2 mails were put back to be sent."]
    assert admin_client.get(row["url"]).status_code == 200


def test_a_provider_s_words_are_escaped(admin_client, failed):
    OutboxEntry.objects.update(outcome_text="<script>alert(1)</script>")

    assert "<script>alert" not in page(admin_client)


def test_what_a_provider_said_about_sensitive_mail_is_no_example(admin_client, providers):
    providers["default"].will(smtplib.SMTPDataError(550, b"refused: https://x.example/reset/abc"))
    outbox.enqueue(a_message(), sensitive=True)
    outbox.drain()

    text = page(admin_client)

    assert "permanent 550" in text
    assert "reset/abc" not in text


def test_a_mailer_is_paused_and_resumed_with_a_note_of_who_did_it(admin_client, admin_user, providers):
    assert "mailers/pause/?mailer=bulk" in page(admin_client)

    response = confirm(admin_client, f"{ENTRIES}mailers/pause/?mailer=bulk", reason="audit", length="30")

    assert told(response) == ["Mailer 'bulk' is paused."]
    state = MailerState.objects.get(alias="bulk")
    assert state.pause_reason == "audit (admin)"
    assert state.paused_until is not None
    assert "mailers/resume/?mailer=bulk" in page(admin_client)
    log = LogEntry.objects.get()
    assert (log.user, log.object_id, log.change_message) == (admin_user, "bulk", "Pause: audit")

    confirm(admin_client, f"{ENTRIES}mailers/resume/?mailer=bulk")
    assert not MailerState.objects.get(alias="bulk").is_paused


def test_all_mailers_are_paused_at_once(admin_client, providers):
    confirm(admin_client, f"{ENTRIES}mailers/pause/")

    assert "All mailers are paused: paused by hand (admin)." in page(admin_client)
    confirm(admin_client, f"{ENTRIES}mailers/resume/")
    assert "Mail flows." in page(admin_client)


def test_asking_pauses_nothing(admin_client, providers):
    admin_client.get(f"{ENTRIES}mailers/pause/?mailer=bulk")

    assert not MailerState.objects.exists()


@pytest.mark.parametrize("path", ["mailers/pause/?mailer=none", "mailers/destroy/", "mailers/pause/?mailer=*"])
def test_no_other_mailer_and_no_other_verb(admin_client, providers, path):
    assert admin_client.get(f"{ENTRIES}{path}").status_code == 404


def test_a_mailer_in_trouble_says_when_it_tries_again(admin_client, providers):
    providers["default"].will(BAD_LOGIN)
    outbox.enqueue(a_message())
    outbox.drain()

    text = page(admin_client)

    assert "in trouble" in text
    assert "bad login" in text


def test_workers_and_latency_are_shown(admin_client, providers):
    row = Worker(name="mail-1:7:ab", host="mail-1", pid=7, started_at=UtcNow(), last_seen_at=UtcNow(), activity="idle")
    Worker.objects.bulk_create([row])
    entry = outbox.enqueue(a_message())
    outbox.drain()
    age(entry, first_due_at=timedelta(seconds=-90))

    text = page(admin_client)

    assert "mail-1:7:ab" in text
    assert "p95 from due to sent" in text
    assert "1 min 30 s" in text


def test_it_asks_the_entries_three_times(admin_client, failed, sent, django_assert_max_num_queries):
    with django_assert_max_num_queries(12) as queries:
        page(admin_client)

    assert sum("mail_outbox_outboxentry" in query["sql"] for query in queries.captured_queries) == 3


class TestChart:
    def test_it_is_an_image_with_a_title_and_a_table_beside_it(self, admin_client, sent):
        text = page(admin_client)
        svg = ElementTree.fromstring(re.search(r"<svg class=\"outbox-chart\".*?</svg>", text, re.DOTALL)[0])  # noqa: S314

        assert svg.attrib["role"] == "img"
        assert svg.find("title").attrib["id"] == svg.attrib["aria-labelledby"]
        assert len(svg.findall("g/title")) == 24
        assert "<summary>The same as a table</summary>" in text
        assert len(re.findall(r'<tr><th scope="row">\d\d-\d\d \d\d:00</th>', text)) == 24

    def test_picture_and_table_name_the_same_hours_in_every_time_zone(self, admin_client, sent):
        with timezone.override("Asia/Kolkata"):
            text = page(admin_client)

        in_picture = re.findall(r"<title>(\d\d:00) UTC: ", text)
        assert in_picture == re.findall(r'<tr><th scope="row">\d\d-\d\d (\d\d:\d\d)</th>', text)
        assert len(in_picture) == 24

    def test_it_has_no_style_and_no_script_of_its_own(self, admin_client, sent):
        svg = re.search(r"<svg class=\"outbox-chart\".*?</svg>", page(admin_client), re.DOTALL)[0]

        assert "style=" not in svg
        assert "<script" not in svg

    def test_its_numbers_are_the_same_in_every_language(self, admin_client, sent, settings):
        settings.USE_THOUSAND_SEPARATOR = True
        settings.LANGUAGE_CODE = "de"
        with translation.override("de"):
            svg = re.search(r"<svg class=\"outbox-chart\".*?</svg>", page(admin_client), re.DOTALL)[0]

        for value in re.findall(r' (?:x|y|width|height|x1|x2|y1|y2)="([^"]*)"', svg):
            float(value)

    @pytest.mark.parametrize("most", [0, 1, 2, 3, 49, 99, 12_345, 100_001])
    def test_no_bar_leaves_the_picture_and_none_is_too_small_to_see(self, most):
        chart = chart_of([Hour(start=START, sent=most, failed=1 if most else 0), Hour(start=START, sent=1, failed=0)])

        for bar in chart.bars:
            assert float(bar.failed_y) >= 0
            assert float(bar.sent_y) + float(bar.sent_height) <= HEIGHT
        assert float(chart.bars[1].sent_height) >= 2

    def test_an_empty_day_has_an_empty_picture(self):
        assert chart_of([]).bars == ()
