"""What every single step may do to the rows: looked at after each of them."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from mail_outbox.core.states import FINISHED, WAITING, State, Verb, is_allowed
from mail_outbox.models import OutboxEntry, Recipient, RecipientStatus, Suppression, UtcNow

COLUMNS = (
    "pk",
    "message_id",
    "using",
    "state",
    "attempts",
    "claim_id",
    "due_at",
    "lease_expires_at",
    "expires_at",
    "finished_at",
    "state_reason",
)
BY_HAND = frozenset({Verb.RETRY, Verb.RELEASE, Verb.RESCHEDULE})
"""What a person puts back on the way, although it may have gone out."""
REASONED = frozenset({State.FAILED, State.HELD, State.EXPIRED, State.CANCELLED})


@dataclass(frozen=True, slots=True)
class Seen:
    """One entry, as it stood after a step."""

    pk: int
    message_id: str
    using: str
    state: State
    attempts: int
    claim_id: UUID | None
    due_at: datetime
    lease_expires_at: datetime | None
    expires_at: datetime | None
    finished_at: datetime | None
    state_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """What a step may do: by which verbs, holding which claims, and whether entries may come or go."""

    verbs: frozenset[Verb] = frozenset()
    claims: frozenset[UUID] = frozenset()
    may_come: bool = False
    may_go: bool = False


class Watch:
    """Remembers the rows, and says what a step has done that it may not."""

    def __init__(self, name: Callable[[str], str]) -> None:
        self._name = name
        self.rows: dict[int, Seen] = {}
        self.put_back: Counter[int] = Counter()
        self.vouched: set[int] = set()
        self.changes: Counter[str] = Counter()

    def look(self, licence: Licence, *, now: datetime) -> list[str]:
        """Return what is wrong with what has happened since the last look."""
        rows = {row[0]: Seen(*row[:3], State(row[3]), *row[4:]) for row in OutboxEntry.objects.values_list(*COLUMNS)}
        wrong = list(self._compare(rows, licence, now))
        self.rows = rows
        return wrong

    def queued(self) -> list[str]:
        """Name the mailers that something waits for."""
        return sorted({row.using for row in self.rows.values() if row.state is State.QUEUED})

    def chores(self, now: datetime) -> list[str]:
        """Name what a worker that keeps house would find to do."""
        rows = self.rows.values()
        due = {
            "promote": any(row.state is State.SCHEDULED and row.due_at <= now for row in rows),
            "expire": any(
                row.state in WAITING and row.expires_at is not None and row.expires_at <= now for row in rows
            ),
            "rescue": any(row.lease_expires_at is not None and row.lease_expires_at <= now for row in rows),
        }
        return [name for name, is_due in due.items() if is_due]

    def known_to_have(self, key: int) -> set[str]:
        """Name the recipients of whom it is written that they have the mail."""
        accepted = Recipient.objects.filter(entry=key, status=RecipientStatus.ACCEPTED)
        return set(accepted.values_list("address", flat=True))

    def suppressed_among(self, key: int) -> set[str]:
        """Name the recipients who are not to be written to."""
        listed = Suppression.objects.filter(Q(until=None) | Q(until__gt=UtcNow()))
        theirs = Recipient.objects.filter(entry=key, address__in=listed.values("address"))
        return set(theirs.values_list("address", flat=True))

    def _compare(self, rows: dict[int, Seen], licence: Licence, now: datetime) -> Iterable[str]:
        if not licence.may_go and self.rows.keys() - rows.keys():
            yield f"{len(self.rows.keys() - rows.keys())} entries are gone"
        if not licence.may_come and rows.keys() - self.rows.keys():
            yield f"{len(rows.keys() - self.rows.keys())} entries have come from nowhere"
        for key in sorted(rows):
            after, before = rows[key], self.rows.get(key)
            yield from _standing(self._name(after.message_id), after)
            if before is not None and before != after:
                yield from self._change(before, after, licence, now)

    def _change(self, before: Seen, after: Seen, licence: Licence, now: datetime) -> Iterable[str]:
        what = f"{self._name(after.message_id)} {before.state} > {after.state}"
        if before.state is not after.state:
            verbs = [verb for verb in licence.verbs if is_allowed(verb, before.state, after.state)]
            if not verbs:
                yield f"{what}, which {sorted(licence.verbs)} may not do"
            self.changes[f"{before.state} > {after.state}"] += 1
            if BY_HAND & set(verbs) and before.state in FINISHED:
                self.put_back[after.pk] += 1
            if Verb.MARK_SENT in verbs:
                self.vouched.add(after.pk)
        elif before.claim_id != after.claim_id:
            yield f"{what}: claimed by somebody else meanwhile"
        yield from _attempts(what, before, after)
        yield from _claims(what, before, after, licence, now)


def _standing(what: str, row: Seen) -> Iterable[str]:
    """Yield what is wrong with a row, whatever has happened to it."""
    if (row.state is State.SENDING) != (row.claim_id is not None and row.lease_expires_at is not None):
        yield f"{what} is {row.state} with the claim {row.claim_id} until {row.lease_expires_at}"
    if (row.state in FINISHED) != (row.finished_at is not None):
        yield f"{what} is {row.state} and finished at {row.finished_at}"
    if row.state in REASONED and not row.state_reason:
        yield f"{what} is {row.state} without a reason"


def _attempts(what: str, before: Seen, after: Seen) -> Iterable[str]:
    more = after.attempts - before.attempts
    is_claim = after.state is State.SENDING and before.state is not State.SENDING
    may_be = {1} if is_claim else {0, -1} if before.state is State.SENDING else {0}
    if more not in may_be:
        yield f"{what}: attempts {before.attempts} > {after.attempts}"


def _claims(what: str, before: Seen, after: Seen, licence: Licence, now: datetime) -> Iterable[str]:
    if after.state is State.SENDING and before.state is not State.SENDING:
        if before.expires_at is not None and before.expires_at <= now:
            yield f"{what}: claimed past its expiry"
        return
    if before.state is not State.SENDING or after.state in (State.SENDING, State.SENT):
        return
    if Verb.RESCUE in licence.verbs:
        if before.lease_expires_at is not None and before.lease_expires_at > now:
            yield f"{what}: rescued before its lease was over"
    elif Verb.SETTLE in licence.verbs and before.claim_id not in licence.claims:
        yield f"{what}: settled without its claim"
