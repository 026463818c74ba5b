"""Mailboxes: who is written to, in the one form we compare and search by."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import _header_value_parser as parser
from email.errors import HeaderParseError
from email.header import Header
from email.utils import formataddr
from functools import lru_cache
from typing import Literal

import django
from django.core.mail import EmailMessage
from django.utils.encoding import punycode

from mail_outbox.core.errors import InvalidMessage

Role = Literal["to", "cc", "bcc"]

ROLES: tuple[Role, ...] = ("to", "cc", "bcc")
MAX_LENGTH = 320
"""The longest address there is: 64 characters, the @, and a domain of 255."""
MAX_TEXT = 1_000
"""The longest text taken for a mailbox; the parser of the standard library takes quadratic time."""

_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
PLAIN = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*", re.ASCII | re.IGNORECASE)
"""An address as nearly all are, for which the parser would find what stands there; it takes a hundred times as long."""
LONGEST_WORD = 75
"""How long a word in a header may be: RFC 2047's limit for an encoded one."""
UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]+")

PARSER_TROUBLE = (
    HeaderParseError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    RecursionError,
    NameError,
)
"""What the parser of the standard library raises, on purpose and by accident."""
HARMLESS = {"addr-spec local part with no domain"}
if django.VERSION < (6, 0):
    # Django 6.0 began to refuse `Acme Inc. <info@acme.example>`: the display name wants quotes.
    HARMLESS |= {"period in 'phrase'", "comment found without atom"}

ADVICE = (
    'Give one address per item, and put quotes around a display name that has dots or commas: "Doe, J." <j@x.example>.'
)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One address the message goes to, normalised, and in which capacity."""

    role: Role
    address: str


# Kept, because the sender is mostly the same in every message.
@lru_cache(maxsize=256)
def normalise(address: str) -> str:
    """Reduce `Name <a@B.example>` to `a@b.example`, IDN domains as punycode; what cannot be parsed comes back tidied."""
    if is_plain(address):
        return address.lower()
    text = address.replace("\0", "").encode("utf-8", "ignore").decode().strip()
    try:
        spec = _spec(_mailbox(text))
    except PARSER_TROUBLE:
        spec = text
    return spec.lower()[:MAX_LENGTH]


@lru_cache(maxsize=256)
def parse(text: str) -> str:
    """Take the text as exactly one mailbox that Django's SMTP backend would write to, and return it normalised."""
    if is_plain(text):
        return text.lower()
    if "\n" in text or "\r" in text:
        raise InvalidMessage(f"Address {quoted(text)} has a newline in it. Strip it before you use it.")
    try:
        mailbox = _mailbox(text)
        spec = _spec(mailbox)
    except PARSER_TROUBLE:
        raise InvalidMessage(f"{quoted(text)} is not one address. {ADVICE}") from None
    if not str(mailbox.local_part).isascii():
        raise InvalidMessage(
            f"Address {quoted(text)} has non-ASCII characters before the @, which mailers cannot carry."
            " Use the ASCII address of that mailbox."
        )
    defects = {str(defect) for defect in mailbox.all_defects} - HARMLESS
    if defects:
        raise InvalidMessage(f"{quoted(text)} is not one address ({'; '.join(sorted(defects))}). {ADVICE}")
    return spec.lower()[:MAX_LENGTH]


def is_plain(text: str) -> bool:
    """Tell whether the text is an address and nothing else, in ASCII, without quotes or comments."""
    # The parser would decode an RFC 2047 encoded word.
    return len(text) <= MAX_LENGTH and "=?" not in text and PLAIN.fullmatch(text) is not None


def mailboxes(message: EmailMessage) -> list[Mailbox]:
    """List everybody the message goes to, to before cc before bcc, each address once per role."""
    found = (
        Mailbox(role, normalise(text)) for role in ROLES for text in address_texts(getattr(message, role, None)) if text
    )
    return list(dict.fromkeys(found))


def address_texts(value: object) -> Iterator[str]:
    """Yield the addresses of `to`, `cc`, `bcc` or `reply_to` as texts, whatever the caller put there."""
    if isinstance(value, list | tuple | set | frozenset):
        yield from (str(item) for item in value if item is not None)
    elif value is not None:
        yield str(value)


def ascii_text(text: str) -> str:
    """Write the mailbox so that it can stand in any header: one line of ASCII, in words short enough to be folded."""
    tidy = UNPRINTABLE.sub(" ", text[:MAX_TEXT].encode("utf-8", "ignore").decode()).strip()
    try:
        mailbox = _mailbox(tidy)
        # Decoded, a name may have anything in it once more.
        name, spec = UNPRINTABLE.sub(" ", mailbox.display_name or "").strip(), _spec(mailbox)
    except PARSER_TROUBLE:
        return _encoded(tidy)
    if not spec.isascii() or len(spec) > MAX_LENGTH:
        return _encoded(tidy)
    if name.isascii() and len(name) <= LONGEST_WORD:
        return formataddr((name, spec))
    return f"{_encoded(name)} <{spec}>"


def quoted(text: str) -> str:
    """Quote a text for an error message, cut where it would drown the rest."""
    return repr(text if len(text) <= 80 else text[:77] + "…")


def _encoded(text: str) -> str:
    """Encode the text after RFC 2047, in words of at most 75 characters with spaces between them."""
    return " ".join(Header(text, "utf-8", maxlinelen=LONGEST_WORD).encode().split())


def _mailbox(text: str) -> parser.Mailbox:
    if len(text) > MAX_TEXT:
        raise ValueError("too long for a mailbox")
    mailbox, rest = parser.get_mailbox(text)
    if rest or not mailbox.local_part:
        raise ValueError("not exactly one mailbox")
    return mailbox


def _spec(mailbox: parser.Mailbox) -> str:
    if not mailbox.domain:
        return str(mailbox.local_part)
    # The local part may need the quotes that addr_spec gives it; the domain behind the last @ is the parsed one.
    local = mailbox.addr_spec.rpartition("@")[0]
    return f"{local}@{punycode(mailbox.domain.lower())}"
