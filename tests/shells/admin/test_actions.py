"""Acts ask first, do what they can, tell the truth, leave a note, and do nothing twice."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import resolve

from mail_outbox import outbox
from mail_outbox.admin import acts
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry
from tests.fakes import REFUSED
from tests.shells.admin.conftest import ENTRIES, a_mail, act_on, page_of
from tests.support import a_message, age

pytestmark = pytest.mark.django_db

SOON = timedelta(hours=1)


def confirm(client: Client, url: str, **given: str) -> Any:
    """Read the form, and send it as it is, with these fields filled in."""
    form = client.get(url).context["form"]
    data = {name: "" if form[name].value() is None else str(form[name].value()) for name in form.fields}
    return client.post(url, {**data, **given}, follow=True)


def told(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def state_of(entry: OutboxEntry) -> str:
    entry.refresh_from_db()
    return entry.state


class TestAsking:
    def test_nothing_is_done_before_it_is_confirmed(self, admin_client, failed):
        page = admin_client.get(act_on("retry", failed)).content.decode()

        assert "1 mail." in page
        assert "failed mail" in page
        assert state_of(failed) == State.FAILED

    def test_a_form_without_its_token_does_nothing(self, admin_client, failed):
        response = admin_client.post(act_on("retry", failed), {"newest": str(failed.pk)})

        assert response.status_code == 200
        assert "This field is required" in response.content.decode()
        assert state_of(failed) == State.FAILED

    def test_a_post_without_the_csrf_token_is_refused(self, admin_user, failed):
        client = Client(enforce_csrf_checks=True)
        client.force_login(admin_user)

        assert client.post(act_on("retry", failed), {"token": "a" * 32, "newest": "9"}).status_code == 403
        assert state_of(failed) == State.FAILED

    def test_what_will_be_skipped_is_told_before(self, admin_client, failed, sent):
        assert "will be skipped" in admin_client.get(act_on("retry", failed, sent)).content.decode()

    @pytest.mark.parametrize("ids", ["", "x", "1,x", "-1", "0", "9" * 30, ",".join(["1"] * 500)])
    def test_ids_that_are_none_are_refused(self, admin_client, ids):
        assert admin_client.get(f"{ENTRIES}act/retry/?ids={ids}").status_code == 400

    def test_filters_that_are_none_never_mean_everything(self, admin_client, failed):
        assert admin_client.get(f"{ENTRIES}act/retry/?stat=failed").status_code == 400
        assert "There is nothing to do it to" in admin_client.get(f"{ENTRIES}act/retry/?state=bogus").content.decode()

    def test_an_act_that_does_not_exist_is_not_found(self, admin_client, failed):
        assert admin_client.get(act_on("destroy", failed)).status_code == 404


class TestDoing:
    def test_retry(self, admin_client, admin_user, failed):
        response = confirm(admin_client, act_on("retry", failed))

        assert response.redirect_chain == [(page_of(failed), 302)]
        assert told(response) == ["1 mail was put back to be sent."]
        assert state_of(failed) == State.QUEUED
        log = LogEntry.objects.get()
        assert (log.user, log.object_id, log.change_message) == (admin_user, str(failed.pk), "Retry")

    def test_retry_of_what_has_expired_asks_for_a_new_expiry(self, admin_client, providers):
        entry = outbox.enqueue(a_message(), expires_at=SOON)
        age(entry, expires_at=-2 * SOON)
        outbox.drain()

        assert told(confirm(admin_client, act_on("retry", entry))) == [
            "1 skipped: 1 past their expiry, and no new one was given."
        ]
        confirm(admin_client, act_on("retry", entry), expires_at="2100-01-01T12:00")
        assert state_of(entry) == State.QUEUED
        assert LogEntry.objects.count() == 1

    @pytest.mark.parametrize(
        ("verb", "given", "state", "reason"),
        [
            ("cancel", {}, State.CANCELLED, "cancelled by hand (admin)"),
            ("cancel", {"reason": "withdrawn"}, State.CANCELLED, "withdrawn (admin)"),
            ("hold", {"reason": "ask legal"}, State.HELD, "ask legal (admin)"),
            ("reschedule", {"send_at": "2100-01-01T12:00"}, State.SCHEDULED, ""),
        ],
    )
    def test_what_waits(self, admin_client, waiting, verb, given, state, reason):
        confirm(admin_client, act_on(verb, waiting), **given)

        waiting.refresh_from_db()
        assert (waiting.state, waiting.state_reason) == (state, reason)

    def test_change_mailer(self, admin_client, waiting):
        confirm(admin_client, act_on("change-mailer", waiting), using="bulk")

        waiting.refresh_from_db()
        assert (waiting.state, waiting.using) == (State.QUEUED, "bulk")

    def test_what_is_held_is_released_or_marked_as_sent(self, admin_client, providers):
        one, two = outbox.enqueue(a_message()), outbox.enqueue(a_message())
        outbox.hold(one, two, reason="x")

        confirm(admin_client, act_on("release", one))
        confirm(admin_client, act_on("mark-sent", two), reason="seen in the log")

        assert (state_of(one), state_of(two)) == (State.QUEUED, State.SENT)
        assert two.state_reason == "seen in the log (admin)"

    def test_resend(self, admin_client, sent):
        response = confirm(admin_client, act_on("resend", sent))

        assert told(response) == ["1 mail was sent again as a new mail."]
        copy = OutboxEntry.objects.get(resent_from=sent)
        assert [recipient.address for recipient in copy.recipients.all()] == ["jane@example.com"]

    def test_resend_to_another_address(self, admin_client, sent):
        confirm(admin_client, act_on("resend", sent), to="Bob <bob@example.com>\n\neve@example.com")

        copy = OutboxEntry.objects.get(resent_from=sent)
        assert {recipient.address for recipient in copy.recipients.all()} == {"bob@example.com", "eve@example.com"}
        assert "bob@example.com" in LogEntry.objects.get().change_message

    @pytest.mark.parametrize("to", ["nobody", "a@x.example, b@x.example", "\n".join(["a@x.example"] * 51)])
    def test_an_address_that_is_none_is_told(self, admin_client, sent, to):
        response = confirm(admin_client, act_on("resend", sent), to=to)

        assert response.context["form"].errors["to"]
        assert OutboxEntry.objects.count() == 1

    def test_a_copy_to_me(self, admin_client, sent):
        confirm(admin_client, act_on("copy", sent))

        copy = OutboxEntry.objects.get(resent_from=sent)
        assert [recipient.address for recipient in copy.recipients.all()] == ["admin@example.com"]

    def test_two_clicks_on_resend_make_one_copy(self, admin_client, sent):
        url = act_on("resend", sent)
        form = admin_client.get(url).context["form"]
        data = {"token": form["token"].value(), "newest": form["newest"].value(), "to": "", "using": ""}

        first, second = (admin_client.post(url, data, follow=True) for _ in range(2))

        assert told(first) == ["1 mail was sent again as a new mail."]
        assert told(second) == ["1 skipped: 1 copied by this form already."]
        assert OutboxEntry.objects.filter(resent_from=sent).count() == 1
        assert LogEntry.objects.count() == 1

    def test_a_project_that_wants_transactions_gets_them(self, admin_client, sent, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "OUTSIDE_ATOMIC": "error"}

        assert told(confirm(admin_client, act_on("resend", sent))) == ["1 mail was sent again as a new mail."]

    def test_each_chunk_is_a_transaction_of_its_own_whatever_the_project_wraps_requests_in(self):
        assert resolve(f"{ENTRIES}act/retry/").func._non_atomic_requests == {"default"}

    def test_another_form_makes_another_copy(self, admin_client, sent):
        confirm(admin_client, act_on("resend", sent))
        confirm(admin_client, act_on("resend", sent))

        assert OutboxEntry.objects.filter(resent_from=sent).count() == 2

    def test_what_was_done_meanwhile_is_told(self, admin_client, failed):
        url = act_on("retry", failed)
        form = admin_client.get(url).context["form"]
        outbox.retry(failed)
        outbox.drain()

        response = admin_client.post(
            url, {"token": form["token"].value(), "newest": form["newest"].value()}, follow=True
        )

        assert told(response) == ["1 skipped: 1 sent."]


class TestMany:
    @pytest.fixture
    def five(self, providers) -> list[OutboxEntry]:
        """Let five mails fail, one succeed, one wait."""
        providers["default"].will(*[REFUSED] * 5)
        entries = outbox.enqueue_many(a_message(f"failed {number}") for number in range(5))
        outbox.drain()
        outbox.enqueue(a_message("sent"))
        outbox.drain()
        outbox.enqueue(a_message("waiting"))
        return entries

    def test_those_that_are_ticked(self, admin_client, five):
        ticked = [str(entry.pk) for entry in five[:2]]

        response = admin_client.post(ENTRIES, {"action": "retry", "_selected_action": ticked, "index": "0"})
        assert response.status_code == 302
        result = confirm(admin_client, response["Location"])

        assert told(result) == ["2 mails were put back to be sent."]
        assert OutboxEntry.objects.filter(state=State.FAILED).count() == 3
        assert set(LogEntry.objects.values_list("object_id", flat=True)) == set(ticked)

    def test_all_that_the_list_holds(self, admin_client, five):
        page = admin_client.get(ENTRIES, {"state": "failed"})
        [url] = [act["url"] for act in page.context["acts"] if act["label"] == "Retry"]
        assert "5 mails." in admin_client.get(url).content.decode()

        result = confirm(admin_client, url)

        assert told(result) == ["5 mails were put back to be sent."]
        assert result.redirect_chain == [(f"{ENTRIES}?state=failed", 302)]
        assert LogEntry.objects.count() == 5

    def test_all_that_the_list_holds_as_django_offers_it(self, admin_client, five):
        data = {"action": "cancel", "_selected_action": [str(five[0].pk)], "select_across": "1", "index": "0"}

        response = admin_client.post(f"{ENTRIES}?state=queued&p=1", data)

        assert response["Location"] == f"{ENTRIES}act/cancel/?state=queued"

    def test_what_came_after_the_question_is_left_alone(self, admin_client, five):
        url = f"{ENTRIES}act/cancel/?state=queued"
        form = admin_client.get(url).context["form"]
        later = outbox.enqueue(a_message("later"))

        data = {"token": form["token"].value(), "newest": form["newest"].value(), "reason": ""}
        response = admin_client.post(url, data, follow=True)

        assert told(response) == ["1 mail was cancelled."]
        assert state_of(later) == State.QUEUED

    def test_done_and_skipped_are_told_apart(self, admin_client, five):
        assert told(confirm(admin_client, f"{ENTRIES}act/retry/?using=default")) == [
            "5 mails were put back to be sent.",
            "2 skipped: 1 queued, 1 sent.",
        ]

    def test_more_than_can_be_done_at_once_is_told(self, admin_client, five, monkeypatch):
        limited = {**acts.ACTS, "retry": type(acts.ACTS["retry"])(**{
            name: getattr(acts.ACTS["retry"], name) for name in acts.ACTS["retry"].__slots__
        } | {"most": 3})}  # fmt: skip
        monkeypatch.setattr("mail_outbox.admin.actions.ACTS", limited)

        response = confirm(admin_client, f"{ENTRIES}act/retry/?state=failed")

        assert told(response) == [
            "3 mails were put back to be sent.",
            "That was the first 3; there are more. Do it again for the rest.",
        ]

    def test_the_links_of_the_list_lead_to_forms_with_labels(self, admin_client, five):
        for act in admin_client.get(ENTRIES, {"q": "failed"}).context["acts"]:
            page = admin_client.get(act["url"]).content.decode()
            for name in re.findall(r'<(?:input|select|textarea)[^>]* id="(id_\w+)"', page):
                is_hidden = re.search(rf'type="hidden"[^>]* id="{name}"', page)
                assert is_hidden or f'<label for="{name}"' in page, name


def test_hostile_content_is_escaped_on_the_page_that_asks(admin_client, providers):
    entry = outbox.enqueue(a_mail("<script>alert(1)</script>"))

    assert "<script>alert" not in admin_client.get(act_on("cancel", entry)).content.decode()
