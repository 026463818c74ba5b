"""enqueue and enqueue_many: what is written, what it costs, and what is refused."""

import inspect
import logging
import re
from datetime import UTC, datetime, timedelta
from typing import get_type_hints

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group, User
from django.core.mail import EmailMultiAlternatives
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from mail_outbox import outbox, signals
from mail_outbox.core.states import State
from mail_outbox.models import Attachment, EntryContent, OutboxEntry, Recipient
from mail_outbox.outbox import enqueueing
from mail_outbox.outbox.options import OnceOptions, check_options
from mail_outbox.transitions import gathering
from tests.support import a_message, mailers

pytestmark = pytest.mark.django_db

SOON = timedelta(hours=1)


def inserts(queries: CaptureQueriesContext) -> list[str]:
    return [query["sql"] for query in queries if query["sql"].lstrip().upper().startswith("INSERT")]


class TestEnqueue:
    def test_it_returns_a_queued_entry_with_everything_that_was_said(self):
        group = Group.objects.create(name="buyers")
        expires_at = datetime.now(UTC) + SOON

        entry = outbox.enqueue(
            a_message("Your order"),
            using="bulk",
            expires_at=expires_at,
            priority=outbox.HIGH,
            idempotency_key="order-1",
            on_ambiguous="hold",
            related=group,
            tags=["order", "shop"],
            metadata={"order": 1},
            sensitive=True,
            max_attempts=3,
        )

        entry = OutboxEntry.objects.get(pk=entry.pk)
        assert entry.state == State.QUEUED
        assert (entry.using, entry.priority, entry.idempotency_key) == ("bulk", 50, "order-1")
        assert (entry.on_ambiguous, entry.max_attempts, entry.sensitive) == ("hold", 3, True)
        assert (entry.tags, entry.content.metadata) == (["order", "shop"], {"order": 1})
        assert entry.expires_at == expires_at
        assert entry.related_object == group
        assert entry.subject == "Your order"
        assert [recipient.address for recipient in entry.recipients.all()] == ["jane@example.com"]

    def test_the_message_comes_back_as_it_went_in(self):
        message = EmailMultiAlternatives(
            "Hello", "Text", "shop@example.com", ["Jane <jane@example.com>"], cc=["c@x.org"]
        )
        message.attach_alternative("<p>Text</p>", "text/html")
        message.attach("a.pdf", b"%PDF", "application/pdf")
        message.extra_headers["Message-ID"] = "<mine@example.com>"
        message.extra_headers["Date"] = "Sat, 21 Nov 2026 10:00:00 +0000"

        entry = OutboxEntry.objects.get(pk=outbox.enqueue(message).pk)

        assert type(entry.message()) is EmailMultiAlternatives
        assert entry.message_id == "<mine@example.com>"
        assert {name: vars(entry.message())[name] for name in ("subject", "body", "to", "cc")} == {
            name: vars(message)[name] for name in ("subject", "body", "to", "cc")
        }

    def test_the_same_attachment_is_stored_once(self):
        for name in ("a.pdf", "b.pdf"):
            message = a_message()
            message.attach(name, b"%PDF the same bytes", "application/pdf")
            outbox.enqueue(message)

        assert Attachment.objects.count() == 1
        assert all(content.attachments.count() == 1 for content in EntryContent.objects.all())

    def test_a_later_moment_makes_it_scheduled(self):
        assert outbox.enqueue(a_message(), send_at=SOON).state == State.SCHEDULED
        assert outbox.enqueue(a_message(), send_at=datetime.now(UTC) + SOON).state == State.SCHEDULED

    def test_a_moment_that_has_passed_makes_it_queued(self):
        assert outbox.enqueue(a_message(), send_at=datetime.now(UTC) - SOON).state == State.QUEUED

    def test_anymails_send_at_is_taken_for_ours(self):
        message = a_message()
        message.send_at = datetime.now(UTC) + SOON

        entry = outbox.enqueue(message)

        assert entry.state == State.SCHEDULED
        assert entry.due_at == message.send_at
        assert not hasattr(entry.message(), "send_at")

    def test_it_costs_one_statement_on_postgresql_and_three_inserts_elsewhere(self):
        with transaction.atomic(), CaptureQueriesContext(connection) as queries:
            outbox.enqueue(a_message(to=["a@example.com", "b@example.com"], cc=["c@example.com"]))

        assert len(queries) == (1 if connection.vendor == "postgresql" else 3)
        assert sum(query["sql"].count("INSERT INTO") for query in queries) == 3

    def test_its_content_needs_no_query(self, django_assert_num_queries):
        entry = outbox.enqueue(a_message(body="as it was"))

        with django_assert_num_queries(0):
            assert entry.message().body == "as it was"
            assert entry.content.entry is entry

    def test_the_message_id_is_in_the_senders_domain(self):
        entry = outbox.enqueue(a_message(from_email="Shop <shop@Shop.Example>"))

        assert entry.message_id == f"<{entry.uuid.hex}@shop.example>"

    def test_the_entry_knows_that_it_is_committed_only_after_the_commit(self, django_capture_on_commit_callbacks):
        with django_capture_on_commit_callbacks(execute=True):
            entry = outbox.enqueue(a_message())
            assert not entry.committed

        assert entry.committed

    def test_nothing_is_left_of_it_after_a_rollback(self):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            outbox.enqueue(a_message())
            raise ZeroDivisionError

        assert not OutboxEntry.objects.exists()
        assert not Recipient.objects.exists()

    @pytest.mark.parametrize(
        ("message", "options", "error", "words"),
        [
            ({"to": []}, {}, outbox.InvalidMessage, "recipient"),
            ({"to": ["not an address"]}, {}, outbox.InvalidMessage, "not an address"),
            ({"to": ["a@example.com, b@example.com"]}, {}, outbox.InvalidMessage, "a@example.com, b@example.com"),
            ({"subject": "Hi\nBcc: x@example.com"}, {}, outbox.InvalidMessage, "ubject"),
            ({"headers": {"X-A\r\nBcc": "x"}}, {}, outbox.InvalidMessage, "header"),
            ({"headers": {"X-A": "x\ny"}}, {}, outbox.InvalidMessage, "X-A"),
            ({"body": "nul \x00"}, {}, outbox.InvalidMessage, "NUL"),
            ({"subject": "lone \ud800"}, {}, outbox.InvalidMessage, "surrogate"),
            ({}, {"using": "bluk"}, outbox.UnknownMailer, "Did you mean 'bulk'?"),
            ({}, {"send_at": datetime(2030, 1, 1)}, outbox.InvalidOption, "time zone"),
            ({}, {"send_at": timedelta(seconds=-1)}, outbox.InvalidOption, "negative"),
            ({}, {"send_at": "tomorrow"}, outbox.InvalidOption, "aware datetime"),
            ({}, {"expires_at": timedelta(seconds=-1)}, outbox.InvalidOption, "negative"),
            ({}, {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, outbox.InvalidOption, "future"),
            ({}, {"expires_at": SOON, "send_at": 2 * SOON}, outbox.InvalidOption, "not after send_at"),
            ({}, {"priority": 1000}, outbox.InvalidOption, "-100 to 100"),
            ({}, {"priority": True}, outbox.InvalidOption, "-100 to 100"),
            ({}, {"max_attempts": 0}, outbox.InvalidOption, "max_attempts"),
            ({}, {"idempotency_key": ""}, outbox.InvalidOption, "idempotency_key"),
            ({}, {"idempotency_key": "x" * 256}, outbox.InvalidOption, "length 256"),
            ({}, {"on_conflict": "replce"}, outbox.InvalidOption, "Did you mean 'replace'?"),
            ({}, {"on_ambiguous": "ask"}, outbox.InvalidOption, "on_ambiguous"),
            ({}, {"related": "order 1"}, outbox.InvalidOption, "model instance"),
            ({}, {"related": User(username="new")}, outbox.InvalidOption, "not saved"),
            ({}, {"tags": "order"}, outbox.InvalidOption, "tags=['order']"),
            ({}, {"metadata": {"a": object()}}, outbox.InvalidOption, "metadata['a']"),
            ({}, {"metadata": [1]}, outbox.InvalidOption, "not list"),
            ({}, {"using": ["bulk"]}, outbox.InvalidOption, "not list"),
            ({}, {"database": "other"}, outbox.InvalidOption, "MAIL_OUTBOX['DATABASE']"),
        ],
    )
    def test_bad_input_is_refused_by_name_and_writes_nothing(self, message, options, error, words):
        with pytest.raises(error, match=re.escape(words)):
            outbox.enqueue(a_message(**message), **options)

        assert not OutboxEntry.objects.exists()

    @pytest.mark.parametrize("given", ["text", None, [a_message()]], ids=["a text", "nothing", "a list"])
    def test_what_is_no_message_is_told_so(self, given):
        with pytest.raises(
            outbox.InvalidMessage, match=f"not {type(given).__name__}; several at once take enqueue_many"
        ):
            outbox.enqueue(given)

    def test_one_message_alone_is_not_many(self):
        with pytest.raises(outbox.InvalidMessage, match=re.escape("write enqueue_many([message])")):
            outbox.enqueue_many(a_message())

    def test_a_message_class_nobody_knows_is_refused_by_name(self):
        class Signed(EmailMultiAlternatives):
            pass

        with pytest.raises(outbox.UnserializableMessage, match="Signed"):
            outbox.enqueue(Signed("s", "b", "a@example.com", ["b@example.com"]))

    def test_the_outbox_itself_is_no_mailer(self):
        itself = {"BACKEND": "mail_outbox.backends.OutboxBackend"}

        with mailers({"default": itself, "real": {"BACKEND": "x"}}), pytest.raises(outbox.UnknownMailer) as caught:
            outbox.enqueue(a_message(), using="default")

        assert "'default' is the outbox itself" in str(caught.value)
        assert "Known: real" in str(caught.value)

    def test_an_asynchronous_caller_gets_the_same_entry(self):
        entry = async_to_sync(outbox.aenqueue)(a_message("from afar"))

        assert OutboxEntry.objects.get(pk=entry.pk).subject == "from afar"


class TestKeywords:
    def test_every_way_to_enqueue_has_the_keywords_of_enqueue(self):
        of_enqueue = inspect.signature(outbox.enqueue).parameters
        of_the_check = inspect.signature(check_options).parameters

        assert set(get_type_hints(OnceOptions)) == set(of_enqueue) - {"message"} == set(of_the_check)
        assert all(of_the_check[name].default == of_enqueue[name].default for name in of_the_check)

    @pytest.mark.parametrize("keyword", ["send_at", "idempotency_key", "on_conflict"])
    def test_a_keyword_that_makes_no_sense_now_is_no_keyword(self, keyword):
        with pytest.raises(TypeError, match=keyword):
            outbox.send_now(a_message(), **{keyword: None})


class TestOutsideATransaction:
    @pytest.mark.django_db(transaction=True)
    def test_it_is_an_error_where_the_project_says_so(self, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "OUTSIDE_ATOMIC": "error"}

        with pytest.raises(outbox.NotInTransaction):
            outbox.enqueue(a_message())

        assert not OutboxEntry.objects.exists()

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("enqueue", [outbox.enqueue, lambda message: outbox.enqueue_many([message])])
    def test_it_is_a_warning_about_the_callers_line_where_the_project_says_so(self, settings, enqueue):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "OUTSIDE_ATOMIC": "warn"}

        with pytest.warns(RuntimeWarning, match="outside") as caught:
            enqueue(a_message())

        assert [warning.filename for warning in caught] == [__file__]

    @pytest.mark.django_db(transaction=True)
    def test_it_commits_by_itself_otherwise(self):
        assert outbox.enqueue(a_message()).committed


