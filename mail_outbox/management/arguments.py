"""What the arguments of the verbs may look like."""

import argparse
import re
from datetime import datetime, timedelta

from django.core.management.base import CommandParser
from django.utils import timezone

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def count(text: str) -> int:
    """Read a whole number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def seconds(text: str) -> float:
    """Read a number of seconds above 0."""
    number = float(text)
    if not 0 < number < 10**9:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return number


def duration(text: str) -> timedelta:
    """Read a length of time like `90s`, `10m`, `2h` or `1d`; a bare number is seconds."""
    found = re.fullmatch(r"(\d{1,6})([smhdw]?)", text)
    if found is None or not int(found[1]):
        raise argparse.ArgumentTypeError(f"'{text}' is no length of time; write 90s, 10m, 2h or 1d")
    return timedelta(**{UNITS[found[2] or "s"]: int(found[1])})


def moment(text: str) -> datetime | timedelta:
    """Read a moment like `2026-11-21T09:58`, here where it has no zone, or how long ago it was."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return duration(text)
    return found if found.tzinfo else timezone.make_aware(found)


def add_database(parser: CommandParser) -> None:
    """Declare the option that says which of several outboxes is meant."""
    parser.add_argument("--database", metavar="ALIAS", help="Look at the outbox in this database, not in the first.")
