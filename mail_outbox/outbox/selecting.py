"""Which entries a person means who cannot name them one by one."""

from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Q
from django.db.models.functions import Coalesce

from mail_outbox import conf as settings
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry, UtcNow
from mail_outbox.models.entry import EntryQuerySet


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the entries must all fulfil; what is empty asks nothing.

    `error` is the code of the last outcome, or stands in its text or in the reason of the state, in any spelling of case.
    `since` counts back from now to when they came to rest, or were enqueued where they have not. `template` is the name
    given to `enqueue_template`.
    """

    keys: tuple[int, ...] = ()
    state: State | None = None
    error: str = ""
    since: timedelta | None = None
    to: str = ""
    using: str = ""
    tag: str = ""
    template: str = ""

    @property
    def is_empty(self) -> bool:
        """Tell whether it asks nothing, and so means all there is."""
        return self == Selection()

    def entries(self, *, database: str | None = None) -> EntryQuerySet:
        """Return the entries as a queryset, in the order in which they were enqueued."""
        found: EntryQuerySet = OutboxEntry.objects.using(database or settings.get_conf().databases[0])
        if self.keys:
            found = found.filter(pk__in=self.keys)
        if self.state is not None:
            found = found.filter(state=self.state)
        if self.using:
            found = found.filter(using=self.using)
        if self.template:
            found = found.filter(template=self.template)
        if self.error:
            told = Q(outcome_text__icontains=self.error) | Q(state_reason__icontains=self.error)
            found = found.filter(Q(outcome_code=self.error) | told)
        if self.since is not None:
            found = found.alias(last_at=Coalesce("finished_at", "created_at"))
            found = found.filter(last_at__gte=UtcNow() - self.since)
        if self.tag:
            found = found.tagged(self.tag)
        if self.to:
            found = found.to(self.to)
        return found.order_by("pk")
