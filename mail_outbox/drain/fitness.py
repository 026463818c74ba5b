"""Which mailers may be used now, and by how many senders: pauses, breakers, probes, ramps."""

import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from mail_outbox import transitions
from mail_outbox.conf import Conf
from mail_outbox.core import streaks
from mail_outbox.core.outcomes import Outcome
from mail_outbox.core.throttle import REACHED, room_after_recovery, senders_allowed, trouble_in
from mail_outbox.drain.instances import Stranger, find_stranger
from mail_outbox.drain.warmth import Warmth
from mail_outbox.models import ALL_MAILERS, MailerState, UtcNow

logger = logging.getLogger("mail_outbox.worker")

PROBE_MARGIN = timedelta(seconds=10)


class Fitness:
    """What this worker knows of the mailers, read from the database about once a second."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._states: dict[str, MailerState] = {}
        self._now: datetime | None = None
        self._read_at = 0.0
        self._warmth = Warmth()
        self.stranger: Stranger | None = None
        self.probing: set[str] = set()

    def read(self, *, is_ours: bool = False, has_states: bool = True) -> None:
        """Read the pauses and breakers of all mailers in one query, and whether the database is another's in one more.

        Neither where somebody has just seen that it is ours, or that no mailer has a state.
        """
        known = self.stranger
        self.stranger = None if is_ours else find_stranger(database=self._database, is_first=True)
        if self.stranger is not None and self.stranger != known:
            told = {"database": self._database, "owner": self.stranger.owner, "instance": self.stranger.instance}
            logger.error("database of another instance", extra=told)
        rows = MailerState.objects.using(self._database).annotate(now=UtcNow())
        states = list(rows) if has_states else []
        self._states = {state.alias: state for state in states}
        self._now = states[0].now if states else None
        self._read_at = time.monotonic()

    def room(self, alias: str, room: int, conf: Conf) -> int:
        """Return how many of the free senders the mailer may use now; 0 where it is paused or broken."""
        if self._is_held_back(alias, conf):
            return 0
        state = self._states.get(alias)
        if state is not None and state.strikes:
            return 0 if self._is_ahead(state.broken_until) else min(room, 1)
        options = conf.options_of(alias)
        busy = options.concurrency - room
        allowed = self._warmth.senders(alias, options, busy=busy)
        if state is not None and state.recovered_at is not None:
            since = self._database_now() - state.recovered_at
            allowed = min(allowed, room_after_recovery(options.concurrency, since))
        if state is not None and options.rate is None:
            # With a rate it is the slots that lie wider apart.
            allowed = min(allowed, senders_allowed(options.concurrency, state.allowance_at(self._database_now())))
        return max(0, min(room, allowed - busy))

    def note_claim(self, alias: str, room: int, conf: Conf) -> None:
        """Note that the mailer, with so many senders free, is about to be tried."""
        options = conf.options_of(alias)
        self._warmth.note_claim(alias, options, busy=options.concurrency - room)

    def is_paused(self, alias: str) -> bool:
        """Tell whether a person has paused the mailer."""
        state = self._states.get(alias)
        if state is None or not state.is_paused:
            return False
        return state.paused_until is None or self._is_ahead(state.paused_until)

    def is_resting(self, alias: str, conf: Conf) -> bool:
        """Tell whether a newcomer should not try the mailer: paused by hand, or in trouble."""
        return self._is_held_back(alias, conf) or self.needs_probe(alias)

    def is_shut(self, alias: str, conf: Conf) -> bool:
        """Tell whether nothing may go through the mailer now, not even a probe: paused by hand, at rest, or being probed."""
        if self._is_held_back(alias, conf):
            return True
        state = self._states.get(alias)
        return state is not None and state.strikes > 0 and self._is_ahead(state.broken_until)

    def seconds_of_rest(self, alias: str) -> float | None:
        """Return how long the mailer still rests after trouble, or None where it does not."""
        state = self._states.get(alias)
        if state is None or not state.strikes or state.broken_until is None or self.is_paused(alias):
            return None
        return max(0.0, (state.broken_until - self._database_now()).total_seconds())

    def needs_probe(self, alias: str) -> bool:
        """Tell whether the mailer is in trouble, so that nothing but a probe may go through it."""
        state = self._states.get(alias)
        return state is not None and state.strikes > 0

    def take_probe(self, alias: str, conf: Conf) -> bool:
        """Tell whether this worker is the one that may try the mailer."""
        window = conf.deadline_of(alias) + PROBE_MARGIN
        is_ours = transitions.take_probe(alias, window=window, database=self._database)
        (self.probing.add if is_ours else self.probing.discard)(alias)
        self.read()
        return is_ours

    def give_probe_back(self, alias: str) -> None:
        """Let another worker try the mailer: there was nothing to send."""
        transitions.untake_probe(alias, database=self._database)
        self.probing.discard(alias)
        self.read()

    def note(self, alias: str, outcomes: Sequence[Outcome], *, luck: float) -> None:
        """Write what the attempts say about the mailer, where they say anything new."""
        probed = alias in self.probing
        if trouble_in(outcomes) is not None:
            self._warmth.note_trouble(alias)
        elif any(outcome.kind in REACHED for outcome in outcomes):
            self._warmth.note_reached(alias)
        if probed and not outcomes:
            # The probe never reached the mailer: its content could not be read, or it was given back.
            self.give_probe_back(alias)
        elif probed or trouble_in(outcomes) is not None:
            transitions.note_outcomes(alias, outcomes, probed=probed, luck=luck, database=self._database)
            self.probing.discard(alias)
            self.read()

    def follow_streaks(self, alias: str, attempts: Sequence[streaks.Ended]) -> list[Outcome]:
        """Return the outcomes of the attempts, refusals in a row turned into the mailer's trouble.

        Asks the database only where there is something to count. A success may miss a streak that another worker has
        begun since the last look; who completes it looks for such successes.
        """
        outcomes = [attempt.outcome for attempt in attempts]
        if not self._read_at:
            self.read()
        state = self._states.get(alias)
        if not streaks.matter(outcomes, is_following=state is not None and bool(state.streaks)):
            return outcomes
        outcomes = transitions.follow_streaks(alias, attempts, database=self._database)
        self.read()
        return outcomes

    def _is_held_back(self, alias: str, conf: Conf) -> bool:
        is_paused = conf.paused or self.is_paused(ALL_MAILERS) or self.is_paused(alias)
        return is_paused or self.stranger is not None

    def _database_now(self) -> datetime:
        assert self._now is not None, "asked only about states that have been read"  # noqa: S101
        return self._now + timedelta(seconds=time.monotonic() - self._read_at)

    def _is_ahead(self, moment: datetime | None) -> bool:
        return moment is not None and moment > self._database_now()
