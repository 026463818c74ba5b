"""An eye on what becomes of the mails of this run."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from django.db.models import Count, Max, Min, QuerySet

from example_project.demo.samples import UNLUCKY
from example_project.shop.models import Order
from mail_outbox.core.states import UNFINISHED, State
from mail_outbox.models import OutboxEntry, Recipient


class Watch:
    """The mails that were enqueued since the watch began."""

    def __init__(self) -> None:
        self._since: int = OutboxEntry.objects.aggregate(newest=Max("pk"))["newest"] or 0

    @property
    def mails(self) -> QuerySet[OutboxEntry]:
        """Return the mails of this run."""
        return OutboxEntry.objects.filter(pk__gt=self._since)

    def counts(self) -> Counter[str]:
        """Count the mails by state."""
        rows = self.mails.values_list("state").annotate(count=Count("pk")).order_by()
        return Counter(dict(rows))

    def first_delivered_at(self) -> datetime | None:
        """Return when the first mail was delivered, or None."""
        first: datetime | None = self.mails.filter(state=State.SENT).aggregate(first=Min("finished_at"))["first"]
        return first

    def overtaken_by(self, order_mail: OutboxEntry) -> int:
        """Count the newsletters that were still to come when the order placed behind them had its mail."""
        delivered_at = self.mails.get(pk=order_mail.pk).finished_at
        return (
            0 if delivered_at is None else self.mails.filter(using="newsletter", finished_at__gt=delivered_at).count()
        )

    def table(self) -> list[str]:
        """Count the mails by mailer and state, as the lines of a table."""
        rows = self.mails.values_list("using", "state").annotate(count=Count("pk")).order_by()
        cells = {(using, state): count for using, state, count in rows}
        mailers = sorted({using for using, _ in cells})
        states = [state for state in State if any(column == state for _, column in cells)]
        lines = [[using, *(str(cells.get((using, state), 0)) for state in states)] for using in mailers]
        return _aligned([["mailer", *states], *lines])


def is_rollback_clean() -> bool:
    """Tell whether nothing remains of the order that was rolled back: no order, and no mail."""
    is_ordered = Order.objects.filter(email=UNLUCKY["email"]).exists()
    return not is_ordered and not Recipient.objects.filter(address=UNLUCKY["email"]).exists()


def is_settled(counts: Mapping[str, int]) -> bool:
    """Tell whether no mail is waiting or on its way."""
    return not any(counts[state] for state in UNFINISHED)


def line_of(counts: Mapping[str, int]) -> str:
    """Say in one line where the mails are."""
    return " · ".join(f"{counts[state]} {state}" for state in State if counts[state]) or "no mail yet"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))])
        for name, *cells in rows
    ]
