"""Delivery in this process: everything that is due, or one message at once."""

from collections.abc import Iterable
from typing import Unpack
from uuid import uuid4

from django.core.mail import EmailMessage
from django.db import transaction

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.core.errors import InTransaction, InvalidOption, OutboxPaused
from mail_outbox.drain import DrainResult, Engine, deliver_claim, is_mailer_paused
from mail_outbox.models import OutboxEntry
from mail_outbox.outbox.announcing import mark_committed
from mail_outbox.outbox.enqueueing import make_draft
from mail_outbox.outbox.options import NowOptions, check_mailer, check_options, refuse


def drain(limit: int | None = None, *, using: str | None = None) -> DrainResult:
    """Deliver in this process all that is due, then stop, and return the counts per outcome.

    At most `limit` entries, and only those of the mailer `using` where it is named. Raises InTransaction inside
    `atomic()`, UnknownMailer, and the database's own errors where it stays away.
    """
    refuse_in_transaction("drain", databases=settings.get_conf().databases)
    if using is not None:
        check_mailer(using)
    if limit is not None and limit < 1:
        raise InvalidOption(f"limit must be at least 1, not {limit!r}.")
    results = DrainResult()
    for database in settings.get_conf().databases:
        engine = Engine(database)
        try:
            left = None if limit is None else limit - results.attempts
            if left is None or left > 0:
                results = results.plus(engine.run(limit=left, using=using))
        finally:
            engine.stop()
    return results


def send_now(message: EmailMessage, **keywords: Unpack[NowOptions]) -> OutboxEntry:
    """Deliver the message in this process and return its entry, which says what became of it.

    For the caller who wants the answer: the entry is written and committed first, then one attempt is made; what that
    attempt leaves to be retried is retried by the workers. Takes the keywords of `enqueue` that make sense now. Raises
    InTransaction inside `atomic()`, OutboxPaused where the mailer is paused, and what `enqueue` raises; a failed
    delivery does not raise.
    """
    refuse("send_now", keywords, "send_at", "idempotency_key", "on_conflict")
    options = check_options(**keywords)
    refuse_in_transaction("send_now", databases=[options.database])
    if is_mailer_paused(options.using, database=options.database):
        raise OutboxPaused(
            f"Mailer '{options.using}' is paused or resting after trouble; enqueue the message, or resume the mailer."
        )
    draft = make_draft(message, options)
    conf, claim_id = settings.get_conf(), uuid4()
    with transaction.atomic(using=options.database):
        entry = transitions.insert([draft], database=options.database)[0]
        transitions.claim_entry(
            entry, claim_id=claim_id, worker="send_now", lease=conf.lease_length, database=options.database
        )
    mark_committed([entry])
    deliver_claim(claim_id, alias=options.using, database=options.database)
    entry.refresh_from_db()
    return entry


def refuse_in_transaction(verb: str, *, databases: Iterable[str]) -> None:
    """Raise InTransaction inside `atomic()`; the wrapper that Django's TestCase puts around a test does not count."""
    for database in databases:
        try:
            with transaction.atomic(using=database, durable=True):
                pass
        except RuntimeError as error:
            raise InTransaction(
                f"{verb} talks to a mailer and would keep the transaction on database '{database}' open over the "
                "network. Call it outside atomic(), or enqueue the message."
            ) from error
