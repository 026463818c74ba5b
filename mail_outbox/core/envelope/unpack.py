"""Unpacking: from JSON and blobs to the values on a message."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.charset import Charset
from hashlib import sha256
from typing import Any

from django.core.mail import EmailMessage

from mail_outbox.core.envelope import mime
from mail_outbox.core.envelope.classes import CONTENT, LIVE, OURS, RETIRED, Classes, class_of
from mail_outbox.core.envelope.kinds import CHARSET_ATTRIBUTES, SCALARS, SEQUENCES
from mail_outbox.core.envelope.streams import Blob, whole
from mail_outbox.core.errors import UnreadableEnvelope
from mail_outbox.core.loaded import loaded


@dataclass(frozen=True, slots=True)
class Unpacker:
    """Turns JSON back into a message; what is damaged surfaces as whatever Python makes of it."""

    classes: Classes
    blobs: Mapping[str, Blob]

    def message(self, packed: Any) -> EmailMessage:
        """Build the message without running its class's `__init__`, whose defaults are not what the caller gave."""
        name = packed["class"]
        known = class_of(name, self.classes)
        if known is None:
            raise UnreadableEnvelope(
                f"The stored message is of class {_cut(name)}, which is not known here. List it in"
                ' MAIL_OUTBOX["MESSAGE_CLASSES"].'
            )
        fields = {attribute: self.value(item) for attribute, item in packed["fields"].items()}
        for attribute in fields:
            _check_attribute(attribute, is_ours=name in OURS)
        message = known.__new__(known)
        vars(message).update(_live_attributes(known), **fields)
        return message

    def value(self, packed: Any) -> Any:
        """Unpack any value."""
        if isinstance(packed, list):
            return [self.value(item) for item in packed]
        if not isinstance(packed, dict):
            return packed
        kind = packed["type"]
        if kind in SCALARS:
            return SCALARS[kind][2](packed["text"])
        if kind in SEQUENCES:
            return SEQUENCES[kind][1]([self.value(item) for item in packed["items"]])
        match kind:
            case "unset":
                from anymail.utils import UNSET

                return UNSET
            case "dict":
                return {self.value(key): self.value(item) for key, item in packed["items"]}
            case "bytes":
                return self._blob(packed["blob"])
            case "text":
                return self._blob(packed["blob"]).decode("utf-8", "surrogatepass")
            case "message":
                return self.message(packed)
            case "mime":
                return self._part(packed)
            case "charset":
                return _charset(packed)
        raise UnreadableEnvelope(f"The stored message is damaged: there is no value of type {_cut(kind)}.")

    def _part(self, packed: Any) -> mime.Part:
        sources = [(name, self.value(source)) for name, source in packed["headers"]]
        part = mime.make_part(sources, self.value(packed["payload"]), is_modern=packed["modern"])
        part.preamble = self.value(packed["preamble"])
        part.epilogue = self.value(packed["epilogue"])
        part.set_default_type(packed["default_type"])
        return part

    def _blob(self, name: str) -> bytes:
        blob = self.blobs.get(name)
        if blob is None:
            raise UnreadableEnvelope(f"Blob {_cut(name)} of the stored message is missing. Restore it, or send anew.")
        content = whole(blob)
        if sha256(content).hexdigest() != name:
            raise UnreadableEnvelope(f"Blob {_cut(name)} of the stored message is damaged. Restore it, or send anew.")
        return content


def _check_attribute(name: str, *, is_ours: bool) -> None:
    if name in RETIRED:
        raise UnreadableEnvelope(
            f"The stored message has the attribute '{name}', which this version of Django no longer supports."
            " Deliver it under the Django that wrote it, or send it anew."
        )
    if name in LIVE or (is_ours and name not in CONTENT):
        raise UnreadableEnvelope(f"The stored message is damaged: its class has no attribute {_cut(name)}.")


def _live_attributes(known: type[EmailMessage]) -> dict[str, Any]:
    fresh = vars(EmailMessage(from_email="nobody"))
    live = {name: value for name, value in fresh.items() if name in LIVE}
    if issubclass(known, loaded("anymail.message", "AnymailMessageMixin")):
        from anymail.message import AnymailStatus

        live["anymail_status"] = AnymailStatus()
    return live


def _charset(packed: Any) -> Charset:
    charset = Charset(packed["name"])
    for name in CHARSET_ATTRIBUTES:
        setattr(charset, name, packed["settings"][name])
    return charset


def _cut(name: object) -> str:
    return repr(name)[:80]
