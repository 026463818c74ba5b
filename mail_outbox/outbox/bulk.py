"""One verb on many entries: in chunks, each with its own commit, and an honest report of each."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from mail_outbox import conf as settings
from mail_outbox.core.errors import InvalidOption, did_you_mean
from mail_outbox.core.states import MOVABLE, State, Verb, sources
from mail_outbox.models import OutboxEntry, UtcNow
from mail_outbox.outbox import acting

CHUNK = 500
"""How many entries one transaction changes: few enough that nobody waits for its locks."""

VERBS: Mapping[str, tuple[Callable[..., int], frozenset[State]]] = {
    "cancel": (acting.cancel, sources(Verb.CANCEL)),
    "hold": (acting.hold, sources(Verb.HOLD)),
    "release": (acting.release, sources(Verb.RELEASE)),
    "retry": (acting.retry, sources(Verb.RETRY)),
    "reschedule": (acting.reschedule, sources(Verb.RESCHEDULE)),
    "mark_sent": (acting.mark_sent, sources(Verb.MARK_SENT)),
    "change_mailer": (acting.change_mailer, MOVABLE),
}


@dataclass(frozen=True, slots=True)
class Report:
    """What was done, with the entries as they were before, and how many were skipped for which reason."""

    done: tuple[OutboxEntry, ...]
    skipped: Mapping[str, int]


def act_on_many(verb: str, keys: Sequence[int], *, database: str | None = None, **options: Any) -> Iterator[Report]:
    """Do it to all the entries it can be done to, 500 at a time, and yield a report after each commit.

    `verb` is the name of one of the outbox's verbs, `options` are its keywords. Raises InvalidOption for another name,
    and what the verb raises.
    """
    if verb not in VERBS:
        raise InvalidOption(f"No verb '{verb}' for many entries." + did_you_mean(verb, VERBS))
    database = database or settings.get_conf().databases[0]
    for start in range(0, len(keys), CHUNK):
        yield _act(verb, sorted(keys[start : start + CHUNK]), database, options)


def _act(verb: str, keys: Sequence[int], database: str, options: Mapping[str, Any]) -> Report:
    act, froms = VERBS[verb]
    with transaction.atomic(using=database):
        # Locked from here on, so that what is reported as done is what was done.
        rows = OutboxEntry.objects.using(database).filter(pk__in=keys).order_by("pk").select_for_update()
        entries = list(rows.annotate(now=UtcNow()))
        skipped = Counter({"no longer there": len(keys) - len(entries)})
        ready = []
        for entry in entries:
            reason = _reason_to_skip(verb, entry, froms, options)
            if reason:
                skipped[reason] += 1
            else:
                ready.append(entry)
        if ready:
            act(*ready, **options)
    return Report(tuple(ready), {reason: count for reason, count in skipped.items() if count})


def _reason_to_skip(verb: str, entry: Any, froms: frozenset[State], options: Mapping[str, Any]) -> str:
    if entry.state not in froms:
        return str(entry.state)
    if entry.expires_at is not None:
        if verb == "retry" and options.get("expires_at") is None and entry.expires_at <= entry.now:
            return "past their expiry, and no new one was given"
        if verb == "reschedule" and entry.expires_at <= _moment(options["send_at"], entry.now):
            return "past their expiry by then"
    if verb == "change_mailer" and entry.using == options["using"]:
        return f"with mailer '{entry.using}' already"
    return ""


def _moment(when: Any, now: Any) -> Any:
    return now + when if hasattr(when, "total_seconds") else when
