"""Each outbox of several is shown and acted upon, and none is taken for another."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client, override_settings

from mail_outbox import outbox
from mail_outbox.admin import OutboxPanel
from mail_outbox.models import MailerState, OutboxEntry, UtcNow, Worker
from tests.settings import sqlite
from tests.shells.admin.conftest import ENTRIES, a_mail
from tests.shells.admin.test_actions import confirm, told
from tests.support import a_message

OTHER = "other_1"
IN_OTHER = f"{ENTRIES}?database={OTHER}"

pytestmark = pytest.mark.django_db(databases=["default", OTHER])


@pytest.fixture(scope="module", autouse=True)
def second_database(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: Any) -> Iterator[None]:
    """Let there be a second database, a SQLite with the tables of the outbox."""
    place = {"NAME": str(tmp_path_factory.mktemp("databases") / "other.sqlite3"), "HOST": "", "PORT": "", "TEST": {}}
    configured = connections.configure_settings({"default": {**sqlite(), **place}})
    connections.settings[OTHER] = configured["default"]
    with django_db_blocker.unblock():
        with connections[OTHER].schema_editor() as editor:
            for model in apps.get_app_config("mail_outbox").get_models(include_auto_created=True):
                editor.create_model(model)
        yield
        connections[OTHER].close()
    del connections[OTHER]
    del connections.settings[OTHER]


@pytest.fixture(autouse=True)
def two_outboxes(providers: Any) -> Iterator[None]:
    """Let the outbox be in both databases."""
    with override_settings(MAIL_OUTBOX={**settings.MAIL_OUTBOX, "DATABASE": ["default", OTHER]}):
        yield


@pytest.fixture
def here() -> OutboxEntry:
    """Enqueue a mail into the first outbox."""
    return outbox.enqueue(a_mail("first"))


@pytest.fixture
def there(here: OutboxEntry) -> OutboxEntry:
    """Enqueue a mail with the same primary key into the second."""
    mail = a_mail("second")
    mail.attach("bill.txt", "the second's bill", "text/plain")
    with connections[OTHER].cursor() as cursor:
        # The next row takes the number after that.
        cursor.execute("DELETE FROM sqlite_sequence WHERE name = 'mail_outbox_outboxentry'")
        cursor.execute("INSERT INTO sqlite_sequence VALUES ('mail_outbox_outboxentry', %s)", [here.pk - 1])
    entry = outbox.enqueue(mail, database=OTHER)
    assert entry.pk == here.pk
    return entry


def page_there(entry: OutboxEntry, view: str = "change/") -> str:
    return f"{ENTRIES}{entry.pk}_40other_5F1/{view}"


def subjects(client: Client, url: str) -> list[str]:
    return [entry.subject for entry in client.get(url).context["cl"].result_list]


def states(*entries: OutboxEntry) -> list[str]:
    for entry in entries:
        entry.refresh_from_db()
    return [entry.state for entry in entries]


class TestList:
    def test_it_is_about_the_first_unless_another_is_asked_for(self, admin_client, here, there):
        assert subjects(admin_client, ENTRIES) == ["first"]
        assert subjects(admin_client, f"{ENTRIES}?database=default") == ["first"]
        assert subjects(admin_client, IN_OTHER) == ["second"]
        assert subjects(admin_client, f"{IN_OTHER}&state=queued&q=second") == ["second"]
        assert subjects(admin_client, f"{IN_OTHER}&state=sent") == []

    def test_it_offers_the_others_and_says_which_it_is_about(self, admin_client, here, there):
        [choices] = [spec for spec in admin_client.get(IN_OTHER).context["cl"].filter_specs if spec.title == "database"]
        offered = list(choices.choices(admin_client.get(f"{IN_OTHER}&state=queued").context["cl"]))

        assert [(each["display"], each["selected"]) for each in offered] == [("default", False), (OTHER, True)]
        assert offered[0]["query_string"] == "?database=default&state=queued"

    def test_its_lines_and_its_dashboard_stay_there(self, admin_client, here, there):
        page = admin_client.get(IN_OTHER).content.decode()

        assert f'href="{page_there(there)}?' in page
        assert f"Mail in the outbox ({OTHER})" in page
        assert f"{ENTRIES}dashboard/?database={OTHER}" in page

    @pytest.mark.parametrize("path", ["", "dashboard/", "act/cancel/", "act/cancel/?ids=1"])
    def test_a_database_without_an_outbox_is_not_found(self, admin_client, path):
        mark = "&" if "?" in path else "?"

        assert admin_client.get(f"{ENTRIES}{path}{mark}database=nowhere").status_code == 404

    def test_where_there_is_only_one_nothing_is_offered(self, admin_client, here):
        with override_settings(MAIL_OUTBOX={**settings.MAIL_OUTBOX, "DATABASE": "default"}):
            assert "?database=" not in admin_client.get(ENTRIES).content.decode()
            assert "?database=" not in admin_client.get(f"{ENTRIES}dashboard/").content.decode()
            assert admin_client.get(IN_OTHER).status_code == 404
            assert admin_client.get(page_there(here)).status_code == 404


class TestPage:
    def test_it_is_about_the_mail_of_its_own_database(self, admin_client, here, there):
        page = admin_client.get(page_there(there)).content.decode()

        assert "second" in page
        assert f"<dt>Database</dt><dd>{OTHER}</dd>" in page
        assert f"<title>Mail {there.pk} ({OTHER}) |" in page
        assert "first" in admin_client.get(f"{ENTRIES}{here.pk}/change/").content.decode()

    def test_its_documents_and_links_stay_there(self, admin_client, here, there):
        OutboxEntry.objects.using(OTHER).update(state="failed", finished_at=UtcNow())
        copy_of = outbox.resend(there)

        page = admin_client.get(page_there(there), {"show": "html"}).content.decode()

        assert f'src="{page_there(there, "html/")}"' in page
        assert f'href="{page_there(copy_of)}"' in page
        assert f'href="{page_there(there)}"' in admin_client.get(page_there(copy_of)).content.decode()
        assert "second" in admin_client.get(page_there(there, "source.eml")).content.decode()
        assert admin_client.get(page_there(there, "attachments/0/")).content.strip() == b"the second's bill"
        assert f"{ENTRIES}dashboard/?database={OTHER}" in page
        assert IN_OTHER in page

    @pytest.mark.parametrize("key", ["1_40nowhere", "x_40other_5F1", "_40other_5F1", "9999_40other_5F1"])
    def test_what_is_not_there_is_not_found(self, admin_client, here, there, key):
        assert admin_client.get(f"{ENTRIES}{key}/change/").status_code == 404

    def test_its_documents_ask_for_the_right_too(self, login, here, there):
        client = login("view_outboxentry")

        assert client.get(page_there(there)).status_code == 200
        assert {client.get(page_there(there, view)).status_code for view in ("html/", "source.eml")} == {403}


class TestActs:
    def test_a_button_acts_on_the_mail_it_stands_beside(self, admin_client, here, there):
        [url] = [
            act["url"]
            for act in admin_client.get(page_there(there)).context["acts"]
            if act["label"] == "Cancel"
        ]  # fmt: skip

        response = confirm(admin_client, url)

        assert response.redirect_chain == [(page_there(there), 302)]
        assert states(here, there) == ["queued", "cancelled"]

    def test_all_that_the_list_holds(self, admin_client, here, there):
        acts = admin_client.get(f"{IN_OTHER}&state=queued").context["acts"]
        [url] = [act["url"] for act in acts if act["label"] == "Cancel"]

        response = confirm(admin_client, url)

        assert told(response) == ["1 mail was cancelled."]
        assert response.redirect_chain == [(f"{IN_OTHER}&state=queued", 302)]
        assert states(here, there) == ["queued", "cancelled"]

    def test_those_that_are_ticked(self, admin_client, here, there):
        ticked = {"action": "hold", "_selected_action": [str(there.pk)], "index": "0"}

        response = confirm(admin_client, admin_client.post(IN_OTHER, ticked)["Location"], reason="x")

        assert told(response) == ["1 mail was set aside."]
        assert states(here, there) == ["queued", "held"]

    def test_a_copy_is_made_where_the_mail_is(self, admin_client, here, there):
        OutboxEntry.objects.using(OTHER).update(state="failed", finished_at=UtcNow())

        confirm(admin_client, f"{ENTRIES}act/resend/?ids={there.pk}&database={OTHER}")

        assert OutboxEntry.objects.using(OTHER).filter(resent_from=there).count() == 1
        assert OutboxEntry.objects.count() == 1

    def test_the_log_names_the_mail_and_not_its_namesake(self, admin_client, here, there):
        confirm(admin_client, f"{ENTRIES}act/cancel/?ids={there.pk}&database={OTHER}")

        log = LogEntry.objects.get()
        history = admin_client.get(page_there(there, "history/")).content.decode()
        assert (log.object_id, log.get_admin_url()) == (f"{there.pk}@{OTHER}", page_there(there))
        assert ">Cancel<" in history
        assert f'href="{page_there(there)}"' in history
        assert ">Cancel<" not in admin_client.get(f"{ENTRIES}{here.pk}/history/").content.decode()


class TestDashboard:
    def test_it_counts_one_outbox_and_leads_to_the_others(self, admin_client, here, there):
        outbox.cancel(there)
        now = UtcNow()
        row = Worker(name="w:1:a", host="far", pid=1, started_at=now, last_seen_at=now, activity="idle")
        Worker.objects.using(OTHER).bulk_create([row])

        response = admin_client.get(f"{ENTRIES}dashboard/?database={OTHER}")

        counts = {state: (count, url) for state, count, url in response.context["states"]}
        assert counts["cancelled"] == ("1", f"{ENTRIES}?state=cancelled&database={OTHER}")
        assert counts["queued"][0] == "0"
        assert "far" in response.content.decode()
        assert f'href="{ENTRIES}dashboard/"' in response.content.decode()
        assert "far" not in admin_client.get(f"{ENTRIES}dashboard/").content.decode()

    def test_a_mailer_is_paused_everywhere_and_says_so(self, admin_client, here, there):
        url = f"{ENTRIES}mailers/pause/?mailer=bulk&database={OTHER}"
        assert "all databases" in admin_client.get(url).content.decode()

        response = confirm(admin_client, url)

        assert response.redirect_chain == [(f"{ENTRIES}dashboard/?database={OTHER}", 302)]
        assert MailerState.objects.get(alias="bulk").is_paused
        assert MailerState.objects.using(OTHER).get(alias="bulk").is_paused

    def test_mailers_and_workers_have_lists_of_each(self, admin_client, here, there):
        outbox.pause("bulk")
        MailerState.objects.using(OTHER).update(pause_reason="there")
        mailers = "/admin/mail_outbox/mailerstate/"

        page = admin_client.get(f"{mailers}?database={OTHER}").content.decode()

        assert "there" in page
        assert f"{mailers}bulk_40other_5F1/change/" in page
        assert "there" in admin_client.get(f"{mailers}bulk_40other_5F1/change/").content.decode()
        assert "there" not in admin_client.get(mailers).content.decode()
        assert admin_client.get(f"/admin/mail_outbox/worker/?database={OTHER}").status_code == 200


def test_the_panel_has_the_mails_of_all(admin_user):
    class UserAdmin(OutboxPanel, admin.ModelAdmin):
        """Any ModelAdmin."""

    for database in ("default", OTHER):
        outbox.enqueue(a_message(f"in {database}"), related=admin_user, database=database)
    OutboxEntry.objects.update(created_at=UtcNow() - timedelta(minutes=1))

    panel = UserAdmin(User, admin.site).outbox_mails(admin_user)

    assert panel.index(f"in {OTHER}") < panel.index("in default")
    assert "_40other_5F1/change/" in panel


class TestMailbox:
    """The mailbox for developers, which is no part of the admin but has the same two databases."""

    @pytest.fixture(autouse=True)
    def debug(self, settings: Any) -> None:
        """Be a development server."""
        settings.DEBUG = True

    def test_it_shows_the_database_that_its_address_names(self, client, here, there):
        first = client.get("/outbox/").content.decode()
        second = client.get(f"/outbox/?database={OTHER}").content.decode()

        assert "first" in first
        assert f'href="?database={OTHER}"' in first
        assert f'href="/outbox/{there.pk}/?database={OTHER}"' in second
        assert f'<input type="hidden" name="database" value="{OTHER}">' in second
        assert client.get("/outbox/?database=nowhere").status_code == 404

    def test_whatever_it_links_to_stays_there(self, client, here, there):
        [mail] = client.get(f"/outbox/messages.json?database={OTHER}").json()["messages"]

        page = client.get(mail["url"]).content.decode()
        bill = client.get(mail["attachments"][0]["url"])

        assert mail["subject"] == "second"
        assert f'src="/outbox/{there.pk}/html/?database={OTHER}"' in page
        assert f'href="/outbox/{there.pk}/attachments/0/?database={OTHER}"' in page
        assert bill.content.strip() == b"the second's bill"
        assert client.get(f"/outbox/{there.pk}/html/?database={OTHER}").status_code == 200
        assert client.get(f"/outbox/{here.pk}.json").json()["subject"] == "first"
