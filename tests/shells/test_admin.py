"""The admin shows the outbox, finds what is looked for, and changes nothing."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries, Settings

from mail_outbox import admin, outbox
from mail_outbox.models import MailerState, OutboxEntry, Worker
from tests.shells.conftest import LOCMEM, Configure

ENTRIES = "/admin/mail_outbox/outboxentry/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def entries(configure: Configure) -> list[OutboxEntry]:
    """Enqueue one message to Ann and one to Bob, and deliver the one to Ann."""
    configure({"default": LOCMEM, "bulk": LOCMEM})
    ann = outbox.enqueue(EmailMessage("For Ann", "secret text", "shop@x.example", ["Ann <ann@y.example>"]))
    outbox.drain()
    bob = outbox.enqueue(EmailMessage("For Bob", "secret text", "shop@x.example", ["bob@y.example"]), using="bulk")
    return [ann, bob]


@pytest.fixture
def running() -> None:
    """Put a worker and the state of a mailer into their tables."""
    now = datetime.now(UTC)
    Worker.objects.create(name="host:1:a", host="host", pid=1, started_at=now, last_seen_at=now)
    MailerState.objects.create(alias="bulk", is_paused=True, pause_reason="maintenance")


def listed(client: Client, **query: str) -> list[str]:
    """Return the subjects in the list of entries."""
    response = client.get(ENTRIES, query)
    assert response.status_code == 200
    return [entry.subject for entry in response.context["cl"].result_list]


@pytest.mark.usefixtures("entries")
class TestList:
    def test_entries_are_listed_newest_first_with_what_became_of_them(self, admin_client: Client):
        response = admin_client.get(ENTRIES)

        assert [entry.subject for entry in response.context["cl"].result_list] == ["For Bob", "For Ann"]
        assert '<td class="field-outcome">sent</td>' in response.content.decode()

    def test_the_number_of_queries_does_not_grow_with_the_list(
        self, admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries
    ):
        message = EmailMessage("More", "Text", "shop@x.example", ["c@y.example"])
        outbox.enqueue_many([message] * 30)

        with django_assert_num_queries(4):
            admin_client.get(ENTRIES)

    def test_it_is_filtered_by_state_and_by_mailer(self, admin_client: Client):
        assert listed(admin_client, state__exact="sent") == ["For Ann"]
        assert listed(admin_client, using="bulk") == ["For Bob"]
        assert listed(admin_client, state__exact="held") == []

    def test_the_choices_of_the_filters_cost_no_query(
        self, admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries
    ):
        with django_assert_num_queries(4):
            response = admin_client.get(ENTRIES, {"_facets": "True"})

        assert "using=bulk" in response.content.decode()

    def test_no_action_is_offered(self, admin_client: Client):
        assert 'name="action"' not in admin_client.get(ENTRIES).content.decode()


class TestSearch:
    def test_an_entry_is_found_by_its_ids(self, admin_client: Client, entries: list[OutboxEntry]):
        ann = entries[0]

        assert listed(admin_client, q=str(ann.pk)) == ["For Ann"]
        assert listed(admin_client, q=str(ann.uuid)) == ["For Ann"]
        assert listed(admin_client, q=ann.message_id) == ["For Ann"]
        assert listed(admin_client, q=f" {ann.message_id.strip('<>')} ") == ["For Ann"]

    @pytest.mark.usefixtures("entries")
    def test_an_entry_is_found_by_the_whole_address(self, admin_client: Client):
        assert listed(admin_client, q="bob@y.example") == ["For Bob"]
        assert listed(admin_client, q="Ann <ANN@Y.example>") == ["For Ann"]
        assert listed(admin_client, q="b@y.example") == []

    @pytest.mark.usefixtures("entries")
    @pytest.mark.parametrize("term", ["For", "9" * 5000, "99999999999999999999", "-1", "%"])
    def test_nothing_else_is_found(self, admin_client: Client, term: str):
        assert listed(admin_client, q=term) == []


@pytest.mark.usefixtures("running")
class TestReadOnly:
    def test_an_entry_is_shown_with_recipients_and_attempts_but_without_content(
        self, admin_client: Client, entries: list[OutboxEntry]
    ):
        page = admin_client.get(f"{ENTRIES}{entries[0].pk}/change/").content.decode()

        assert "ann@y.example" in page
        assert 'class="field-kind"' in page
        assert "secret text" not in page
        assert 'name="_save"' not in page

    @pytest.mark.parametrize("model", [OutboxEntry, MailerState, Worker])
    def test_nobody_adds_changes_or_deletes(self, model: Any, admin_client: Client, entries: list[OutboxEntry]):
        key = model.objects.order_by("pk").first().pk
        name = f"admin:mail_outbox_{model._meta.model_name}"

        codes = [
            admin_client.get(reverse(f"{name}_changelist")).status_code,
            admin_client.get(reverse(f"{name}_change", args=[key])).status_code,
            admin_client.post(reverse(f"{name}_change", args=[key]), {"state": "sent"}).status_code,
            admin_client.post(reverse(f"{name}_add"), {}).status_code,
            admin_client.post(reverse(f"{name}_delete", args=[key]), {"post": "yes"}).status_code,
        ]

        assert codes == [200, 200, 403, 403, 403]

    def test_who_may_not_view_sees_nothing(self, client: Client, entries: list[OutboxEntry]):
        client.force_login(User.objects.create_user("eve", is_staff=True))

        assert client.get(ENTRIES).status_code == 403
        assert client.get(f"{ENTRIES}{entries[0].pk}/change/").status_code == 403


class TestRegister:
    def test_the_models_are_registered(self):
        site = AdminSite()

        admin.register(site)

        assert [site.is_registered(model) for model in (OutboxEntry, MailerState, Worker)] == [True, True, True]

    def test_a_project_may_bring_its_own(self, settings: Settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "REGISTER_ADMIN": False}
        site = AdminSite()

        admin.register(site)

        assert not site.is_registered(OutboxEntry)
