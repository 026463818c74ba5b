"""From sending to what comes next: decisions and attempts, written in the batches that form by themselves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.models import F, QuerySet

from mail_outbox.core.outcomes import Kind, Outcome
from mail_outbox.core.retry import Decision
from mail_outbox.core.states import FINISHED, State
from mail_outbox.models import TEXT_LENGTH, Attempt, OutboxEntry, Recipient, RecipientStatus, UtcNow
from mail_outbox.transitions.locking import DATABASE_AWAY


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
    except DatabaseError:
        effective = []
    for settlement in settlements:
        try:
            effective += _settle_together([settlement], database)
        except DATABASE_AWAY:
            raise
        except DatabaseError:
            _settle_without_facts(settlement, database)
    return effective


def _settle_together(settlements: Sequence[Settlement], database: str) -> list[Settlement]:
    plain = [settlement for settlement in settlements if settlement.is_plain_success]
    others = [settlement for settlement in settlements if not settlement.is_plain_success]
    with transaction.atomic(using=database):
        if plain:
            _write_successes(plain, database)
        effective = plain + [settlement for settlement in others if _write_decision(settlement, database)]
        # Last: InnoDB locks the entry of each new attempt for sharing, and whoever turns that into a lock for writing
        # deadlocks with a caller who cancels or holds the entry meanwhile.
        _write_attempts(settlements, database)
        return effective


def _settle_without_facts(settlement: Settlement, database: str) -> None:
    """Write no attempt: the entry is gone, or what is to be said of the attempt cannot be stored."""
    with transaction.atomic(using=database):
        if settlement.is_plain_success:
            _write_successes([settlement], database)
        else:
            _write_decision(settlement, database)


def _write_successes(settlements: Sequence[Settlement], database: str) -> None:
    keys = sorted(settlement.entry.pk for settlement in settlements)
    (
        OutboxEntry.objects.using(database)
        .filter(pk__in=keys)
        .exclude(state=State.SENT)
        .update(
            state=State.SENT,
            state_reason="",
            outcome_kind=Kind.SENT,
            outcome_code="",
            outcome_text="",
            claim_id=None,
            lease_expires_at=None,
            finished_at=UtcNow(),
        )
    )
    everybody = [settlement.entry.pk for settlement in settlements if settlement.only is None]
    open_recipients = Recipient.objects.using(database).filter(status=RecipientStatus.OPEN)
    if everybody:
        open_recipients.filter(entry_id__in=everybody).update(status=RecipientStatus.ACCEPTED)
    for settlement in settlements:
        if settlement.only is not None:
            _addressed(settlement, database).update(status=RecipientStatus.ACCEPTED)


def _write_decision(settlement: Settlement, database: str) -> bool:
    """Write one decision and what became of the recipients; tell whether the claim still held."""
    outcome = settlement.outcome
    is_fact = outcome is not None and outcome.kind is Kind.PARTIAL
    entries = OutboxEntry.objects.using(database).filter(pk=settlement.entry.pk)
    if is_fact and settlement.decision.state is State.SENT:
        entries = entries.exclude(state=State.SENT)
    else:
        entries = entries.filter(state=State.SENDING, claim_id=settlement.claim_id)
    is_ours = bool(update_state(entries, settlement.decision, outcome))
    if outcome is not None and (is_ours or is_fact):
        _write_recipients(settlement, outcome, database)
    return is_ours


def update_state(entries: QuerySet[OutboxEntry], decision: Decision, outcome: Outcome | None) -> int:
    """Write the decision on the entries, and return how many there were."""
    changes: dict[str, object] = {
        "state": decision.state,
        "state_reason": cut(decision.reason),
        "claim_id": None,
        "lease_expires_at": None,
        "finished_at": UtcNow() if decision.state in FINISHED else None,
    }
    if decision.due_after is not None:
        changes["due_at"] = UtcNow() + decision.due_after
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
    for address, refusal in outcome.refused.items():
        status = RecipientStatus.REFUSED if refusal.for_good else RecipientStatus.OPEN
        addressed.filter(address=address).update(status=status, code=cut(refusal.code, 64), text=cut(refusal.text))
    if outcome.kind is Kind.PARTIAL:
        addressed.exclude(address__in=list(outcome.refused)).update(status=RecipientStatus.ACCEPTED)
    gave_up = outcome.kind is not Kind.AMBIGUOUS and settlement.decision.state in {State.FAILED, State.SENT}
    if gave_up:
        # A refusal for now that will not be tried again has become one for good.
        leftover = addressed.filter(status=RecipientStatus.OPEN)
        leftover.update(status=RecipientStatus.REFUSED)


def _addressed(settlement: Settlement, database: str) -> QuerySet[Recipient]:
    recipients = Recipient.objects.using(database).filter(entry_id=settlement.entry.pk, status=RecipientStatus.OPEN)
    return recipients if settlement.only is None else recipients.filter(address__in=settlement.only)


def _write_attempts(settlements: Iterable[Settlement], database: str) -> None:
    attempts = [
        Attempt(
            entry=settlement.entry,
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
    if attempts:
        # A settle that is written again after a lost answer finds its own attempts there already.
        Attempt.objects.using(database).bulk_create(attempts, ignore_conflicts=True)


def cut(text: str, length: int = TEXT_LENGTH) -> str:
    """Return what fits a stored text: no NUL, no lone surrogates, at most so many characters."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:length]