class TestIdempotencyKey:
    def test_a_second_call_returns_the_first_entry(self):
        first = outbox.enqueue(a_message(), idempotency_key="k")

        second = outbox.enqueue(a_message(), idempotency_key="k")

        assert second == first
        assert (first.is_duplicate, second.is_duplicate) == (False, True)
        assert OutboxEntry.objects.count() == 1

    def test_keys_differ_by_every_letter(self):
        assert outbox.enqueue(a_message(), idempotency_key="k") != outbox.enqueue(a_message(), idempotency_key="K")

    def test_other_content_under_the_key_is_logged(self, caplog):
        outbox.enqueue(a_message("one"), idempotency_key="k")

        with caplog.at_level(logging.WARNING, "mail_outbox"):
            entry = outbox.enqueue(a_message("two"), idempotency_key="k")

        assert entry.subject == "one"
        assert [record.message for record in caplog.records] == ["idempotency key reused for other content"]

    def test_other_content_under_the_key_is_an_error_on_request(self):
        outbox.enqueue(a_message("one"), idempotency_key="k")

        with pytest.raises(outbox.IdempotencyConflict, match="'k'"):
            outbox.enqueue(a_message("two"), idempotency_key="k", on_conflict="raise")

    def test_other_content_replaces_what_still_waits_on_request(self):
        first = outbox.enqueue(a_message("one", to=["old@example.com"]), idempotency_key="k")

        entry = outbox.enqueue(
            a_message("two", to=["new@example.com"]), idempotency_key="k", on_conflict="replace", send_at=SOON
        )

        assert entry == first
        assert (entry.subject, entry.state, entry.message_id) == ("two", State.SCHEDULED, first.message_id)
        assert entry.message().to == ["new@example.com"]
        assert [recipient.address for recipient in entry.recipients.all()] == ["new@example.com"]

    def test_what_has_been_sent_cannot_be_replaced(self, provider):
        outbox.enqueue(a_message("one"), idempotency_key="k")
        outbox.drain()

        with pytest.raises(outbox.IdempotencyConflict, match="'sent'"):
            outbox.enqueue(a_message("two"), idempotency_key="k", on_conflict="replace")


