"""A row of a table of outcomes: what happens, and what it must come to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from mail_outbox.core.outcomes import Kind, Outcome, Throttled, Transient


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What an attempt must come to, exactly; what is not said must not be there."""

    kind: Kind
    code: str
    is_mailers: bool = False
    wait: timedelta | None = None
    """The provider's own minimum, of a transient or a throttled outcome."""
    refused: Mapping[str, bool] | None = None
    """Whom it refused, and whether for good; None where the row is not about recipients."""

    def compare(self, outcome: Outcome) -> None:
        """Assert that this is the outcome, every fact of it."""
        assert (outcome.kind, outcome.code) == (self.kind, self.code), outcome
        assert (isinstance(outcome, Transient) and outcome.is_mailers) or not self.is_mailers, outcome
        assert self.is_mailers or not getattr(outcome, "is_mailers", False), outcome
        wait = outcome.not_before if isinstance(outcome, Transient) else None
        wait = outcome.retry_after if isinstance(outcome, Throttled) else wait
        assert wait == self.wait, outcome
        if self.refused is not None:
            assert {who: what.for_good for who, what in outcome.refused.items()} == self.refused, outcome


def agree(outcome: Outcome, accepted: int) -> None:
    """Assert that the outcome does not contradict how many messages the provider took."""
    assert accepted <= 1, "one attempt, two messages"
    if outcome.kind is not Kind.AMBIGUOUS:
        assert accepted == (outcome.kind in (Kind.SENT, Kind.PARTIAL)), (outcome, accepted)


def params(rows: Iterable[tuple]) -> list:
    """Return what parametrises a test with the rows, each under what its first cell says."""
    given = [pytest.param(*row[1:], id=row[0]) for row in rows]
    assert len({param.id for param in given}) == len(given), "two rows say the same"
    return given


def sent(code: str) -> Expected:
    """Accepted for everybody."""
    return Expected(kind=Kind.SENT, code=code, refused={})


def transient(code: str, **facts: Any) -> Expected:
    """Not sent, and the message or a recipient is the reason."""
    return Expected(kind=Kind.TRANSIENT, code=code, **facts)


def mailers_transient(code: str, **facts: Any) -> Expected:
    """Not sent, and the mailer is the reason: breaker feedback."""
    return Expected(kind=Kind.TRANSIENT, code=code, is_mailers=True, **facts)


def throttled(code: str, **facts: Any) -> Expected:
    """Slower, please."""
    return Expected(kind=Kind.THROTTLED, code=code, **facts)


def mailer(code: str) -> Expected:
    """The mailer cannot send anything."""
    return Expected(kind=Kind.MAILER, code=code)


def permanent(code: str, **facts: Any) -> Expected:
    """This message can never go."""
    return Expected(kind=Kind.PERMANENT, code=code, **facts)


def ambiguous(code: str, **facts: Any) -> Expected:
    """Nobody knows."""
    return Expected(kind=Kind.AMBIGUOUS, code=code, **facts)
