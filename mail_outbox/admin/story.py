"""What happened to a mail and what happens next, in plain sentences."""

from collections.abc import Sequence
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mail_outbox.admin.rights import shown_text
from mail_outbox.core.durations import humanise
from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import State
from mail_outbox.models import Attempt, OutboxEntry
from mail_outbox.outbox import Health

HELD_FOR = {
    "ambiguous": gettext_lazy(
        "nobody can know whether the last attempt reached the provider. Look there. If it arrived, mark it as sent; "
        "if it did not, retry it"
    ),
    "poison": gettext_lazy("several workers were lost while they sent it. Find out why before you retry it"),
}


def tell(entry: OutboxEntry, attempts: Sequence[Attempt], health: Health, now: datetime) -> str:
    """Return one or two sentences: what has become of the entry, and what will."""
    match entry.state:
        case State.SCHEDULED:
            sentences = _scheduled(entry, attempts, now)
        case State.QUEUED:
            sentences = _queued(entry, attempts, health, now)
        case State.SENDING:
            sentences = _sending(entry, now)
        case State.SENT:
            sentences = _sent(entry, attempts, now)
        case State.FAILED:
            sentences = _failed(entry, now)
        case State.HELD:
            reason = HELD_FOR.get(entry.state_reason, entry.state_reason or _("somebody has set it aside"))
            told = _("It has waited for a person since %(ago)s: %(reason)s.")
            sentences = [told % {"ago": _ago(entry, now), "reason": reason}]
        case State.EXPIRED:
            told = _("It was not sent before its expiry, %s UTC, so it was not sent at all.")
            sentences = [told % f"{entry.expires_at:%Y-%m-%d %H:%M}", _("You may retry it with a new expiry.")]
        case _:
            told = _("It was cancelled %(ago)s%(reason)s. It will not be sent.")
            sentences = [told % {"ago": _ago(entry, now), "reason": _because(entry.state_reason)}]
    return " ".join(filter(None, map(str, sentences)))


def _scheduled(entry: OutboxEntry, attempts: Sequence[Attempt], now: datetime) -> list[str]:
    if entry.due_at <= now:
        when = _("It has been due for %s, and a worker will queue it when it looks.") % humanise(now - entry.due_at)
    elif attempts:
        when = _("It will be tried again in %s.") % humanise(entry.due_at - now)
    else:
        told = _("It is due in %(length)s; then mailer '%(mailer)s' will send it.")
        when = told % {"length": humanise(entry.due_at - now), "mailer": entry.using}
    before = [_("After %s it has not gone yet.") % _times(entry.attempts), _answer(entry)] if attempts else []
    return [*before, when, _expiry(entry)]


def _queued(entry: OutboxEntry, attempts: Sequence[Attempt], health: Health, now: datetime) -> list[str]:
    due = _("It has been due for %(length)s and waits for a free sender of mailer '%(mailer)s'.")
    reasons = [problem.text for problem in health.problems if problem.mailer in {"", entry.using}]
    waits = _("What keeps it: %s") % reasons[0] if reasons else _("It will go as soon as one is free.")
    return [
        due % {"length": humanise(now - entry.due_at), "mailer": entry.using},
        _answer(entry) if attempts else "",
        waits,
        _expiry(entry),
    ]


def _sending(entry: OutboxEntry, now: datetime) -> list[str]:
    if entry.lease_expires_at is None or entry.lease_expires_at > now:
        return [_("Worker %s is sending it right now.") % entry.worker]
    if entry.on_ambiguous == "hold":
        then = _("Another worker will take it up, and set it aside for a person.")
    else:
        then = _("Another worker will take it up, and send it again.")
    return [_("Worker %s took it and has not said what became of it.") % entry.worker, then]


def _sent(entry: OutboxEntry, attempts: Sequence[Attempt], now: datetime) -> list[str]:
    accepted = [attempt for attempt in attempts if attempt.kind in {Kind.SENT, Kind.PARTIAL}]
    values = {"ago": _ago(entry, now), "reason": _because(entry.state_reason)}
    if accepted:
        told = _("Mailer '%(mailer)s' accepted it %(ago)s, at attempt %(number)s%(reason)s.")
        values |= {"mailer": accepted[-1].using, "number": str(accepted[-1].number)}
    else:
        told = _("It was settled as sent %(ago)s%(reason)s.")
    return [told % values, _("Nothing more will happen.")]


def _failed(entry: OutboxEntry, now: datetime) -> list[str]:
    told = _("It failed %(ago)s after %(attempts)s%(reason)s.")
    # The code of the answer is told anyway.
    reason = "" if entry.state_reason == entry.outcome_code else _because(entry.state_reason)
    return [
        told % {"ago": _ago(entry, now), "attempts": _times(entry.attempts), "reason": reason},
        _answer(entry),
        _("It will not go by itself; you may retry it."),
    ]


def _answer(entry: OutboxEntry) -> str:
    words = " ".join(filter(None, [entry.outcome_kind and _(entry.outcome_kind), entry.outcome_code]))
    text = shown_text(entry, entry.outcome_text).rstrip(".")
    return _("The last answer was %s.") % (f"{words}: {text}" if text else words) if words else ""


def _expiry(entry: OutboxEntry) -> str:
    if entry.expires_at is None:
        return ""
    return _("It will not be sent after %s UTC.") % f"{entry.expires_at:%Y-%m-%d %H:%M}"


def _ago(entry: OutboxEntry, now: datetime) -> str:
    return _("some time ago") if entry.finished_at is None else _("%s ago") % humanise(now - entry.finished_at)


def _times(count: int) -> str:
    return ngettext("%s attempt", "%s attempts", count) % count


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""
