"""A provider that obeys a script, in this process and without a network."""

import smtplib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

from mail_outbox.drain.senders import Task

Action = Exception | Callable[[EmailMessage], Any]

REFUSED = smtplib.SMTPDataError(550, b"5.7.1 refused")
TRY_LATER = smtplib.SMTPDataError(451, b"4.3.0 try later")
SLOW_DOWN = smtplib.SMTPDataError(421, b"4.7.0 slow down")
BAD_LOGIN = smtplib.SMTPAuthenticationError(535, b"5.7.8 bad login")
NOBODY_KNOWS = RuntimeError("the answer was lost")


def wait_for(event: threading.Event) -> Action:
    """Return an action that accepts the message once the event is set, or after two minutes."""

    def accept(_: EmailMessage) -> None:
        event.wait(120)

    return accept


def hang_until(event: threading.Event, monkeypatch: pytest.MonkeyPatch) -> Action:
    """Return an action that does the same, and whose sender is past its deadline as soon as it has begun."""
    hanging: set[str] = set()
    deadline = Task.deadline

    def past(task: Task) -> float:
        return 0.0 if task.job.entry.subject in hanging else deadline.__get__(task)

    def accept(message: EmailMessage) -> None:
        hanging.add(message.subject)
        event.wait(120)

    monkeypatch.setattr(Task, "deadline", property(past))
    return accept


class Provider:
    """What a scripted mailer was given, and what it is to do next; with an empty script it accepts everything."""

    def __init__(self) -> None:
        self.accepted: list[EmailMessage] = []
        self._script: deque[Action] = deque()
        self._always: Action | None = None
        self._lock = threading.Lock()

    def will(self, *actions: Action) -> None:
        """Do these things with the next messages, one each."""
        self._script.extend(actions)

    def will_always(self, action: Action | None) -> None:
        """Do this with every message, once the script has run out."""
        self._always = action

    @property
    def subjects(self) -> list[str]:
        """List the subjects of what was accepted, in order."""
        return [message.subject for message in self.accepted]

    def take(self, message: EmailMessage) -> int:
        """Do with the message what the script says."""
        with self._lock:
            action = self._script.popleft() if self._script else self._always
        if isinstance(action, BaseException):
            raise action
        if action is not None:
            result = action(message)
            if result is not None:
                return result
        with self._lock:
            self.accepted.append(message)
        return 1


class ScriptedBackend(BaseEmailBackend):
    """A mailer that gives every message to the provider of its name."""

    providers: ClassVar[dict[str, Provider]] = {}

    def __init__(self, *, name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name

    def send_messages(self, messages: list[EmailMessage]) -> int:
        """Let the provider decide."""
        return sum(self.providers[self.name].take(message) for message in messages)
