"""What the outbox writes on a message before it leaves, so that every attempt looks the same."""

import copy
import hashlib
from email.message import Message
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any

import django
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

from mail_outbox.core.addresses import normalise
from mail_outbox.core.loaded import loaded
from mail_outbox.delivery import mime, quick
from mail_outbox.delivery.esps import is_anymails, provider_behind
from mail_outbox.delivery.guard import close_back_doors
from mail_outbox.delivery.parcel import Parcel
from mail_outbox.delivery.policy import REMEMBERING_SMTP, is_as_good
from mail_outbox.delivery.trace import Trace

# How Django's SMTP backend asks for the MIME message; what others ask for is built when they do.
POLICY: dict[str, Any] = {"policy": SMTP} if django.VERSION >= (6, 0) else {}
# What makes the same bytes sooner, where nothing but the bytes is asked for.
FOR_BYTES: dict[str, Any] = {"policy": REMEMBERING_SMTP} if django.VERSION >= (6, 0) else {}
ADDRESS_LISTS = ("to", "cc", "bcc")


class Frozen:
    """Stands in for `message.message`: every build has the Message-ID, the date and the boundaries of the first."""

    def __init__(self, message: EmailMessage, *, headers: dict[str, str], seed: str, trace: Trace | None) -> None:
        self._message, self._headers, self._seed = message, headers, seed
        self._trace = trace
        self._ready: Message | mime.Rendered | None = None

    def __call__(self, **options: Any) -> Message | mime.Rendered:
        """Return the message as MIME: the one built ahead, if it is what is asked for."""
        ready, self._ready = self._ready, None
        return ready if ready is not None and options == POLICY else self._build(options)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Frozen":
        """Return one that builds the copy of the message, which is what Django keeps in the outbox of its tests."""
        message = copy.deepcopy(self._message, memo)
        return Frozen(message, headers=self._headers, seed=self._seed, trace=None)

    def build_ahead(self, *, only_bytes: bool) -> None:
        """Build now what the mailer will ask for, before a connection is opened for it: perhaps only the bytes of it."""
        is_plain = only_bytes and mime.is_built_by_django(self._message)
        options = FOR_BYTES if is_plain and is_as_good() else POLICY
        rendered = mime.render(self._message, lambda: self._build(options)) if only_bytes else None
        built = rendered or self._build(options)
        is_quick = is_plain and rendered is None and options.get("policy") is REMEMBERING_SMTP
        self._ready = mime.Rendered(quick.as_bytes(built), lambda: self._build(POLICY)) if is_quick else built

    def _build(self, options: dict[str, Any]) -> Message:
        message, given = self._message, self._message.extra_headers
        # In the headers while building, because a subclass may sign them; not for longer, because they are not the caller's.
        message.extra_headers = with_headers(given, self._headers)
        try:
            built: Message = type(message).message(message, **options)
            freeze_boundaries(built, seed=self._seed)
        except Exception as error:
            if self._trace is not None and not self._trace.built:
                self._trace.build_error = error
            raise
        finally:
            message.extra_headers = given
        if self._trace is not None:
            self._trace.built += 1
        return built


def stamp(parcel: Parcel, backend: BaseEmailBackend, trace: Trace) -> Frozen:
    """Write on the message what this mailer can take; return what builds it."""
    message = parcel.message
    headers = {"Date": format_datetime(parcel.date), "Message-ID": parcel.message_id}
    frozen = Frozen(message, headers=headers, seed=parcel.seed, trace=trace)
    message.message = frozen  # type: ignore[method-assign,assignment]
    provider = provider_behind(backend)
    if provider is not None and provider.message_id:
        message.extra_headers = with_headers(message.extra_headers, {"Message-ID": parcel.message_id})
    if parcel.tags:
        message.tags = list(dict.fromkeys([*_own(message, "tags", ()), *parcel.tags]))  # type: ignore[attr-defined]
    if parcel.metadata and (provider is None or provider.metadata):
        message.metadata = {**_own(message, "metadata", {}), **parcel.metadata}  # type: ignore[attr-defined]
    return frozen


def unstamp(message: EmailMessage) -> None:
    """Take off what holds the message in a circle, so that it is gone as soon as nobody needs it, attachments and all."""
    vars(message).pop("message", None)
    vars(message).pop("recipients", None)


def address(parcel: Parcel, backend: BaseEmailBackend) -> None:
    """Make the message go to everybody once, or only to those who are still open."""
    message, only = parcel.message, parcel.only
    if is_anymails(backend):
        if parcel.is_guarded:
            backend.send_defaults = close_back_doors(backend.send_defaults)
        # Its recipients are the headers, so the others have to leave them: better than a second copy.
        for name in ADDRESS_LISTS if only is not None else ():
            setattr(
                message, name, [each for each in getattr(message, name) if each and normalise(each) in (only or ())]
            )
        if only is not None and not message.to:
            message.to, message.cc = message.cc, []  # some providers want somebody in it
        return
    once = list(dict.fromkeys(message.recipients()))
    open_ones = once if only is None else [each for each in once if normalise(each) in only]
    message.recipients = lambda: list(open_ones)  # type: ignore[method-assign]


def with_headers(given: Any, ours: dict[str, str]) -> Any:
    """Return a copy of the caller's headers, with those of ours that the caller did not give."""
    headers = copy.copy(given) if given else {}
    names = {str(name).lower() for name in headers}
    headers.update({name: value for name, value in ours.items() if name.lower() not in names})
    return headers


def freeze_boundaries(built: Message, *, seed: str) -> None:
    """Give every multipart that has no boundary one that is the same in every attempt."""
    multiparts = [part for part in built.walk() if part.get_content_maintype() == "multipart"]
    for number, part in enumerate(multiparts):
        # What has a boundary was built elsewhere, perhaps signed: its bytes are not ours to change.
        if part.get_boundary() is None:
            digest = hashlib.sha256(f"{seed}:{number}".encode()).hexdigest()[:32]
            part.set_boundary(f"==============={digest}==")


def _own(message: EmailMessage, name: str, otherwise: Any) -> Any:
    value = getattr(message, name, None)
    return otherwise if value is None or value is loaded("anymail.utils", "UNSET", None) else value
