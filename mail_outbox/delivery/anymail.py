"""What an attempt through Anymail came to: read from the answer and the statuses, never from the return value."""

import functools
import ssl
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import requests
import urllib3.exceptions
from anymail.backends.base import AnymailBaseBackend
from anymail.exceptions import AnymailInvalidAddress, AnymailSerializationError, AnymailUnsupportedFeature
from django.core.mail import EmailMessage

from mail_outbox.core.addresses import normalise
from mail_outbox.core.outcomes import Ambiguous, MailerTrouble, Outcome, Partial, Permanent, Refusal, Sent, Transient
from mail_outbox.delivery import answers, http
from mail_outbox.delivery.classify import building_failed, chain, describe, opening_failed, returned, trouble
from mail_outbox.delivery.esps import Provider, provider_of
from mail_outbox.delivery.text import LONGEST, clean, storable
from mail_outbox.delivery.trace import Phase, Trace

ACCEPTED = frozenset({"queued", "sent", "unknown"})
REFUSED = frozenset({"rejected", "invalid"})
"""What a provider says of a recipient; "failed" may be said of all because of the message."""
NOT_CONNECTED = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    ssl.SSLCertVerificationError,
)
BEFORE_THE_POST = (AnymailInvalidAddress, AnymailSerializationError, AnymailUnsupportedFeature)


def instrument(backend: AnymailBaseBackend, trace: Trace) -> None:
    """Make the opened backend write down in the trace when the request leaves and what is answered."""
    if isinstance(getattr(backend, "session", None), requests.Session):
        http.instrument(backend, trace)
    else:
        backend.post_to_esp = functools.partial(_post, backend.post_to_esp, trace)


def _post(post: Any, trace: Trace, payload: object, message: EmailMessage) -> Any:
    trace.hand_over(Phase.HANDED)
    response = post(payload, message)
    trace.phase, trace.response = Phase.ANSWERED, response
    return response


def judge(
    message: EmailMessage, trace: Trace, *, esp: str, result: object = None, error: Exception | None = None
) -> Outcome:
    """Return the outcome of the attempt, which raised the error or returned the result."""
    provider = provider_of(esp)
    answer = answers.answer_of(trace.response)
    if trace.phase is Phase.HANDED:
        answer = answers.answer_of(getattr(error, "response", None), status=getattr(error, "status_code", None))
        trace.phase = Phase.HANDED if answer is None else Phase.ANSWERED
    if trace.phase is Phase.ANSWERED:
        return _answered(message, answer, provider=provider, error=error)
    if error is None:
        return returned(result)
    match trace.phase:
        case Phase.BUILD:
            return building_failed(error)
        case Phase.OPEN:
            return opening_failed(error)
        case Phase.HANDED:
            return _handed_over(error, provider=provider)
    return Ambiguous(code=trouble(error), text=describe(error))


def is_taken(message: EmailMessage, trace: Trace) -> bool:
    """Tell whether the provider has said yes, to the request or to a recipient."""
    answer = answers.answer_of(trace.response)
    is_yes = answer is not None and answer.is_success
    return is_yes or any(status in ("queued", "sent") for status in _statuses(message).values())


def _answered(
    message: EmailMessage, answer: answers.Answer | None, *, provider: Provider, error: Exception | None
) -> Outcome:
    statuses = _statuses(message)
    suppresses = provider.means_addresses(answer.body if answer else "")
    refused = {
        normalise(address): Refusal(
            code=str(status), text="", for_good=True, suppresses=suppresses and status in REFUSED
        )
        for address, status in statuses.items()
        if status not in ACCEPTED
    }
    outcome = answers.read(answer, provider=provider) if answer else None
    if outcome is None:
        outcome = _by_statuses(statuses, refused, answer, error, is_parsed=_is_parsed(message))
    elif any(status in ("queued", "sent") for status in statuses.values()):
        # Mailjet answers 400 to a batch of which it has taken a part.
        outcome = Partial(code=outcome.code, text=outcome.text, refused=refused)
    elif isinstance(outcome, Permanent):
        is_about_them = not REFUSED.isdisjoint(statuses.values())
        outcome = replace(outcome, refused=refused, pattern="" if is_about_them else outcome.pattern)
    return replace(outcome, provider_message_id=_message_id(message))


def _by_statuses(
    statuses: Mapping[str, str | None],
    refused: Mapping[str, Refusal],
    answer: answers.Answer | None,
    error: Exception | None,
    *,
    is_parsed: bool,
) -> Outcome:
    code = str(answer.status) if answer else ""
    text = clean(answer.body) if answer else ""
    if not is_parsed:
        # Whoever answers with success has most likely taken the message.
        return Sent(code=code, text=text) if error is None else Ambiguous(code="unreadable", text=describe(error))
    if not refused and statuses:
        return Sent(code=code, text=text)
    if len(refused) < len(statuses):
        return Partial(code=code, text=text, refused=refused)
    if "failed" in statuses.values():
        return Transient(code="failed", text=text)
    return Permanent(code="refused", text=text, refused=refused)


def _handed_over(error: Exception, *, provider: Provider) -> Outcome:
    """Judge an error of a library whose connections we cannot watch: unknown, unless its type is a proof."""
    causes = list(chain(error))
    names = {type(cause).__name__ for cause in causes}
    if isinstance(error, BEFORE_THE_POST) or names & provider.not_built:
        return building_failed(error)
    is_proven = any(isinstance(cause, NOT_CONNECTED) or _is_handshakes(cause) for cause in causes)
    if is_proven or names & provider.not_sent:
        return MailerTrouble(code=trouble(error), text=describe(error))
    return Ambiguous(code=trouble(error), text=describe(error))


def _is_handshakes(cause: BaseException) -> bool:
    """Tell whether TLS failed before anything could be sent through it: it may as well fail under the answer."""
    frames = (frame for frame, _ in traceback.walk_tb(cause.__traceback__))
    return isinstance(cause, ssl.SSLError) and any(frame.f_code.co_name == "do_handshake" for frame in frames)


def _statuses(message: EmailMessage) -> dict[str, str | None]:
    status = getattr(message, "anymail_status", None)
    return {address: each.status for address, each in getattr(status, "recipients", {}).items()}


def _is_parsed(message: EmailMessage) -> bool:
    status = getattr(message, "anymail_status", None)
    return getattr(status, "status", None) is not None


def _message_id(message: EmailMessage) -> str:
    given = getattr(getattr(message, "anymail_status", None), "message_id", None)
    ids = given if isinstance(given, (set, frozenset, list, tuple)) else [given]
    # Not masked: many of these ids look like addresses, and events are matched by them.
    return storable(" ".join(sorted({str(each) for each in ids if each is not None})))[:LONGEST]
