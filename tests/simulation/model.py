"""What callers may expect of the outbox, in plain Python: a mail is a few values, and a verb changes them."""

from collections import Counter
from dataclasses import dataclass, field

from mail_outbox.core.retry import AMBIGUOUS_RETRIES
from mail_outbox.core.states import FINISHED, MOVABLE, OVER, RETRYABLE, WAITING, State

MAX_ATTEMPTS = 30
MAX_AGE = 72 * 3600.0


class Refused(Exception):
    """The verb must raise, and change nothing."""


@dataclass(slots=True, kw_only=True)
class Mail:
    """One mail, as its caller knows it; times in seconds."""

    name: str
    using: str
    state: State
    due: float
    people: set[str]
    expires: float | None = None
    on_ambiguous: str = "retry"
    is_sensitive: bool = False
    max_attempts: int = MAX_ATTEMPTS
    answers: list[str] = field(default_factory=list)
    """What the provider will answer to one attempt after the other; when it has no more to say, it accepts."""
    attempts: int = 0
    first_due: float = 0.0
    unknown_at: list[float] = field(default_factory=list)
    finished: float | None = None
    has_content: bool = True

    def become(self, state: State, now: float) -> None:
        """Enter a state."""
        self.state = state
        self.finished = now if state in FINISHED else None
        if state in OVER and self.is_sensitive:
            self.has_content = False

    def wait(self, state: State, due: float) -> None:
        """Begin to wait anew, as far as age and unknown ends are counted."""
        self.become(state, due)
        self.due = self.first_due = due


class Model:
    """The outbox, its mailers and their provider."""

    def __init__(self) -> None:
        self.now = 0.0
        self.mails: dict[str, Mail] = {}
        self.accepted: Counter[str] = Counter()
        self.paused: dict[str, float | None] = {}

    def cancel(self, mails: list[Mail]) -> int:
        """Stop what waits."""
        return self._each(mails, WAITING, lambda mail: mail.become(State.CANCELLED, self.now))

    def hold(self, mails: list[Mail]) -> int:
        """Set aside what waits."""
        return self._each(mails, WAITING, lambda mail: mail.become(State.HELD, self.now))

    def release(self, mails: list[Mail]) -> int:
        """Put back what is held."""
        return self._each(mails, {State.HELD}, lambda mail: mail.wait(State.QUEUED, self.now))

    def mark_sent(self, mails: list[Mail]) -> int:
        """Take a person's word for it."""
        return self._each(mails, {State.HELD}, lambda mail: mail.become(State.SENT, self.now))

    def retry(self, mails: list[Mail], expires_in: float | None) -> int:
        """Put back what has ended without success."""
        if expires_in is None and any(mail.state in RETRYABLE and self.is_over(mail, self.now) for mail in mails):
            raise Refused

        def put_back(mail: Mail) -> None:
            mail.wait(State.QUEUED, self.now)
            mail.max_attempts = mail.attempts + MAX_ATTEMPTS
            mail.expires = mail.expires if expires_in is None else self.now + expires_in

        return self._each([mail for mail in mails if mail.has_content], RETRYABLE, put_back)

    def reschedule(self, mails: list[Mail], after: float) -> int:
        """Give another time to what has not gone."""
        if any(mail.state in MOVABLE and self.is_over(mail, self.now + after) for mail in mails):
            raise Refused
        return self._each(mails, MOVABLE, lambda mail: mail.wait(State.SCHEDULED, self.now + after))

    def change_mailer(self, mails: list[Mail], using: str) -> int:
        """Give another mailer to what has not gone."""
        others = [mail for mail in mails if mail.using != using]
        return self._each(others, MOVABLE, lambda mail: setattr(mail, "using", using))

    def prune(self, *, sent: float, failed: float, content: float) -> tuple[int, int]:
        """Forget what ended so long ago, and return how many mails and how many contents are gone."""
        ages = {state: sent if state is State.SENT else failed for state in FINISHED}
        gone = [mail.name for mail in self.mails.values() if self._ended_before(mail, ages.get(mail.state, 0.0))]
        for name in gone:
            del self.mails[name]
        scrubbed = [
            mail
            for mail in self.mails.values()
            if mail.state is State.SENT and mail.has_content and self._ended_before(mail, content)
        ]
        for mail in scrubbed:
            mail.has_content = False
        return len(gone), len(scrubbed)

    def erase(self, person: str) -> tuple[int, int, int]:
        """Forget a person; return how many mails were theirs, were stopped, and still wait for others."""
        theirs = [mail for mail in self.mails.values() if person in mail.people]
        stopped = waiting = 0
        for mail in theirs:
            mail.people.remove(person)
            if mail.state in MOVABLE and mail.people:
                mail.is_sensitive = True
                waiting += 1
                continue
            if mail.state in MOVABLE:
                mail.become(State.CANCELLED, self.now)
                stopped += 1
            mail.has_content = False
        return len(theirs), stopped, waiting

    def drain(self) -> None:
        """Deliver what is due."""
        for mail in self.mails.values():
            if mail.state in WAITING and self.is_over(mail, self.now):
                mail.become(State.EXPIRED, self.now)
            elif mail.state is State.SCHEDULED and mail.due <= self.now:
                mail.become(State.QUEUED, self.now)
            if mail.state is State.QUEUED and not self.is_paused(mail.using):
                self._attempt(mail)

    def is_paused(self, using: str) -> bool:
        """Tell whether a person has paused the mailer."""
        until = self.paused.get(using, 0.0)
        return until is None or until > self.now

    def is_over(self, mail: Mail, moment: float) -> bool:
        """Tell whether the mail may not be sent any more at that moment."""
        return mail.expires is not None and mail.expires <= moment

    def _attempt(self, mail: Mail) -> None:
        mail.attempts += 1
        match mail.answers.pop(0) if mail.answers else "accept":
            case "accept":
                self.accepted[mail.name] += 1
                mail.become(State.SENT, self.now)
            case "refuse":
                mail.become(State.FAILED, self.now)
            case "later":
                self._again(mail, otherwise=State.FAILED)
            case "accept in silence" | "silence" as answer:
                self.accepted[mail.name] += answer == "accept in silence"
                unknown = sum(moment >= mail.first_due for moment in mail.unknown_at)
                mail.unknown_at.append(self.now)
                if mail.on_ambiguous == "hold" or unknown >= AMBIGUOUS_RETRIES:
                    mail.become(State.HELD, self.now)
                else:
                    self._again(mail, otherwise=State.HELD)

    def _again(self, mail: Mail, *, otherwise: State) -> None:
        if mail.attempts >= mail.max_attempts or self.now - mail.first_due >= MAX_AGE:
            mail.become(otherwise, self.now)
            return
        mail.become(State.SCHEDULED, self.now)
        mail.due = self.now + min(30.0 * 2 ** (mail.attempts - 1), 4 * 3600.0)

    def _ended_before(self, mail: Mail, age: float) -> bool:
        return mail.finished is not None and mail.finished <= self.now - age

    def _each(self, mails: list[Mail], states: frozenset[State] | set[State], act: object) -> int:
        chosen = [mail for mail in {mail.name: mail for mail in mails}.values() if mail.state in states]
        for mail in chosen:
            act(mail)  # type: ignore[operator]
        return len(chosen)
