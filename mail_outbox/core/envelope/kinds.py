"""The kinds of values that JSON has no word for, and the names we give them."""

from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

from django.core.mail import EmailAlternative, EmailAttachment

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

SCALARS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], object]]] = {
    "int": (int, int.__repr__, int),
    "float": (float, float.__repr__, float),
    "decimal": (Decimal, str, Decimal),
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "time": (time, time.isoformat, time.fromisoformat),
    "uuid": (UUID, str, UUID),
}
"""Values kept as a text, in the order they are looked for: every datetime is a date, too."""

SEQUENCES: dict[str, tuple[type, Callable[[list[Any]], object]]] = {
    "attachment": (EmailAttachment, EmailAttachment._make),
    "alternative": (EmailAlternative, EmailAlternative._make),
    "tuple": (tuple, tuple),
    "set": (set, set),
    "frozenset": (frozenset, frozenset),
}
"""Values kept as a list, in the order they are looked for: every attachment is a tuple, too."""

CHARSET_ATTRIBUTES = (
    "header_encoding",
    "body_encoding",
    "output_charset",
    "input_codec",
    "output_codec",
)
"""What makes one email.charset.Charset behave unlike another of the same name."""
