"""The mailbox for developers: everybody's mail, and only in DEBUG."""

import pytest

from mail_outbox import outbox
from mail_outbox.core.envelope import VERSION
from mail_outbox.models import EntryContent, OutboxEntry
from tests.shells.admin.conftest import a_mail
from tests.support import a_message

pytestmark = pytest.mark.django_db


@pytest.fixture
def debug(settings) -> None:
    """Be a development server."""
    settings.DEBUG = True


@pytest.fixture
def entry(providers) -> OutboxEntry:
    """Enqueue a mail with everything."""
    message = a_mail("Reset <your> password", to=["Jane <jane@example.com>"], cc=["boss@example.com"])
    message.attach("bill.pdf", b"total", "application/pdf")
    return outbox.enqueue(message, tags=["t"], sensitive=True)


def urls(entry: OutboxEntry) -> list[str]:
    return [
        "/outbox/",
        "/outbox/messages.json",
        f"/outbox/{entry.pk}/",
        f"/outbox/{entry.pk}.json",
        f"/outbox/{entry.pk}/html/",
        f"/outbox/{entry.pk}/attachments/0/",
    ]


def test_it_is_not_there_in_production_whoever_asks(client, admin_client, entry):
    for url in urls(entry):
        assert client.get(url).status_code == 404
        assert admin_client.get(url).status_code == 404


@pytest.mark.usefixtures("debug")
class TestMailbox:
    def test_everything_can_be_looked_at_and_nothing_else_done(self, client, entry):
        assert {client.get(url).status_code for url in urls(entry)} == {200}
        assert {client.post(url).status_code for url in urls(entry)} == {405}

    def test_it_shows_what_the_recipient_would_see(self, client, entry):
        page = client.get(f"/outbox/{entry.pk}/").content.decode()

        assert "Reset &lt;your&gt; password" in page
        assert "secret text" in page
        assert f'<iframe sandbox="" src="/outbox/{entry.pk}/html/"' in page
        assert "bill.pdf" in page

    def test_html_and_files_can_do_nothing(self, client, entry):
        html = client.get(f"/outbox/{entry.pk}/html/")
        file = client.get(f"/outbox/{entry.pk}/attachments/0/")

        assert html.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
        assert file.headers["Content-Type"] == "application/octet-stream"
        assert client.get(f"/outbox/{entry.pk}/attachments/7/").status_code == 404

    def test_the_json_twin_has_all_that_a_test_asks_for(self, client, entry):
        mail = client.get(f"/outbox/{entry.pk}.json").json()

        assert mail["subject"] == "Reset <your> password"
        assert (mail["text"].strip(), mail["html"].strip()) == ("secret text", "<p>secret html</p>")
        assert mail["recipients"] == [
            {"role": "to", "address": "jane@example.com"},
            {"role": "cc", "address": "boss@example.com"},
        ]
        assert mail["attachments"] == [
            {
                "name": "bill.pdf",
                "content_type": "application/pdf",
                "size": 5,
                "url": f"/outbox/{entry.pk}/attachments/0/",
            }
        ]
        assert (mail["state"], mail["tags"], mail["url"]) == ("queued", ["t"], f"/outbox/{entry.pk}/")

    def test_a_test_finds_its_mail_newest_first(self, client, entry):
        outbox.enqueue(a_message("Other", to=["bob@example.com"]))
        outbox.enqueue(a_message("Reset again", to=["jane@example.com"]))

        def found(query: str) -> list[str]:
            return [mail["subject"] for mail in client.get(f"/outbox/messages.json?{query}").json()["messages"]]

        assert found("to=JANE@example.com") == ["Reset again", "Reset <your> password"]
        assert found("subject=other") == ["Other"]
        assert found("limit=1") == ["Reset again"]
        assert len(found("limit=x")) == len(found("limit=99999999999")) == 3

    def test_what_cannot_be_read_says_so(self, client, entry):
        EntryContent.objects.update(payload={"version": VERSION + 1})

        assert "There is nothing to show" in client.get(f"/outbox/{entry.pk}/").content.decode()
        assert "problem" in client.get(f"/outbox/{entry.pk}.json").json()
        assert client.get(f"/outbox/{entry.pk}/html/").status_code == 404

    def test_what_is_not_there_is_not_found(self, client, entry):
        assert client.get(f"/outbox/{10**25}/").status_code == 404
        assert client.get("/outbox/999999.json").status_code == 404
