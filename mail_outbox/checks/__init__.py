"""System checks: every misconfiguration has an id and a hint that names the setting."""

from collections.abc import Sequence
from typing import Any

from django.core import checks

from mail_outbox.checks import mailers, running, values
from mail_outbox.checks.messages import error
from mail_outbox.conf import get_conf


def register() -> None:
    """Register the checks with Django."""
    checks.register(check_settings, "mail_outbox")
    checks.register(check_schedule, checks.Tags.database)


def check_settings(app_configs: Any = None, **_: Any) -> list[checks.CheckMessage]:
    """Check `MAIL_OUTBOX`, the mailers, the databases and the cluster, each by itself and against each other."""
    try:
        conf = get_conf()
    except (AttributeError, TypeError):
        return [error(3, "MAIL_OUTBOX is not a dict with texts for keys.", "Write MAIL_OUTBOX = {'USING': '…', …}.")]
    found = [*values.unknown_keys(), *values.bad_values(conf)]
    if not values.has_bad(found):
        found += mailers.bad_backends()
    if values.has_bad(found):
        return found  # what follows would stumble over them
    for check in (
        mailers.unknown_mailers,
        mailers.loops,
        mailers.smtp_timeouts,
        running.databases,
        running.cluster,
        running.times,
    ):
        found += check(conf)
    return found


def check_schedule(
    app_configs: Any = None, databases: Sequence[str] | None = None, **_: Any
) -> list[checks.CheckMessage]:
    """Check that the sweep is scheduled; runs only where Django is told to ask the database."""
    return list(running.schedule_missing(databases))
