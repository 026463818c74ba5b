"""From the history, the journals of the providers and the final rows to a verdict; pure, so that it can be tested itself.

The model is Jepsen's total-queue, with the duplicates told apart: those that a recorded ambiguous attempt explains, and
the others, of which there must be none. Each field of the verdict is one invariant.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum

from mail_outbox.core.outcomes import Kind
from mail_outbox.core.retry import AMBIGUOUS_RETRIES
from mail_outbox.core.states import TRANSITIONS, UNFINISHED, State
from tests.totalqueue.history import Event, of_kind

EXCUSED = frozenset({State.HELD, State.FAILED, State.EXPIRED, State.CANCELLED})
"""States in which a committed mail need not have gone out, if a reason stands beside them."""
SENT_KINDS = frozenset({Kind.SENT, Kind.PARTIAL})
CHANGES = frozenset(
    (before, after) for table in TRANSITIONS.values() for before, afters in table.items() for after in afters
)


class Fate(StrEnum):
    """What the caller of enqueue knows of its transaction."""

    COMMITTED = "ok"
    ROLLED_BACK = "fail"
    UNKNOWN = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """One copy of a mail that a provider took responsibility for, to one recipient."""

    key: str
    recipient: str
    provider: str = ""
    message_id: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One entry as it stands in the end; `kinds` are its attempts, `accepted` the recipients it says have the mail.

    `put_back` counts how often a person sent it once more, `recognised` the ambiguous attempts that the provider knew from
    a repetition; `is_vouched_for` where a person has said that it arrived.
    """

    key: str
    state: str
    reason: str = ""
    on_ambiguous: str = "retry"
    attempts: int = 1
    max_attempts: int = 30
    kinds: Sequence[str] = ()
    accepted: frozenset[str] = frozenset()
    has_claim: bool = False
    put_back: int = 0
    recognised: int = 0
    is_vouched_for: bool = False

    @property
    def ambiguous(self) -> int:
        """Count the attempts that nobody can know the end of."""
        return self.kinds.count(Kind.AMBIGUOUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of state, as the database saw it."""

    key: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a run left behind; `settled` are the keys whose success a worker has written, and been told so."""

    fates: Mapping[str, Fate]
    accepts: Sequence[Accept]
    rows: Sequence[Row]
    changes: Sequence[Change] = ()
    settled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which keys break which invariant: all must be empty; and what was counted besides."""

    lost: tuple[str, ...] = ()
    """I1: committed, never accepted, and no recorded reason why not."""
    unexpected: tuple[str, ...] = ()
    """I2: accepted or there as a row, and rolled back or never tried."""
    unexplained: tuple[str, ...] = ()
    """I3: more copies than ambiguous attempts allow; under `hold` any second copy."""
    unfounded: tuple[str, ...] = ()
    """I4: said to be sent, and never accepted."""
    different: tuple[str, ...] = ()
    """I5: copies with different Message-IDs or bytes at one provider."""
    overtried: tuple[str, ...] = ()
    """I6: more attempts than allowed, or more ambiguous ones than are repeated."""
    forbidden: tuple[str, ...] = ()
    """I8: a change of state that the table does not have."""
    forgotten: tuple[str, ...] = ()
    """I8: a success that was written, and does not stand."""
    unfinished: tuple[str, ...] = ()
    """I9: not terminal after healing, or terminal and still claimed."""
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def broken(self) -> dict[str, tuple[str, ...]]:
        """Return the invariants that do not hold, with the keys that break them."""
        names = [each.name for each in fields(self) if each.name != "counts"]
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    @property
    def is_valid(self) -> bool:
        """Tell whether every invariant holds."""
        return not self.broken


def fates_of(events: Iterable[Event]) -> dict[str, Fate]:
    """Return what is known of every key: committed if any attempt says so, rolled back only if all do."""
    told: dict[str, Counter[str]] = defaultdict(Counter)
    for event in of_kind(events, "invoke", *Fate):
        told[event["key"]][event["event"]] += 1
    return {key: _fate(counts) for key, counts in told.items()}


def _fate(counts: Counter[str]) -> Fate:
    if counts[Fate.COMMITTED]:
        return Fate.COMMITTED
    return Fate.ROLLED_BACK if counts[Fate.ROLLED_BACK] >= counts["invoke"] else Fate.UNKNOWN


def check(evidence: Evidence) -> Verdict:
    """Judge the evidence."""
    rows = {row.key: row for row in evidence.rows}
    copies = Counter((accept.key, accept.recipient) for accept in evidence.accepts)
    accepted = {accept.key for accept in evidence.accepts}
    return Verdict(
        lost=_sorted(
            key for key, fate in evidence.fates.items() if _is_lost(fate, rows.get(key), is_accepted=key in accepted)
        ),
        unexpected=_sorted(key for key in accepted | rows.keys() if not _may_exist(evidence.fates.get(key))),
        unexplained=_sorted(key for (key, _), count in copies.items() if _is_unexplained(count, rows.get(key))),
        unfounded=_sorted(row.key for row in evidence.rows if _is_unfounded(row, copies, is_there=row.key in accepted)),
        different=_differing(evidence.accepts),
        overtried=_sorted(row.key for row in evidence.rows if _is_overtried(row)),
        forbidden=_sorted(change.key for change in evidence.changes if (change.before, change.after) not in CHANGES),
        forgotten=_sorted(key for key in evidence.settled if key in rows and rows[key].state != State.SENT),
        unfinished=_sorted(row.key for row in evidence.rows if row.state in UNFINISHED or row.has_claim),
        counts=_counts(evidence, rows, copies),
    )


def _is_lost(fate: Fate, row: Row | None, *, is_accepted: bool) -> bool:
    if fate is not Fate.COMMITTED or is_accepted:
        return False
    if row is not None and row.is_vouched_for:
        return False
    return row is None or row.state not in EXCUSED or not row.reason


def _may_exist(fate: Fate | None) -> bool:
    return fate in (Fate.COMMITTED, Fate.UNKNOWN)


def _is_unexplained(count: int, row: Row | None) -> bool:
    if row is None:
        return count > 1
    return count - 1 > row.put_back + (0 if row.on_ambiguous == "hold" else row.ambiguous)


def _is_unfounded(row: Row, copies: Counter[tuple[str, str]], *, is_there: bool) -> bool:
    if row.is_vouched_for:
        return False
    if row.state == State.SENT and not is_there:
        return True
    return any(not copies[row.key, recipient] for recipient in row.accepted)


def _is_overtried(row: Row) -> bool:
    unclear = row.ambiguous - row.recognised
    return row.attempts > row.max_attempts + row.put_back or unclear > (AMBIGUOUS_RETRIES + 1) * (row.put_back + 1)


def _differing(accepts: Iterable[Accept]) -> tuple[str, ...]:
    seen: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for accept in accepts:
        seen[accept.key, accept.provider].add((accept.message_id, accept.digest))
    return _sorted(key for (key, _), kinds in seen.items() if len(kinds) > 1)


def _counts(evidence: Evidence, rows: Mapping[str, Row], copies: Counter[tuple[str, str]]) -> dict[str, int]:
    """Count what is worth telling of a run; the duplicates are those that are explained, and the others."""
    fates = Counter(evidence.fates.values())
    accepted = {key for key, _ in copies}
    held = [row for row in evidence.rows if row.state == State.HELD]
    return {
        "committed": fates[Fate.COMMITTED],
        "rolled_back": fates[Fate.ROLLED_BACK],
        "unknown": fates[Fate.UNKNOWN],
        "recovered": sum(fate is Fate.UNKNOWN and key in accepted for key, fate in evidence.fates.items()),
        "accepted": sum(copies.values()),
        "duplicates": sum(count - 1 for count in copies.values()),
        "duplicates_under_hold": sum(
            count - 1 for (key, _), count in copies.items() if key in rows and rows[key].on_ambiguous == "hold"
        ),
        "ambiguous": sum(row.ambiguous for row in evidence.rows),
        "sent": sum(row.state == State.SENT for row in evidence.rows),
        "failed": sum(row.state == State.FAILED for row in evidence.rows),
        "held": len(held),
        "held_and_delivered": sum(row.key in accepted for row in held),
    }


def _sorted(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(keys)))
