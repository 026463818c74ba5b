"""A process that enqueues as an application does, with rollbacks and savepoints, and writes down what it knows.

Run as `python -m tests.totalqueue.workload NAME SEED SECONDS`. A mail counts as committed only when `on_commit` says so: a
connection that is lost inside an inner block may roll everything back in silence.
"""

import contextlib
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
from django.core.mail import EmailMessage
from django.db import DatabaseError, InterfaceError, connection, transaction

PAUSE = 0.06
"""Seconds between two transactions of one enqueuer, about."""
WAYS = {"default": 6, "esp": 3, "either": 2}
"""How often which mailer or route is asked for."""
PLAIN_WAYS = {"default": 8, "esp": 3}
AGAIN = 3
"""How often a transaction whose end is unknown is run again with the same key."""
TROUBLE = (DatabaseError, InterfaceError)
BIG = ("x" * 72 + "\n") * 4_000


class Failure(Exception):
    """The application's own trouble, which rolls back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail to be enqueued."""

    key: str
    using: str = "default"
    on_ambiguous: str = "retry"
    recipients: tuple[str, ...] = ()
    delay: float = 0.0
    is_big: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One transaction of the application: its mail, perhaps one more in a savepoint that fails, perhaps a failure."""

    mail: Mail
    inner: Mail | None
    is_rolled_back: bool
    is_repeated: bool


Enqueue = Callable[[Mail], Any]


def an_order(key: str, chance: random.Random, **choices: Any) -> Order:
    """Draw what the next transaction does."""
    inner = a_mail(f"{key}-inside", chance, **choices) if chance.random() < 0.3 else None
    return Order(
        mail=a_mail(key, chance, **choices),
        inner=inner,
        is_rolled_back=chance.random() < 0.1,
        is_repeated=chance.random() < 0.5,
    )


def a_mail(key: str, chance: random.Random, *, ways: dict[str, int], on_ambiguous: str = "mixed") -> Mail:
    """Draw a mail."""
    drawn = "hold" if chance.random() < 0.4 else "retry"
    using = chance.choices(list(ways), list(ways.values()))[0]
    recipients = [f"{key}@example.com"]
    if chance.random() < 0.1:
        second = chance.choice(["refused", "busy", "other"]) if using != "esp" else "other"
        recipients.append(f"{second}-{key}@example.com")
    return Mail(
        key=key,
        using=using,
        on_ambiguous=drawn if on_ambiguous == "mixed" else on_ambiguous,
        recipients=tuple(recipients),
        delay=chance.uniform(0.5, 3) if chance.random() < 0.02 else 0.0,
        is_big=chance.random() < 0.01,
    )


def a_message(mail: Mail) -> EmailMessage:
    """Return the message."""
    body = f"Your order {mail.key}\n" + (BIG if mail.is_big else "")
    message = EmailMessage("Order", body, "shop@example.com", list(mail.recipients))
    message.extra_headers["X-Key"] = mail.key
    return message


def enqueue(mail: Mail) -> None:
    """Write the mail to the outbox."""
    from mail_outbox import outbox

    outbox.enqueue(
        a_message(mail),
        using=mail.using,
        send_at=timedelta(seconds=mail.delay) if mail.delay else None,
        idempotency_key=mail.key,
        on_ambiguous=mail.on_ambiguous,  # type: ignore[arg-type]
    )


class Enqueuer:
    """One application process."""

    def __init__(self, history: Any, enqueue: Enqueue, *, may_repeat: bool) -> None:
        self._history = history
        self._enqueue = enqueue
        self._may_repeat = may_repeat

    def run(self, order: Order) -> None:
        """Run the transaction, again where its end is unknown and the key makes that safe."""
        for _ in range(AGAIN):
            if self._run_once(order) or not (self._may_repeat and order.is_repeated):
                return
            time.sleep(0.2)

    def _run_once(self, order: Order) -> bool:
        """Run the transaction, and tell whether its end is known."""
        ends: list[str] = []
        key = order.mail.key
        self._history.write("invoke", key=key)
        try:
            with transaction.atomic():
                self._enqueue(order.mail)
                transaction.on_commit(lambda: self._end(key, "ok", ends))
                if order.inner is not None:
                    self._fail_inside(order.inner)
                _fail(order)
        except Failure:
            self._end(key, "fail", ends)
        except TROUBLE:
            connection.close()
        if not ends:
            self._end(key, "info", ends)
        return ends != ["info"]

    def _fail_inside(self, mail: Mail) -> None:
        """Enqueue in a savepoint that is rolled back; trouble with the database is carelessly ignored."""
        self._history.write("invoke", key=mail.key)
        try:
            with contextlib.suppress(Failure, *TROUBLE), transaction.atomic():
                self._enqueue(mail)
                raise Failure
        finally:
            self._history.write("fail", key=mail.key)

    def _end(self, key: str, fate: str, ends: list[str]) -> None:
        self._history.write(fate, key=key)
        ends.append(fate)


def _fail(order: Order) -> None:
    if order.is_rolled_back:
        raise Failure


def main(name: str, seed: str, seconds: float) -> None:
    """Enqueue for so many seconds."""
    from django.conf import settings

    from tests.totalqueue.history import History

    shape = settings.GIVEN["shape"]
    write: Enqueue = enqueue
    if shape != "outbox":
        from tests.totalqueue.peers import enqueue as write
    chance = random.Random(f"{seed} {name}")
    choices = {"ways": WAYS if shape == "outbox" else PLAIN_WAYS, "on_ambiguous": settings.GIVEN["on_ambiguous"]}
    enqueuer = Enqueuer(History(Path(settings.GIVEN["history"])), write, may_repeat=shape == "outbox")
    pause, end, number = threading.Event(), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with contextlib.suppress(*TROUBLE):
            connection.close_if_unusable_or_obsolete()
        enqueuer.run(an_order(f"{name}-{number}", chance, **choices))
        number += 1
        pause.wait(chance.uniform(0, 2 * PAUSE))


if __name__ == "__main__":
    django.setup()
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
