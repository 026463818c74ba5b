"""Four rights, each tried at every door, direct addresses included; and no GET changes anything."""

import re
from html.parser import HTMLParser
from urllib.parse import urljoin

import pytest
from django.apps import apps
from django.core.serializers import serialize
from django.test import Client

from mail_outbox import outbox
from mail_outbox.admin.acts import ACTS
from mail_outbox.models import MailerState, OutboxEntry
from tests.shells.admin.conftest import ACT, CONTENT, ENTRIES, OPERATE, VIEW, a_mail, act_on, page_of
from tests.shells.admin.test_actions import confirm, told

pytestmark = pytest.mark.django_db

PAUSE = f"{ENTRIES}mailers/pause/?mailer=bulk"
RESUME = f"{ENTRIES}mailers/resume/"
DASHBOARD = f"{ENTRIES}dashboard/"


def documents(entry: OutboxEntry) -> list[str]:
    return [f"{ENTRIES}{entry.pk}/html/", f"{ENTRIES}{entry.pk}/source.eml", f"{ENTRIES}{entry.pk}/attachments/0/"]


def codes(client: Client, urls: list[str]) -> set[int]:
    return {client.get(url).status_code for url in urls}


@pytest.fixture
def with_file(providers) -> OutboxEntry:
    """Send a mail with an attachment."""
    message = a_mail("with a file")
    message.attach("bill.txt", "secret bill", "text/plain")
    entry = outbox.enqueue(message)
    outbox.drain()
    return entry


class TestDoors:
    def test_a_stranger_is_sent_to_the_login_from_everywhere(self, client, with_file):
        urls = [ENTRIES, DASHBOARD, page_of(with_file), act_on("retry", with_file), PAUSE, *documents(with_file)]

        for url in urls:
            response = client.get(url)
            assert (response.status_code, response["Location"].split("?")[0]) == (302, "/admin/login/")

    @pytest.mark.parametrize("rights", [(), (CONTENT,), (ACT,), (OPERATE,), (CONTENT, ACT, OPERATE)])
    def test_without_the_right_to_view_no_other_right_counts(self, login, with_file, rights):
        client = login(*rights)
        urls = [ENTRIES, DASHBOARD, page_of(with_file), PAUSE, RESUME, *documents(with_file)]

        assert codes(client, [*urls, *(act_on(act, with_file) for act in ACTS)]) == {403}

    def test_who_may_view_sees_that_a_mail_exists_and_no_more(self, login, with_file):
        client = login(VIEW)

        assert codes(client, [ENTRIES, DASHBOARD, page_of(with_file)]) == {200}
        assert codes(client, documents(with_file)) == {403}
        assert codes(client, [act_on(act, with_file) for act in ACTS]) == {403}
        assert codes(client, [PAUSE, RESUME]) == {403}
        for tab in ("", "text", "html", "headers", "source", "attachments"):
            page = client.get(page_of(with_file), {"show": tab}).content.decode()
            assert "secret" not in page
            assert "bill.txt" not in page
            assert "You may see that this mail exists, but not what it says." in page

    def test_who_may_view_is_offered_nothing_to_do(self, login, with_file):
        client = login(VIEW)

        assert 'name="action"' not in client.get(ENTRIES).content.decode()
        assert client.get(ENTRIES).context["acts"] == []
        assert client.get(page_of(with_file)).context["acts"] == []
        assert "mailers/pause" not in client.get(DASHBOARD).content.decode()

    def test_who_may_view_cannot_post_an_action(self, login, failed):
        client = login(VIEW, CONTENT, OPERATE)
        data = {"token": "a" * 32, "newest": str(failed.pk)}

        assert client.post(act_on("retry", failed), data).status_code == 403
        client.post(ENTRIES, {"action": "retry", "_selected_action": [str(failed.pk)], "index": "0"})
        failed.refresh_from_db()
        assert failed.state == "failed"

    def test_who_may_see_content_sees_it_and_no_more(self, login, with_file):
        client = login(VIEW, CONTENT)

        assert codes(client, documents(with_file)) == {200}
        assert "secret text" in client.get(page_of(with_file)).content.decode()
        assert codes(client, [act_on(act, with_file) for act in ACTS]) == {403}

    def test_who_may_operate_pauses_and_resumes_and_no_more(self, login, with_file):
        client = login(VIEW, OPERATE)

        assert codes(client, documents(with_file)) == {403}
        assert codes(client, [act_on(act, with_file) for act in ACTS]) == {403}
        confirm(client, PAUSE, reason="audit")
        assert MailerState.objects.get(alias="bulk").is_paused
        confirm(client, RESUME)
        assert not MailerState.objects.get(alias="bulk").is_paused

    def test_who_may_act_cannot_operate(self, login, providers):
        client = login(VIEW, CONTENT, ACT)

        assert codes(client, [PAUSE, RESUME]) == {403}
        assert client.post(PAUSE, {"token": "a" * 32, "newest": "0"}).status_code == 403
        assert not MailerState.objects.filter(is_paused=True).exists()


