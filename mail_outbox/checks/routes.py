"""The routes: each has a name of its own, and leads to mailers that send."""

from collections.abc import Iterator

from django.core.checks import CheckMessage

from mail_outbox import conf as settings
from mail_outbox.checks.messages import error
from mail_outbox.conf import Conf
from mail_outbox.core.errors import did_you_mean
from mail_outbox.core.routing import Route, read_route

WANTED = (
    'Write a list of mailers like ["mailgun", "ses"], or weights above zero like {"ses": 3, "mailgun": 1}, '
    "or a callable or its dotted name."
)


def bad_routes(conf: Conf) -> Iterator[CheckMessage]:
    """Check that every route can be read, has a name that no mailer has, and leads to mailers that send."""
    for name in conf.routes:
        where = f"MAIL_OUTBOX['ROUTES']['{name}']"
        if name in settings.known_mailers():
            hint = "Give the route another name: using= takes both, and one name must mean one thing."
            yield error(3, f"{where} has the name of a mailer.", hint)
        try:
            route = _read(conf, name)
        except (ImportError, ValueError) as problem:
            yield error(3, f"{where} {problem}.", WANTED)
        else:
            yield from _bad_mailers(where, route)


def _read(conf: Conf, name: str) -> Route:
    """Return the route, without mailers where a callable stands for it."""
    try:
        is_callable = conf.chooser(name) is not None
    except ImportError as problem:
        raise ImportError(f"cannot be imported: {problem}") from problem
    return Route(name, ()) if is_callable else read_route(name, conf.routes[name])


def _bad_mailers(where: str, route: Route) -> Iterator[CheckMessage]:
    known, real = settings.known_mailers(), settings.real_mailers()
    for alias in route.mailers:
        if alias not in known:
            hint = did_you_mean(alias, real).strip()
            yield error(2, f"{where} names mailer '{alias}', which is not configured.", hint)
        elif alias not in real:
            hint = f"Name mailers that send: {', '.join(real) or 'none is configured'}."
            yield error(4, f"{where} names '{alias}', the outbox itself.", hint)
