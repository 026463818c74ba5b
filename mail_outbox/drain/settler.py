"""From results to facts: decide, settle together, tell the mailer's state and those who listen."""

import random
from collections import defaultdict
from typing import Any

from mail_outbox import signals, transitions
from mail_outbox.conf import Conf
from mail_outbox.core.outcomes import Outcome
from mail_outbox.core.retry import Decision, decide
from mail_outbox.core.states import State
from mail_outbox.drain.fitness import Fitness
from mail_outbox.drain.result import Tally
from mail_outbox.drain.work import Result, policy_of
from mail_outbox.models import OutboxEntry
from mail_outbox.transitions import Settlement

luck = random.SystemRandom().random


class Settler:
    """Keeps what has finished until it is written: the mail is out, so the fact must land."""

    def __init__(self, database: str, fitness: Fitness) -> None:
        self._database = database
        self._fitness = fitness
        self._unsettled: list[Result] = []
        self._unnoted: list[Settlement] = []

    def add(self, result: Result) -> None:
        """Take a result; it is written by the next `settle`."""
        self._unsettled.append(result)

    @property
    def has_facts(self) -> bool:
        """Tell whether something has finished that is not written yet."""
        return bool(self._unsettled)

    def settle(self, conf: Conf, tally: Tally) -> None:
        """Write all that has finished in one go; on an error of the database everything is kept for the next time."""
        self._note_outcomes()
        if not self._unsettled:
            return
        results = list(self._unsettled)
        settlements = [_settlement(result, conf) for result in results]
        effective = transitions.settle(settlements, database=self._database)
        del self._unsettled[: len(results)]
        self._unnoted += settlements
        tally.update(_name(settlement) for settlement in settlements)
        announce(effective)
        self._note_outcomes()

    def _note_outcomes(self) -> None:
        """Tell the mailers' state what has been settled, once: a lost claim is an outcome of the mailer's too."""
        by_mailer: dict[str, list[Outcome]] = defaultdict(list)
        for settlement in self._unnoted:
            outcomes = by_mailer[settlement.entry.using]
            if settlement.outcome is not None:
                outcomes.append(settlement.outcome)
        for alias, outcomes in by_mailer.items():
            self._fitness.note(alias, outcomes, luck=luck())
            self._unnoted = [settlement for settlement in self._unnoted if settlement.entry.using != alias]


def _settlement(result: Result, conf: Conf) -> Settlement:
    job = result.job
    return Settlement(
        entry=job.entry,
        claim_id=job.claim_id,
        outcome=result.outcome,
        decision=_decision(result, conf),
        started_at=result.started_at,
        duration=result.duration,
        only=job.only,
    )


def _decision(result: Result, conf: Conf) -> Decision:
    if result.outcome is None:
        assert result.decision is not None, "no attempt, so a decision was made instead"  # noqa: S101
        return result.decision
    job = result.job
    return decide(result.outcome, history=job.history, policy=policy_of(job.entry, conf), luck=luck())


def _name(settlement: Settlement) -> str:
    if settlement.outcome is not None:
        return str(settlement.outcome.kind)
    return "held" if settlement.decision.state is State.HELD else "given_back"


def announce(settlements: list[Settlement]) -> None:
    """Tell whoever listens what has been settled, after the commit."""
    for settlement in settlements:
        entry, decision, outcome = settlement.entry, settlement.decision, settlement.outcome
        entry.state, entry.state_reason = decision.state, decision.reason
        if outcome is not None:
            entry.outcome_kind, entry.outcome_code, entry.outcome_text = outcome.kind, outcome.code, outcome.text
            _send(signals.attempt_finished, entry=entry, outcome=outcome, duration=settlement.duration)
        _send(signals.entry_settled, entry=entry, state=decision.state, previous=State.SENDING)


def _send(signal: Any, **arguments: Any) -> None:
    # send_robust logs what a receiver raises: nobody's mistake may stop the mail.
    signal.send_robust(sender=OutboxEntry, **arguments)
