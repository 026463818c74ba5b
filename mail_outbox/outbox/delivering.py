"""Delivery in this process: everything that is due, or one message at once."""

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Unpack
from uuid import uuid4

from django.core.mail import EmailMessage
from django.db import connections, transaction

from mail_outbox import conf as settings
from mail_outbox import tracing, transitions
from mail_outbox.core.errors import InTransaction, InvalidOption, OutboxPaused
from mail_outbox.core.states import State
from mail_outbox.drain import DrainResult, Engine, admission, deliver_claim, is_mailer_paused
from mail_outbox.drain.instances import find_stranger
from mail_outbox.models import OutboxEntry
from mail_outbox.outbox.announcing import after_commit, mark_committed
from mail_outbox.outbox.enqueueing import make_draft
from mail_outbox.outbox.options import NowOptions, Options, check_mailer, check_options, refuse
from mail_outbox.outbox.suppressing import leave_out_suppressed
from mail_outbox.outbox.twins import has_twin
from mail_outbox.transitions import Draft


@has_twin
def drain(limit: int | None = None, *, using: str | None = None) -> DrainResult:
    """Deliver in this process all that is due, then stop, and return the counts per outcome.

    At most `limit` entries, and only those of the mailer `using` where it is named. Raises InTransaction inside
    `atomic()`, UnknownMailer, and the database's own errors where it stays away.
    """
    refuse_in_transaction("drain", databases=settings.get_conf().databases)
    if using is not None:
        check_mailer(using)
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise InvalidOption(f"limit must be a whole number and at least 1, not {limit!r}; using= names a mailer.")
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


@has_twin
def send_now(message: EmailMessage, **keywords: Unpack[NowOptions]) -> OutboxEntry:
    """Deliver the message in this process and return its entry, which says what became of it.

    For the caller who wants the answer: the entry is written and committed first, then one attempt is made; what that
    attempt leaves to be retried is retried by the workers. Takes the keywords of `enqueue` that make sense now. Raises
    InTransaction inside `atomic()`, OutboxPaused where the mailer, or every one of its route, is paused, or where its
    limits leave no connection or no slot within 10 s, and what `enqueue` raises; a failed delivery does not raise.
    """
    refuse("send_now", keywords, "send_at", "idempotency_key", "on_conflict")
    options = check_options(**keywords)
    refuse_in_transaction("send_now", databases=[options.database])
    refuse_strangers(databases=[options.database])
    draft = make_draft(message, options)
    using = draft.entry.using = _fit_mailer(draft.entry, database=options.database)
    with admission(using, recipients=len(draft.mailboxes), database=options.database) as is_admitted:
        if not is_admitted:
            raise OutboxPaused(
                f"Mailer '{using}' has no connection or no slot free within its limits; enqueue the message, or raise "
                "its max_connections or rate."
            )
        entry = _deliver(draft, options)
    entry.refresh_from_db()
    if entry.state == State.QUEUED:
        after_commit(database=options.database)  # another mailer may do what this one could not
    return entry


def _deliver(draft: Draft, options: Options) -> OutboxEntry:
    conf, claim_id = settings.get_conf(), uuid4()
    with tracing.enqueueing() as traceparent, transaction.atomic(using=options.database):
        [draft] = leave_out_suppressed([replace(draft, traceparent=traceparent)], database=options.database)
        entry = transitions.insert([draft], database=options.database)[0]
        lease_until = time.monotonic() + conf.lease_length.total_seconds()
        transitions.claim_entry(
            entry, claim_id=claim_id, worker="send_now", lease=conf.lease_length, database=options.database
        )
    mark_committed([entry])
    deliver_claim(claim_id, alias=entry.using, lease_until=lease_until, database=options.database)
    return entry


def _fit_mailer(entry: OutboxEntry, *, database: str) -> str:
    """Return the mailer that may send the entry now: its own, or else one of its route; raises OutboxPaused for none."""
    route = settings.get_conf().route(entry.route)
    for alias in (entry.using, *(route.mailers if route is not None else ())):
        if not is_mailer_paused(alias, database=database):
            return alias
    whoever = f"Mailer '{entry.using}'" if route is None else f"Every mailer of route '{route.name}'"
    raise OutboxPaused(f"{whoever} is paused or resting after trouble; enqueue the message, or resume the mailer.")


def refuse_strangers(*, databases: Iterable[str]) -> None:
    """Raise OutboxPaused where a database belongs to another deployment: it may be a copy whose original lives."""
    for database in databases:
        if stranger := find_stranger(database=database):
            raise OutboxPaused(f"Nothing is done here: {stranger}")


def refuse_in_transaction(verb: str, *, databases: Iterable[str]) -> None:
    """Raise InTransaction inside `atomic()`; the wrapper that Django's TestCase puts around a test does not count."""
    for database in databases:
        if not connections[database].in_atomic_block:
            continue  # without opening a connection: a drain that never ends waits for a database that is away
        try:
            with transaction.atomic(using=database, durable=True):
                pass
        except RuntimeError as error:
            raise InTransaction(
                f"{verb} works in short transactions of its own, with none open over the network, but one is open on "
                f"database '{database}'. Call it outside atomic()."
            ) from error
