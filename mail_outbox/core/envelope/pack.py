"""Packing: from the values on a message to JSON and blobs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from email.charset import Charset
from email.message import Message, MIMEPart
from hashlib import sha256
from json import dumps
from typing import Any

from django.core.mail import EmailAttachment, EmailMessage
from django.core.mail.message import DEFAULT_ATTACHMENT_MIME_TYPE
from django.utils.functional import Promise
from django.utils.timezone import is_naive, make_aware

from mail_outbox.core.envelope import mime
from mail_outbox.core.envelope.classes import CONTENT, LIVE, OURS, RETIRED, Classes, name_of
from mail_outbox.core.envelope.kinds import CHARSET_ATTRIBUTES, JSON, SCALARS, SEQUENCES
from mail_outbox.core.envelope.streams import Blob, Reading, Stream, read_through
from mail_outbox.core.envelope.text import encoded, flaw
from mail_outbox.core.errors import UnserializableMessage
from mail_outbox.core.loaded import loaded

INLINE_LENGTH = 4_096
"""Longer texts of attachments become blobs, so that many entries share one copy."""
SAFE_INTEGER = 2**53
"""Beyond it a database that reads JSON numbers as doubles changes the last digits."""
KINDS = {known: kind for kind, (known, _) in SEQUENCES.items()}
MAX_DEPTH = 30
"""MariaDB refuses JSON with more than 32 levels."""


@dataclass(frozen=True, slots=True)
class Packer:
    """Turns one message into JSON, and collects its blobs on the way."""

    classes: Classes
    readings: dict[Stream, Reading] = field(default_factory=dict)
    blobs: dict[str, Blob] = field(default_factory=dict)

    def message(self, message: EmailMessage, *, where: str = "") -> dict[str, JSON]:
        """Pack the class of the message and every attribute that is content."""
        name = name_of(type(message), self.classes)
        if name is None:
            raise UnserializableMessage(
                f"A message of class {_class_name(message)} cannot be stored. List the class in"
                ' MAIL_OUTBOX["MESSAGE_CLASSES"], or use EmailMessage, EmailMultiAlternatives or AnymailMessage.'
            )
        fields: dict[str, JSON] = {}
        for attribute, value in vars(message).items():
            if attribute in LIVE:
                continue
            if attribute in RETIRED or (attribute not in CONTENT and name in OURS):
                raise UnserializableMessage(
                    f"The message has an attribute '{where}{attribute}' that neither this Django nor Anymail knows."
                    ' Remove it, or make a class for such messages and list it in MAIL_OUTBOX["MESSAGE_CLASSES"].'
                )
            fields[attribute] = self._attribute(attribute, value, f"{where}{attribute}")
        return {"class": name, "fields": fields}

    def value(self, value: Any, where: str) -> JSON:
        """Pack any value; `where` is how an error names it."""
        if type(value) is str:
            return _text(value, where)
        if isinstance(value, list | tuple):
            return self._sequence(value, where, self.value)
        match value:
            case None:
                return None
            case str() | Promise():
                return _text(value, where)
            case bool():
                return bool(value)
            case int() if abs(value) < SAFE_INTEGER:
                return int(value)
            case bytes() | bytearray() | memoryview():
                return self._blob("bytes", bytes(value))
            case Stream():
                return self._stream("bytes", value)
            case set() | frozenset():
                return self._sequence(value, where, self.value)
            case dict():
                return self._pairs(value, where)
            case EmailMessage():
                return {"type": "message", **self.message(value, where=f"{where}.")}
            case Message():
                return self._part(value, where)
            case Charset():
                settings = {name: self.value(getattr(value, name), where) for name in CHARSET_ATTRIBUTES}
                return {"type": "charset", "name": value.input_charset, "settings": settings}
        if value is loaded("anymail.utils", "UNSET", None):
            return {"type": "unset"}
        return _scalar(value, where)

    def _attribute(self, name: str, value: Any, where: str) -> JSON:
        # Most attributes of most messages are empty, or plain texts, or lists of them.
        if value is None:
            return None
        if type(value) is str:
            return _text(value, where)
        if type(value) is list and set(map(type, value)) <= {str}:
            return [_text(item, f"{where}[{index}]") for index, item in enumerate(value)]
        if type(value) is dict and not value:
            return {"type": "dict", "items": []}
        try:
            packed = self._prepared(name, value, where)
            if not isinstance(packed, list | dict):
                return packed
            depth = 2 + _depth(packed)  # The payload and its fields are two levels more.
        except RecursionError:
            depth = MAX_DEPTH + 1
        if depth > MAX_DEPTH:
            raise UnserializableMessage(
                f"{where} contains itself, or is nested too deeply to be stored. Make it flatter."
            )
        return packed

    def _prepared(self, name: str, value: Any, where: str) -> JSON:
        match name:
            case "extra_headers":
                return self.value(_header_texts(value), where)
            case "send_at":
                return self.value(_moment(value), where)
            case "attachments" if isinstance(value, list | tuple):
                return self._sequence(value, where, self._attachment)
        return self.value(value, where)

    def _attachment(self, item: Any, where: str) -> JSON:
        if isinstance(item, EmailAttachment) and isinstance(item.content, Stream):
            return self._streamed_attachment(item, item.content, where)
        if isinstance(item, list | tuple):
            return self._sequence(item, where, self._attachment_value)
        return self.value(item, where)

    def _streamed_attachment(self, item: EmailAttachment, content: Stream, where: str) -> JSON:
        # As Django's attach() does with bytes: a text comes back as one, and what is not in UTF-8 is no text.
        is_text = self._reading(content).is_text
        mimetype = item.mimetype
        if str(mimetype).startswith("text/") and not is_text:
            mimetype = DEFAULT_ATTACHMENT_MIME_TYPE
        kind = "text" if str(mimetype).startswith("text/") else "bytes"
        items = [self.value(item.filename, where), self._stream(kind, content), self.value(mimetype, where)]
        return {"type": "attachment", "items": items}

    def _attachment_value(self, value: Any, where: str) -> JSON:
        packed = self.value(value, where)
        return self._shared(packed) if isinstance(packed, str) else packed

    def _sequence(self, value: Any, where: str, pack: Callable[[Any, str], JSON]) -> JSON:
        items = [pack(item, f"{where}[{index}]") for index, item in enumerate(value)]
        if isinstance(value, list):
            return items
        kind = KINDS.get(type(value)) or next(kind for kind, known in SEQUENCES.items() if isinstance(value, known[0]))
        # A set has another order in each process, and the digest must not.
        return {"type": kind, "items": sorted(items, key=dumps) if kind.endswith("set") else items}

    def _pairs(self, value: Mapping[Any, Any], where: str) -> JSON:
        # A list, because jsonb sorts the keys of an object: the order of headers would be lost.
        pairs: list[JSON] = [
            [self.value(key, f"a key of {where}"), self.value(item, f"{where}[{key!r}]")] for key, item in value.items()
        ]
        return {"type": "dict", "items": pairs}

    def _part(self, part: mime.Part, where: str) -> JSON:
        payload = mime.payload(part)
        if isinstance(payload, list):
            held: JSON = [self.value(item, f"{where}[{index}]") for index, item in enumerate(payload)]
        else:
            held = self._shared(payload) if isinstance(payload, str) else self.value(payload, where)
        return {
            "type": "mime",
            "modern": isinstance(part, MIMEPart),
            "headers": [
                [_text(name, f"a header of {where}"), self._shared(source)]
                for name, source in mime.header_sources(part)
            ],
            "payload": held,
            "preamble": None if part.preamble is None else self._shared(part.preamble),
            "epilogue": None if part.epilogue is None else self._shared(part.epilogue),
            "default_type": part.get_default_type(),
        }

    def _shared(self, text: str) -> JSON:
        # In a blob a text may be as long as it likes, and hold the stray bytes of a message that was parsed.
        if len(text) <= INLINE_LENGTH and not flaw(text):
            return text
        return self._blob("text", encoded(text))

    def _stream(self, kind: str, content: Stream) -> dict[str, JSON]:
        name = self._reading(content).digest
        self.blobs.setdefault(name, content)
        return {"type": kind, "blob": name}

    def _reading(self, stream: Stream) -> Reading:
        if stream not in self.readings:
            self.readings[stream] = read_through(stream)
        return self.readings[stream]

    def _blob(self, kind: str, content: bytes) -> dict[str, JSON]:
        name = sha256(content).hexdigest()
        self.blobs[name] = content
        return {"type": kind, "blob": name}


def _text(value: Any, where: str) -> str:
    # A subclass (SafeString, an enum) is packed as the text it is made of; a lazy text has to become one first.
    text = value if type(value) is str else str.__str__(value if issubclass(type(value), str) else str(value))
    if problem := flaw(text):
        raise UnserializableMessage(f"{where} contains {problem}, which no database stores. Remove it.")
    return text


def _scalar(value: Any, where: str) -> JSON:
    for kind, (known, to_text, _) in SCALARS.items():
        if isinstance(value, known):
            try:
                return {"type": kind, "text": to_text(value)}
            except ValueError:  # Python writes out no integer of more than 4,300 digits.
                break
    raise UnserializableMessage(
        f"{where} is of class {_class_name(value)}, which cannot be stored. Make it a text, a number, a date, bytes,"
        " a list or a dict; of a file give the content."
    )


def _header_texts(headers: Any) -> Any:
    if not isinstance(headers, dict):
        return headers
    return {name: str(text) if isinstance(text, int | float | Decimal) else text for name, text in headers.items()}


def _moment(value: Any) -> Any:
    # Anymail reads what has no zone in the current zone of whoever sends, which need not be the caller's.
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return make_aware(value) if isinstance(value, datetime) and is_naive(value) else value


def _depth(packed: JSON) -> int:
    if isinstance(packed, dict):
        return 1 + max(map(_depth, packed.values()), default=0)
    if isinstance(packed, list):
        return 1 + max(map(_depth, packed), default=0)
    return 0


def _class_name(value: object) -> str:
    return f"{value.__class__.__module__}.{value.__class__.__qualname__}"
