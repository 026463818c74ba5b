"""The guard of staging sites: whom a message really goes to, whatever stands on it."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage

from mail_outbox.conf import Conf
from mail_outbox.core.addresses import ROLES, Role, address_texts, ascii_text, normalise, parse
from mail_outbox.core.errors import InvalidMessage
from mail_outbox.core.outcomes import (
    NOT_ALLOWED,
    REDIRECTED,
    Cancelled,
    Kind,
    Outcome,
    Partial,
    Refusal,
    Sent,
)
from mail_outbox.delivery.parcel import Parcel
from mail_outbox.delivery.text import LONGEST, clean

ORIGINALS: Mapping[Role, str] = {"to": "X-Original-To", "cc": "X-Original-Cc", "bcc": "X-Original-Bcc"}
"""The headers that keep whom the message was for."""
LONGEST_HEADER = 10_000
"""Characters of originals in one header; servers cut off, or refuse, what is much longer."""
ADDRESSING = frozenset({"to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc", *map(str.lower, ORIGINALS.values())})
"""Headers given by hand that would hide the guard's, or that a mailer might take recipients from."""
BACK_DOORS = frozenset(
    {
        *("to", "cc", "bcc", "h:to", "h:cc", "h:bcc", "bcc_address", "recipients", "personalizations"),
        *("destination", "destinations", "toaddresses", "ccaddresses", "bccaddresses", "bulkemailentries"),
        *("messageversions", "recipient-variables"),
    }
)
"""Under these names providers take recipients out of `esp_extra`, in whatever case and however deep."""
MERGES = ("merge_data", "merge_metadata", "merge_headers")
"""Anymail's attributes with something for each recipient, by address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What the settings say, normalised: only those in `allow_to` are written to, and `redirect_to` for the others."""

    redirect_to: tuple[str, ...] = ()
    allow_to: tuple[str, ...] = ()

    def allows(self, text: str) -> bool:
        """Tell whether the mailbox may be written to; what is not exactly one address may not."""
        try:
            address = parse(text)
        except InvalidMessage:
            return False
        return any(fnmatchcase(address, pattern) for pattern in self.allow_to)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """A parcel as the guard lets it go, and whom of its recipients it keeps the attempt away from.

    `refused` are the recipients of the attempt that are not allowed, `stand_ins` the addresses written to in their
    place, `both` those that are a recipient as well as a stand-in; all normalised. `is_nobody_left` when there were
    recipients and none may be written to.
    """

    parcel: Parcel
    refused: frozenset[str] = frozenset()
    stand_ins: frozenset[str] = frozenset()
    both: frozenset[str] = frozenset()
    is_nobody_left: bool = False

    def read(self, outcome: Outcome) -> Outcome:
        """Return the outcome in terms of the true recipients: what the stand-ins were told is not theirs."""
        if not self.refused:
            return outcome
        withheld = dict.fromkeys(self.refused - self.both, REDIRECTED if self.stand_ins else NOT_ALLOWED)
        refused = self._refusals(outcome.refused, withheld)
        if outcome.kind in (Kind.THROTTLED, Kind.MAILER):
            return replace(outcome, refused=refused, withheld=withheld)
        note = (
            "Redirected by MAIL_OUTBOX['REDIRECT_TO']." if self.stand_ins else "MAIL_OUTBOX['ALLOW_TO'] left some out."
        )
        text = f"{note} {outcome.text}".strip()[:LONGEST]
        if isinstance(outcome, Partial) and not refused:
            outcome = Sent(code=outcome.code, provider_message_id=outcome.provider_message_id)
        return replace(outcome, text=text, refused=refused, withheld=withheld)

    def _refusals(self, refused: Mapping[str, Refusal], withheld: Mapping[str, str]) -> dict[str, Refusal]:
        """Hand on what was said of true recipients; those redirected are refused only if every stand-in was."""
        theirs = {address: refusal for address, refusal in refused.items() if address not in self.stand_ins - self.both}
        said = [refused[address] for address in sorted(self.stand_ins) if address in refused]
        if said and len(said) == len(self.stand_ins):
            for_good = all(refusal.for_good for refusal in said)
            text = clean(f"The address in its place was refused: {said[0].code} {said[0].text}")
            theirs |= dict.fromkeys(withheld, Refusal(code=REDIRECTED, text=text, for_good=for_good))
        return theirs


def guard_of(conf: Conf) -> Guard | None:
    """Return the guard that the settings ask for, or None; raises ImproperlyConfigured where they cannot be understood."""
    if conf.redirect_to is None and conf.allow_to is None:
        return None
    redirect_to = (conf.redirect_to,) if isinstance(conf.redirect_to, str) else conf.redirect_to
    if redirect_to is not None and not is_list_of_addresses(redirect_to):
        raise ImproperlyConfigured("MAIL_OUTBOX['REDIRECT_TO'] is neither an address nor a list of addresses.")
    if conf.allow_to is not None and not is_list_of_patterns(conf.allow_to):
        raise ImproperlyConfigured("MAIL_OUTBOX['ALLOW_TO'] is no list of addresses and patterns.")
    return Guard(
        redirect_to=tuple(map(normalise, redirect_to or ())), allow_to=tuple(map(normalise, conf.allow_to or ()))
    )


