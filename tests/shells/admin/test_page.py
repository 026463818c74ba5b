"""The page of one mail says what happened, what happens next, and shows the mail to whom may see it."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone

from mail_outbox import outbox
from mail_outbox.core.envelope import VERSION
from mail_outbox.models import DeliveryEvent, EntryContent, OutboxEntry
from tests.fakes import BAD_LOGIN, NOBODY_KNOWS, TRY_LATER
from tests.shells.admin.conftest import ENTRIES, a_mail, act_on, page_of
from tests.support import a_message, age

pytestmark = pytest.mark.django_db

SOON = timedelta(hours=1)


def story_of(client: Client, entry: OutboxEntry) -> str:
    return client.get(page_of(entry)).context["story"]


class TestStory:
    def test_waiting(self, admin_client, providers):
        entry = outbox.enqueue(a_message())

        assert "waits for a free sender of mailer 'default'. It will go as soon as one is free." in story_of(
            admin_client, entry
        )

    def test_waiting_for_a_paused_mailer(self, admin_client, providers):
        entry = outbox.enqueue(a_message(), using="bulk", expires_at=SOON)
        outbox.pause("bulk", reason="audit")

        story = story_of(admin_client, entry)

        assert "What keeps it: Mailer 'bulk' is paused: audit." in story
        assert "It will not be sent after " in story

    def test_after_trouble_with_the_mailer(self, admin_client, providers):
        providers["default"].will(BAD_LOGIN)
        entry = outbox.enqueue(a_message())
        outbox.drain()

        assert "The last answer was mailer 535" in story_of(admin_client, entry)

    def test_scheduled(self, admin_client, providers):
        entry = outbox.enqueue(a_message(), send_at=SOON)
        late = outbox.enqueue(a_message(), send_at=SOON)
        age(late, due_at=-2 * SOON)

        assert "; then mailer 'default' will send it." in story_of(admin_client, entry)
        assert "a worker will queue it when it looks" in story_of(admin_client, late)

    def test_scheduled_for_another_try(self, admin_client, providers):
        providers["default"].will(TRY_LATER)
        entry = outbox.enqueue(a_message())
        outbox.drain()

        story = story_of(admin_client, entry)

        assert story.startswith(
            "After 1 attempt it has not gone yet. The last answer was transient 451: 4.3.0 try later."
        )
        assert "It will be tried again in " in story

    def test_sent(self, admin_client, sent):
        assert "Mailer 'default' accepted it " in story_of(admin_client, sent)
        assert story_of(admin_client, sent).endswith("at attempt 1. Nothing more will happen.")

    def test_failed(self, admin_client, failed):
        story = story_of(admin_client, failed)

        assert "after 1 attempt. The last answer was permanent 550: 5.7.1 refused." in story
        assert story.endswith("It will not go by itself; you may retry it.")

    def test_held_for_a_person(self, admin_client, providers):
        providers["default"].will(NOBODY_KNOWS)
        entry = outbox.enqueue(a_message(), on_ambiguous="hold")
        outbox.drain()
        by_hand = outbox.enqueue(a_message())
        outbox.hold(by_hand, reason="ask legal")

        assert "nobody can know whether the last attempt reached the provider" in story_of(admin_client, entry)
        assert story_of(admin_client, by_hand).endswith(": ask legal.")

    def test_expired_cancelled_and_settled_by_hand(self, admin_client, providers):
        expired = outbox.enqueue(a_message(), expires_at=SOON)
        age(expired, expires_at=-2 * SOON)
        outbox.drain()
        cancelled, settled = outbox.enqueue(a_message()), outbox.enqueue(a_message())
        outbox.cancel(cancelled, reason="order withdrawn")
        outbox.hold(settled, reason="x")
        outbox.mark_sent(settled, reason="seen in the log")

        assert "It was not sent before its expiry" in story_of(admin_client, expired)
        assert "(order withdrawn). It will not be sent." in story_of(admin_client, cancelled)
        assert "It was settled as sent" in story_of(admin_client, settled)

    def test_being_sent_and_stuck(self, admin_client, providers):
        entry = outbox.enqueue(a_message())
        entries = OutboxEntry.objects.filter(pk=entry.pk)
        entries.update(state="sending", worker="host:1", lease_expires_at=datetime.now(UTC) + SOON)
        assert story_of(admin_client, entry) == "Worker host:1 is sending it right now."

        entries.update(lease_expires_at=datetime.now(UTC) - SOON)
        assert "has not said what became of it" in story_of(admin_client, entry)


class TestPage:
    def test_it_shows_attempts_recipients_events_and_links(self, admin_client, failed):
        copy = outbox.resend(failed)
        now = datetime.now(UTC)
        DeliveryEvent.objects.create(
            entry=failed, recipient=failed.recipients.get(), esp="Mailgun", event_id="1", event_type="bounced",
            happened_at=now, received_at=now, text="<b>no such user</b>",
        )  # fmt: skip

        page = admin_client.get(page_of(failed)).content.decode()
        page_of_copy = admin_client.get(page_of(copy)).content.decode()

        assert "5.7.1 refused" in page
        assert "jane@example.com" in page
        assert "bounced" in page
        assert "&lt;b&gt;no such user&lt;/b&gt;" in page
        assert f'<a href="{page_of(copy)}">mail {copy.pk}</a>' in page
        assert f'<a href="{page_of(failed)}">mail {failed.pk}</a>' in page_of_copy

    def test_it_asks_the_entries_three_times_at_most(self, admin_client, failed, django_assert_max_num_queries):
        with django_assert_max_num_queries(16) as queries:
            admin_client.get(page_of(failed))

        assert sum("mail_outbox_outboxentry" in query["sql"] for query in queries.captured_queries) <= 3

    def test_tabs_show_text_html_headers_source_and_attachments(self, admin_client, providers):
        message = a_mail()
        message.attach("../../bill.pdf", b"%PDF", "application/pdf")
        entry = outbox.enqueue(message)

        def shown(tab: str) -> str:
            return admin_client.get(page_of(entry), {"show": tab}).content.decode()

        assert '<pre class="outbox-text" tabindex="0">secret text' in shown("")
        assert f'<iframe sandbox="" src="{ENTRIES}{entry.pk}/html/"' in shown("html")
        assert "<td>jane@example.com</td>" in shown("headers")
        assert "Content-Type: multipart/mixed" in shown("source")
        assert ">bill.pdf</a>" in shown("attachments")
        assert "secret html" not in shown("html")

    def test_times_say_their_zone(self, admin_client, failed, waiting):
        with timezone.override("Asia/Kolkata"):
            page = admin_client.get(page_of(failed)).content.decode()
            form = admin_client.get(act_on("reschedule", waiting)).content.decode()

        assert (
            f"<dt>Came to rest</dt><dd>{timezone.localtime(failed.finished_at, ZoneInfo('Asia/Kolkata')):%Y-%m-%d %H:%M:%S} IST"
            in page
        )
        assert "Time zone: Asia/Kolkata." in form

    def test_a_mail_that_cannot_be_read_has_a_page_all_the_same(self, admin_client, failed):
        EntryContent.objects.update(payload={"version": VERSION + 1})

        response = admin_client.get(page_of(failed))

        assert response.status_code == 200
        assert "There is nothing to show." in response.content.decode()

    @pytest.mark.parametrize("payload", [[], {}, {"version": "x"}, {"version": 1}, {"version": 10**30}])
    def test_damaged_rows_break_neither_list_nor_page(self, admin_client, failed, payload):
        EntryContent.objects.update(payload=payload)

        assert admin_client.get(ENTRIES).status_code == 200
        assert admin_client.get(page_of(failed)).status_code == 200

    def test_a_mail_without_content_has_a_page_all_the_same(self, admin_client, failed):
        EntryContent.objects.all().delete()

        assert "there is nothing left to read" in admin_client.get(page_of(failed)).content.decode()

    @pytest.mark.parametrize("key", ["0", "999999", "x", "9" * 30])
    def test_what_is_not_there_is_not_found(self, admin_client, key):
        assert admin_client.get(f"{ENTRIES}{key}/change/").status_code == 404

    def test_only_what_fits_its_state_is_offered(self, admin_client, failed, sent, waiting):
        def offered(entry: OutboxEntry) -> list[str]:
            return [act["label"] for act in admin_client.get(page_of(entry)).context["acts"]]

        assert offered(failed) == ["Retry", "Resend", "Send a copy to me"]
        assert offered(sent) == ["Resend", "Send a copy to me"]
        assert offered(waiting) == ["Cancel", "Hold", "Reschedule", "Change mailer"]
        outbox.hold(waiting, reason="x")
        assert "Mark as sent" in offered(waiting)
        OutboxEntry.objects.update(has_content=False)
        assert offered(failed) == []


class TestDocuments:
    def test_the_html_stands_in_a_document_that_can_do_nothing(self, admin_client, sent):
        response = admin_client.get(f"{ENTRIES}{sent.pk}/html/")

        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline';")
        assert "frame-ancestors 'self'" in policy
        assert "allow-" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert "no-store" in response.headers["Cache-Control"]
        assert response.headers["X-Frame-Options"] == "SAMEORIGIN"
        assert "<p>secret html</p>" in response.content.decode()

    def test_the_eml_is_what_the_mailer_was_given(self, admin_client, sent):
        response = admin_client.get(f"{ENTRIES}{sent.pk}/source.eml")

        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["Content-Disposition"].startswith("attachment;")
        assert f"Message-ID: {sent.message_id}".encode() in response.content

    def test_an_attachment_is_downloaded_under_a_clean_name_and_no_type(self, admin_client, providers):
        message = a_mail()
        message.attach('../a"b\u202e.html', "<script>alert(1)</script>", "text/html")
        entry = outbox.enqueue(message)

        response = admin_client.get(f"{ENTRIES}{entry.pk}/attachments/0/")

        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["Content-Disposition"] == "attachment; filename*=UTF-8''a%22b.html"
        assert response.headers["Content-Security-Policy"].startswith("sandbox;")
        assert admin_client.get(f"{ENTRIES}{entry.pk}/attachments/1/").status_code == 404

    def test_who_looked_is_logged_without_address_or_content(self, admin_client, admin_user, sent, caplog):
        with caplog.at_level("INFO", logger="mail_outbox.admin"):
            admin_client.get(f"{ENTRIES}{sent.pk}/source.eml")

        [record] = [record for record in caplog.records if record.name == "mail_outbox.admin"]
        assert (record.entry, record.user) == (sent.pk, admin_user.pk)
        assert "jane" not in record.getMessage()

    def test_a_mail_of_text_alone_has_no_html(self, admin_client, waiting):
        assert admin_client.get(f"{ENTRIES}{waiting.pk}/html/").status_code == 404
        assert admin_client.get(f"{ENTRIES}{10**25}/html/").status_code == 404
