"""From what `using` names to the mailer that sends: a mailer stands for itself, a route chooses."""

import random

from django.core.mail import EmailMessage

from mail_outbox import conf as settings
from mail_outbox.core.errors import UnknownMailer
from mail_outbox.outbox.options import check_using

luck = random.SystemRandom().random


def choose(name: str, message: EmailMessage) -> tuple[str, str]:
    """Return the alias of the mailer that has the first try at the message, and the name of its route or an empty text.

    Raises what a callable of the project's raises, and UnknownMailer for an answer that is neither mailer nor route.
    """
    conf = settings.get_conf()
    chooser = conf.chooser(name)
    if chooser is not None:
        answer = chooser(message)
        if not isinstance(answer, str) or conf.chooser(answer) is not None:
            problem = "another callable" if isinstance(answer, str) else type(answer).__name__
            raise UnknownMailer(
                f"The callable of route '{name}' answered {answer!r} ({problem}). It has to name a mailer, or a route of mailers."
            )
        name = check_using(answer)
    route = conf.route(name)
    if route is None:
        return name, ""
    using = route.choose(route.mailers, luck=luck())
    assert using is not None, "a route has mailers"  # noqa: S101
    return using, route.name
