"""From finished to gone: old entries, the contents of those that were sent, and the attachments that nobody needs any more."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import timedelta
from typing import Literal

from django.db import connections, transaction
from django.db.models import BooleanField, Exists, ExpressionWrapper, Model, OuterRef, Q, QuerySet

from mail_outbox.core.counts import Counts
from mail_outbox.core.retention import Retention
from mail_outbox.core.states import FINISHED, State
from mail_outbox.models import (
    Attachment,
    AttachmentUse,
    Attempt,
    DeliveryEvent,
    EntryContent,
    OutboxEntry,
    StoredFile,
    UtcNow,
)
from mail_outbox.transitions.counting import count_before_pruning, take_mark
from mail_outbox.transitions.locking import ANY, BATCH, change, delete_exactly, exactly, lock_free_rows
from mail_outbox.transitions.storing import delete_pieces, let_files_go


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult(Counts):
    """What was removed: entries, their attempts and delivery events, contents of entries that stay, attachments nobody needs, their files."""

    entries: int = 0
    attempts: int = 0
    events: int = 0
    contents: int = 0
    attachments: int = 0
    files: int = 0

    def __bool__(self) -> bool:
        return any(astuple(self))


NOTHING = PruneResult()

FactName = Literal["attempts", "events"]
FACTS: Mapping[FactName, tuple[type[Model], str]] = {
    "attempts": (Attempt, "started_at"),
    "events": (DeliveryEvent, "received_at"),
}
"""What each is called, and when it happened."""


def prune_entries(state: State, age: timedelta, *, limit: int = BATCH, database: str) -> PruneResult:
    """Remove up to `limit` of the entries that came to this end so long ago, with all that is only theirs."""
    entries = OutboxEntry.objects.using(database)
    old = entries.finished_for(age, state=state)
    if not old.exists():
        return NOTHING
    with transaction.atomic(using=database):
        mark = take_mark(database)
        found = lock_free_rows(old.order_by("finished_at", "pk"), limit, "pk", to_delete=True)
        keys = [key for (key,) in found]
        keys = _without_copies_held(keys, database)
        names = names_used_by(keys, database=database)
        count_before_pruning(keys, mark, database=database)
        # Django's own delete, because a project's tables may refer to entries.
        with exactly(database):
            _, counts = entries.filter(pk__in=keys).only("pk").delete()
    return PruneResult(
        entries=counts.get(OutboxEntry._meta.label, 0),
        attempts=counts.get(Attempt._meta.label, 0),
        events=counts.get(DeliveryEvent._meta.label, 0),
        attachments=prune_attachments(names, database=database),
    )


def _without_copies_held(keys: Sequence[int], database: str) -> list[int]:
    """Leave those for later whose copies somebody holds: they forget where they come from, and may not be waited for."""
    copies = OutboxEntry.objects.using(database).filter(resent_from__in=keys)
    origins = dict(copies.values_list("pk", "resent_from"))
    ours = copies.filter(pk__in=origins).order_by("pk")
    held = origins.keys() - {key for (key,) in lock_free_rows(ours, len(origins), "pk")} if origins else set()
    return sorted(set(keys) - {origins[key] for key in held})


def prune_contents(age: timedelta, *, limit: int = BATCH, database: str) -> PruneResult:
    """Remove the contents of up to `limit` of the entries that were sent so long ago."""
    entries = OutboxEntry.objects.using(database)
    if not entries.sent_for(age).exists():
        return NOTHING
    with transaction.atomic(using=database):
        keys = [key for (key,) in lock_free_rows(entries.sent_for(age).order_by("finished_at", "pk"), limit, "pk")]
        names = names_used_by(keys, database=database)
        with exactly(database):
            EntryContent.objects.using(database).filter(pk__in=keys).only("pk").delete()
        count = change(keys, ANY, database=database, has_content=False)
    return PruneResult(contents=count, attachments=prune_attachments(names, database=database))


def prune_facts(
    name: FactName, age: timedelta, *, after: int = 0, limit: int = BATCH, database: str
) -> tuple[PruneResult, int | None]:
    """Remove what is so old of the next attempts or events of finished entries; return that, and where to go on or None.

    They are written in the order in which they happened, so the first that is young ends the search.
    """
    model, moment = FACTS[name]
    facts = model._default_manager.using(database)
    is_old = ExpressionWrapper(Q(**{f"{moment}__lte": UtcNow() - age}), output_field=BooleanField())
    following = facts.filter(pk__gt=after).order_by("pk").annotate(is_old=is_old)
    rows = list(following.values_list("pk", "is_old", "entry__state")[:limit])
    old = [key for key, is_old, state in rows if is_old and state in FINISHED]
    with exactly(database):
        count = facts.filter(pk__in=old).only("pk").delete()[1].get(model._meta.label, 0) if old else 0
    is_more = len(rows) == limit and all(is_old for _, is_old, _ in rows)
    return PruneResult(**{name: count}), rows[-1][0] if is_more else None


def prune_attachments(names: Iterable[str], *, database: str) -> int:
    """Remove those of the attachments that no entry needs, and return how many there were; their files are left to go."""
    attachments = Attachment.objects.using(database)
    unused = list(_unused(attachments.filter(digest__in=list(names))).values_list("digest", flat=True))
    if not unused:
        return 0
    with transaction.atomic(using=database):
        skip_locked = connections[database].features.has_select_for_update_skip_locked
        ours = attachments.filter(digest__in=unused).select_for_update(skip_locked=skip_locked).order_by("digest")
        held = list(ours.values_list("digest", flat=True))
        # A statement of its own sees who has linked to them since; nobody can any more, until this has committed.
        rows = list(_unused(attachments.filter(digest__in=held)).values_list("digest", "storage", "storage_name"))
        free = [digest for digest, *_ in rows]
        let_files_go([(storage, name) for _, storage, name in rows if name], database=database)
        delete_pieces(free, database=database)
        delete_exactly(attachments.filter(digest__in=free))
    return len(free)


def prune_unused_attachments(*, after: str, limit: int = BATCH, database: str) -> tuple[PruneResult, str | None]:
    """Remove what nobody needs of the next attachments after a digest; return that, and the last digest but at the end.

    Finds what a replaced or deleted entry has left behind, or a prune that was interrupted.
    """
    following = Attachment.objects.using(database).filter(digest__gt=after).order_by("digest")
    names = list(following.values_list("digest", flat=True)[:limit])
    result = PruneResult(attachments=prune_attachments(names, database=database))
    return result, names[-1] if len(names) == limit else None


def count_prunable(retention: Retention, *, database: str) -> PruneResult:
    """Count what a prune would remove."""
    entries = OutboxEntry.objects.using(database)
    going = Q(pk__in=[])
    for state in FINISHED:
        age = retention.of(state)
        if age is not None:
            going |= Q(state=state, finished_at__lte=UtcNow() - age)
    scrubbed = entries.none() if retention.content is None else entries.sent_for(retention.content).exclude(going)
    kept = entries.exclude(going).exclude(pk__in=scrubbed.values("pk"))
    needed = AttachmentUse.objects.using(database).filter(attachment=OuterRef("pk"), content__in=kept.values("pk"))
    unneeded = Attachment.objects.using(database).filter(~Exists(needed))
    due = StoredFile.objects.using(database).filter(due_at__lte=UtcNow())
    return PruneResult(
        entries=entries.filter(going).count(),
        attempts=_count_facts("attempts", retention.attempts, entries.filter(going), database),
        events=_count_facts("events", retention.events, entries.filter(going), database),
        contents=scrubbed.count(),
        attachments=unneeded.count(),
        files=unneeded.exclude(storage_name="").count() + due.count(),
    )


def _count_facts(name: FactName, age: timedelta | None, going: QuerySet[OutboxEntry], database: str) -> int:
    model, moment = FACTS[name]
    counted = Q(entry__in=going.values("pk"))
    if age is not None:
        counted |= Q(entry__state__in=FINISHED, **{f"{moment}__lte": UtcNow() - age})
    return model._default_manager.using(database).filter(counted).count()


def _unused(attachments: QuerySet[Attachment]) -> QuerySet[Attachment]:
    uses = AttachmentUse.objects.using(attachments.db).filter(attachment=OuterRef("pk"))
    return attachments.filter(~Exists(uses))


def names_used_by(keys: Sequence[int], *, database: str) -> set[str]:
    """List the attachments that the entries need."""
    uses = AttachmentUse.objects.using(database).filter(content__in=keys)
    return set(uses.values_list("attachment_id", flat=True))
