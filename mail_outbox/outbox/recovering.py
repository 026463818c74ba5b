"""After a copy or a failover: whose the database is, and what may have gone out already."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.core.counts import Counts
from mail_outbox.core.errors import InvalidOption
from mail_outbox.drain import instances
from mail_outbox.outbox.announcing import after_commit
from mail_outbox.outbox.options import check_database, check_moment
from mail_outbox.outbox.twins import has_twin


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineResult(Counts):
    """How many entries were set aside, and how many more wait that had come due before that moment."""

    held: int
    due_before: int


@has_twin
def adopt(*, database: str | None = None) -> None:
    """Let this deployment send what is in the database, though it belonged to another: a copy, or one that has moved.

    All databases of `MAIL_OUTBOX["DATABASE"]`, or the one that is named. Raises InvalidOption for one that is not there.
    """
    for alias in _databases(database):
        instances.adopt(database=alias)
        after_commit(database=alias)


@has_twin
def quarantine(since: datetime | timedelta, *, dry_run: bool = False, database: str | None = None) -> QuarantineResult:
    """Set aside what may have been sent since then and is back in the queue, and return the counts.

    For a failover to a replica that lagged behind: what was sent in the time that is lost waits again. Everything that came
    due since then (an aware moment, or so long ago), and everything that is claimed, becomes `held` with the reason
    "quarantine". Raises InvalidOption.
    """
    check_moment("since", since)
    moment = datetime.now(UTC) - since if isinstance(since, timedelta) else since
    if moment is None or moment > datetime.now(UTC):
        raise InvalidOption(
            f"since={since} must be a moment that has passed, or a timedelta that counts back from now."
        )
    held = before = 0
    for alias in _databases(database):
        before += transitions.due_before(moment, database=alias).count()
        held += (
            transitions.suspicious(moment, database=alias).count()
            if dry_run
            else transitions.quarantine(moment, database=alias)
        )
    return QuarantineResult(held=held, due_before=before)


def _databases(database: str | None) -> tuple[str, ...]:
    conf = settings.get_conf()
    return conf.databases if database is None else (check_database(database, conf),)
