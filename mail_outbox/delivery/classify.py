"""From what an attempt raised or returned, and how far it had got, to its outcome."""

import smtplib
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from mail_outbox.core.loaded import loaded
from mail_outbox.core.outcomes import (
    Ambiguous,
    Cancelled,
    MailerTrouble,
    Outcome,
    Partial,
    Permanent,
    Sent,
    Transient,
)
from mail_outbox.delivery import patterns, smtp_codes
from mail_outbox.delivery.text import clean
from mail_outbox.delivery.trace import DeadlinePassed, Phase, Trace

TOO_LATE = Transient(code="deadline", text="The deadline passed before the message was handed over.")
STUCK = Transient(code="stuck", text="The sender was stuck before the message was handed over.", is_mailers=True)
IN_PARTS = Ambiguous(code="in parts", text="The mailer sent the message in several parts; some went out, one failed.")
CANCELLED = Cancelled(code="cancelled by the mailer")
MISCONFIGURED = ("InvalidHeader", "InvalidSchema", "InvalidURL", "MissingSchema")
"""What requests raises where it is given something that cannot be asked."""


def building_failed(error: Exception) -> Outcome:
    """Return the outcome of a message that could not be built: nothing was sent."""
    if isinstance(error, DeadlinePassed):
        return TOO_LATE
    if _is_cancelled(error):
        return CANCELLED
    if isinstance(error, ImproperlyConfigured):
        return making_failed(error)
    # An attachment's storage may lag; content that cannot be built will not get better. (A certificate that cannot be
    # verified is both an OSError and a ValueError, but no connection is involved here.)
    if isinstance(error, OSError):
        return Transient(code="attachment", text=describe(error))
    return Permanent(code="build", text=describe(error))


def making_failed(error: Exception) -> Outcome:
    """Return the outcome of a mailer that could not be made from its configuration."""
    return MailerTrouble(code="configuration", text=describe(error))


def opening_failed(error: Exception, objections: Sequence[smtp_codes.Reply] = ()) -> Outcome:
    """Return the outcome of a mailer that could not be opened: nothing was sent.

    Over SMTP the objections are what the server said no to before.
    """
    is_goodbye = isinstance(error, smtplib.SMTPServerDisconnected) or getattr(error, "smtp_code", None) == 421
    if is_goodbye and (said := smtp_codes.parting_words(objections)):
        return said
    match error:
        case smtplib.SMTPResponseException() if isinstance(error.smtp_error, bytes) and error.smtp_code >= 400:
            return _mailers(smtp_codes.read((error.smtp_code, error.smtp_error), refusal=MailerTrouble))
        case DeadlinePassed() | smtplib.SMTPException() | OSError():
            return MailerTrouble(code=trouble(error), text=describe(error))
    return making_failed(error)


def stuck(trace: Trace) -> Outcome | None:
    """Return the outcome of an attempt that does not come back; None while it may still send, or where it may have.

    Any thread may ask: past its deadline an attempt that has not come to the point of no return never will.
    """
    if trace.left() > 0:  # first, because the phase goes on meanwhile
        return None
    is_before = trace.phase in (Phase.OPEN, Phase.ENVELOPE, Phase.DATA, Phase.BODY)
    is_first = not trace.accepted and trace.response is None
    return STUCK if is_before and is_first else None


def smtp_failed(error: Exception, trace: Trace) -> Outcome:
    """Return the outcome of an SMTP conversation that ended in an exception."""
    if trace.phase is Phase.ACCEPTED:
        return smtp_accepted(trace)
    if trace.accepted:
        return IN_PARTS
    if trace.phase is Phase.IDLE and isinstance(error, smtplib.SMTPException):
        return opening_failed(error, trace.objections)  # a descendant that logs in when it sends
    match trace.phase:
        case Phase.DOT | Phase.REPLIED:
            return _with_refusals(_after_the_dot(error, trace), trace)
        case Phase.ENVELOPE | Phase.DATA | Phase.BODY:
            return _with_refusals(_before_the_dot(error, trace), trace)
    return building_failed(error)


def smtp_returned(trace: Trace) -> Outcome:
    """Return the outcome of an SMTP conversation that ended without an exception, though perhaps not well."""
    if trace.accepted and trace.phase is not Phase.ACCEPTED:
        return IN_PARTS
    match trace.phase:
        case Phase.ACCEPTED:
            return smtp_accepted(trace)
        case Phase.DOT | Phase.REPLIED:
            return _with_refusals(_after_the_dot(None, trace), trace)
    return Transient(code="unknown", text="The mailer kept an error to itself.")


def smtp_accepted(trace: Trace) -> Outcome:
    """Return the outcome of a message that the server took: for everybody, or for some."""
    code, text = trace.reply or (250, b"")
    refused = smtp_codes.refusals(trace.refused)
    if refused:
        return Partial(code=str(code), text=clean(text), refused=refused)
    return Sent(code=str(code), text=clean(text))


