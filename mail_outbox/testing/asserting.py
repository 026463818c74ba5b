"""What has been enqueued, as assertions that say what there is instead."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db.models import Max, Model

from mail_outbox import conf as settings
from mail_outbox.models import OutboxEntry, label_of
from mail_outbox.models.entry import EntryQuerySet
from mail_outbox.testing.draining import drain_outbox

SHOWN = 20


def assert_enqueued(
    count: int | None = 1,
    *,
    to: str | Sequence[str] = (),
    template: str | None = None,
    related: Model | None = None,
    tag: str | None = None,
    database: str | None = None,
    **lookups: Any,
) -> list[OutboxEntry]:
    """Check that so many entries like this were enqueued (None: at least one), and return them, oldest first.

    `to` are addresses among the recipients, as to, cc or bcc; `template` is a name given to `enqueue_template`; everything
    else is a lookup on the entry, as `subject__contains="order"`, `using="bulk"` or `state="scheduled"`.
    """
    wanted = _given(to=to, template=template, related=related, tag=tag) | lookups
    return _check(count, wanted, _entries(database))


@contextmanager
def assert_enqueues(
    count: int | None = 1,
    *,
    to: str | Sequence[str] = (),
    template: str | None = None,
    related: Model | None = None,
    tag: str | None = None,
    database: str | None = None,
    **lookups: Any,
) -> Iterator[list[OutboxEntry]]:
    """Check that the block enqueues so many entries like this, whatever was there before; they are in the list it yields."""
    wanted = _given(to=to, template=template, related=related, tag=tag) | lookups
    last = _entries(database).aggregate(last=Max("pk"))["last"] or 0
    found: list[OutboxEntry] = []
    yield found
    found += _check(count, wanted, _entries(database).filter(pk__gt=last))


class OutboxTestMixin:
    """The assertions as methods, for unittest's and Django's test cases."""

    assertEnqueued = staticmethod(assert_enqueued)  # noqa: N815 - as unittest names them
    assertEnqueues = staticmethod(assert_enqueues)  # noqa: N815
    drain_outbox = staticmethod(drain_outbox)


def _given(**filters: Any) -> dict[str, Any]:
    return {name: value for name, value in filters.items() if value not in (None, ())}


def _entries(database: str | None) -> EntryQuerySet:
    return OutboxEntry.objects.using(database or settings.get_conf().databases[0])


def _check(count: int | None, wanted: dict[str, Any], entries: EntryQuerySet) -> list[OutboxEntry]:
    found = list(_matching(entries, **wanted).order_by("pk"))
    if len(found) == count or (count is None and found):
        return found
    like = "".join(f" {name}={value!r}" for name, value in wanted.items())
    expected = "at least 1 entry" if count is None else f"{count} {'entry' if count == 1 else 'entries'}"
    raise AssertionError(f"Expected {expected}{' with' + like if like else ''}, found {len(found)}.{_listed(entries)}")


def _matching(
    entries: EntryQuerySet,
    *,
    to: str | Sequence[str] = (),
    related: Model | None = None,
    tag: str | None = None,
    **lookups: Any,
) -> EntryQuerySet:
    for address in [to] if isinstance(to, str) else to:
        entries = entries.filter(pk__in=OutboxEntry.objects.using(entries.db).to(address).values("pk"))
    if related is not None:
        entries = entries.about(label_of(related))
    if tag is not None:
        entries = entries.tagged(tag)
    return entries.filter(**lookups)


def _listed(entries: EntryQuerySet) -> str:
    total = entries.count()
    if not total:
        return " Nothing was enqueued. (To look at what a block enqueues: `with assert_enqueues(…):`.)"
    shown = entries.order_by("pk").prefetch_related("recipients")[:SHOWN]
    more = f"\n  … and {total - SHOWN} more" if total > SHOWN else ""
    return f" Enqueued: {total}" + "".join(f"\n  {_line(entry)}" for entry in shown) + more


def _line(entry: OutboxEntry) -> str:
    to = ", ".join(recipient.address for recipient in entry.recipients.all())
    extras = {"template": entry.template, "related": entry.related, "tags": entry.tags}
    described = "".join(f" {name}={value!r}" for name, value in extras.items() if value)
    return f"#{entry.pk} {entry.state} subject={entry.subject!r} to={to!r} using={entry.using!r}{described}"
