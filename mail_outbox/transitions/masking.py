"""A pseudonym where one person's address stands in texts: reasons, answers of providers, keys, labels, tags."""

from functools import reduce
from operator import or_
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import CharField, Model, Q, TextField
from django.db.models.functions import Cast, Lower

from mail_outbox.core.pseudonyms import Person
from mail_outbox.models import Attempt, DeliveryEvent, MailerState, OutboxEntry, Recipient, Suppression

SEARCHED: tuple[type[Model], ...] = (OutboxEntry, Attempt, Recipient, DeliveryEvent, MailerState, Suppression)
"""The tables in whose texts an address may stand; those of contents and attachments are searched apart."""
UNIQUE = frozenset({"idempotency_key", "event_id"})


def mask_texts(person: Person, *, dry_run: bool, database: str) -> int:
    """Put the pseudonym where the address stands in any text of ours, and return in how many rows it did."""
    return sum(_mask(model, person, dry_run=dry_run, database=database) for model in SEARCHED)


def _mask(model: type[Model], person: Person, *, dry_run: bool, database: str) -> int:
    names = [field.name for field in model._meta.fields if isinstance(field, CharField) and not field.primary_key]
    if model is OutboxEntry:
        names.append("tags")
    # Lowered, because columns that are compared byte by byte tell cases apart on MySQL whatever they are asked.
    lowered = {f"lowered_{name}": Lower(Cast(name, TextField())) for name in names}
    rows = model._default_manager.using(database).annotate(**lowered)
    is_there = reduce(or_, (Q(**{f"{column}__contains": text}) for column in lowered for text in person.spellings))
    count = 0
    for row in list(rows.filter(is_there).values("pk", *names)):
        changes = {name: _masked(row[name], person) for name in names if _is_text_with(person, name, row[name])}
        if changes:
            count += 1
            if not dry_run:
                _write(model, row["pk"], changes, database)
    return count


def _is_text_with(person: Person, name: str, value: Any) -> bool:
    # The whole address of a recipient or a suppression is no text: others see to it.
    return person.is_in(value) and (name != "address" or value != person.address)


def _masked(value: Any, person: Person) -> Any:
    return [person.masked(item) for item in value] if isinstance(value, list) else person.masked(value)


def _write(model: type[Model], key: int, changes: dict[str, Any], database: str) -> None:
    row = model._default_manager.using(database).filter(pk=key)
    for name, value in changes.items():
        longest = getattr(model._meta.get_field(name), "max_length", None)
        changes[name] = value[:longest] if longest else value
    try:
        with transaction.atomic(using=database):
            row.update(**changes)
    except IntegrityError:
        # Two spellings of one address have become one.
        row.update(**{**changes, **dict.fromkeys(UNIQUE & changes.keys(), f"erased-{key}")})
