"""The list finds what is looked for, and costs the same however much there is."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.auth.models import Group, User
from django.core.mail import EmailMessage
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries, Settings

from mail_outbox import admin, outbox
from mail_outbox.admin import list as room
from mail_outbox.admin import search
from mail_outbox.models import Attempt, MailerState, OutboxEntry, Worker
from tests.fakes import NOBODY_KNOWS, REFUSED, TRY_LATER
from tests.shells.admin.conftest import ENTRIES
from tests.support import a_message, age

pytestmark = pytest.mark.django_db


@pytest.fixture
def entries(providers) -> list[OutboxEntry]:
    """Enqueue one message to Ann and one to Bob, and deliver the one to Ann."""
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


def text_of(client: Client, **query: str) -> str:
    return client.get(ENTRIES, query).content.decode()


class TestList:
    def test_entries_are_listed_newest_first_with_state_and_mailer(self, admin_client: Client, entries):
        page = text_of(admin_client)

        assert listed(admin_client) == ["For Bob", "For Ann"]
        assert '<span class="outbox-badge outbox-sent">sent</span>' in page
        assert '<td class="field-mailer">bulk</td>' in page

    def test_the_first_recipient_stands_for_all(self, admin_client: Client, providers):
        outbox.enqueue(a_message(to=["a@y.example", "b@y.example"], cc=["c@y.example"]))

        assert "a@<wbr>y.example +2" in text_of(admin_client)

    def test_a_related_object_is_linked_where_there_is_a_page_for_it(self, admin_client: Client, providers):
        group = Group.objects.create(name="g")
        outbox.enqueue(a_message(), related=group)
        entry = outbox.enqueue(a_message())
        OutboxEntry.objects.filter(pk=entry.pk).update(related="gone.model:7")

        page = text_of(admin_client)

        assert f'<a href="/admin/auth/group/{group.pk}/change/">group {group.pk}</a>' in page
        assert ">model 7<" in page

    def test_when_tells_what_will_be_and_what_was(self, admin_client: Client, providers):
        outbox.enqueue(a_message(), send_at=timedelta(minutes=4, seconds=30))
        age(outbox.enqueue(a_message()), due_at=timedelta(hours=-2, minutes=-1))
        done = outbox.enqueue(a_message(), using="bulk")
        outbox.drain(using="bulk")
        age(done, finished_at=timedelta(days=-3))

        page = text_of(admin_client)

        assert ">due in 4 min<" in page
        assert ">due for 2 h<" in page
        assert ">sent 3 d ago<" in page

    def test_it_takes_three_queries_on_the_entries_however_long_it_is(
        self, admin_client: Client, providers, django_assert_num_queries: DjangoAssertNumQueries
    ):
        outbox.enqueue_many([a_message()] * 60)

        with django_assert_num_queries(9) as queries:
            admin_client.get(ENTRIES)

        assert sum("mail_outbox_outboxentry" in query["sql"] for query in queries.captured_queries) == 3
        assert not any("entrycontent" in query["sql"] for query in queries.captured_queries)

    def test_counting_ends_where_nobody_counts(self, admin_client: Client, providers, monkeypatch):
        monkeypatch.setattr(room, "MANY", 120)
        outbox.enqueue_many([a_message()] * 130)

        page = text_of(admin_client)

        assert "120 and more mails" in page
        assert "Act on all 120+ in this list" in page
        assert listed(admin_client, p="3") != []

    def test_hostile_subjects_and_addresses_are_escaped(self, admin_client: Client, providers):
        outbox.enqueue(a_message("<script>alert(1)</script>", to=['"<b>x"@y.example']))

        page = text_of(admin_client)

        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page
        assert "<b>x" not in page

    def test_where_mail_does_not_flow_a_banner_says_why(self, admin_client: Client, providers):
        assert "outbox-banner" not in text_of(admin_client)

        outbox.pause("bulk", reason="<i>audit</i>")

        assert "Mailer &#x27;bulk&#x27; is paused: &lt;i&gt;audit&lt;/i&gt;." in text_of(admin_client)


class TestFilters:
    def test_by_state_and_by_mailer(self, admin_client: Client, entries):
        assert listed(admin_client, state="sent") == ["For Ann"]
        assert listed(admin_client, using="bulk") == ["For Bob"]
        assert listed(admin_client, state="held") == []
        assert listed(admin_client, state="sent", using="bulk") == []

    def test_a_mailer_that_is_no_longer_configured_can_still_be_asked_for(self, admin_client: Client, entries):
        OutboxEntry.objects.filter(pk=entries[1].pk).update(using="gone")

        assert listed(admin_client, using="gone") == ["For Bob"]

    def test_by_when_it_was_enqueued(self, admin_client: Client, entries):
        age(entries[0], created_at=timedelta(hours=-2))

        assert listed(admin_client, window="hour") == ["For Bob"]
        assert listed(admin_client, window="day") == ["For Bob", "For Ann"]

    def test_by_what_needs_attention(self, admin_client: Client, providers):
        providers["default"].will(NOBODY_KNOWS, REFUSED, TRY_LATER)
        for subject in ("held", "failed", "later", "fine"):
            outbox.enqueue(a_message(subject), on_ambiguous="hold")
            outbox.drain()
        stuck = outbox.enqueue(a_message("stuck"))
        OutboxEntry.objects.filter(pk=stuck.pk).update(state="sending", lease_expires_at=stuck.created_at)

        assert listed(admin_client, attention="person") == ["held"]
        assert listed(admin_client, attention="error") == ["later", "failed", "held"]
        assert listed(admin_client, attention="stuck") == ["stuck"]

    def test_by_the_cause_of_failure(self, admin_client: Client, providers):
        providers["default"].will(REFUSED)
        outbox.enqueue(a_message("refused"))
        outbox.drain()

        assert listed(admin_client, cause="permanent:550") == ["refused"]
        assert listed(admin_client, cause="permanent:551") == []

    @pytest.mark.parametrize("state", ["scheduled", "queued", "sending", "sent", "failed", "held"])
    def test_each_state_has_an_order_that_pages_can_be_turned_in(self, admin_client: Client, entries, state):
        assert admin_client.get(ENTRIES, {"state": state, "p": "1"}).status_code == 200

    @pytest.mark.parametrize(
        "query", [{"state": "bogus"}, {"attention": "x"}, {"window": "century"}, {"state": "sent\x00"}]
    )
    def test_a_value_that_means_nothing_finds_nothing(self, admin_client: Client, entries, query):
        assert listed(admin_client, **query) == []

    @pytest.mark.parametrize(
        "lookup",
        [
            "subject__startswith",
            "subject__contains",
            "idempotency_key__startswith",
            "content__payload__contains",
            "id",
            "stat",
        ],
    )
    def test_no_other_lookup_is_possible(self, admin_client: Client, entries, lookup):
        assert admin_client.get(ENTRIES, {lookup: "F"}).status_code == 400

    def test_no_other_order_is_possible(self, admin_client: Client, entries):
        assert listed(admin_client, o="2") == ["For Bob", "For Ann"]

    def test_the_choices_cost_no_query(
        self, admin_client: Client, entries, django_assert_num_queries: DjangoAssertNumQueries
    ):
        with django_assert_num_queries(9):
            response = admin_client.get(ENTRIES, {"_facets": "True"})

        assert "using=bulk" in response.content.decode()


class TestSearch:
    def test_an_entry_is_found_by_its_ids(self, admin_client: Client, entries: list[OutboxEntry]):
        ann = entries[0]

        assert listed(admin_client, q=str(ann.pk)) == ["For Ann"]
        assert listed(admin_client, q=str(ann.uuid)) == ["For Ann"]
        assert listed(admin_client, q=ann.message_id) == ["For Ann"]
        assert listed(admin_client, q=f" {ann.message_id.strip('<>')} ") == ["For Ann"]

    @pytest.mark.parametrize(
        "known", ["<abc@mailgun.example>", "0100018f-token", "0b44b0ac-92b8-4d5c-8a3e-2d1d8f5f0c11"]
    )
    def test_an_entry_is_found_by_the_providers_id(self, admin_client: Client, entries, known):
        Attempt.objects.update(provider_message_id=known)

        assert listed(admin_client, q=known) == ["For Ann"]
        assert listed(admin_client, q=known.strip("<>")) == ["For Ann"]

    @pytest.mark.usefixtures("entries")
    def test_an_entry_is_found_by_the_whole_address(self, admin_client: Client):
        assert listed(admin_client, q="bob@y.example") == ["For Bob"]
        assert listed(admin_client, q="Ann <ANN@Y.example>") == ["For Ann"]
        assert listed(admin_client, q="b@y.example") == []

    @pytest.mark.usefixtures("entries")
    def test_an_entry_is_found_by_words_of_its_subject(self, admin_client: Client):
        assert listed(admin_client, q="for") == ["For Bob", "For Ann"]
        assert listed(admin_client, q="ann for") == ["For Ann"]
        assert listed(admin_client, q="ann bob") == []

    def test_words_are_looked_for_in_recent_subjects_only(self, admin_client: Client, entries, monkeypatch):
        age(entries[0], created_at=timedelta(days=-8))
        assert listed(admin_client, q="for") == ["For Bob"]

        outbox.enqueue_many([a_message("Other")] * 3)
        monkeypatch.setattr(search, "NEWEST", 3)
        assert listed(admin_client, q="for") == []

    def test_words_of_a_sensitive_subject_are_never_found(self, admin_client: Client, secret):
        assert [listed(admin_client, q=term) for term in ("483920 code", "code is", "Your")] == [[], [], []]

    @pytest.mark.usefixtures("entries")
    @pytest.mark.parametrize("term", ["9" * 5000, "99999999999999999999", "-1", "%", "_", "' OR 1=1 --", "@"])
    def test_nothing_else_is_found(self, admin_client: Client, term: str):
        assert listed(admin_client, q=term) == []

    def test_an_address_takes_three_queries_on_the_entries(
        self, admin_client: Client, entries, django_assert_max_num_queries
    ):
        with django_assert_max_num_queries(12) as queries:
            admin_client.get(ENTRIES, {"q": "bob@y.example"})

        assert sum('"mail_outbox_outboxentry"' in _quoted(query) for query in queries.captured_queries) <= 3


def _quoted(query: dict[str, str]) -> str:
    return query["sql"].replace("`", '"')


@pytest.mark.usefixtures("running")
class TestReadOnly:
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

    def test_the_documented_names_can_be_imported(self):
        from mail_outbox.admin import OutboxAdminMixin, OutboxEntryAdmin, OutboxPanel

        assert issubclass(OutboxEntryAdmin, OutboxAdminMixin)
        assert not hasattr(OutboxPanel, "model")
