"""`MAIL_OUTBOX` and the mailers, read live into frozen values; nobody else reads settings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Literal

from django.conf import settings
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.utils.module_loading import import_string

from mail_outbox.core.errors import did_you_mean
from mail_outbox.core.retry import Backoff, OnAmbiguous

OUTBOX_BACKEND = "mail_outbox.backends.OutboxBackend"
LEASE_MARGIN = timedelta(seconds=60)
SHORTEST_MARGIN = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MailerOptions:
    """What `MAIL_OUTBOX["MAILER_OPTIONS"][alias]` may say about one mailer.

    `concurrency` senders per worker process; a send may take `deadline` in all (None: 180 s over SMTP, 60 s over
    HTTP); a connection is closed after `messages_per_connection` messages or `idle_after` without any.
    """

    concurrency: int = 8
    deadline: timedelta | None = None
    messages_per_connection: int = 100
    idle_after: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conf:
    """The settings in `MAIL_OUTBOX`, in lower case, with their defaults.

    `using` is the mailer for messages that name none. `mailers` is only read where Django has no MAILERS (before 6.1).
    `database` is the alias, or the list of aliases, that workers drain; the first is where `enqueue` writes.
    `slice` is how long a django-q2 task claims; `poll` how often the sweep looks; `max_drains` how many drains may run at once
    (None: as many as there are workers); `cluster` the name of a dedicated django-q2 cluster.
    `inline_css` moves a template's <style> into its elements (extra `html`).
    `sensitive_templates` are patterns of the templates whose mail is sensitive unless `enqueue_template` is told otherwise.
    """

    using: str | None = None
    mailers: Mapping[str, Mapping[str, Any]] | None = None
    mailer_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
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
    database: str | list[str] | tuple[str, ...] = "default"
    outside_atomic: Literal["allow", "warn", "error"] = "allow"
    max_message_bytes: int = 25_000_000
    message_classes: list[str] | tuple[str, ...] = ()
    inline_css: bool = False
    sensitive_templates: list[str] | tuple[str, ...] = ("registration/*", "account/email/*")
    register_admin: bool = True

    @property
    def databases(self) -> tuple[str, ...]:
        """List the aliases of the databases that hold an outbox, the default one first."""
        return (self.database,) if isinstance(self.database, str) else tuple(self.database)

    @property
    def backoff_policy(self) -> Backoff:
        """Return the backoff between attempts, as `BACKOFF` ({"first": …, "longest": …}) says."""
        return Backoff(**self.backoff)

    def options_of(self, alias: str) -> MailerOptions:
        """Return what `MAILER_OPTIONS` says about the mailer, with defaults for the rest."""
        options = self.mailer_options.get(alias, {})
        known = {option.name for option in fields(MailerOptions)}
        for name in options:
            if name not in known:
                raise ImproperlyConfigured(
                    f"MAIL_OUTBOX['MAILER_OPTIONS']['{alias}'] has no option '{name}'." + did_you_mean(name, known)
                )
        return MailerOptions(**options)

    def deadline_of(self, alias: str) -> timedelta:
        """Return how long one send through the mailer may take in all."""
        deadline = self.options_of(alias).deadline
        if deadline is not None:
            return deadline
        # RFC 5321 4.5.3.2.6: a spurious timeout after the final dot makes duplicates, so SMTP gets longer.
        backend = str(known_mailers().get(alias, {}).get("BACKEND", "smtp"))
        return timedelta(seconds=180 if "smtp" in backend.lower() else 60)

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


def get_conf() -> Conf:
    """Read `MAIL_OUTBOX` as it stands now; unknown keys are left to the system checks."""
    given = getattr(settings, "MAIL_OUTBOX", {})
    names = {option.name for option in fields(Conf)}
    return Conf(**{key.lower(): value for key, value in given.items() if key.isupper() and key.lower() in names})


def unknown_keys() -> Iterator[tuple[str, str]]:
    """Yield each key of `MAIL_OUTBOX` that means nothing, with a suggestion."""
    known = {option.name.upper() for option in fields(Conf)}
    for key in getattr(settings, "MAIL_OUTBOX", {}):
        if key not in known:
            yield key, did_you_mean(key, known)


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
    """Return the alias used where nobody names one, or None where the settings leave it open."""
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


def q_cluster() -> Mapping[str, Any] | None:
    """Return django-q2's `Q_CLUSTER` as the project wrote it, or None."""
    return getattr(settings, "Q_CLUSTER", None)


def message_classes() -> dict[str, type[EmailMessage]]:
    """Import the message classes the project lists in `MESSAGE_CLASSES`, by their dotted names."""
    return {path: import_string(path) for path in get_conf().message_classes}
