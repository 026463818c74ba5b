"""Two clicks at the same moment make one copy."""

from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from mail_outbox import outbox
from mail_outbox.models import OutboxEntry
from tests.fakes import Provider
from tests.races.parallel import at_once
from tests.shells.admin.conftest import act_on
from tests.shells.admin.test_actions import told
from tests.support import a_message

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

ROUNDS = 6


def test_two_clicks_on_resend_at_once_make_one_copy_and_only_one_is_told_of_it(provider: Provider):
    user = User.objects.create_superuser("ann", "ann@example.com")
    clients = [Client(), Client()]
    for client in clients:
        client.force_login(user)
    for _ in range(ROUNDS):
        entry = outbox.enqueue(a_message())
        outbox.drain()
        url = act_on("resend", entry)
        form = clients[0].get(url).context["form"]
        data = {"token": form["token"].value(), "newest": form["newest"].value(), "to": "", "using": ""}

        answers: list[Any] = at_once(*(partial(client.post, url, data) for client in clients))

        # One after the other: Django's test client takes any page that is rendered meanwhile for its own.
        pages = [client.get(answer["Location"]) for client, answer in zip(clients, answers, strict=True)]
        assert sorted(map(told, pages)) == [
            ["1 mail was sent again as a new mail."],
            ["1 skipped: 1 copied by this form already."],
        ]
        assert OutboxEntry.objects.filter(resent_from=entry).count() == 1
