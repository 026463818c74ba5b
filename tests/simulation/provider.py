"""Providers that keep a journal of what they truly took, whatever they answer."""

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from mail_outbox.core.addresses import normalise
from mail_outbox.core.outcomes import (
    Ambiguous,
    Cancelled,
    MailerTrouble,
    Outcome,
    Partial,
    Permanent,
    Refusal,
    Sent,
    Throttled,
    Transient,
)
from mail_outbox.delivery.classify import TOO_LATE
from mail_outbox.delivery.keys import NO_KEY, key_of
from mail_outbox.delivery.line import nobody
from mail_outbox.delivery.parcel import Parcel
from tests.totalqueue.checker import Accept

if TYPE_CHECKING:
    from tests.simulation.actors import Worker
    from tests.simulation.world import World

KEY_LIFETIME = timedelta(hours=2)
RECOGNISES = frozenset({"esp"})
"""The mailers whose provider recognises a repetition by its key."""
ANSWERS = {
    "accept": 40,
    "accept, answer lost": 16,
    "answer lost": 6,
    "partial": 20,
    "transient": 10,
    "throttled": 2,
    "mailer": 2,
    "permanent": 4,
    "cancelled": 2,
}
TROUBLES: dict[str, list[Outcome]] = {
    "answer lost": [Ambiguous(code="timeout")],
    "transient": [
        Transient(code="451", text="try later"),
        Transient(code="450", text="greylisted", not_before=timedelta(minutes=5)),
        Transient(code="connect", text="connection refused", is_mailers=True),
    ],
    "throttled": [Throttled(code="421", text="slow down"), Throttled(code="429", retry_after=timedelta(minutes=2))],
    "mailer": [MailerTrouble(code="535", text="bad login")],
    "permanent": [
        Permanent(code="550", text="no such user"),
        Permanent(code="553", text="not your sender", pattern="sender:553"),
    ],
    "cancelled": [Cancelled(code="cancelled by the mailer")],
}


FOR_GOOD = Refusal("550", "no such user", for_good=True)
FOR_EVER = Refusal("550", "bounced before", for_good=True, suppresses=True)
FOR_NOW = Refusal("450", "greylisted", for_good=False)


@dataclass(slots=True)
class Journal:
    """What all providers took, in order, and by which keys they know it."""

    accepts: list[Accept] = field(default_factory=list)
    keys: dict[str, tuple[timedelta, Outcome]] = field(default_factory=dict)
    erased: set[tuple[str, str]] = field(default_factory=set)


class Line:
    """What a simulated worker hands its parcels to, in the place of a connection."""

    def __init__(self, world: "World", worker: "Worker", alias: str) -> None:
        self._world, self._worker, self._alias = world, worker, alias

    def deliver(self, parcel: Parcel) -> Outcome:
        """Hand the parcel over, while others go on, and return the answer as far as there is one."""
        world = self._world
        world.meanwhile(0.3)
        if world.clock.monotonic() >= parcel.deadline:
            return TOO_LATE
        if parcel.needs_key and self._alias not in RECOGNISES:
            return NO_KEY
        people = sorted(normalise(address) for address in parcel.message.recipients())
        addressed = [address for address in people if parcel.only is None or address in parcel.only]
        if not addressed:
            return nobody(parcel)
        if not parcel.needs_key:
            world.meanwhile(0.1)  # frozen after the last look at the clock
        outcome = self._answer(parcel, addressed)
        world.meanwhile(0.1)
        return outcome

    def _answer(self, parcel: Parcel, addressed: list[str]) -> Outcome:
        journal, chance = self._world.journal, self._world.chance
        answers = ANSWERS if self._world.is_broken else {"accept": 1}
        answer = chance.choices(list(answers), list(answers.values()))[0]
        known = self._recall(parcel)
        if known is not None:
            answer = "recognised" if answer != "accept, answer lost" else "recognised, answer lost"
        elif answer == "partial" and len(addressed) == 1:
            answer = "accept"
        self._world.note(f"{self._alias}: {answer} {self._world.name(parcel.message_id)} for {len(addressed)}")
        if answer in TROUBLES:
            return self._keyed(chance.choice(TROUBLES[answer]))
        if known is None:
            refused = self._refused(addressed) if answer == "partial" else {}
            self._accept(parcel, [address for address in addressed if address not in refused])
            known = Partial(refused=refused) if refused else Sent(provider_message_id=f"id-{len(journal.accepts)}")
            journal.keys[key_of(parcel)] = (self._world.clock.passed, known)
        return self._keyed(Ambiguous(code="timeout")) if "lost" in answer else known

    def _refused(self, addressed: list[str]) -> dict[str, Refusal]:
        chance = self._world.chance
        refused = chance.sample(addressed, chance.randint(1, len(addressed) - 1))
        return {address: chance.choice([FOR_GOOD, FOR_NOW, FOR_EVER]) for address in refused}

    def _recall(self, parcel: Parcel) -> Outcome | None:
        """Return what became of the same request, where the provider still knows it."""
        since, outcome = self._world.journal.keys.get(key_of(parcel), (timedelta(0), None))
        is_known = self._alias in RECOGNISES and self._world.clock.passed - since < KEY_LIFETIME
        return outcome if is_known else None

    def _keyed(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Ambiguous) and self._alias in RECOGNISES:
            return Ambiguous(code=outcome.code, key_lifetime=KEY_LIFETIME)
        return outcome

    def _accept(self, parcel: Parcel, addressed: list[str]) -> None:
        text = f"{parcel.date} {parcel.message.subject} {parcel.message.body}"
        for address in addressed:
            self._world.demand(
                (parcel.message_id, address) not in self._world.journal.erased,
                f"{self._world.name(parcel.message_id)} went to {address}, who has been erased",
            )
            self._world.journal.accepts.append(
                Accept(
                    key=parcel.message_id,
                    recipient=address,
                    provider=self._alias,
                    message_id=parcel.message_id,
                    digest=hashlib.sha256(text.encode()).hexdigest(),
                )
            )
