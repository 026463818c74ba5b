"""Many questions in one statement."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from mail_outbox import outbox
from mail_outbox.models import Attempt, OutboxEntry, Worker
from mail_outbox.models.asking import ask_all
from tests.support import a_message


@pytest.mark.django_db
def test_many_questions_are_one_statement():
    outbox.enqueue(a_message())

    with CaptureQueriesContext(
        connection,
    ) as captured:
        there = ask_all(
            {
                "queued": OutboxEntry.objects.queued("default"),
                "queued elsewhere": OutboxEntry.objects.queued("other"),
                "due": OutboxEntry.objects.due(),
                "attempts": Attempt.objects.all(),
                "workers": Worker.objects.filter(name="nobody"),
            },
            database="default",
        )

    assert there == {"queued", "due"}
    assert len(captured) == 1


@pytest.mark.django_db
def test_no_question_is_no_statement():
    with CaptureQueriesContext(connection) as captured:
        assert ask_all({}, database="default") == set()

    assert len(captured) == 0
