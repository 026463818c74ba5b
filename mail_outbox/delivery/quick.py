"""What the standard library does slowly on the way from text to bytes, done in one step each, with the same bytes."""

import binascii
import io
import re
from email import quoprimime
from email.contentmanager import ContentManager, raw_data_manager
from email.generator import BytesGenerator
from typing import Any

NEWLINE = re.compile(r"\r\n|\r|\n")
QUOTED = re.compile(r"[\t\n\r -~]+")
"""Text of which quoted-printable changes nothing but the equals signs, before it breaks the lines."""
SNIFFED = 10
"""How many lines the standard library looks at to choose the encoding."""


class Generator(BytesGenerator):
    """Writes a body at once, which its parent writes line by line, end of line by end of line."""

    def _write_lines(self, lines: str) -> None:
        newline: str = self._NL  # type: ignore[attr-defined]
        if lines:
            self.write(NEWLINE.sub(newline, lines) if "\r" in lines else lines.replace("\n", newline))


def as_bytes(message: Any) -> bytes:
    """Return the bytes that `message.as_bytes()` returns."""
    buffer = io.BytesIO()
    Generator(buffer, mangle_from_=False, policy=message.policy).flatten(message)
    return buffer.getvalue()


class Quotable(str):
    """A text that is quoted by what is in it, not character by character."""

    __slots__ = ()

    def translate(self, table: Any) -> str:
        """Return the text as the table of quoted-printable translates it."""
        return self.replace("=", "=3D") if QUOTED.fullmatch(self) else super().translate(table)


class Contents(ContentManager):
    """Sets and reads the contents of a part as the standard library does."""

    def get_content(self, msg: Any, *args: Any, **options: Any) -> Any:
        """Read the content."""
        return raw_data_manager.get_content(msg, *args, **options)

    def set_content(self, msg: Any, obj: Any, *args: Any, **options: Any) -> None:
        """Set the content: a text with long lines is quoted here, everything else there."""
        is_plain = type(obj) is str and not args and options.keys() <= {"subtype", "charset"} and obj.isascii()
        payload = _quoted(obj, options.get("charset"), msg.policy.max_line_length) if is_plain else None
        if payload is None:
            raw_data_manager.set_content(msg, obj, *args, **options)
            return
        raw_data_manager.set_content(msg, "", **options, cte="quoted-printable")
        msg.set_payload(payload)


def _quoted(text: str, charset: str | None, longest: int) -> str | None:
    """Return the text in quoted-printable; None where the standard library does not choose that, or asks more of it."""
    if charset != "utf-8":
        return None
    lines = text.encode().splitlines()
    if not lines or max(map(len, lines)) <= longest:
        return None
    sniffed = b"\r\n".join(lines[:SNIFFED]) + b"\r\n"
    quoted = quoprimime.body_encode(Quotable(sniffed.decode()), longest)
    if len(quoted) > len(binascii.b2a_base64(sniffed)):
        return None
    if len(lines) <= SNIFFED:
        return quoted
    return quoprimime.body_encode(Quotable((b"\n".join(lines) + b"\n").decode()), longest)
