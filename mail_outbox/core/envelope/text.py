"""Text: what keeps one out of a database."""


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