class TestEnqueueMany:
    def test_it_returns_the_entries_in_order(self):
        entries = outbox.enqueue_many(a_message(str(number)) for number in range(7))

        assert [entry.subject for entry in entries] == list("0123456")
        assert all(entry.pk for entry in entries)

    def test_one_bad_message_means_none_is_written(self):
        with transaction.atomic(), pytest.raises(outbox.InvalidMessage):
            outbox.enqueue_many([a_message(), a_message(to=[])])

        assert not OutboxEntry.objects.exists()

    def test_it_costs_a_constant_number_of_statements_per_five_hundred(self):
        with CaptureQueriesContext(connection) as one_batch:
            outbox.enqueue_many(a_message(str(number)) for number in range(500))
        with CaptureQueriesContext(connection) as twenty_batches:
            outbox.enqueue_many(a_message(str(number)) for number in range(10_000))

        assert len(inserts(twenty_batches)) == 20 * len(inserts(one_batch))
        # SQLite takes so many parameters in one statement, and no more.
        assert len(inserts(one_batch)) <= (3 if connection.vendor != "sqlite" else 60)

    def test_a_shared_attachment_is_stored_once(self):
        messages = [a_message(str(number)) for number in range(20)]
        for message in messages:
            message.attach("terms.pdf", b"%PDF terms", "application/pdf")

        outbox.enqueue_many(messages)

        assert Attachment.objects.count() == 1

    @pytest.mark.parametrize("in_memory", [1, 16_000_000], ids=["on disk", "in memory"])
    def test_attachments_of_many_batches_are_stored_whole_and_once(self, monkeypatch, in_memory):
        monkeypatch.setattr(enqueueing, "BATCH", 2)
        monkeypatch.setattr(gathering, "IN_MEMORY", in_memory)
        files = [bytes([number % 4]) * size for number, size in enumerate((600_000, 10, 600_001, 1, 600_000, 10, 3))]

        entries = outbox.enqueue_many(
            a_message(str(number), attachments=[("a.bin", content, "application/octet-stream")])
            for number, content in enumerate(files)
        )

        found = [OutboxEntry.objects.get(pk=entry.pk).message().attachments[0].content for entry in entries]
        assert found == files
        assert Attachment.objects.count() == len(set(files)) == 5

    def test_an_idempotency_key_for_many_is_no_option(self):
        with pytest.raises(TypeError, match="idempotency_key"):
            outbox.enqueue_many([a_message()], idempotency_key="k")  # type: ignore[call-arg]


