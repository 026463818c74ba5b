"""What a provider said, made fit to be stored and shown."""

import re

LONGEST = 256
# An address is personal data, and what an outcome says is kept long after the message is erased.
_LOCAL_PART = re.compile(r"""(?:"[^"\n]*"|[^\s@<>"'(),:;\[\]{}]+)@""")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_SPACE = re.compile(r"[\s\x01-\x1f\x7f]+")


def clean(said: object) -> str:
    """Return what was said in one short line: addresses masked, nothing in it that a database cannot store."""
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    # Cut before the expressions run (an error page may be megabytes), and again because masking changes the length.
    return mask_addresses(storable(text[: 4 * LONGEST]))[:LONGEST]


def mask_addresses(text: str) -> str:
    """Return the text with the mailbox names of all addresses masked."""
    return _LOCAL_PART.sub("***@", text)


def storable(text: str) -> str:
    """Return the text in one line, without what a database cannot store."""
    return _SPACE.sub(" ", _UNSTORABLE.sub("", text)).strip()
