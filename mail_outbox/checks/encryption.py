"""The keys that contents are sealed with: they are there, and they are keys."""

from collections.abc import Iterator

from django.core.checks import CheckMessage

from mail_outbox.checks.messages import error
from mail_outbox.conf import Conf
from mail_outbox.vault import faults_of


def keys(conf: Conf) -> Iterator[CheckMessage]:
    """Check that there are keys where there should be some, and what they need."""
    given = conf.encryption_keys
    try:
        found = given() if callable(given) else given
    except Exception as problem:  # noqa: BLE001
        hint = "Let the callable return a list of texts."
        yield error(6, f"MAIL_OUTBOX['ENCRYPTION_KEYS'] cannot be had: it raises {type(problem).__name__}.", hint)
        return
    if found is None:
        return
    for fault in faults_of(list(found)):
        hint = "List one key or more, the newest first, or leave the setting out to store everything as it is."
        yield error(6, f"MAIL_OUTBOX['ENCRYPTION_KEYS']: {fault}.", hint)
