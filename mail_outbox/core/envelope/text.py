"""Text: what keeps one out of a database, and what it is as bytes."""


def flaw(text: str) -> str | None:
    """Name what no database stores in a text, or return None where there is nothing of the kind."""
    if "\0" in text:
        return "a NUL character"
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    return None


def encoded(text: str) -> bytes:
    """Return the text as it stands in a blob, where the stray bytes of a message that was parsed may stay."""
    return text.encode("utf-8", "surrogatepass")
