"""People with rights, and mail to look at."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from django.core.mail import EmailMultiAlternatives
from django.test import Client

from mail_outbox import outbox
from mail_outbox.models import OutboxEntry
from tests.fakes import NOBODY_KNOWS, REFUSED, Provider
from tests.support import a_message

ENTRIES = "/admin/mail_outbox/outboxentry/"
VIEW, CONTENT, ACT, OPERATE = "view_outboxentry", "view_content", "act_on_entries", "operate_mailers"

Login = Callable[..., Client]


def page_of(entry: OutboxEntry) -> str:
    """Return where the entry's page is."""
    return f"{ENTRIES}{entry.pk}/change/"


def act_on(verb: str, *entries: OutboxEntry) -> str:
    """Return where the page is that asks whether to do it to these entries."""
    return f"{ENTRIES}act/{verb}/?ids={','.join(str(entry.pk) for entry in entries)}"


def a_mail(subject: str = "Hello", **keywords: object) -> EmailMultiAlternatives:
    """Return a mail with text and HTML."""
    message = EmailMultiAlternatives(
        subject, "secret text", "shop@example.com", keywords.pop("to", ["jane@example.com"]), **keywords
    )
    message.attach_alternative("<p>secret html</p>", "text/html")
    return message


@pytest.fixture
def login() -> Login:
    """Return what logs in somebody new with these rights, and no others."""

    def login(*rights: str, email: str = "staff@example.com") -> Client:
        user = User.objects.create_user(f"user{User.objects.count()}", email=email, is_staff=True)
        user.user_permissions.add(
            *Permission.objects.filter(codename__in=rights, content_type__app_label="mail_outbox")
        )
        client = Client()
        client.force_login(user)
        return client

    return login


@pytest.fixture
def failed(providers: dict[str, Provider]) -> OutboxEntry:
    """Let one mail fail."""
    providers["default"].will(REFUSED)
    entry = outbox.enqueue(a_mail("failed mail"))
    outbox.drain()
    entry.refresh_from_db()
    return entry


@pytest.fixture
def sent(providers: dict[str, Provider]) -> OutboxEntry:
    """Send one mail."""
    entry = outbox.enqueue(a_mail("sent mail"))
    outbox.drain()
    entry.refresh_from_db()
    return entry


@pytest.fixture
def secret(providers: dict[str, Provider]) -> OutboxEntry:
    """Leave one sensitive mail for a person to decide about, with a code in its subject: it still has its content."""
    providers["default"].will(NOBODY_KNOWS)
    entry = outbox.enqueue(
        a_mail("Your code is 483920"),
        sensitive=True,
        idempotency_key="reset-483920",
        metadata={"token": "483920"},
        on_ambiguous="hold",
    )
    outbox.drain()
    entry.refresh_from_db()
    return entry


@pytest.fixture
def waiting(providers: dict[str, Provider]) -> OutboxEntry:
    """Leave one mail waiting."""
    return outbox.enqueue(a_message("waiting mail"))
