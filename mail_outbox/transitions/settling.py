"""From sending to what comes next: decisions and attempts, written in the batches that form by themselves."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.constants import OnConflict

from mail_outbox.core.errors import stack_of
from mail_outbox.core.outcomes import SUPPRESSED, Kind, Outcome
from mail_outbox.core.retry import GIVE_BACK, SOME_REFUSED, Decision
from mail_outbox.core.states import FINISHED, OVER, State
from mail_outbox.models import TEXT_LENGTH, Attempt, OutboxEntry, Recipient, RecipientStatus, UtcNow
from mail_outbox.models.making import new
from mail_outbox.transitions.forgetting import forget_sensitive
from mail_outbox.transitions.inserting import insert_rows
from mail_outbox.transitions.locking import DATABASE_AWAY, change, locked
from mail_outbox.transitions.suppressing import feed

logger = logging.getLogger("mail_outbox.worker")

MAY_HAVE_ARRIVED = frozenset({Kind.PARTIAL, Kind.AMBIGUOUS})
"""Outcomes after which somebody may have the message, so that only the mailer that knows it may go on with it."""
FACTS = frozenset({Kind.SENT, Kind.PARTIAL})
"""Outcomes that say who has the message, whatever has been written of the entry and its recipients meanwhile."""
OVER_WITHOUT = OVER - {State.SENT}
"""The states in which nobody will be tried any more, and nobody seemed to have the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """One claimed entry and what is to be written of it; without an outcome no attempt was made."""

    entry: OutboxEntry
    claim_id: UUID
    decision: Decision
    outcome: Outcome | None = None
    started_at: datetime
    duration: timedelta | None = None
    only: frozenset[str] | None = None

    @property
    def is_plain_success(self) -> bool:
        """Tell whether everybody the attempt addressed accepted it."""
        return self.outcome is not None and self.outcome.kind is Kind.SENT


def settle(settlements: Sequence[Settlement], *, database: str) -> list[Settlement]:
    """Write what the attempts came to, and return the settlements that took effect.

    A success is a fact and is written even where the claim was lost; everything else needs the claim. Raises
    one of DATABASE_AWAY for the caller to try again: nothing is written then. A row that cannot be written fails alone.
    """
    try:
        return _settle_together(settlements, database)
    except DATABASE_AWAY:
        raise
    except Exception:  # noqa: BLE001 - whose it is shows when each is written by itself
        return [written for each in settlements for written in _settle_alone(each, database)]


def _settle_alone(settlement: Settlement, database: str) -> list[Settlement]:
    """Write one that may be what kept the others from being written: with its facts, without them, or not at all."""
    for write in (_settle_with_facts, _settle_without_facts, _set_aside):
        try:
            return write(settlement, database)
        except DATABASE_AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - a driver can raise anything at a value that it does not take
            if write is not _settle_with_facts:
                about = {"entry": settlement.entry.pk, "error": type(error).__name__, "stack": stack_of(error)}
                logger.error("result cannot be written", extra=about)  # noqa: TRY400
    return []


def give_back(claim_id: UUID, *, database: str) -> int:
    """Put back what was claimed and no sender ever had, its place in line kept, and return how many."""
    return update_state(OutboxEntry.objects.using(database).claimed(claim_id), GIVE_BACK, None)


def _settle_together(settlements: Sequence[Settlement], database: str) -> list[Settlement]:
    plain = [settlement for settlement in settlements if settlement.is_plain_success]
    others = [settlement for settlement in settlements if not settlement.is_plain_success]
    # Two who come to the same entries in two orders deadlock, and the other may be a caller who cancels or holds them.
    keys = sorted(settlement.entry.pk for settlement in settlements) if others else []
    with locked(keys, database=database):
        if plain:
            _write_successes(plain, database)
        effective = plain + [written for each in others if (written := _write_decision(each, database)) is not None]
        _forget(effective, database)
        # Last: InnoDB locks the entry of each new attempt for sharing, and whoever turns that into a lock for writing
        # deadlocks with a caller who cancels or holds the entry meanwhile.
        _write_attempts(settlements, database)
        feed(_suppressing(settlements), database=database)
        return effective


