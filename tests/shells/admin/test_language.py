"""Every word that the admin itself says can be translated; what stands in rows and what monitors read is shown as it is."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from django.utils import translation
from django.utils.functional import lazy
from django.utils.translation import trans_real

from mail_outbox import outbox
from mail_outbox.admin.actions import audit_text
from mail_outbox.admin.acts import ACTS, Act
from mail_outbox.models import UtcNow, Worker
from tests.shells.admin.conftest import ENTRIES, a_mail, act_on, page_of
from tests.shells.admin.test_actions import confirm

pytestmark = pytest.mark.django_db

VOID = {"input", "link", "meta", "br", "wbr", "line", "rect", "img"}
GIVEN = re.compile(
    r"\d\d:\d\d(:\d\d)? [A-Z]+|failed mail|sent mail|waiting mail|with a file|bill\.txt|secret (text|bill)|jane|@|example\.com|default|bulk|admin\b|audit|order"
    r"|text/plain|multipart/\S+|UTC|\bUTF-8\b|HTML|UUID|Message-ID|\.eml|px\b|\b(p50|p95|p99|B|KB|s|min|h|d)\b"
    r"|host:\w+:\w+|\bhost\b|(refused|\d\.\d\.\d)|Hidden|vm:\S+|[\w-]+:\d+:\w+|Mail does not flow|<[^>]+>|[0-9a-f-]{32,}|REDIRECT_TO"
)
"""What is data: subjects, addresses, aliases, answers, units; not our words."""


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put whatever goes through a catalogue into guillemets."""

    def one(message: str) -> str:
        return f"«{message}»" if message else ""

    def many(singular: str, plural: str, number: Any) -> str:
        return one(singular if number == 1 else plural)

    translation.gettext("loads the implementation")
    for owner in (translation._trans, trans_real):
        monkeypatch.setattr(owner, "gettext", one)
        monkeypatch.setattr(owner, "ngettext", many)
    yield
    monkeypatch.undo()


class Words(HTMLParser):
    """What a reader sees of our own part of a page, texts and names for screen readers alike."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[bool] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the names, and note whether we are in what is ours."""
        given = dict(attrs)
        is_ours = bool(self.open and self.open[-1]) or "outbox" in (given.get("class") or "").split()
        if is_ours:
            self.said += [value for name in ("aria-label", "title") if (value := given.get(name))]
        if tag not in VOID:
            self.open.append(is_ours and tag not in {"pre", "option"} and given.get("class") != "outbox-id")

    def handle_endtag(self, tag: str) -> None:
        """Leave it."""
        if tag not in VOID and self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        """Take the text."""
        if self.open and self.open[-1]:
            self.said.append(data)


def untranslated(page: str) -> list[str]:
    """Return what is said past every catalogue."""
    words = Words()
    words.feed(page)
    rests = [re.sub(r"«[^«»]*(«[^«»]*»[^«»]*)*»", "", text) for text in words.said]
    return [rest.strip() for rest in rests if re.search(r"[A-Za-z]{2}", GIVEN.sub("", rest))]


@pytest.mark.usefixtures("marked")
def test_the_page_of_a_mail(admin_client, failed, sent, waiting, settings):
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "REDIRECT_TO": "dev@example.com"}
    outbox.resend(failed)

    for entry in (failed, sent, waiting):
        for tab in ("text", "html", "headers", "source"):
            page = admin_client.get(page_of(entry), {"show": tab}).content.decode()
            assert "«Attempts»" in page
            if tab != "headers":
                assert untranslated(page) == []


@pytest.mark.usefixtures("marked")
def test_the_dashboard(admin_client, failed, sent, waiting):
    row = Worker(name="host:1:a", host="host", pid=1, started_at=UtcNow(), last_seen_at=UtcNow(), activity="draining")
    Worker.objects.bulk_create([row])

    page = admin_client.get(f"{ENTRIES}dashboard/").content.decode()

    assert "«Failures by cause»" in page
    assert untranslated(page) == []


@pytest.mark.usefixtures("marked")
@pytest.mark.parametrize("verb", ["retry", "resend", "cancel", "hold", "mark-sent", "reschedule", "change-mailer"])
def test_the_forms(admin_client, failed, sent, waiting, verb):
    page = admin_client.get(act_on(verb, failed, sent, waiting)).content.decode()

    assert "«%(count)s" not in page
    assert untranslated(page) == []


@pytest.mark.usefixtures("marked")
def test_the_forms_of_mailers(admin_client, providers):
    for path in ("pause/?mailer=bulk", "pause/", "resume/"):
        assert untranslated(admin_client.get(f"{ENTRIES}mailers/{path}").content.decode()) == []


@pytest.mark.usefixtures("marked")
def test_the_list_and_what_is_told(admin_client, failed, waiting):
    page = admin_client.get(ENTRIES).content.decode()
    answer = confirm(admin_client, act_on("retry", failed, waiting)).content.decode()

    for words in ("Mail in the outbox", "subject", "recipients", "tries", "state", "attention", "needs a person"):
        assert f"«{words}" in page
    assert "«An id, a Message-ID or the provider&#x27;s id" in page
    assert '<span class="outbox-badge outbox-failed">«failed»</span>' in page
    assert "«1 mail was put back to be sent.»" in answer
    assert "«1 skipped: 1 «queued».»" in answer


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_what_was_done_is_told_of_one_and_of_many(act: Act):
    one, many = (act.done % {"number": number, "count": f"{number:,}"} for number in (1, 2000))

    assert one.startswith("1 mail was ")
    assert many.startswith("2,000 mails were ")


def test_the_log_is_in_one_language_for_all_its_readers():
    language = lazy(lambda: str(translation.get_language()), str)()
    act = replace(ACTS["retry"], label=language)

    with translation.override("de"):
        assert str(act.label) == "de"
        assert audit_text(act, {}) == "None"


def test_what_is_not_translated_would_be_noticed(admin_client, failed):
    page = admin_client.get(page_of(failed)).content.decode()

    assert {"Attempts", "Recipients", "Retry", "What you may do", "failed"} <= set(untranslated(page))


def test_a_mail_with_hostile_words_is_not_taken_for_a_format(admin_client, providers):
    outbox.enqueue(a_mail("100 % %(count)s %s"))

    assert "100 % %(count)s %s" in admin_client.get(ENTRIES).content.decode()
