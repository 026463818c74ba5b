"""Those who call the public verbs: applications with their transactions, and people."""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.core.mail import EmailMessage
from django.db import transaction

from mail_outbox import outbox, transitions
from mail_outbox.core.states import FINISHED, MOVABLE, RETRYABLE, WAITING, State, Verb
from mail_outbox.models import Attempt, OutboxEntry
from mail_outbox.outbox import sweeping
from tests.simulation import DATABASE
from tests.simulation.verdict import read_rows
from tests.simulation.watch import Licence
from tests.totalqueue.checker import Fate

if TYPE_CHECKING:
    from tests.simulation.world import World

PEOPLE = ("jane@example.com", "joe@example.com", "ann@example.com", "bob@example.com")
WAYS = {"default": 4, "main": 4, "esp": 3}
ACTS: list[tuple[Collection[State], str]] = [
    (WAITING, "cancel"),
    (WAITING, "hold"),
    ((State.HELD,), "release"),
    (RETRYABLE, "retry"),
    (RETRYABLE, "retry"),
    (MOVABLE, "reschedule"),
    ((State.HELD,), "mark sent"),
    (MOVABLE, "change mailer"),
    (FINISHED, "resend"),
    ((), "pause"),
    ((), "resume"),
    ((), "prune"),
    ((), "prune contents"),
    ((), "quarantine"),
    ((), "erase"),
    ((), "suppress"),
    ((), "unsuppress"),
]
"""What people do, and to entries in which states that means something."""
ENQUEUES = frozenset({Verb.ENQUEUE, Verb.PROMOTE, Verb.RESCHEDULE, Verb.CANCEL})
"""A mail whose content is replaced gets a new time, too, or has nobody left to go to."""


class Failure(Exception):
    """The application's own trouble, which rolls back."""


@dataclass(slots=True)
class Mail:
    """One mail that an application enqueues, perhaps again and again, under its key."""

    key: str
    keywords: dict[str, Any]
    recipients: list[str]
    version: int = 1

    @property
    def message_id(self) -> str:
        """Return what tells it from all others, in the journals too."""
        return f"<{self.key}@example.com>"

    def message(self) -> EmailMessage:
        """Return the message."""
        headers = {"Message-ID": self.message_id}
        return EmailMessage(
            f"Order {self.key}", f"Version {self.version}", "shop@example.com", self.recipients, headers=headers
        )


class Caller:
    """One process of an application."""

    def __init__(self, world: "World", name: str) -> None:
        self.name = name
        self._world = world
        self._mails: list[Mail] = []
        self._number = 0

    def step(self) -> None:
        """Run one transaction."""
        chance = self._world.chance
        again = [mail for mail in self._mails if "idempotency_key" in mail.keywords]
        if again and chance.random() < 0.3:
            mail = chance.choice(again)
            if chance.random() < 0.5:
                mail.version += 1
                self._transaction(f"replace {mail.key}", [(mail, {"on_conflict": "replace"})])
            else:
                self._transaction(f"repeat {mail.key}", [(mail, {})])
            return
        mails = [self._new_mail() for _ in range(chance.choice([1, 1, 1, 2, 3]))]
        self._transaction("enqueue " + " ".join(mail.key for mail in mails), [(mail, {}) for mail in mails])

    def _new_mail(self) -> Mail:
        chance = self._world.chance
        self._number += 1
        key = f"{self.name}-{self._number}"
        keywords: dict[str, Any] = {
            "using": chance.choices(list(WAYS), list(WAYS.values()))[0],
            "on_ambiguous": "hold" if self._world.is_hold_only or chance.random() < 0.4 else "retry",
            "priority": chance.choice([outbox.LOW, outbox.NORMAL, outbox.HIGH]),
        }
        if chance.random() < 0.15:
            keywords["send_at"] = timedelta(minutes=chance.randint(1, 30))
        if chance.random() < 0.15:
            keywords["expires_at"] = keywords.get("send_at", timedelta(0)) + timedelta(minutes=chance.randint(1, 90))
        if chance.random() < 0.3:
            keywords["max_attempts"] = chance.randint(1, 3)
        if chance.random() < 0.5:
            keywords["idempotency_key"] = key
        if chance.random() < 0.2:
            keywords["sensitive"] = True
        mail = Mail(key, keywords, chance.sample(PEOPLE, chance.choice([1, 1, 2, 3])))
        self._mails.append(mail)
        return mail

    def _transaction(self, what: str, mails: list[tuple[Mail, dict[str, Any]]]) -> None:
        chance = self._world.chance
        is_rolled_back, has_inner = chance.random() < 0.15, chance.random() < 0.2
        ends: list[Fate] = []

        def run() -> None:
            try:
                with transaction.atomic():
                    for mail, options in mails:
                        self._enqueue(mail, options)
                    transaction.on_commit(lambda: ends.append(Fate.COMMITTED))
                    if has_inner:
                        self._fail_inside()
                    _fail(is_rolled_back)
            except (Failure, outbox.IdempotencyConflict):
                ends.append(Fate.ROLLED_BACK)

        for mail, _ in mails:
            self._world.invoke(mail.message_id, mail.key)
            # Who writes to somebody anew has not been told that they are to be forgotten.
            self._world.journal.erased -= {(mail.message_id, address) for address in mail.recipients}
        self._world.act(f"{self.name} {what}", run, Licence(verbs=ENQUEUES, may_come=True))
        end = ends[0] if ends else Fate.UNKNOWN
        self._world.note(f"{self.name}: {end.name.lower()}")
        for mail, _ in mails:
            self._world.end(mail.message_id, end)

    def _enqueue(self, mail: Mail, options: dict[str, Any]) -> None:
        outbox.enqueue(mail.message(), **mail.keywords, **options)

    def _fail_inside(self) -> None:
        mail = self._new_mail()
        mail.keywords.pop("idempotency_key", None)
        self._world.invoke(mail.message_id, mail.key)
        self._world.end(mail.message_id, Fate.ROLLED_BACK)
        with suppress(Failure), transaction.atomic():
            self._enqueue(mail, {})
            raise Failure


