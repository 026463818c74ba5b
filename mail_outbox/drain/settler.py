"""From results to facts: decide, settle together, tell the mailer's state and those who listen."""

import logging
import random
import time
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mail_outbox import signals, transitions
from mail_outbox.conf import Conf
from mail_outbox.core.errors import stack_of
from mail_outbox.core.outcomes import BEFORE_THE_MAILER, Outcome
from mail_outbox.core.retry import Decision, History, decide
from mail_outbox.core.states import State
from mail_outbox.core.streaks import Ended
from mail_outbox.core.throttle import REACHED, is_hang
from mail_outbox.drain.fitness import Fitness
from mail_outbox.drain.result import Tally
from mail_outbox.drain.work import Result, policy_of
from mail_outbox.models import OutboxEntry
from mail_outbox.transitions import Settlement

logger = logging.getLogger("mail_outbox.worker")

NEVER = datetime.min.replace(tzinfo=UTC)
luck = random.SystemRandom().random


class Settler:
    """Keeps what has finished until it is written: the mail is out, so the fact must land."""

    def __init__(self, database: str, fitness: Fitness) -> None:
        self._database = database
        self._fitness = fitness
        self._results: list[Result] = []
        self._unnoted: list[Settlement] = []
        self._reached_at: dict[str, datetime] = defaultdict(lambda: NEVER)

    def add(self, result: Result) -> None:
        """Take a result; it is written by the next `settle`. Taken twice in a row, it is the same one."""
        if not self._results or self._results[-1] is not result:
            self._results.append(result)

    @property
    def has_facts(self) -> bool:
        """Tell whether something has finished that is not written yet."""
        return bool(self._results)

    def settle(self, conf: Conf, tally: Tally) -> None:
        """Write all that has finished in one go; on an error of the database everything is kept for the next time."""
        self._follow_streaks()
        if self._results:
            self._write(conf, tally)
        # Last, because the facts come first, whatever is in the way of this.
        self._note_outcomes()

    def _write(self, conf: Conf, tally: Tally) -> None:
        settlements = [_settlement(result, conf) for result in self._results]
        effective = transitions.settle(settlements, database=self._database)
        del self._results[: len(settlements)]
        self._unnoted += settlements
        tally.update(_name(settlement) for settlement in settlements)
        announce(effective)

    def _follow_streaks(self) -> None:
        """See, before anything is decided, which refusals are the mailer's trouble and not the message's."""
        for alias in dict.fromkeys(result.job.entry.using for result in self._results if not result.is_judged):
            # At one stroke: whatever strikes in between, each is kept once.
            self._results = _judged(alias, self._results, self._fitness)

    def _note_outcomes(self) -> None:
        """Tell the mailers' state what has been settled, once: a lost claim is an outcome of the mailer's too."""
        for alias in dict.fromkeys(settlement.entry.using for settlement in self._unnoted):
            told = [
                (each.started_at, each.duration or timedelta(0), each.outcome)
                for each in self._unnoted
                if each.entry.using == alias and each.outcome and each.outcome.code not in BEFORE_THE_MAILER
            ]
            outcomes = self._without_lone_hangs(alias, told)
            if outcomes or not told:
                self._fitness.note(alias, outcomes, luck=luck())
            self._unnoted = [settlement for settlement in self._unnoted if settlement.entry.using != alias]

    def _without_lone_hangs(self, alias: str, told: list[tuple[datetime, timedelta, Outcome]]) -> list[Outcome]:
        """Return the outcomes but for connections that hung while the mailer took other messages: it need not rest."""
        ends = [started_at + duration for started_at, duration, outcome in told if outcome.kind in REACHED]
        reached_at = self._reached_at[alias] = max(ends, default=self._reached_at[alias])
        return [outcome for started_at, _, outcome in told if started_at > reached_at or not is_hang(outcome)]


def _judged(alias: str, results: list[Result], fitness: Fitness) -> list[Result]:
    ours = [not result.is_judged and result.job.entry.using == alias for result in results]
    attempts = {
        number: Ended(result.job.entry.pk, result.job.entry.attempts, result.outcome)
        for number, result in enumerate(results)
        if ours[number] and result.outcome is not None
    }
    outcomes = dict(zip(attempts, fitness.follow_streaks(alias, list(attempts.values())), strict=True))
    return [
        replace(result, outcome=outcomes.get(number), is_judged=True) if ours[number] else result
        for number, result in enumerate(results)
    ]


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
    entry = result.job.entry
    try:
        return decide(result.outcome, history=_history_by_now(result), policy=policy_of(entry, conf), luck=luck())
    except Exception as error:  # noqa: BLE001 - the settings may be wrong, and the facts of the others must land
        about = {"entry": entry.pk, "mailer": entry.using, "error": type(error).__name__, "stack": stack_of(error)}
        logger.error("result cannot be decided on", extra=about)  # noqa: TRY400
        return Decision(state=State.HELD, reason=f"no decision could be made ({type(error).__name__})")


def _history_by_now(result: Result) -> History:
    """Return the history of the job, as it stands at this moment."""
    job = result.job
    passed = timedelta(seconds=time.monotonic() - job.read_at)
    left = job.history.key_left
    return replace(
        job.history, took=job.now + passed - result.started_at, key_left=None if left is None else left - passed
    )


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
