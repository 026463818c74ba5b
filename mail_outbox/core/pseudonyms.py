"""One person's address: found in texts in any spelling, and replaced by what only a key can tell it from."""

import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache


def pseudonym(address: str, key: str | bytes) -> str:
    """Return what stands for the normalised address; without the key nobody can find out which it was, or test a guess."""
    secret = key.encode() if isinstance(key, str) else key
    return f"erased-{hmac.digest(secret, address.encode(), 'sha256').hex()[:32]}"


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever has the address (normalised), and what is to stand in its place."""

    address: str
    pseudonym: str

    @property
    def spellings(self) -> tuple[str, ...]:
        """List the ways to write the address, but for upper and lower case: an IDN domain has two."""
        local, _, domain = self.address.rpartition("@")
        try:
            readable = domain.encode().decode("idna")
        except UnicodeError:
            readable = domain
        return tuple(dict.fromkeys((self.address, f"{local}@{readable}")))

    def is_in(self, value: object) -> bool:
        """Tell whether a text, or any text within lists and dicts, has the address."""
        return any(_pattern(self.spellings).search(text) for text in _texts(value))

    def is_in_bytes(self, pieces: Iterable[bytes]) -> bool:
        """Tell whether the bytes have the address, in UTF-8; only a piece at a time is in memory."""
        pattern, kept = _pattern_of_bytes(self.spellings), max(len(each.encode()) for each in self.spellings) + SEEN
        rest, begins = b"", True
        for piece in pieces:
            data = rest + piece
            # What stands at an edge is looked at again, with what stands around it.
            if any((begins or match.start()) and match.end() + SEEN <= len(data) for match in pattern.finditer(data)):
                return True
            begins = begins and len(data) <= kept
            rest = data[-kept:]
        return any(begins or match.start() for match in pattern.finditer(rest))

    def masked(self, text: str) -> str:
        """Return the text with the pseudonym in place of the address."""
        return _pattern(self.spellings).sub(self.pseudonym, text)


def _texts(value: object) -> Iterator[str]:
    stack = [value]
    while stack:
        match stack.pop():
            case str() as text:
                yield text
            case list() as items:
                stack += items
            case dict() as items:
                stack += [*items.keys(), *items.values()]


# joann@x.example and ann@x.example.com are other people than ann@x.example, but ann@x.example.pdf is a file: no top-level
# domain has such a name.
FILES = "avif|bmp|csv|docx?|eml|gif|html?|ics|jpe?g|json|log|mbox|msg|odt|pdf|png|rtf|svg|tsv|txt|vcf|webp|xlsx?|xml"
BEFORE, AFTER = r"(?<![\w.!#$%&'*+/=?^`{|}~-])", rf"(?![\w-]|\.(?!(?:{FILES})(?![\w-]|\.\w))\w)"
SEEN = 8
"""How many bytes around an address tell whose it is: one before it, and a dot, an extension and its end."""


@lru_cache(maxsize=8)
def _pattern(spellings: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(f"{BEFORE}(?:{'|'.join(map(re.escape, spellings))}){AFTER}", re.IGNORECASE)


@lru_cache(maxsize=8)
def _pattern_of_bytes(spellings: tuple[str, ...]) -> re.Pattern[bytes]:
    choices = b"|".join(re.escape(spelling.encode()) for spelling in spellings)
    return re.compile(BEFORE.encode() + b"(?:" + choices + b")" + AFTER.encode(), re.IGNORECASE)
