"""The public verbs, in any order, against what callers may expect of them; hypothesis looks for the shortest story that fails."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.core.mail import EmailMessage
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from mail_outbox import outbox
from mail_outbox.core.outcomes import Ambiguous, Outcome, Permanent, Sent, Transient
from mail_outbox.core.states import FINISHED, State
from mail_outbox.delivery.parcel import Parcel
from mail_outbox.drain import single
from mail_outbox.models import OutboxEntry, Recipient
from mail_outbox.testing import drain_outbox
from tests.simulation.clock import START, Clock, running
from tests.simulation.model import MAX_ATTEMPTS, Mail, Model, Refused
from tests.simulation.simulate import LUCKY, configured
from tests.simulation.world import empty

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

PEOPLE = ("jane@example.com", "joe@example.com", "ann@example.com")
ANSWERS: dict[str, Outcome] = {
    "accept": Sent(code="250"),
    "later": Transient(code="451"),
    "refuse": Permanent(code="550"),
    "silence": Ambiguous(code="timeout"),
    "accept in silence": Ambiguous(code="timeout"),
}
EXAMPLES = {"sqlite": 40}.get(os.environ.get("MAIL_OUTBOX_TEST_DB", "sqlite"), 15)
ASKED = os.environ.get("MAIL_OUTBOX_SIM_EXAMPLES")

minutes = st.sampled_from([0, 1, 5, 60, 600])
mailers = st.sampled_from(["default", "spare"])
orders = st.fixed_dictionaries(
    {
        "using": mailers,
        "people": st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=2, unique=True),
        "delay": st.sampled_from([0, 0, 0, 60]),
        "life": st.sampled_from([None, None, None, 90]),
        "on_ambiguous": st.sampled_from(["retry", "hold"]),
        "answers": st.lists(st.sampled_from(sorted(ANSWERS)), max_size=3)
        | st.sampled_from([[answer] * 4 for answer in ("silence", "accept in silence", "later")]),
        "max_attempts": st.sampled_from([None, None, 2]),
        "sensitive": st.booleans(),
        "count": st.sampled_from([1, 1, 2]),
    }
)


class Rollback(Exception):
    """The application's own trouble."""