@pytest.mark.django_db(transaction=True)
class TestAfterTheCommit:
    @pytest.fixture
    def wakes(self, settings):
        """Count the wakes instead of sending them."""
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "WAKE": False}
        seen = []

        def note(sender, database, **_):
            seen.append(database)

        signals.work_waiting.connect(note)
        yield seen
        signals.work_waiting.disconnect(note)

    def test_a_transaction_wakes_once_however_much_it_enqueues(self, wakes):
        with transaction.atomic():
            outbox.enqueue(a_message())
            with transaction.atomic():
                outbox.enqueue_many([a_message(), a_message()])
            outbox.enqueue(a_message())
            assert wakes == []

        assert wakes == ["default"]

    def test_a_rolled_back_transaction_wakes_nobody(self, wakes):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            outbox.enqueue(a_message())
            raise ZeroDivisionError

        assert wakes == []

    def test_a_rolled_back_savepoint_does_not_swallow_the_wake_of_the_rest(self, wakes):
        with transaction.atomic():
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                outbox.enqueue(a_message("inner"))
                raise ZeroDivisionError
            outbox.enqueue(a_message("outer"))

        assert wakes == ["default"]
        assert [entry.subject for entry in OutboxEntry.objects.all()] == ["outer"]

    def test_what_comes_after_a_rolled_back_transaction_wakes_again(self, wakes):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            outbox.enqueue(a_message())
            raise ZeroDivisionError

        outbox.enqueue(a_message())
        outbox.enqueue(a_message())

        assert wakes == ["default", "default"]

    def test_a_receiver_that_fails_does_not_reach_the_caller(self, wakes, caplog):
        def fail(sender, **_):
            raise ZeroDivisionError

        signals.entry_enqueued.connect(fail)
        try:
            entry = outbox.enqueue(a_message())
        finally:
            signals.entry_enqueued.disconnect(fail)

        assert entry.committed
        assert wakes == ["default"]
