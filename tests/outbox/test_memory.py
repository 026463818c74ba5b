"""Large messages and large batches: how much memory and how much of a database they take."""

import random
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.apps import apps
from django.core.mail import EmailMessage
from django.core.management import call_command
from django.db import connection

from mail_outbox import outbox
from mail_outbox.models import Attachment, EntryContent
from tests.fakes import Provider
from tests.faults.smtp_process import SMTPProcess, smtp_process
from tests.support import a_message, mailers

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

LARGE = 24_000_000
MEGABYTE = 1_000_000


@pytest.fixture
def an_empty_database() -> None:
    """Leave no room from rows of earlier tests, which would hide what new rows take."""
    call_command("flush", interactive=False, verbosity=0)


@pytest.fixture
def traced(provider: Provider) -> Iterator[None]:
    """Trace memory."""
    with tracing():
        provider.accepted.clear()
        yield


@pytest.fixture
def server() -> Iterator[SMTPProcess]:
    """Let the mailer `default` speak SMTP with a server in another process."""
    with smtp_process() as server:
        options = {"host": server.host, "port": server.port, "timeout": 30}
        with mailers({"default": {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": options}}):
            yield server


@contextmanager
def tracing() -> Iterator[None]:
    """Trace memory, after one message has gone through, so that what is only made once is there."""
    outbox.enqueue(with_attachment(b"warm"))
    outbox.drain()
    tracemalloc.start(1)
    try:
        yield
    finally:
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


def test_a_large_attachment_is_enqueued_in_less_than_twice_its_size(traced: None):
    outbox.enqueue(with_attachment(b"%PDF\0\xff" * (LARGE // 6)))

    assert Attachment.objects.filter(size=LARGE).exists()
    assert peak() < 2


def test_a_large_file_is_enqueued_in_a_few_pieces_of_memory(traced: None, tmp_path: Path):
    path = tmp_path / "report.pdf"
    path.write_bytes(b"%PDF\0\xff" * (LARGE // 6))
    message = a_message()
    outbox.attach_file(message, path)
    peak()

    outbox.enqueue(message)

    assert Attachment.objects.filter(size=LARGE).exists()
    assert peak() < 1 / 4


def test_a_large_attachment_is_delivered_in_less_than_four_times_its_size(traced: None, provider: Provider):
    outbox.enqueue(with_attachment(b"%PDF\0\xff" * (LARGE // 6)))
    peak()

    outbox.drain()

    [accepted] = provider.accepted
    assert len(accepted.attachments[0].content) == LARGE
    assert peak() < 4


@pytest.mark.parametrize("count", [1, 24])
def test_large_attachments_go_over_smtp_in_less_than_four_times_their_size(server: SMTPProcess, count: int):
    files = [("a.pdf", random.Random(seed).randbytes(LARGE // count), "application/pdf") for seed in range(count)]
    with tracing():
        entry = outbox.enqueue(a_message(attachments=files))
        files.clear()
        peak()

        outbox.drain()

        assert peak() < 4
    entry.refresh_from_db()
    assert entry.state == "sent"
    warm, large = server.accepted()
    assert warm < 10_000
    # 57 bytes to a line of 76 characters, and an end of line.
    assert large == pytest.approx(LARGE / 57 * 78, rel=0.001)


def test_a_large_attachment_is_let_go_once_it_is_delivered(traced: None, provider: Provider):
    outbox.enqueue(with_attachment(b"%PDF\0\xff" * (LARGE // 6)))
    before = set(threading.enumerate())
    provider.will(lambda message: senders.extend(set(threading.enumerate()) - before))
    senders: list[threading.Thread] = []
    outbox.drain()

    provider.accepted.clear()
    for sender in senders:
        sender.join(120)
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
    assert [attachment.size for attachment in Attachment.objects.all()] == [MEGABYTE]
    taken = database_size() - before
    assert MEGABYTE < taken < 40 * MEGABYTE, f"{taken:,} bytes"


def test_2_000_entries_that_share_100_kilobytes_of_html_take_less_than_8_megabytes(an_empty_database: None):
    noise = random.Random(1)
    html = "".join(f"<p>{noise.getrandbits(64):016x} ä</p>\n" for _ in range(4_000))
    assert len(html) > 100_000
    before = database_size()

    # Each message has a text of its own, as where a template is rendered for each.
    outbox.enqueue_many(
        a_message(to=[f"customer{number}@example.com"], body="".join([html, "end"])) for number in range(2_000)
    )

    assert EntryContent.objects.count() == 2_000
    assert Attachment.objects.count() == 1
    taken = database_size() - before
    assert taken < 8 * MEGABYTE, f"{taken:,} bytes"