class OutboxMachine(RuleBasedStateMachine):
    """The outbox beside its model."""

    mails = Bundle("mails")

    def __init__(self) -> None:
        super().__init__()
        self.model, self.clock = Model(), Clock()
        self.entries: dict[str, OutboxEntry] = {}
        self.accepted: Counter[str] = Counter()
        self.answers: dict[str, list[str]] = {}
        self._number = 0
        self._patches = ExitStack()
        self._patches.enter_context(running(self.clock))
        for module in LUCKY:
            self._patches.enter_context(mock.patch.object(module, "luck", return_value=1.0))
        self._patches.enter_context(mock.patch.object(single, "Line", self._line))
        empty()

    def teardown(self) -> None:
        """Let the clocks go on."""
        self._patches.close()

    def _line(self, alias: str, options: Any) -> "Line":
        return Line(self)

    def _pass(self, time: timedelta) -> None:
        self.clock.advance(time)
        self.model.now = self.clock.passed.total_seconds()

    def _known(self, *names: str) -> list[Mail]:
        return [self.model.mails[name] for name in names if name in self.model.mails]

    def _agree(self, verb: Any, expected: Any, **keywords: Any) -> None:
        """Call the verb, and see that it returns, or refuses, what the model does."""
        try:
            value = expected()
        except Refused:
            with pytest.raises(outbox.InvalidOption):
                verb(**keywords)
        else:
            assert verb(**keywords) == value

    # What callers do.

    @initialize(target=mails, orders=st.lists(orders, min_size=2, max_size=3))
    def begin(self, orders: list[dict[str, Any]]) -> Any:
        return multiple(*[name for order in orders for name in self._enqueue(**order)])

    @rule(target=mails, order=orders)
    def enqueue(self, order: dict[str, Any]) -> Any:
        return multiple(*self._enqueue(**order))

    @rule(people=st.sampled_from(PEOPLE))
    def enqueue_and_roll_back(self, people: str) -> None:
        with suppress(Rollback), transaction.atomic():
            outbox.enqueue(self._message("<never@example.com>", [people]), using="default")
            raise Rollback

    @rule(target=mails, mail=mails)
    def resend(self, mail: str) -> Any:
        self._pass(timedelta(seconds=1))
        old = next(iter(self._known(mail)), None)
        if old is None:
            return multiple()
        if old.state not in FINISHED or not old.has_content:
            with pytest.raises(outbox.WrongState if old.state not in FINISHED else outbox.UnreadableEnvelope):
                outbox.resend(self.entries[mail])
            return multiple()
        entry = outbox.resend(self.entries[mail])
        name = entry.message_id
        self.entries[name], self.answers[name] = entry, []
        self.model.mails[name] = Mail(
            name=name,
            using=old.using,
            state=State.QUEUED,
            due=self.model.now,
            first_due=self.model.now,
            people=set(old.people),
            on_ambiguous=old.on_ambiguous,
            is_sensitive=old.is_sensitive,
        )
        return name

    # What people do.

    @rule(mails=st.lists(mails, min_size=1, max_size=2))
    def cancel(self, mails: list[str]) -> None:
        self._act("cancel", mails)

    @rule(mails=st.lists(mails, min_size=1, max_size=2))
    def hold(self, mails: list[str]) -> None:
        self._act("hold", mails, reason="to be looked at")

    @rule(mails=st.lists(mails, min_size=1, max_size=3))
    def release(self, mails: list[str]) -> None:
        self._act("release", mails)

    @rule(mails=st.lists(mails, min_size=1, max_size=3))
    def mark_sent(self, mails: list[str]) -> None:
        self._act("mark_sent", mails)

    @rule(mails=st.lists(mails, min_size=1, max_size=3), life=st.sampled_from([None, 1, 60]))
    def retry(self, mails: list[str], life: int | None) -> None:
        self._pass(timedelta(seconds=1))
        entries, known = [self.entries[name] for name in mails], self._known(*mails)
        self._agree(
            lambda **keywords: outbox.retry(*entries, **keywords),
            lambda: self.model.retry(known, None if life is None else 60.0 * life),
            expires_at=None if life is None else timedelta(minutes=life),
        )

    @rule(mails=st.lists(mails, min_size=1, max_size=2), delay=minutes)
    def reschedule(self, mails: list[str], delay: int) -> None:
        self._pass(timedelta(seconds=1))
        entries, known = [self.entries[name] for name in mails], self._known(*mails)
        self._agree(
            lambda **keywords: outbox.reschedule(*entries, **keywords),
            lambda: self.model.reschedule(known, 60.0 * delay),
            send_at=timedelta(minutes=delay),
        )

    @rule(mails=st.lists(mails, min_size=1, max_size=2), using=mailers)
    def change_mailer(self, mails: list[str], using: str) -> None:
        entries, known = [self.entries[name] for name in mails], self._known(*mails)
        assert outbox.change_mailer(*entries, using=using) == self.model.change_mailer(known, using)

    @rule(using=mailers, length=st.sampled_from([None, 5, 600]))
    def pause(self, using: str, length: int | None) -> None:
        outbox.pause(using, until=None if length is None else timedelta(minutes=length))
        self.model.paused[using] = None if length is None else self.model.now + 60.0 * length

    @rule(using=st.sampled_from([None, "default", "spare"]))
    def resume(self, using: str | None) -> None:
        outbox.resume(using)
        for alias in [using] if using else list(self.model.paused):
            self.model.paused.pop(alias, None)

    @rule(sent=minutes, failed=minutes, content=minutes)
    def prune(self, sent: int, failed: int, content: int) -> None:
        ages = {"sent": sent, "failed": failed, "content": content}
        result = outbox.prune(**{name: timedelta(minutes=age) for name, age in ages.items()})
        expected = self.model.prune(**{name: 60.0 * age for name, age in ages.items()})
        assert (result.entries, result.contents) == expected

    @rule(person=st.sampled_from(PEOPLE))
    def erase(self, person: str) -> None:
        self._pass(timedelta(seconds=1))
        result = outbox.erase(person)
        assert (result.entries, result.cancelled, result.waiting) == self.model.erase(person)

    # What goes on by itself.

    @rule(by=st.sampled_from([1, 40, 200, 3700, 90_000]), is_drained=st.booleans())
    def let_time_pass(self, by: int, is_drained: bool) -> None:  # noqa: FBT001
        self._pass(timedelta(seconds=by))
        if is_drained:
            self._drain()

    @rule()
    def drain(self) -> None:
        self._drain()
        counted = {State(state): count for state, count in outbox.stats().states.items() if count}
        assert counted == Counter(mail.state for mail in self.model.mails.values())

    @rule(times=st.integers(2, 3))
    def drain_for_days(self, times: int) -> None:
        for _ in range(times):
            self._pass(timedelta(hours=5))
            self._drain()

    @invariant()
    def the_entries_are_as_expected(self) -> None:
        assert _entries() == {mail.name: _expected(mail) for mail in self.model.mails.values()}

    @invariant()
    def the_recipients_are_as_expected(self) -> None:
        rows = set(Recipient.objects.values_list("entry__message_id", "address"))
        assert rows == {(mail.name, person) for mail in self.model.mails.values() for person in mail.people}

    @invariant()
    def everything_accepted_is_as_expected(self) -> None:
        assert self.accepted == self.model.accepted

    def _enqueue(
        self,
        *,
        delay: int,
        life: int | None,
        people: list[str],
        answers: list[str],
        max_attempts: int | None,
        count: int,
        **options: Any,
    ) -> list[str]:
        """Enqueue so many mails, and return their names."""
        self._pass(timedelta(seconds=1))
        due = self.model.now + 60.0 * delay
        keywords: dict[str, Any] = {**options, "max_attempts": max_attempts}
        if delay:
            keywords["send_at"] = timedelta(minutes=delay)
        if life is not None:
            keywords["expires_at"] = timedelta(minutes=delay + life)
        names = [f"<{self._number + number}@example.com>" for number in range(count)]
        self._number += count
        messages = [self._message(name, people) for name in names]
        entries = outbox.enqueue_many(messages, **keywords) if count > 1 else [outbox.enqueue(*messages, **keywords)]
        for name, entry in zip(names, entries, strict=True):
            self.entries[name], self.answers[name] = entry, list(answers)
            self.model.mails[name] = Mail(
                name=name,
                using=options["using"],
                state=State.SCHEDULED if delay else State.QUEUED,
                due=due,
                first_due=due,
                people=set(people),
                expires=None if life is None else due + 60.0 * life,
                on_ambiguous=options["on_ambiguous"],
                is_sensitive=options["sensitive"],
                answers=list(answers),
                max_attempts=max_attempts or MAX_ATTEMPTS,
            )
        return names

    def _drain(self) -> None:
        self._pass(timedelta(seconds=1))
        drain_outbox()
        self.model.drain()

    def _act(self, verb: str, names: list[str], **keywords: Any) -> None:
        self._pass(timedelta(seconds=1))
        expected = getattr(self.model, verb)(self._known(*names))
        assert getattr(outbox, verb)(*[self.entries[name] for name in names], **keywords) == expected

    def _message(self, name: str, people: list[str]) -> EmailMessage:
        return EmailMessage("Order", "Text", "shop@example.com", people, headers={"Message-ID": name})


