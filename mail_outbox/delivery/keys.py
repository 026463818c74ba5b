"""The key by which a provider recognises a repetition, where it knows one."""

import re
from dataclasses import replace
from uuid import NAMESPACE_OID, uuid5

from django.core.mail.backends.base import BaseEmailBackend

from mail_outbox.core.outcomes import Ambiguous, Outcome, Permanent, Sent, Transient
from mail_outbox.delivery.answers import answer_of
from mail_outbox.delivery.esps import provider_behind
from mail_outbox.delivery.parcel import Parcel
from mail_outbox.delivery.trace import Trace

NO_KEY = Ambiguous(
    code="not repeated",
    text="Not sent again: an earlier attempt may have gone out, and this mailer has no key to recognise a repetition by.",
)


def key_of(parcel: Parcel) -> str:
    """Return the key of the parcel, a UUID: the same for every repetition, another one when fewer are addressed."""
    addressed = "everybody" if parcel.only is None else "\n".join(sorted(parcel.only))
    return str(uuid5(NAMESPACE_OID, f"mail_outbox {parcel.seed} {addressed}"))


def stamp_key(parcel: Parcel, backend: BaseEmailBackend, trace: Trace) -> None:
    """Give the attempt its key, in the message or for the request, where the provider knows one and the caller gave none."""
    provider = provider_behind(backend)
    if provider is None or provider.key is None:
        return
    key = provider.key
    if key.is_http_header:
        trace.http_headers = {key.header: key_of(parcel)}
    else:
        given = parcel.message.extra_headers or {}
        if key.header.lower() in {str(name).lower() for name in given}:
            return
        parcel.message.extra_headers = {**given, key.header: key_of(parcel)}
    trace.key = key


def recognise(outcome: Outcome, parcel: Parcel, trace: Trace) -> Outcome:
    """Return the outcome with what the key makes of it: a repetition that would be harmless, or was one."""
    key = trace.key
    if key is None:
        return outcome
    if isinstance(outcome, Ambiguous):
        return replace(outcome, key_lifetime=key.lifetime)
    answer = answer_of(trace.response)
    if isinstance(outcome, Permanent) and answer and key.already_used and re.search(key.already_used, answer.body):
        was_refused = parcel.refused_ago is not None and (key.taken_for is None or parcel.refused_ago < key.taken_for)
        if parcel.may_be_out and was_refused:
            # Taken by either of the two: only one of them may have sent anything.
            return Ambiguous(code=outcome.code, text=outcome.text, key_lifetime=key.lifetime)
        if parcel.may_be_out:
            return Sent(code=outcome.code, text=outcome.text)
        # Taken by an attempt that was refused: nothing is out, and the key will be free again.
        return Transient(code=outcome.code, text=outcome.text, not_before=key.taken_for)
    return outcome
