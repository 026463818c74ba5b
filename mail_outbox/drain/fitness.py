"""Which mailers may be used now, and by how many senders: pauses, breakers, probes, ramps."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from mail_outbox import transitions
from mail_outbox.conf import Conf
from mail_outbox.core.outcomes import Outcome
from mail_outbox.core.throttle import room_after_recovery, trouble_in
from mail_outbox.models import ALL_MAILERS, MailerState, UtcNow

PROBE_MARGIN = timedelta(seconds=10)


class Fitness:
    """What this worker knows of the mailers, read from the database about once a second."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._states: dict[str, MailerState] = {}
        self._now: datetime | None = None
        self._read_at = 0.0
        self.probing: set[str] = set()

    def read(self) -> None:
        """Read the pauses and breakers of all mailers in one query."""
        states = list(MailerState.objects.using(self._database).annotate(now=UtcNow()))
        self._states = {state.alias: state for state in states}
        self._now = states[0].now if states else None
        self._read_at = time.monotonic()

    def room(self, alias: str, room: int, conf: Conf) -> int:
        """Return how many of the free senders the mailer may use now; 0 where it is paused or broken."""
        if conf.paused or self.is_paused(ALL_MAILERS) or self.is_paused(alias):
            return 0
        state = self._states.get(alias)
        if state is None:
            return room
        if state.strikes:
            return 0 if self._is_ahead(state.broken_until) else min(room, 1)
        if state.recovered_at is None:
            return room
        concurrency = conf.options_of(alias).concurrency
        allowed = room_after_recovery(concurrency, self._database_now() - state.recovered_at)
        return max(0, min(room, allowed - (concurrency - room)))

    def is_paused(self, alias: str) -> bool:
        """Tell whether a person has paused the mailer."""
        state = self._states.get(alias)
        if state is None or not state.is_paused:
            return False
        return state.paused_until is None or self._is_ahead(state.paused_until)

    def is_resting(self, alias: str, conf: Conf) -> bool:
        """Tell whether a newcomer should not try the mailer: paused by hand, or in trouble."""
        return conf.paused or self.is_paused(ALL_MAILERS) or self.is_paused(alias) or self.needs_probe(alias)

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
        if probed and not outcomes:
            # The probe never reached the mailer: its content could not be read, or it was given back.
            self.give_probe_back(alias)
        elif probed or trouble_in(outcomes) is not None:
            transitions.note_outcomes(alias, outcomes, probed=probed, luck=luck, database=self._database)
            self.probing.discard(alias)
            self.read()

    def _database_now(self) -> datetime:
        assert self._now is not None, "asked only about states that have been read"  # noqa: S101
        return self._now + timedelta(seconds=time.monotonic() - self._read_at)

    def _is_ahead(self, moment: datetime | None) -> bool:
        return moment is not None and moment > self._database_now()
