"""Headers parsed and folded as the standard library does it, but not anew for what is the same in many messages."""

import functools
import re
import threading
from email.headerregistry import HeaderRegistry
from email.message import EmailMessage as MIMEMessage
from email.policy import SMTP, EmailPolicy
from typing import Any

from mail_outbox.delivery import quick
from mail_outbox.delivery.quick import Contents

SAME_IN_MANY = frozenset(
    {"from", "date", "reply-to", "mime-version", "content-type", "content-transfer-encoding", "content-disposition"}
)
DOTTED = r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*"
MAILBOX = rf"{DOTTED}@{DOTTED}"
AS_IT_STANDS = {
    "subject": re.compile(r"(?!.*=\?)[!-~]+(?: [!-~]+)*"),
    "to": re.compile(rf"{MAILBOX}(?:, {MAILBOX})*"),
    "cc": re.compile(rf"{MAILBOX}(?:, {MAILBOX})*"),
    "message-id": re.compile(rf"<{MAILBOX}>"),
}
"""Values that parsing and folding leave as they are, where they fit into a line."""
MOST_KEPT = 256
"""How many headers are remembered; after that all are forgotten."""


OUR_BOUNDARY = re.compile(r'(multipart/[a-z]+; boundary="={15})([0-9a-f]{32})(==")')
"""A content type with a boundary as it is set for every attempt."""
STAND_IN = "0" * 32


class Text(str):
    """A header that goes out as it stands."""

    __slots__ = ()


class Registry(HeaderRegistry):
    """Makes the class of each kind of header once; the standard library makes one for every single header."""

    def __init__(self) -> None:
        super().__init__()
        self._classes: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        kind = name.lower()
        if kind not in self._classes:
            self._classes[kind] = super().__getitem__(name)
        return self._classes[kind]


class RememberingPolicy(EmailPolicy):
    """Makes the very bytes that its parent makes, in less than half the time."""

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        """Return the header for the message: one that was parsed before, where there is one."""
        if type(value) is str and self._stays(name, value):
            return name, Text(value)
        if type(value) is not str or name.lower() not in SAME_IN_MANY:
            return super().header_store_parse(name, value)
        if "boundary" in value:
            return self._with_boundary(name, value)
        return self._remembered(name, value)

    def _with_boundary(self, name: str, value: str) -> tuple[str, Any]:
        """Return the header: made after one with another boundary, where the two differ in nothing else."""
        own = OUR_BOUNDARY.fullmatch(value)
        if own is None:
            return super().header_store_parse(name, value)
        before, digest, after = own.groups()
        _, pattern = self._remembered(name, before + STAND_IN + after)
        header = str.__new__(type(pattern), value)
        vars(header).update(vars(pattern), _params={**pattern.params, "boundary": value[value.index('"') + 1 : -1]})
        header.pattern, header.digest = pattern, digest
        return name, header

    def _remembered(self, name: str, value: str) -> tuple[str, Any]:
        known = _headers.get((name, value))
        if known is None:
            known = super().header_store_parse(name, value)
            known[1].folded = {}
            with _lock:
                if len(_headers) >= MOST_KEPT:
                    _headers.clear()
                _headers[name, value] = known
        return known

    def header_fetch_parse(self, name: str, value: Any) -> Any:
        """Return the header for who reads it: a plain text where that says all there is to it."""
        return value if type(value) is Text else super().header_fetch_parse(name, value)

    def fold(self, name: str, value: Any) -> str:
        """Return the header as text."""
        if getattr(value, "pattern", None) is not None:
            value = self.header_factory(name, str(value))
        text: str = super().fold(name, value)
        return text

    def _stays(self, name: str, value: str) -> bool:
        pattern = AS_IT_STANDS.get(name.lower())
        fits = len(name) + len(": ") + len(value) <= (self.max_line_length or 0)
        return pattern is not None and fits and pattern.fullmatch(value) is not None

    def fold_binary(self, name: str, value: Any) -> bytes:
        """Return the header as it goes out: as it was folded before, where it was."""
        pattern = getattr(value, "pattern", None)
        if pattern is not None:
            return self.fold_binary(name, pattern).replace(STAND_IN.encode(), value.digest.encode())
        folded = getattr(value, "folded", None)
        if folded is None:
            return super().fold_binary(name, value)
        how = (self.linesep, self.max_line_length, self.cte_type, self.utf8)
        if how not in folded:
            with _lock:
                folded[how] = super().fold_binary(name, value)
        found: bytes = folded[how]
        return found


_lock = threading.Lock()
_headers: dict[tuple[str, str], tuple[str, Any]] = {}

REMEMBERING_SMTP = RememberingPolicy(linesep=SMTP.linesep, header_factory=Registry(), content_manager=Contents())
"""Stands for `email.policy.SMTP`."""


@functools.cache
def is_as_good() -> bool:
    """Tell whether a sample comes out as this Python's standard library makes it, whose private names may change."""
    try:
        return quick.as_bytes(_sample(REMEMBERING_SMTP)) == _sample(SMTP).as_bytes()
    except Exception:  # noqa: BLE001 - whatever it is, the standard library's own way is there
        return False


def _sample(policy: Any) -> MIMEMessage:
    message = MIMEMessage(policy=policy)
    message["Subject"], message["To"] = "Sample", "ann@x.example"
    message["From"] = '"Shöp" <shop@x.example>'
    message.set_content("a = b " * 20 + "\n.\n", charset="utf-8")
    message.add_alternative("<p>" + "a = b " * 20, subtype="html", charset="utf-8")
    message.set_boundary(f"==============={'1' * 32}==")
    return message
