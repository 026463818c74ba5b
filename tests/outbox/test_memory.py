"""Large messages and large batches: how much memory and how much of a database they take."""

import random
import threading
import tracemalloc
from collections.abc import Iterator

import pytest
from django.apps import apps
from django.core.mail import EmailMessage
from django.core.management import call_command
from django.db import connection

from mail_outbox import outbox
from mail_outbox.models import Attachment, EntryContent
from tests.fakes import Provider
from tests.support import a_message

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

LARGE = 24_000_000
MEGABYTE = 1_000_000


@pytest.fixture
def an_empty_database() -> None:
    """Leave no room from rows of earlier tests, which would hide what new rows take."""
    call_command("flush", interactive=False, verbosity=0)


@pytest.fixture
def traced(provider: Provider) -> Iterator[None]:
    """Trace memory, after one message has gone through, so that what is only made once is there."""
    outbox.enqueue(with_attachment(b"warm"))
    outbox.drain()
    provider.accepted.clear()
    tracemalloc.start(1)
    yield
    tracemalloc.stop()


def with_attachment(data: bytes) -> EmailMessage:
    return a_message(attachments=[("report.pdf", data, "application/pdf")])


def peak() -> float:
    """Return the peak since the last reset, in sizes of the large attachment, and reset it."""
    peak = tracemalloc.get_traced_memory()[1] / LARGE
    tracemalloc.reset_peak()
    return peak


def database_size() -> int:
    """Return how many bytes the outbox takes, indexes and attachments included."""
    tables = [
        model._meta.db_table for model in apps.get_app_config("mail_outbox").get_models(include_auto_created=True)
    ]
    with connection.cursor() as cursor:
        match connection.vendor:
            case "sqlite":
                cursor.execute(
                    "SELECT (page_count - freelist_count) * page_size"
                    " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
                )
            case "postgresql":
                cursor.execute(
                    "SELECT sum(pg_total_relation_size(to_regclass(name))) FROM unnest(%s::text[]) name", [tables]
                )
            case "mysql":
                names = ", ".join(map(connection.ops.quote_name, tables))
                cursor.execute(f"ANALYZE TABLE {names}")
                cursor.fetchall()
                cursor.execute(
                    "SELECT sum(data_length + index_length) FROM information_schema.tables"
                    " WHERE table_schema = database() AND table_name IN %s",
                    [tables],
                )
        return int(cursor.fetchone()[0])


def takes_packets_of(size: int) -> bool:
    """Tell whether the server takes a statement that large: MariaDB's default is 16 MB."""
    if connection.vendor != "mysql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        return cursor.fetchone()[0] > size


def test_a_large_attachment_is_enqueued_in_less_than_four_times_its_size(traced: None, request: pytest.FixtureRequest):
    if not takes_packets_of(2 * LARGE):
        pytest.skip("max_allowed_packet of the server is too small for the attachment")
    if connection.vendor == "postgresql":
        reason = "Django's psycopg cursor writes bytea into the statement as hexadecimal digits, seven times the size"
        request.applymarker(pytest.mark.xfail(reason=reason))

    outbox.enqueue(with_attachment(b"%PDF\0\xff" * (LARGE // 6)))

    assert Attachment.objects.filter(size=LARGE).exists()
    assert peak() < 4


def test_a_large_attachment_is_delivered_in_less_than_four_times_its_size(traced: None, provider: Provider):
    if not takes_packets_of(2 * LARGE):
        pytest.skip("max_allowed_packet of the server is too small for the attachment")
    outbox.enqueue(with_attachment(b"%PDF\0\xff" * (LARGE // 6)))
    peak()

    outbox.drain()

    [accepted] = provider.accepted
    assert len(accepted.attachments[0].content) == LARGE
    assert peak() < 4


def test_a_large_attachment_is_let_go_once_it_is_delivered(traced: None, provider: Provider):
    if not takes_packets_of(2 * LARGE):
        pytest.skip("max_allowed_packet of the server is too small for the attachment")
    outbox.enqueue(with_attachment(b"%PDF\0\xff" * (LARGE // 6)))
    before = set(threading.enumerate())
    provider.will(lambda message: senders.extend(set(threading.enumerate()) - before))
    senders: list[threading.Thread] = []
    outbox.drain()

    provider.accepted.clear()
    for sender in senders:
        sender.join(10)
    assert senders

    assert tracemalloc.get_traced_memory()[0] < LARGE / 2


def test_10_000_entries_that_share_a_pdf_of_a_megabyte_take_less_than_40_megabytes(an_empty_database: None):
    # Bytes that no database can compress, as those of a PDF are.
    pdf = b"%PDF" + random.Random(1).randbytes(MEGABYTE - 4)
    before = database_size()

    outbox.enqueue_many(
        a_message(to=[f"customer{number}@example.com"], attachments=[("terms.pdf", pdf, "application/pdf")])
        for number in range(10_000)
    )

    assert EntryContent.objects.count() == 10_000
    assert [attachment.size for attachment in Attachment.objects.defer("data")] == [MEGABYTE]
    taken = database_size() - before
    assert MEGABYTE < taken < 40 * MEGABYTE, f"{taken:,} bytes"
