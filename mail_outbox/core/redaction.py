"""What may be shown of a text that carries a secret: its words, never its links and codes."""

import re

MASK = "•••"
LINK = re.compile(r"\b(?:[a-z][a-z0-9+.-]*:(?=\S)|www\.|[\w-]+(?:\.[\w-]+)+/)\S+", re.I)
# A word with a digit in it, or one that is longer than words are; its parts may be joined by dots, dashes and the like.
CODE = re.compile(r"(?<![^\s\"'(<\[{])(?=\S*\d|\S{25})\S+")
SPACED_CODE = re.compile(r"(?:\b\w\b[ \N{NO-BREAK SPACE}]){3,}\w\b")
CAPITALS = re.compile(r"\b(?=[A-Z]*[A-Z]{4})[A-Z]+(?:-[A-Z]+)*\b")


def redact(text: str) -> str:
    """Return the text with a mask in the place of every link, and of every word that may be a code or a key."""
    for secret in (LINK, SPACED_CODE, CODE, CAPITALS):
        text = secret.sub(MASK, text)
    return text
