"""What a person may do to mails: each act with its words, its form, and the one verb it calls."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django import forms
from django.db import transaction
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from mail_outbox import outbox
from mail_outbox.admin import forms as fields
from mail_outbox.core.states import FINISHED, MOVABLE, State, Verb, sources
from mail_outbox.models import OutboxEntry
from mail_outbox.outbox.bulk import CHUNK, Report, act_on_many

MANY = 10_000
SOME = 500
"""How many mails one form changes at the most, and how many copies it makes: about what a request has time for."""
SENSITIVE = "sensitive, which nobody but their own recipients may get"

Run = Callable[[Sequence[int], Mapping[str, Any], Any], Iterator[Report]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One thing to do: to mails in these states, said in these words, with this form."""

    name: str
    label: Any
    explanation: Any
    done: Any
    states: frozenset[State]
    run: Run
    fields: Mapping[str, Callable[[], forms.Field]] = field(default_factory=dict)
    most: int = MANY
    needs_content: bool = False

    @property
    def sends(self) -> bool:
        """Tell whether mail goes out for it."""
        return self.name not in {"cancel", "hold", "mark-sent"}


def _by_verb(verb: str, keys: Sequence[int], given: Mapping[str, Any], user: Any) -> Iterator[Report]:
    # What was left empty is left to the verb, but a reason, which then says who did it.
    options = {name: value for name, value in given.items() if name in OPTIONS and value not in (None, "")}
    if verb in {"cancel", "hold", "mark_sent"}:
        options["reason"] = f"{options.get('reason') or SAYS[verb]} ({user.get_username()})"[:200]
    yield from act_on_many(verb, keys, database=given["database"], **options)


OPTIONS = frozenset({"reason", "expires_at", "send_at", "using"})
SAYS = {"cancel": "cancelled by hand", "hold": "held by hand", "mark_sent": "marked as sent by hand"}


def _resend(keys: Sequence[int], given: Mapping[str, Any], user: Any) -> Iterator[Report]:
    yield from _copies(keys, given, to=given.get("to") or None, using=given.get("using") or None)


def _send_to_me(keys: Sequence[int], given: Mapping[str, Any], user: Any) -> Iterator[Report]:
    yield from _copies(keys, given, to=[user.email], using=None)


def _copies(
    keys: Sequence[int], given: Mapping[str, Any], *, to: list[str] | None, using: str | None
) -> Iterator[Report]:
    for start in range(0, len(keys), CHUNK):
        entries = OutboxEntry.objects.using(given["database"]).in_bulk(keys[start : start + CHUNK])
        done, skipped = [], Counter[str]()
        for entry in entries.values():
            why = _copy(entry, given["token"], to=to, using=using)
            if why:
                skipped[why] += 1
            else:
                done.append(entry)
        skipped["no longer there"] += len(keys[start : start + CHUNK]) - len(entries)
        yield Report(tuple(done), +skipped)


def _copy(entry: OutboxEntry, token: str, *, to: list[str] | None, using: str | None) -> str:
    """Make one copy, and return why it was not made, or nothing."""
    if to is not None and entry.sensitive:
        return SENSITIVE
    try:
        with transaction.atomic(using=entry._state.db):
            # The form's token: two clicks make one copy.
            copy = outbox.resend(entry, to=to, using=using, idempotency_key=f"admin:{token}:{entry.pk}")
    except outbox.WrongState:
        return str(entry.state)
    except outbox.UnreadableEnvelope:
        return "without readable content"
    except outbox.OutboxError as error:
        return f"refused: {error}"
    return "copied by this form already" if copy.is_duplicate else ""


ACTS: Mapping[str, Act] = {
    act.name: act
    for act in (
        Act(
            name="retry",
            label=_("Retry"),
            explanation=_("The same mail is sent once more, under the same Message-ID. Whoever had it gets it again."),
            done=ngettext_lazy(
                "%(count)s mail was put back to be sent.", "%(count)s mails were put back to be sent.", "number"
            ),
            states=sources(Verb.RETRY),
            run=partial(_by_verb, "retry"),
            fields={"expires_at": fields.new_expiry},
        ),
        Act(
            name="resend",
            label=_("Resend"),
            explanation=_(
                "A copy is sent as a new mail, linked to this one: to the same recipients, or to another address."
            ),
            done=ngettext_lazy(
                "%(count)s mail was sent again as a new mail.",
                "%(count)s mails were sent again as new mails.",
                "number",
            ),
            states=FINISHED,
            run=_resend,
            fields={"to": fields.other_recipients, "using": fields.other_mailer},
            most=SOME,
        ),
        Act(
            name="copy",
            label=_("Send a copy to me"),
            explanation=_("A copy is sent to your own address."),
            done=ngettext_lazy("%(count)s mail was copied to you.", "%(count)s mails were copied to you.", "number"),
            states=FINISHED,
            run=_send_to_me,
            most=SOME,
            needs_content=True,
        ),
        Act(
            name="cancel",
            label=_("Cancel"),
            explanation=_("What has not gone yet is not sent. What is being sent right now cannot be stopped."),
            done=ngettext_lazy("%(count)s mail was cancelled.", "%(count)s mails were cancelled.", "number"),
            states=sources(Verb.CANCEL),
            run=partial(_by_verb, "cancel"),
            fields={"reason": fields.reason},
        ),
        Act(
            name="hold",
            label=_("Hold"),
            explanation=_("What has not gone yet is set aside until somebody releases it."),
            done=ngettext_lazy("%(count)s mail was set aside.", "%(count)s mails were set aside.", "number"),
            states=sources(Verb.HOLD),
            run=partial(_by_verb, "hold"),
            fields={"reason": fields.needed_reason},
        ),
        Act(
            name="release",
            label=_("Release"),
            explanation=_("What is held is put back, and sent now."),
            done=ngettext_lazy("%(count)s mail was released.", "%(count)s mails were released.", "number"),
            states=sources(Verb.RELEASE),
            run=partial(_by_verb, "release"),
        ),
        Act(
            name="mark-sent",
            label=_("Mark as sent"),
            explanation=_(
                "For what is held and has arrived, as you know from elsewhere. It is settled; nothing is sent."
            ),
            done=ngettext_lazy("%(count)s mail was marked as sent.", "%(count)s mails were marked as sent.", "number"),
            states=sources(Verb.MARK_SENT),
            run=partial(_by_verb, "mark_sent"),
            fields={"reason": fields.reason},
        ),
        Act(
            name="reschedule",
            label=_("Reschedule"),
            explanation=_("What has not gone yet, or is held, is sent at another time."),
            done=ngettext_lazy(
                "%(count)s mail was given another time.", "%(count)s mails were given another time.", "number"
            ),
            states=sources(Verb.RESCHEDULE),
            run=partial(_by_verb, "reschedule"),
            fields={"send_at": fields.send_at},
        ),
        Act(
            name="change-mailer",
            label=_("Change mailer"),
            explanation=_("What has not gone yet, or is held, goes through another mailer."),
            done=ngettext_lazy(
                "%(count)s mail was given to the other mailer.",
                "%(count)s mails were given to the other mailer.",
                "number",
            ),
            states=MOVABLE,
            run=partial(_by_verb, "change_mailer"),
            fields={"using": fields.new_mailer},
        ),
    )
}
