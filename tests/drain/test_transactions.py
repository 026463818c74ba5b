"""No transaction is kept open over the network."""

import os
import threading

import pytest
from django.core.mail import EmailMessage
from django.db import connection, transaction

from mail_outbox import outbox
from mail_outbox.core.states import State
from tests.fakes import Provider
from tests.races.parallel import drain
from tests.support import a_message

OPEN = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND xact_start < clock_timestamp() - interval '0.3 s'
"""


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("MAIL_OUTBOX_TEST_DB") != "postgresql", reason="PostgreSQL tells who has one open")
@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_a_mail_is_on_its_way(provider: Provider):
    seen: list[int] = []

    def look_around(_: EmailMessage) -> None:
        pause = threading.Event()
        with connection.cursor() as cursor:
            for _ in range(8):
                pause.wait(0.1)
                cursor.execute(OPEN)
                seen.append(cursor.fetchone()[0])

    provider.will(look_around)
    with transaction.atomic():
        entry = outbox.enqueue(a_message())

    drain()

    entry.refresh_from_db()
    assert entry.state == State.SENT
    assert seen == [0] * 8