def _suppressing(settlements: Iterable[Settlement]) -> dict[str, str]:
    """Return the addresses that a provider writes to no more, each with what was said of it."""
    return {
        address: f"{refusal.code} by {settlement.entry.using}"
        for settlement in settlements
        if settlement.outcome is not None
        for address, refusal in settlement.outcome.refused.items()
        if refusal.suppresses and refusal.for_good
    }


def _settle_with_facts(settlement: Settlement, database: str) -> list[Settlement]:
    return _settle_together([settlement], database)


def _settle_without_facts(settlement: Settlement, database: str) -> list[Settlement]:
    """Write no attempt: the entry is gone, or what is to be said of the attempt cannot be stored."""
    with transaction.atomic(using=database):
        if settlement.is_plain_success:
            _write_successes([settlement], database)
        else:
            _write_decision(settlement, database)
        _forget([settlement], database)
    return []


def _set_aside(settlement: Settlement, database: str) -> list[Settlement]:
    """Hold the entry: the rescue would take it for one whose attempt nobody knows the end of."""
    what = "what was decided" if settlement.outcome is None else str(settlement.outcome.kind)
    held = replace(
        settlement, decision=Decision(state=State.HELD, reason=f"{what}, but that cannot be written"), outcome=None
    )
    written = _write_decision(held, database)
    return [] if written is None else [written]


def _forget(settlements: Iterable[Settlement], database: str) -> None:
    forget_sensitive([each.entry.pk for each in settlements if each.entry.sensitive], database=database)


def _write_successes(settlements: Sequence[Settlement], database: str) -> None:
    keys = sorted(settlement.entry.pk for settlement in settlements)
    change(
        keys,
        ~Q(state=State.SENT),
        database=database,
        state=State.SENT,
        state_reason="",
        outcome_kind=Kind.SENT,
        outcome_code="",
        outcome_text="",
        claim_id=None,
        lease_expires_at=None,
        finished_at=UtcNow(),
    )
    for settlement in settlements:
        if settlement.outcome is not None:
            _write_withheld(settlement, settlement.outcome, database)
    everybody = [settlement.entry.pk for settlement in settlements if settlement.only is None]
    if everybody:
        recipients = Recipient.objects.using(database).filter(entry_id__in=everybody, status__in=_open_to(Kind.SENT))
        recipients.update(status=RecipientStatus.ACCEPTED)
    for settlement in settlements:
        if settlement.only is not None:
            _addressed(settlement, database).update(status=RecipientStatus.ACCEPTED)


def _write_decision(settlement: Settlement, database: str) -> Settlement | None:
    """Write one decision and what became of the recipients; return it as it was written, or None without the claim."""
    outcome = settlement.outcome
    is_fact = outcome is not None and outcome.kind is Kind.PARTIAL
    entries = OutboxEntry.objects.using(database).filter(pk=settlement.entry.pk)
    if is_fact and settlement.decision.state is State.SENT:
        entries = entries.exclude(state=State.SENT)
    else:
        entries = entries.filter(state=State.SENDING, claim_id=settlement.claim_id)
    is_ours = bool(update_state(entries, settlement.decision, outcome))
    if is_fact and not is_ours:
        # Nobody will be tried any more, and somebody has it: a retry that "failed" invites to would write to them twice.
        over = OutboxEntry.objects.using(database).filter(pk=settlement.entry.pk, state__in=OVER_WITHOUT)
        late = replace(settlement, decision=SOME_REFUSED)
        if update_state(over, late.decision, outcome):
            settlement, is_ours = late, True
    if outcome is not None and (is_ours or is_fact):
        _write_recipients(settlement, outcome, database)
    return settlement if is_ours else None


def update_state(entries: QuerySet[OutboxEntry], decision: Decision, outcome: Outcome | None) -> int:
    """Write the decision on the entries, and return how many there were."""
    changes: dict[str, object] = {
        "state": decision.state,
        "state_reason": cut(decision.reason),
        "claim_id": None,
        "lease_expires_at": None,
        "finished_at": UtcNow() if decision.state in FINISHED else None,
    }
    if decision.using is not None:
        changes["using"] = decision.using
    if outcome is not None and outcome.kind in MAY_HAVE_ARRIVED:
        changes["is_pinned"] = True
    if decision.due_after is not None:
        changes["due_at"] = UtcNow() + decision.due_after
    if decision.recognised_for is not None:
        changes["recognised_until"] = UtcNow() + decision.recognised_for
    if not decision.counted:
        changes["attempts"] = F("attempts") - 1
    if outcome is not None:
        changes |= {
            "outcome_kind": outcome.kind,
            "outcome_code": cut(outcome.code, 64),
            "outcome_text": cut(outcome.text),
        }
    return entries.update(**changes)


