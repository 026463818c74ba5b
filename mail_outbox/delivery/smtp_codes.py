"""What an SMTP server's answer means."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta

from mail_outbox.core.addresses import normalise
from mail_outbox.core.outcomes import MailerTrouble, Outcome, Permanent, Refusal, Throttled, Transient
from mail_outbox.delivery.text import clean

GREYLISTED = timedelta(minutes=5)
NO_LOGIN = frozenset({530, 534, 535, 538})
_ENHANCED = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")
_GREY = re.compile(r"gr[ae]y-?list", re.IGNORECASE)
_TOO_MANY = re.compile(r"\btoo many\b", re.IGNORECASE)

Reply = tuple[int, bytes]


def is_answer(code: int) -> bool:
    """Tell whether the code is one that a server can give; anything else counts as no answer."""
    return 200 <= code <= 599


def read(reply: Reply, *, refusal: type[Permanent] | type[MailerTrouble] = Permanent) -> Outcome:
    """Return what a reply that is not a yes comes to; a 5xx is the refusal."""
    code, text = reply[0], clean(reply[1])
    enhanced = _enhanced(text)
    if code == 421 or enhanced == "4.7.28":
        return Throttled(code=str(code), text=text)
    if code in NO_LOGIN or enhanced == "5.7.8":
        return MailerTrouble(code=str(code), text=text)
    if 500 <= code <= 599:
        return refusal(code=str(code), text=text)
    if not is_answer(code):
        return Transient(code="unreadable", text=text)
    wait = GREYLISTED if _is_greylisting(code, enhanced, text) else None
    return Transient(code=str(code), text=text, not_before=wait)


def parting_words(objections: Sequence[Reply]) -> Outcome | None:
    """Return what a server that hung up had said before: that it refuses our login, or that it has no time; else None."""
    for code, text in objections:
        if code in NO_LOGIN:
            return read((code, text), refusal=MailerTrouble)
    return read(objections[-1]) if objections and objections[-1][0] == 421 else None


def refusals(refused: Mapping[str, Reply]) -> dict[str, Refusal]:
    """Return what the server said about each recipient it refused, by normalised address."""
    return {
        normalise(address): Refusal(code=str(reply[0]), text=clean(reply[1]), for_good=_is_for_good(reply))
        for address, reply in refused.items()
        if not 200 <= reply[0] <= 299  # smtplib counts a 252 as refused, the server as accepted
    }


def is_of_system(outcome: Outcome) -> bool:
    """Tell whether the reply was about the server itself (RFC 3463 3.4), or none that a server gives here."""
    is_no = outcome.code[:1] in ("4", "5")
    return not is_no or _enhanced(outcome.text).startswith("4.3.")


def read_refused(refused: Mapping[str, Reply]) -> Outcome:
    """Return what it comes to when every recipient was refused."""
    replies = list(refused.values())
    outcomes = [read(reply) for reply in replies]
    for kind in (Throttled, MailerTrouble):
        for outcome in outcomes:
            if isinstance(outcome, kind):
                return outcome
    for_now = [reply for reply in replies if not _is_for_good(reply)]
    if not for_now:
        code, text = replies[0] if replies else (550, b"all recipients refused")
        return Permanent(code=str(code), text=clean(text), refused=refusals(refused))
    waits = [outcome.not_before for outcome in outcomes if isinstance(outcome, Transient) and outcome.not_before]
    code, text = for_now[0]
    return Transient(
        code=str(code) if is_answer(code) else "unreadable",
        text=clean(text),
        not_before=max(waits, default=None),
        is_mailers=not is_answer(code),
        refused=refusals(refused),
    )


def _is_for_good(reply: Reply) -> bool:
    code, text = reply[0], clean(reply[1])
    # RFC 5321 4.5.3.1.10: a 552 to the hundred-and-first recipient means "this one in the next envelope".
    if code == 552 and (_TOO_MANY.search(text) or _enhanced(text) == "5.5.3"):
        return False
    return isinstance(read(reply), Permanent)


def _is_greylisting(code: int, enhanced: str, text: str) -> bool:
    return code in (450, 451) and (enhanced in ("4.2.0", "4.7.1") or _GREY.search(text) is not None)


def _enhanced(text: str) -> str:
    found = _ENHANCED.match(text)
    return found[1] if found else ""