def foreign_failed(error: Exception, trace: Trace) -> Outcome:
    """Return the outcome of a mailer that we cannot look into and that raised: unknown, unless the type is a proof."""
    if error is trace.build_error or _is_cancelled(error):
        return building_failed(error)
    match error:
        case smtplib.SMTPRecipientsRefused():
            return smtp_codes.read_refused(error.recipients)
        case smtplib.SMTPSenderRefused() if is_refusal(error):
            return _sender_refused(error)
        case smtplib.SMTPDataError() if is_refusal(error):
            return smtp_codes.read((error.smtp_code, error.smtp_error))  # type: ignore[arg-type]
        case smtplib.SMTPConnectError() | smtplib.SMTPAuthenticationError() | smtplib.SMTPHeloError():
            return opening_failed(error)
        case ConnectionRefusedError() | socket.gaierror() | ssl.SSLCertVerificationError() | ImproperlyConfigured():
            return opening_failed(error)
    return Ambiguous(code=trouble(error), text=describe(error))


def _is_cancelled(error: Exception) -> bool:
    return isinstance(error, loaded("anymail.exceptions", "AnymailCancelSend"))


def is_refusal(error: BaseException | None) -> bool:
    """Tell whether the exception is an explicit answer by the server."""
    if isinstance(error, smtplib.SMTPResponseException):
        # smtplib's own "Line too long." is a str, what a server said is bytes.
        return isinstance(error.smtp_error, bytes) and smtp_codes.is_answer(error.smtp_code)
    return isinstance(error, smtplib.SMTPRecipientsRefused)


def returned(result: object) -> Outcome:
    """Return the outcome that the number returned by `send_messages` stands for."""
    match result:
        case None:
            return Sent()
        case int() if result > 0:
            return Sent()
        case 0:
            return CANCELLED
    return Ambiguous(code="unknown", text=f"The mailer returned {type(result).__name__}, not how many it sent.")


def trouble(error: BaseException) -> str:
    """Return a short word for what went wrong on the network."""
    causes = list(chain(error))
    words: dict[str, Any] = {
        "deadline": DeadlinePassed,
        "configuration": tuple(loaded("requests.exceptions", name) for name in MISCONFIGURED),
        "tls": ssl.SSLError,
        "timeout": TimeoutError,
        "dns": socket.gaierror,
        "connect": ConnectionRefusedError,
        "not supported": smtplib.SMTPNotSupportedError,
        "disconnected": (smtplib.SMTPServerDisconnected, ConnectionError),
    }
    for word, kinds in words.items():
        if any(isinstance(cause, kinds) for cause in causes):
            return word
    return "network" if isinstance(error, OSError) else "unknown"


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and everything that it says it comes from."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(seen) < 20:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and not any(each is known for known in seen):
            seen.append(each)
            waiting += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
            yield each


def describe(error: BaseException) -> str:
    """Return the exception in one short line, without addresses."""
    if any(isinstance(cause, loaded("requests.exceptions", "InvalidHeader")) for cause in chain(error)):
        return "InvalidHeader: the key has a character that no HTTP header can have."  # requests would quote the key
    return clean(f"{type(error).__name__}: {error}")


def _after_the_dot(error: Exception | None, trace: Trace) -> Outcome:
    if trace.reply is not None:
        code, text = trace.reply
        if 200 <= code <= 299:
            return smtp_accepted(trace)
        if 400 <= code <= 599:
            return smtp_codes.read(trace.reply)
        return Ambiguous(code="unreadable", text=clean(text))
    return Ambiguous(code=trouble(error) if error else "unknown", text=describe(error) if error else "")


def _before_the_dot(error: Exception, trace: Trace) -> Outcome:
    match error:
        case DeadlinePassed():
            return _mailers(TOO_LATE)
        case smtplib.SMTPServerDisconnected() if said := smtp_codes.parting_words(trace.objections):
            return said
        case smtplib.SMTPRecipientsRefused():
            return smtp_codes.read_refused(error.recipients)
        case smtplib.SMTPHeloError():
            reply = (error.smtp_code, error.smtp_error)
            return _mailers(smtp_codes.read(reply, refusal=MailerTrouble))  # type: ignore[arg-type]
        case smtplib.SMTPSenderRefused() if isinstance(error.smtp_error, bytes):
            return _sender_refused(error)
        case smtplib.SMTPResponseException() if isinstance(error.smtp_error, bytes):
            outcome = smtp_codes.read((error.smtp_code, error.smtp_error))
            return _mailers(outcome) if smtp_codes.is_of_system(outcome) else outcome
        case smtplib.SMTPNotSupportedError():
            return Permanent(code="not supported", text=describe(error))
        case OSError():
            return Transient(code=trouble(error), text=describe(error), is_mailers=True)
        case ValueError() | TypeError():
            return Permanent(code="build", text=describe(error))
    return Transient(code="unknown", text=describe(error))


def _mailers(outcome: Outcome) -> Outcome:
    """Note that what failed for now is the mailer's own trouble."""
    return replace(outcome, is_mailers=True) if isinstance(outcome, Transient) else outcome


def _sender_refused(error: smtplib.SMTPSenderRefused) -> Outcome:
    outcome = smtp_codes.read((error.smtp_code, error.smtp_error))
    if isinstance(outcome, Permanent):
        return replace(outcome, pattern=patterns.of_sender(error.sender, outcome))
    return _mailers(outcome) if smtp_codes.is_of_system(outcome) else outcome


def _with_refusals(outcome: Outcome, trace: Trace) -> Outcome:
    """Add whom the server refused for good, so that a repetition leaves them out."""
    if isinstance(outcome, (Transient, Ambiguous)) and not outcome.refused:
        refused = {who: what for who, what in smtp_codes.refusals(trace.refused).items() if what.for_good}
        return replace(outcome, refused=refused)
    return outcome