class TestActingWithoutSeeing:
    def test_a_mail_is_retried_and_resent_to_its_own_recipients(self, login, failed):
        client = login(VIEW, ACT)

        assert told(confirm(client, act_on("resend", failed))) == ["1 mail was sent again as a new mail."]
        assert told(confirm(client, act_on("retry", failed))) == ["1 mail was put back to be sent."]

    def test_it_cannot_be_sent_to_another_address(self, login, sent):
        client = login(VIEW, ACT)
        url = act_on("resend", sent)

        assert "to" not in client.get(url).context["form"].fields
        confirm(client, url, to="eve@example.com")

        copy = OutboxEntry.objects.get(resent_from=sent)
        assert [recipient.address for recipient in copy.recipients.all()] == ["jane@example.com"]

    def test_it_cannot_be_sent_to_oneself(self, login, sent):
        client = login(VIEW, ACT)

        assert client.get(act_on("copy", sent)).status_code == 403
        assert client.post(act_on("copy", sent), {"token": "a" * 32, "newest": str(sent.pk)}).status_code == 403
        assert OutboxEntry.objects.count() == 1

    def test_who_has_no_address_gets_no_copy(self, login, sent):
        assert login(VIEW, CONTENT, ACT, email="").get(act_on("copy", sent)).status_code == 403


class TestSensitive:
    """Whoever reads a reset link of somebody else's takes over the account."""

    def test_nobody_sees_what_it_says(self, admin_client, secret):
        for tab in ("", "text", "html", "headers", "source", "attachments"):
            page = admin_client.get(page_of(secret), {"show": tab}).content.decode()
            assert "secret" not in page
            assert "483920" not in page
            assert "This mail is sensitive" in page

    def test_nobody_downloads_it(self, admin_client, secret):
        assert codes(admin_client, documents(secret)) == {403}

    def test_a_code_in_its_subject_is_not_shown_anywhere(self, admin_client, login, secret):
        urls = [ENTRIES, act_on("resend", secret), page_of(secret), DASHBOARD, f"{page_of(secret)[:-7]}history/"]

        for client, shown in ((admin_client, "Your code is •••"), (login(VIEW, ACT), "(hidden: sensitive)")):
            pages = [client.get(url).content.decode() for url in urls]
            assert not any("483920" in page for page in pages)
            assert all(shown in page for page in pages[:3])

    def test_nobody_has_it_sent_to_another_address(self, admin_client, secret):
        response = confirm(admin_client, act_on("resend", secret), to="eve@example.com")

        assert told(response) == ["1 skipped: 1 sensitive, which nobody but their own recipients may get."]
        assert OutboxEntry.objects.count() == 1

    def test_nobody_has_it_sent_to_oneself(self, admin_client, secret):
        response = confirm(admin_client, act_on("copy", secret))

        assert told(response) == ["1 skipped: 1 sensitive, which nobody but their own recipients may get."]
        assert OutboxEntry.objects.count() == 1

    def test_its_own_recipients_may_get_it_again(self, login, secret):
        confirm(login(VIEW, ACT), act_on("resend", secret))

        copy = OutboxEntry.objects.get(resent_from=secret)
        assert (copy.sensitive, [each.address for each in copy.recipients.all()]) == (True, ["jane@example.com"])

    def test_what_the_provider_said_about_it_is_masked(self, admin_client, secret):
        secret.attempt_set.update(text="rejected: see https://x.example/reset/abc")
        secret.recipients.update(text="code 483920 refused")

        page = admin_client.get(page_of(secret)).content.decode()

        assert "reset/abc" not in page
        assert "483920" not in page


class Links(HTMLParser):
    """All that a browser could load or follow by GET."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take links, frames, images, and forms that are sent by GET."""
        self.found += [value for name, value in attrs if name in {"href", "src", "action"} and value]


def every_table() -> dict[str, str]:
    """Return all rows of all tables but those of sessions and of who logged in."""
    kept = [model for model in apps.get_models() if model._meta.app_label not in {"sessions"}]
    return {model._meta.label: serialize("json", model._base_manager.order_by("pk")) for model in kept}


def test_no_get_changes_anything(admin_client, failed, sent, secret, waiting):
    outbox.pause("bulk", reason="audit")
    outbox.resend(sent)
    seen: set[str] = set()
    todo = [ENTRIES, DASHBOARD, *(page_of(entry) for entry in (failed, sent, secret, waiting)), PAUSE, RESUME]
    todo += [act_on(act, failed, sent, waiting) for act in ACTS] + documents(sent)
    admin_client.get(ENTRIES)  # the session and the content types are written now
    before = every_table()

    while todo:
        url = todo.pop()
        path = re.sub(r"#.*", "", url)
        is_ours = path.startswith(("/admin/mail_outbox/", "/outbox/"))
        if path in seen or not is_ours or len(seen) > 600:
            continue
        seen.add(path)
        response = admin_client.get(path)
        assert response.status_code in {200, 302, 403, 404, 405}, path
        if response.headers.get("Content-Type", "").startswith("text/html"):
            links = Links()
            links.feed(response.content.decode())
            todo += [urljoin(path, link) for link in links.found]

    assert len(seen) > 60
    assert every_table() == before


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
def test_other_methods_do_nothing(admin_client, failed, method):
    urls = [DASHBOARD, act_on("retry", failed), PAUSE, *documents(failed)]

    assert {getattr(admin_client, method)(url).status_code for url in urls} == {405}


def test_what_only_shows_takes_no_post(admin_client, sent):
    assert {admin_client.post(url).status_code for url in [DASHBOARD, *documents(sent)]} == {405}
