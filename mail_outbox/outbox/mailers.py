"""Mailers by a person's hand: pause and resume."""

from datetime import datetime, timedelta

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.models import ALL_MAILERS
from mail_outbox.outbox.announcing import after_commit
from mail_outbox.outbox.options import check_mailer, check_moment
from mail_outbox.outbox.twins import has_twin


@has_twin
def pause(using: str | None = None, *, reason: str = "", until: datetime | timedelta | None = None) -> None:
    """Stop claiming for the mailer, or for all of them, until `until` or until it is resumed; enqueue goes on."""
    check_moment("until", until)
    alias = ALL_MAILERS if using is None else check_mailer(using)
    for database in settings.get_conf().databases:
        transitions.pause(alias, reason=reason, until=until, database=database)


@has_twin
def resume(using: str | None = None) -> None:
    """Let the mailer, or all of them, work again at once, and forget its troubles."""
    for database in settings.get_conf().databases:
        transitions.clear_pause(None if using is None else check_mailer(using), database=database)
        after_commit(database=database)
