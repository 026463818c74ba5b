"""The project's own word on what became of an attempt."""

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.core.mail.backends.base import BaseEmailBackend
from django.utils.module_loading import import_string

from mail_outbox.conf import get_conf
from mail_outbox.core.addresses import normalise
from mail_outbox.core.outcomes import Kind, Outcome, Permanent, Refusal
from mail_outbox.delivery.text import LONGEST, clean, storable

logger = logging.getLogger("mail_outbox.delivery")


def ask(error: Exception | None, *, mailer: str, backend: BaseEmailBackend, result: object = None) -> Outcome | None:
    """Return the outcome that the first of `MAIL_OUTBOX["CLASSIFIERS"]` with an opinion gives; None if there is none.

    What they raise, and what they return that is no outcome, is logged and ignored.
    """
    for given in get_conf().classifiers:
        about = {
            "classifier": given if isinstance(given, str) else getattr(given, "__qualname__", ""),
            "mailer": mailer,
        }
        try:
            classify = import_string(given) if isinstance(given, str) else given
            said = classify(error, mailer=mailer, backend=backend, result=result)
            if _is_outcome(said):
                return _tidied(said)
        except Exception as problem:  # noqa: BLE001 - it is the project's, and the attempt is over
            # Not the traceback: what an exception says may hold an address.
            about["error"] = type(problem).__name__
            logger.error("a classifier failed and is ignored", extra=about)  # noqa: TRY400
        else:
            if said is not None:
                about["returned"] = type(said).__name__
                logger.error("a classifier returned something that is no outcome and is ignored", extra=about)
    return None


def _is_outcome(said: object) -> bool:
    waits = (getattr(said, name, None) for name in ("not_before", "retry_after"))
    # The base class itself is of no kind.
    is_one = isinstance(said, Outcome) and isinstance(getattr(said, "kind", None), Kind)
    return is_one and all(isinstance(wait, timedelta | None) for wait in waits)


def _tidied(said: Any) -> Outcome:
    """Return the outcome in the form in which it can be settled: short, without addresses, keyed as recipients are."""
    refused = {
        normalise(address): Refusal(code=storable(str(each.code)), text=clean(each.text), for_good=bool(each.for_good))
        for address, each in said.refused.items()
    }
    message_id = storable(str(said.provider_message_id))[:LONGEST]
    tidied: Outcome = replace(
        said, code=storable(str(said.code)), text=clean(said.text), provider_message_id=message_id, refused=refused
    )
    if isinstance(tidied, Permanent):
        return replace(tidied, pattern=clean(tidied.pattern))
    return tidied
