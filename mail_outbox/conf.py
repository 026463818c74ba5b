"""`MAIL_OUTBOX` and the mailers, read live into frozen values; nobody else reads settings."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Literal

from django.conf import settings
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.utils.module_loading import import_string

from mail_outbox.core.errors import did_you_mean
from mail_outbox.core.rates import Rate, parse_rate
from mail_outbox.core.retention import Retention
from mail_outbox.core.retry import Backoff, OnAmbiguous
from mail_outbox.core.routing import Route, read_route

OUTBOX_BACKEND = "mail_outbox.backends.OutboxBackend"
LEASE_MARGIN = timedelta(seconds=60)
SHORTEST_MARGIN = timedelta(seconds=1)

Interceptor = Callable[..., EmailMessage | None]
"""What is called with (message, entry) before an attempt; it may return another message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailerOptions:
    """What `MAIL_OUTBOX["MAILER_OPTIONS"][alias]` may say about one mailer.

    `concurrency` senders per worker process; a send may take `deadline` in all (None: 180 s over SMTP, 60 s over
    HTTP); a connection is closed after `messages_per_connection` messages or `idle_after` without any. Over all workers
    at most `rate` ("14/s", "100/m", "5000/h", "50000/d", "14 recipients/s") and `max_connections` at once.
    Without `pipelining` an SMTP server is told one command at a time, even if it announces that it takes several.
    """

    concurrency: int = 8
    deadline: timedelta | None = None
    messages_per_connection: int = 100
    idle_after: timedelta = timedelta(seconds=30)
    rate: str | None = None
    max_connections: int | None = None
    pipelining: bool = True

    @property
    def parsed_rate(self) -> Rate | None:
        """Return the rate as a value, or None; raises ValueError where it cannot be read."""
        return None if self.rate is None else parse_rate(self.rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conf:
    """The settings in `MAIL_OUTBOX`, in lower case, with their defaults.

    `using` is the mailer, or the route, for messages that name none. `mailers` is only read where Django has no MAILERS (before 6.1).
    `routes` are names beside those of the mailers: for a list of them (failover), for weights (spread), or for a callable.
    `database` is the alias, or the list of aliases, that workers drain; the first is where `enqueue` writes.
    `slice` is how long a django-q2 task claims; `poll` how often the sweep looks; `max_drains` how many drains may run at once
    (None: as many as there are workers); `cluster` the name of a dedicated django-q2 cluster.
    `instance` names this deployment (None: by its database); what belongs to another one is not sent.
    `encryption_keys` seal contents and attachments, the first one what is new (extra `encryption`; None: nothing is sealed).
    `erasure_key` makes the pseudonyms of people who were erased (None: SECRET_KEY).
    `redirect_to` (an address, or a list of them) gets every message that `allow_to` (a list of addresses and patterns; None:
    nobody is allowed where there is a redirection, else everybody) does not let through to its own recipients.
    `interceptors` are functions, or their dotted names, called with (message, entry) before each attempt.
    `inline_css` moves a template's <style> into its elements (extra `html`).
    `classifiers` say what errors of the project's own mailers mean, before our own rules do.
    `sensitive_templates` are patterns of the templates whose mail is sensitive unless `enqueue_template` is told otherwise.
    `log_recipients` lets addresses into the log.
    """

    using: str | None = None
    mailers: Mapping[str, Mapping[str, Any]] | None = None
    mailer_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    routes: Mapping[str, Any] = field(default_factory=dict)
    max_attempts: int = 30
    max_age: timedelta = timedelta(hours=72)
    backoff: Mapping[str, timedelta] = field(default_factory=dict)
    lease: timedelta | None = None
    slice: timedelta = timedelta(seconds=5)
    max_drains: int | None = None
    cluster: str | None = None
    on_ambiguous: OnAmbiguous = "retry"
    wake: bool = True
    poll: timedelta = timedelta(seconds=60)
    paused: bool = False
    instance: str | None = None
    redirect_to: str | list[str] | tuple[str, ...] | None = None
    allow_to: list[str] | tuple[str, ...] | None = None
    interceptors: list[str | Interceptor] | tuple[str | Interceptor, ...] = ()
    encryption_keys: Sequence[str] | Callable[[], Sequence[str] | None] | None = None
    erasure_key: str | None = None
    database: str | list[str] | tuple[str, ...] = "default"
    outside_atomic: Literal["allow", "warn", "error"] = "allow"
    max_message_bytes: int = 25_000_000
    message_classes: list[str] | tuple[str, ...] = ()
    classifiers: list[str | Callable[..., Any]] | tuple[str | Callable[..., Any], ...] = ()
    inline_css: bool = False
    sensitive_templates: list[str] | tuple[str, ...] = ("registration/*", "account/email/*")
    log_recipients: bool = False
    register_admin: bool = True
    retention: Mapping[str, timedelta | None] = field(default_factory=dict)
    attachment_storage: str | None = None

    @property
    def databases(self) -> tuple[str, ...]:
        """List the aliases of the databases that hold an outbox, the default one first."""
        return (self.database,) if isinstance(self.database, str) else tuple(self.database)

    @property
    def backoff_policy(self) -> Backoff:
        """Return the backoff between attempts, as `BACKOFF` ({"first": …, "longest": …}) says."""
        return Backoff(**self.backoff)

    @property
    def retention_policy(self) -> Retention:
        """Return how long what has finished is kept, as `RETENTION` ({"sent": …, "failed": …, "content": …}) says."""
        return Retention(**self.retention)

    def options_of(self, alias: str) -> MailerOptions:
        """Return what `MAILER_OPTIONS` says about the mailer, with defaults for the rest."""
        options = self.mailer_options.get(alias, {})
        known = {option.name for option in fields(MailerOptions)}
        for name in options.keys() - known:
            where = f"MAIL_OUTBOX['MAILER_OPTIONS']['{alias}']"
            raise ImproperlyConfigured(f"{where} has no option '{name}'.{did_you_mean(name, known)}")
        return MailerOptions(**options)

    def deadline_of(self, alias: str) -> timedelta:
        """Return how long one send through the mailer may take in all."""
        deadline = self.options_of(alias).deadline
        if deadline is not None:
            return deadline
        # RFC 5321 4.5.3.2.6: a spurious timeout after the final dot makes duplicates, so SMTP gets longer.
        backend = str(known_mailers().get(alias, {}).get("BACKEND", "smtp"))
        return timedelta(seconds=180 if "smtp" in backend.lower() else 60)

    def route(self, name: str) -> Route | None:
        """Return the route of that name with those of its mailers that are there; None for no route, or a callable."""
        given = self.routes.get(name)
        if given is None or isinstance(given, str) or callable(given):
            return None
        try:
            route = read_route(name, given).limited_to(real_mailers())
        except ValueError as error:
            raise ImproperlyConfigured(f"MAIL_OUTBOX['ROUTES']['{name}'] {error}.") from error
        return route if route.mailers else None

    @property
    def all_routes(self) -> tuple[Route, ...]:
        """List the routes but for the callables, who only name one."""
        return tuple(route for route in map(self.route, self.routes) if route is not None)

    def chooser(self, name: str) -> Callable[[EmailMessage], Any] | None:
        """Return the callable that stands behind the name of a route, or None where a plain route does."""
        given = self.routes.get(name)
        chooser: Callable[[EmailMessage], Any] | None = import_string(given) if isinstance(given, str) else given
        return chooser if callable(chooser) else None

    @property
    def longest_deadline(self) -> timedelta:
        """Return the longest deadline of all mailers."""
        return max((self.deadline_of(alias) for alias in real_mailers()), default=timedelta(seconds=180))

    @property
    def lease_length(self) -> timedelta:
        """Return how long a claim may be held: `LEASE`, or the longest deadline plus a margin of 60 s.

        Never less than a send may take: every claim would be given back at once, for ever.
        """
        longest = self.longest_deadline
        return longest + LEASE_MARGIN if self.lease is None else max(self.lease, longest + SHORTEST_MARGIN)


KNOWN = frozenset(option.name.upper() for option in fields(Conf))

_read: tuple[Mapping[str, Any], Conf] = ({}, Conf())
"""What stood in `MAIL_OUTBOX` the last time, and what it came to: it is read several times for every message."""


def as_given() -> Mapping[str, Any]:
    """Return `MAIL_OUTBOX` as the project wrote it."""
    given: Mapping[str, Any] = getattr(settings, "MAIL_OUTBOX", {})
    return given


def get_conf() -> Conf:
    """Read `MAIL_OUTBOX` as it stands now; unknown keys are left to the system checks."""
    global _read
    given = as_given()
    before, conf = _read
    # Compared by value and not remembered until a signal: whoever writes into the dict sends none.
    if given != before:
        conf = Conf(**{key.lower(): value for key, value in given.items() if key in KNOWN})
        _read = dict(given), conf
    return conf


def unknown_keys() -> Iterator[tuple[str, str]]:
    """Yield each key of `MAIL_OUTBOX` that means nothing, with a suggestion."""
    for key in as_given():
        if key not in KNOWN:
            yield key, did_you_mean(key, KNOWN)


def uses_django_mailers() -> bool:
    """Tell whether the mailers come from Django's own MAILERS (6.1 and later)."""
    return hasattr(mail, "mailers") and hasattr(settings, "MAILERS")


def known_mailers() -> Mapping[str, Mapping[str, Any]]:
    """Return every configured mailer by alias, the drop-in backend included, in the shape of Django's MAILERS."""
    configured: Mapping[str, Mapping[str, Any]] | None
    configured = settings.MAILERS if uses_django_mailers() else get_conf().mailers
    if configured is not None:
        return configured
    # Django 6.1 warns when EMAIL_BACKEND is read, and needs no alias to know its default.
    backend = {} if hasattr(mail, "mailers") else {"BACKEND": settings.EMAIL_BACKEND}
    return {"default": backend}


def real_mailers() -> tuple[str, ...]:
    """List the aliases that deliver, in the order of the setting: all but the outbox's own backend."""
    return tuple(alias for alias, mailer in known_mailers().items() if mailer.get("BACKEND") != OUTBOX_BACKEND)


def default_mailer() -> str | None:
    """Return the mailer or route used where nobody names one, or None where the settings leave it open."""
    using = get_conf().using
    if using is not None:
        return using
    real = real_mailers()
    if "default" in real:
        return "default"
    for mailer in known_mailers().values():
        named = mailer.get("OPTIONS", {}).get("using")
        if mailer.get("BACKEND") == OUTBOX_BACKEND and named:
            return str(named)
    return real[0] if len(real) == 1 else None


def djangos_backend(using: str | None = None) -> str | None:
    """Return the backend of mail that Django itself sends, by its dotted name, or None where nobody has said so."""
    if uses_django_mailers():
        return settings.MAILERS.get(using or "default", {}).get("BACKEND")
    with warnings.catch_warnings(action="ignore"):  # since 6.1 the setting is deprecated, which Django says by itself
        return getattr(settings, "EMAIL_BACKEND", None)


def has_admins() -> bool:
    """Tell whether there is anybody to mail errors to."""
    return bool(settings.ADMINS)


def is_debug() -> bool:
    """Tell whether this is somebody's development server."""
    return bool(settings.DEBUG)


def erasure_keys() -> list[str | bytes]:
    """List the keys of pseudonyms, that of new ones first: `ERASURE_KEY`, and SECRET_KEY with its fallbacks."""
    own = get_conf().erasure_key
    return [*([] if own is None else [own]), settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]


def has_urls() -> bool:
    """Tell whether the project has a web site."""
    return bool(getattr(settings, "ROOT_URLCONF", None))


def anymail_option(name: str) -> Any:
    """Return one of Anymail's settings for all providers, in either of the places where it looks for it."""
    return getattr(settings, "ANYMAIL", {}).get(name) or getattr(settings, f"ANYMAIL_{name}", None)


def q_cluster() -> Mapping[str, Any] | None:
    """Return django-q2's `Q_CLUSTER` as the project wrote it, or None."""
    return getattr(settings, "Q_CLUSTER", None)


def message_classes() -> dict[str, type[EmailMessage]]:
    """Import the message classes the project lists in `MESSAGE_CLASSES`, by their dotted names."""
    return {path: import_string(path) for path in get_conf().message_classes}


def interceptors() -> list[tuple[str, Interceptor]]:
    """Import the functions the project lists in `INTERCEPTORS`, in order, each with its dotted name."""
    return [_interceptor(given) for given in get_conf().interceptors]


def _interceptor(given: str | Interceptor) -> tuple[str, Interceptor]:
    if not isinstance(given, str):
        kind = given if hasattr(given, "__qualname__") else type(given)
        return f"{kind.__module__}.{kind.__qualname__}", given
    found = import_string(given)
    if not callable(found):
        raise ImproperlyConfigured(f"'{given}' cannot be called")
    return given, found