class Line:
    """A connection whose provider answers to each mail what was agreed."""

    def __init__(self, machine: OutboxMachine) -> None:
        self._machine = machine

    def deliver(self, parcel: Parcel) -> Outcome:
        """Answer, and note what was accepted."""
        answers = self._machine.answers[parcel.message_id]
        answer = answers.pop(0) if answers else "accept"
        self._machine.accepted[parcel.message_id] += answer.startswith("accept")
        return ANSWERS[answer]

    def close(self) -> None:
        """Do nothing."""


def _entries() -> dict[str, tuple[Any, ...]]:
    return {
        entry.message_id: (
            entry.state,
            entry.using,
            entry.attempts,
            entry.has_content,
            entry.claim_id,
            _seconds(entry.expires_at),
            _seconds(entry.due_at) if entry.finished_at is None else None,
            _seconds(entry.finished_at),
            bool(entry.state_reason) or entry.state not in FINISHED - {State.SENT},
        )
        for entry in OutboxEntry.objects.all()
    }


def _expected(mail: Mail) -> tuple[Any, ...]:
    due = None if mail.finished is not None else mail.due
    return (mail.state, mail.using, mail.attempts, mail.has_content, None, mail.expires, due, mail.finished, True)


def _seconds(moment: Any) -> float | None:
    return None if moment is None else (moment - START).total_seconds()


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    with configured("default", "spare"):
        yield


def test_the_verbs_do_in_any_order_what_a_caller_may_expect():
    run_state_machine_as_test(
        OutboxMachine,
        settings=settings(
            max_examples=EXAMPLES if ASKED is None else int(ASKED),
            stateful_step_count=30,
            # The same stories every time, unless somebody asks for more.
            derandomize=ASKED is None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
