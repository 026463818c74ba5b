"""What checks say, with the id to silence it by."""

from django.core import checks


def error(number: int, message: str, hint: str) -> checks.CheckMessage:
    """Make an error; its hint says what to set."""
    return checks.Error(message, hint=hint, id=f"mail_outbox.E{number:03}")


def warning(id_: str, message: str, hint: str) -> checks.CheckMessage:
    """Make a warning; its hint says what to set."""
    return checks.Warning(message, hint=hint, id=f"mail_outbox.{id_}")