def is_list_of_addresses(value: object) -> bool:
    """Tell whether it is a list of at least one address."""
    return isinstance(value, list | tuple) and len(value) > 0 and all(_is_address(item) for item in value)


def is_list_of_patterns(value: object) -> bool:
    """Tell whether it is a list of addresses and patterns, each with something before and after an @."""
    return isinstance(value, list | tuple) and all(
        isinstance(item, str) and all(item.strip().rpartition("@")[::2]) for item in value
    )


def _is_address(value: object) -> bool:
    try:
        return isinstance(value, str) and "@" in parse(value)
    except InvalidMessage:
        return False


def lead(parcel: Parcel, guard: Guard) -> Guarded:
    """Return the parcel with a message of its own that goes nowhere but where the guard allows; the given one is left alone."""
    given = {role: [text for text in address_texts(getattr(parcel.message, role, None)) if text] for role in ROLES}
    kept = {role: [text for text in given[role] if guard.allows(text)] for role in ROLES}
    keys, kept_keys = _keys(given), _keys(kept)
    refused = [key for key in keys if key not in kept_keys]
    stand_ins = guard.redirect_to if refused else ()
    message = copy.copy(parcel.message)
    _readdress(message, kept, [address for address in stand_ins if address not in kept_keys])
    _write_headers(message, given if refused else {})
    _lead_merges(message, kept_keys, first=refused[0] if refused else "", stand_ins=stand_ins)
    addressed = frozenset(keys) if parcel.only is None else parcel.only.intersection(keys)
    withheld = addressed.intersection(refused)
    targets = addressed.intersection(kept_keys) | (frozenset(stand_ins) if withheld else frozenset())
    return Guarded(
        parcel=replace(parcel, message=message, only=None if parcel.only is None else targets, is_guarded=True),
        refused=withheld,
        stand_ins=frozenset(stand_ins) if withheld else frozenset(),
        both=addressed.intersection(stand_ins),
        is_nobody_left=bool(addressed and not targets),
    )


def nobody_left() -> Outcome:
    """Return the outcome of an attempt whose recipients are all left out."""
    return Cancelled(code=NOT_ALLOWED, text="MAIL_OUTBOX['ALLOW_TO'] lets none of its recipients through.")


def _keys(texts: Mapping[Role, Sequence[str]]) -> dict[str, None]:
    """List the addresses, normalised, to before cc before bcc."""
    return dict.fromkeys(normalise(text) for role in ROLES for text in texts[role])


def _readdress(message: EmailMessage, kept: Mapping[Role, list[str]], stand_ins: Sequence[str]) -> None:
    message.to, message.cc, message.bcc = [*kept["to"], *stand_ins], kept["cc"], kept["bcc"]
    if not message.to:
        message.to, message.cc = message.cc, []  # some providers want somebody in it
    # A class of the project's own may know more recipients than its lists say.
    message.recipients = lambda: [*message.to, *message.cc, *message.bcc]  # type: ignore[method-assign]


def _write_headers(message: EmailMessage, given: Mapping[Role, Sequence[str]]) -> None:
    headers = {
        name: value for name, value in dict(message.extra_headers or {}).items() if str(name).lower() not in ADDRESSING
    }
    headers |= {ORIGINALS[role]: _listed(texts) for role, texts in given.items() if texts}
    message.extra_headers = headers


def _listed(texts: Sequence[str]) -> str:
    """Join the mailboxes, as many as one header takes."""
    written = ""
    for text in texts:
        longer = f"{written}, {ascii_text(text)}" if written else ascii_text(text)
        if len(longer) > LONGEST_HEADER:
            return f"{written}, ..."
        written = longer
    return written


def _lead_merges(message: EmailMessage, kept: Mapping[str, None], *, first: str, stand_ins: Sequence[str]) -> None:
    """Give each stand-in what the first of those it stands for would have got, and nobody what is for others."""
    values: dict[str, Any] = vars(message)
    for name in MERGES:
        given = values.get(name)
        if isinstance(given, Mapping):
            by_key = {normalise(str(address)): value for address, value in given.items()}
            led = {address: value for address, value in given.items() if normalise(str(address)) in kept}
            if first in by_key:
                led |= {address: by_key[first] for address in stand_ins if address not in kept}
            setattr(message, name, _without_back_doors(led) if name == "merge_headers" else led)
    if isinstance(values.get("esp_extra"), Mapping):
        message.esp_extra = _without_back_doors(values["esp_extra"])  # type: ignore[attr-defined]


def close_back_doors(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return Anymail's defaults for every message without those that would add recipients."""
    kept = {name: value for name, value in defaults.items() if name not in (*ROLES, *MERGES)}
    if isinstance(kept.get("esp_extra"), Mapping):
        kept["esp_extra"] = _without_back_doors(kept["esp_extra"])
    return kept


def _without_back_doors(value: Any) -> Any:
    match value:
        case Mapping():
            return {
                name: _without_back_doors(each) for name, each in value.items() if str(name).lower() not in BACK_DOORS
            }
        case list() | tuple():
            return [_without_back_doors(each) for each in value]
    return value