class Person:
    """Somebody who cannot keep the hands off."""

    def __init__(self, world: "World", name: str) -> None:
        self.name = name
        self._world = world
        self._number = 0

    def step(self) -> None:
        """Do something to an entry or two."""
        chance = self._world.chance
        states, name = chance.choice(ACTS)
        entries = list(OutboxEntry.objects.order_by("pk"))
        # Now and then to one that it has no business with.
        fitting = [entry for entry in entries if entry.state in states] if chance.random() < 0.9 else entries
        chosen = chance.sample(fitting, min(len(fitting), chance.choice([1, 1, 2])))
        act, licence = self._act(name, chosen)
        names = " ".join(self._world.name(entry.message_id) for entry in chosen)

        def do() -> None:
            with suppress(outbox.OutboxError):
                act()

        self._world.act(f"{self.name} {name} {names}", do, licence)

    def _act(self, name: str, entries: list[OutboxEntry]) -> tuple[Callable[[], object], Licence]:
        """Return what it does, and what that may do."""
        chance = self._world.chance
        later = timedelta(minutes=chance.randint(1, 60))
        using, address = chance.choice(["default", "spare", "esp"]), chance.choice(PEOPLE)
        new_expiry = chance.choice([None, later])
        since = self._world.clock.now() - later
        acts: dict[str, tuple[Callable[[], object], Licence]] = {
            "cancel": (lambda: outbox.cancel(*entries), _by(Verb.CANCEL)),
            "hold": (lambda: outbox.hold(*entries, reason="to be looked at"), _by(Verb.HOLD)),
            "release": (lambda: outbox.release(*entries), _by(Verb.RELEASE)),
            "retry": (lambda: outbox.retry(*entries, expires_at=new_expiry), _by(Verb.RETRY)),
            "reschedule": (lambda: outbox.reschedule(*entries, send_at=later), _by(Verb.RESCHEDULE)),
            "mark sent": (lambda: outbox.mark_sent(*entries), _by(Verb.MARK_SENT)),
            "change mailer": (lambda: outbox.change_mailer(*entries, using=using), Licence()),
            "pause": (lambda: outbox.pause(using, until=later), Licence()),
            "resume": (lambda: outbox.resume(using), Licence()),
            "prune": (lambda: self._prune(later), Licence(may_go=True)),
            "prune contents": (lambda: transitions.prune_contents(later, database=DATABASE), Licence()),
            "quarantine": (lambda: transitions.quarantine(since, database=DATABASE), _by(Verb.QUARANTINE)),
            "erase": (lambda: self._erase(address), _by(Verb.ERASE)),
            "suppress": (lambda: outbox.suppress(address, reason="asked us", until=new_expiry), Licence()),
            "unsuppress": (lambda: outbox.unsuppress(address), Licence()),
            "resend": (lambda: self._resend(entries), Licence(verbs=ENQUEUES, may_come=True)),
        }
        return acts[name]

    def _prune(self, age: timedelta) -> None:
        rows = read_rows(self._world)
        attempts = Attempt.objects.count()
        try:
            for state in sorted(FINISHED):
                transitions.prune_entries(State(state), age, limit=2, database=DATABASE)
        finally:
            left = set(OutboxEntry.objects.values_list("message_id", flat=True))
            self._world.pruned += [row for row in rows if row.key not in left]
            self._world.pruned_attempts += attempts - Attempt.objects.count()

    def _erase(self, address: str) -> None:
        world = self._world
        busy = {message_id for worker in world.all_workers for message_id in worker.message_ids}
        mine = OutboxEntry.objects.filter(recipients__address=address).exclude(state=State.SENDING)
        erased = {
            (message_id, address) for message_id in mine.values_list("message_id", flat=True) if message_id not in busy
        }
        outbox.erase(address)
        world.journal.erased |= erased

    def _resend(self, entries: list[OutboxEntry]) -> None:
        if not entries:
            return
        entry = entries[0]
        self._number += 1
        key = f"{self.name}-{self._number}"
        new: list[str] = []
        end = Fate.UNKNOWN
        try:
            with transaction.atomic():
                again = outbox.resend(entry, idempotency_key=key)
                new.append(again.message_id)
                self._world.invoke(again.message_id, f"{key} (again {self._world.name(entry.message_id)})")
            end = Fate.COMMITTED
        except outbox.OutboxError:
            end = Fate.ROLLED_BACK
            raise
        finally:
            for message_id in new:
                self._world.end(message_id, end)


def _fail(is_rolled_back: bool) -> None:  # noqa: FBT001
    if is_rolled_back:
        raise Failure


def sweep() -> None:
    """Do what the sweep does besides delivering."""
    sweeping.promote(database=DATABASE)
    sweeping.rescue(database=DATABASE)


def _by(*verbs: Verb) -> Licence:
    return Licence(verbs=frozenset(verbs))


SWEEPING = _by(Verb.PROMOTE, Verb.EXPIRE, Verb.RESCUE)
