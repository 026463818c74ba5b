"""The list of addresses not to write to: the verbs, and whom enqueue leaves out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.outbox.options import check_address, check_database, check_moment
from mail_outbox.outbox.twins import has_twin
from mail_outbox.transitions import Draft

LOOK_EVERY = 10.0
"""Seconds after which a process that commits mail looks again whether anything stands on the list."""


@has_twin
def suppress(
    address: str, *, reason: str = "", until: datetime | timedelta | None = None, database: str | None = None
) -> None:
    """Write to the address no more, in no mail that has not gone yet, until `until` (None: for ever).

    Suppressed again, it gets the new reason and end. Raises InvalidOption for what is no address.
    """
    plain = check_address(address)
    check_moment("until", until)
    for alias in _databases(database):
        transitions.suppress({plain: reason}, until=until, database=alias)
        note(database=alias)


@has_twin
def unsuppress(address: str, *, database: str | None = None) -> int:
    """Let mail go to the address again, and return how many rows of the list that took; 0 where it was not there.

    What was cancelled because of it stays so until somebody retries it.
    """
    return sum(transitions.unsuppress(address, database=alias) for alias in _databases(database))


def _databases(database: str | None) -> tuple[str, ...]:
    conf = settings.get_conf()
    return conf.databases if database is None else (check_database(database, conf),)


@dataclass(slots=True)
class _Known:
    """What this process knows of one list. Until it has looked it takes it for empty: the worker looks in any case."""

    is_empty: bool = True
    looked_at: float | None = None


_lists: dict[str, _Known] = {}


def note(*, database: str) -> None:
    """Note that something has been put on the list."""
    _lists[database] = _Known(is_empty=False, looked_at=time.monotonic())


def note_saved(sender: Any, *, using: str, **_: Any) -> None:
    """Do the same as a receiver of Django's `post_save`."""
    note(database=using)


def forget() -> None:
    """Forget what is known of the lists."""
    _lists.clear()


def look(*, database: str) -> None:
    """Look whether anything stands on the list, if nobody has for a while; after a commit, where nobody waits for it."""
    known = _lists.setdefault(database, _Known())
    now = time.monotonic()
    if known.looked_at is None or now - known.looked_at >= LOOK_EVERY:
        known.looked_at = now
        known.is_empty = not transitions.is_anybody_suppressed(database=database)


def leave_out_suppressed(drafts: Sequence[Draft], *, database: str) -> list[Draft]:
    """Return the drafts with those of their recipients who are suppressed: one query, and none for an empty list.

    This spares the queue and tells the caller at once. What it does not know of yet, a worker finds right before it sends.
    """
    if _lists.setdefault(database, _Known()).is_empty:
        return list(drafts)
    addresses = {
        mailbox.address for draft in drafts if not draft.entry.ignore_suppression for mailbox in draft.mailboxes
    }
    found = transitions.suppressed_among(addresses, database=database)
    if not found:
        look(database=database)  # what was put on the list may be off again, or never have been committed
        return list(drafts)
    return [_without(draft, found) for draft in drafts]


def _without(draft: Draft, found: dict[str, datetime | None]) -> Draft:
    if draft.entry.ignore_suppression:
        return draft
    theirs = {mailbox.address for mailbox in draft.mailboxes} & found.keys()
    return replace(draft, suppressed=frozenset(each for each in theirs if _reaches(found[each], draft.send_at)))


def _reaches(until: datetime | None, send_at: datetime | timedelta | None) -> bool:
    """Tell whether a suppression lasts until the mail is to go."""
    if until is None or send_at is None:
        return True
    return until > (datetime.now(until.tzinfo) + send_at if isinstance(send_at, timedelta) else send_at)