def _write_recipients(settlement: Settlement, outcome: Outcome, database: str) -> None:
    addressed = _addressed(settlement, database)
    still_open = addressed.filter(status=RecipientStatus.OPEN)
    for address, refusal in outcome.refused.items():
        # Whom nobody wrote to has refused nothing.
        is_refused = refusal.for_good and address not in outcome.withheld
        status = RecipientStatus.REFUSED if is_refused else RecipientStatus.OPEN
        still_open.filter(address=address).update(status=status, code=cut(refusal.code, 64), text=cut(refusal.text))
    _write_withheld(settlement, outcome, database)
    if outcome.kind is Kind.PARTIAL:
        addressed.exclude(address__in=list(outcome.refused)).update(status=RecipientStatus.ACCEPTED)
    gave_up = outcome.kind is not Kind.AMBIGUOUS and settlement.decision.state in {State.FAILED, State.SENT}
    if gave_up:
        # A refusal for now that will not be tried again has become one for good.
        leftover = still_open.exclude(address__in=list(outcome.withheld))
        leftover.update(status=RecipientStatus.REFUSED)


def _write_withheld(settlement: Settlement, outcome: Outcome, database: str) -> None:
    """Note whom the guard or the list kept the message from."""
    over = {address: code for address, code in outcome.withheld.items() if _is_over(address, code, settlement, outcome)}
    for code in sorted(set(over.values())):
        addresses = [address for address, why in over.items() if why == code]
        _addressed(settlement, database).filter(address__in=addresses).update(
            status=RecipientStatus.SUPPRESSED, code=code
        )


def _is_over(address: str, code: str, settlement: Settlement, outcome: Outcome) -> bool:
    """Tell whether the recipient will get nothing any more."""
    if settlement.decision.state is State.SENT:
        return True
    if outcome.kind is Kind.PARTIAL:
        # What went out in its place is tried again.
        return address not in outcome.refused or outcome.refused[address].for_good
    # A retry asks the list again, but only whoever takes the guard away knows of it.
    return code == SUPPRESSED and settlement.decision.state in {State.FAILED, State.CANCELLED}


def _addressed(settlement: Settlement, database: str) -> QuerySet[Recipient]:
    kind = None if settlement.outcome is None else settlement.outcome.kind
    recipients = Recipient.objects.using(database).filter(entry_id=settlement.entry.pk, status__in=_open_to(kind))
    return recipients if settlement.only is None else recipients.filter(address__in=settlement.only)


def _open_to(kind: Kind | None) -> list[RecipientStatus]:
    """Return the states of recipients of which an outcome of this kind may still say something."""
    # A fact that comes late may find them refused by a later attempt, or given up.
    return [RecipientStatus.OPEN, RecipientStatus.REFUSED] if kind in FACTS else [RecipientStatus.OPEN]


def _write_attempts(settlements: Iterable[Settlement], database: str) -> None:
    attempts = [
        new(
            Attempt,
            entry_id=settlement.entry.pk,
            number=settlement.entry.attempts,
            claim_id=settlement.claim_id,
            using=settlement.entry.using,
            worker=settlement.entry.worker,
            started_at=settlement.started_at,
            duration=settlement.duration,
            kind=settlement.outcome.kind,
            code=cut(settlement.outcome.code, 64),
            text=cut(settlement.outcome.text),
            provider_message_id=cut(settlement.outcome.provider_message_id, 255),
        )
        for settlement in settlements
        if settlement.outcome is not None
    ]
    # A settle that is written again after a lost answer finds its own attempts there already.
    insert_rows(attempts, on_conflict=OnConflict.IGNORE, database=database)


def cut(text: str, length: int = TEXT_LENGTH) -> str:
    """Return what fits a stored text: no NUL, no lone surrogates, at most so many characters."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:length]
