"""What a search term may name: an id, an address, or words of a recent subject."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet, Subquery
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from mail_outbox.core.addresses import normalise
from mail_outbox.models import Attempt, Recipient, UtcNow

LONGEST_ID = 20
"""Digits of the largest key there can be, and one: more of them are half a UUID, or a joke."""
RECENT = timedelta(days=7)
NEWEST = 10_000
"""Words are looked for in subjects no older than RECENT, and in no more than so many."""
MOST_WORDS = 8
SAME_ID = 100

HELP = format_lazy(
    _(
        "An id, a Message-ID or the provider's id, the whole address of a recipient, "
        "or words of a subject (the newest {newest} mails of the last {days} days)."
    ),
    newest=f"{NEWEST:,}",
    days=RECENT.days,
)


def find(entries: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Return the entries that the term names; every way goes through an index."""
    term = term.replace("\0", "").strip()
    if not term:
        return entries
    if term.isdecimal() and len(term) < LONGEST_ID:
        return entries.filter(pk=int(term))
    if " " not in term.strip("<>") or "@" in term:
        found = _named(entries, term)
        if found is not None:
            return found
    return _with_words(entries, term.split()[:MOST_WORDS])


def _named(entries: QuerySet[Any], term: str) -> QuerySet[Any] | None:
    """Look for the exact thing; None where the term is a word like any other."""
    attempts = Attempt.objects.using(entries.db).filter(provider_message_id__in=[term, f"<{term}>", term.strip("<>")])
    by_provider = list(attempts.filter(provider_message_id__gt="").values_list("entry_id", flat=True)[:SAME_ID])
    if by_provider:
        return entries.filter(pk__in=by_provider)
    if "@" in term:
        addressed = Recipient.objects.using(entries.db).filter(address=normalise(term))
        if addressed.exists():
            return entries.filter(pk__in=addressed.values("entry_id"))
        return entries.filter(message_id__in=[term, f"<{term}>"])
    try:
        return entries.filter(uuid=UUID(term))
    except ValueError:
        return None


def _with_words(entries: QuerySet[Any], words: list[str]) -> QuerySet[Any]:
    everything = type(entries)(entries.model, using=entries.db)
    newest = Subquery(everything.order_by("-pk").values("pk")[:1])
    wanted = Q(pk__gt=newest - NEWEST, created_at__gte=UtcNow() - RECENT)
    # Whoever could search them could guess a code in a subject digit by digit.
    wanted &= Q(sensitive=False)
    for word in words:
        wanted &= Q(subject__icontains=word)
    return entries.filter(wanted)
