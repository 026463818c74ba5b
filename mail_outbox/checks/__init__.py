"""System checks: every misconfiguration has an id and a hint that names the setting."""

from collections.abc import Sequence
from typing import Any

from django.core import checks

from mail_outbox.checks import deployment, encryption, mailers, neighbours, routes, running, transactions, values
from mail_outbox.checks.messages import error
from mail_outbox.conf import get_conf


def register() -> None:
    """Register the checks with Django."""
    checks.register(check_settings, "mail_outbox")
    checks.register(check_neighbours, "mail_outbox")
    checks.register(check_schedule, checks.Tags.database)
    checks.register(check_locks, checks.Tags.database)
    checks.register(check_deployment, "mail_outbox", deploy=True)


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
        routes.bad_routes,
        mailers.smtp_timeouts,
        mailers.smtp_without_tls,
        mailers.repeated_requests,
        mailers.printed_requests,
        mailers.mailed_errors,
        encryption.keys,
        running.databases,
        running.time_zones,
        running.storage,
        transactions.isolation,
        transactions.shared_transactions,
        running.cluster,
        running.times,
    ):
        found += check(conf)
    return found


def check_neighbours(app_configs: Any = None, **_: Any) -> list[checks.CheckMessage]:
    """Check whether what others send goes through the outbox."""
    return [] if values.has_bad(check_settings()) else [*neighbours.drop_in()]


def check_schedule(
    app_configs: Any = None, databases: Sequence[str] | None = None, **_: Any
) -> list[checks.CheckMessage]:
    """Check the sweep's schedule and whose the databases are; runs only where Django is told to ask the database."""
    return [*running.schedule_missing(databases), *running.strangers(databases)]


def check_locks(app_configs: Any = None, databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Check what only the database itself can tell; runs only where Django is told to ask it."""
    return [] if not databases or values.has_bad(check_settings()) else list(transactions.locks(get_conf(), databases))


def check_deployment(app_configs: Any = None, **_: Any) -> list[checks.CheckMessage]:
    """Check what is right for a test or a staging site and wrong for a real one; runs with `check --deploy` only."""
    if values.has_bad(check_settings()):
        return []  # those come first
    return [
        *deployment.mailers_that_send_nothing(),
        *deployment.guards(get_conf()),
        *deployment.kept_for_ever(get_conf()),
        *deployment.kept_secrets(get_conf()),
        *neighbours.webhooks(),
    ]
