"""The keywords of enqueue, checked where the caller still is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict

from django.db import connections, models

from mail_outbox import conf as settings
from mail_outbox.conf import Conf
from mail_outbox.core.addresses import parse
from mail_outbox.core.errors import InvalidMessage, InvalidOption, UnknownMailer, did_you_mean
from mail_outbox.core.retry import OnAmbiguous
from mail_outbox.models import label_of

LOW, NORMAL, HIGH = -50, 0, 50
OnConflict = Literal["return", "raise", "replace"]


class NowOptions(TypedDict, total=False):
    """The keywords that every way to enqueue takes."""

    using: str | None
    expires_at: datetime | timedelta | None
    priority: int
    on_ambiguous: OnAmbiguous | None
    related: models.Model | None
    tags: Sequence[str]
    metadata: Mapping[str, Any] | None
    sensitive: bool
    max_attempts: int | None
    ignore_suppression: bool
    database: str | None


class ManyOptions(NowOptions, total=False):
    """The same, and when."""

    send_at: datetime | timedelta | None


class OnceOptions(ManyOptions, total=False):
    """The same, and how often: all keywords of `enqueue`."""

    idempotency_key: str | None
    on_conflict: OnConflict


def refuse(verb: str, options: Mapping[str, object], *names: str) -> None:
    """Raise TypeError, as Python does, where one of these keywords was given that the verb does not take."""
    for name in names:
        if name in options:
            raise TypeError(f"{verb}() got an unexpected keyword argument '{name}'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What enqueue was asked to do with a message, every value checked and every default filled in.

    `using` is a mailer or a route.
    """

    using: str
    send_at: datetime | timedelta | None
    expires_at: datetime | timedelta | None
    priority: int
    idempotency_key: str | None
    on_conflict: OnConflict
    on_ambiguous: OnAmbiguous
    related: str
    tags: list[str]
    metadata: dict[str, Any] | None
    sensitive: bool
    max_attempts: int | None
    ignore_suppression: bool
    database: str


def check_options(
    *,
    using: str | None = None,
    send_at: datetime | timedelta | None = None,
    expires_at: datetime | timedelta | None = None,
    priority: int = NORMAL,
    idempotency_key: str | None = None,
    on_conflict: OnConflict = "return",
    on_ambiguous: OnAmbiguous | None = None,
    related: models.Model | None = None,
    tags: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    sensitive: bool = False,
    max_attempts: int | None = None,
    ignore_suppression: bool = False,
    database: str | None = None,
) -> Options:
    """Return the options as values; raises InvalidOption, or UnknownMailer, naming what is wrong."""
    conf = settings.get_conf()
    _check_moments(send_at, expires_at)
    _check_number("priority", priority, -100, 100)
    if max_attempts is not None:
        _check_number("max_attempts", max_attempts, 1, 1000)
    _check_choice("on_conflict", on_conflict, ("return", "raise", "replace"))
    if on_ambiguous is not None:
        _check_choice("on_ambiguous", on_ambiguous, ("retry", "hold"))
    return Options(
        using=check_using(using),
        send_at=send_at,
        expires_at=expires_at,
        priority=priority,
        idempotency_key=_check_key(idempotency_key),
        on_conflict=on_conflict,
        on_ambiguous=on_ambiguous or conf.on_ambiguous,
        related=_check_related(related),
        tags=_check_tags(tags),
        metadata=_check_metadata(metadata),
        sensitive=bool(sensitive),
        max_attempts=max_attempts,
        ignore_suppression=bool(ignore_suppression),
        database=check_database(database, conf),
    )


def check_using(name: str | None) -> str:
    """Return the mailer or route that is to deliver: the given one, or the default; raises UnknownMailer."""
    conf, real = settings.get_conf(), settings.real_mailers()
    chosen = settings.default_mailer() if name is None else name
    if chosen is not None and not isinstance(chosen, str):
        raise InvalidOption(f"using must be the name of a mailer or route, not {type(chosen).__name__}.")
    if chosen is None:
        raise UnknownMailer(
            "No mailer was named and none is the default. Set MAIL_OUTBOX['USING'] to one of: "
            + (", ".join(sorted([*real, *conf.routes])) or "none is configured")
        )
    if chosen in real or conf.route(chosen) is not None or conf.chooser(chosen) is not None:
        return chosen
    if chosen in conf.routes:
        raise UnknownMailer(f"None of the mailers of route '{chosen}' is configured.{did_you_mean('', real)}")
    raise _unknown(chosen, conf.routes)


def check_mailer(alias: str) -> str:
    """Return the alias of a mailer that delivers; raises UnknownMailer for anything else, a route included."""
    conf, real = settings.get_conf(), settings.real_mailers()
    if alias in real:
        return alias
    if alias in conf.routes:
        route = conf.route(alias)
        theirs = f" Those of the route: {', '.join(route.mailers)}." if route is not None else ""
        raise UnknownMailer(f"'{alias}' is a route, which is no mailer. Name one of the mailers.{theirs}")
    raise _unknown(alias)


def _unknown(name: str, routes: Iterable[str] = ()) -> UnknownMailer:
    real = settings.real_mailers()
    if name in settings.known_mailers():
        return UnknownMailer(
            f"Mailer '{name}' is the outbox itself, which would deliver to itself for ever. "
            f"Name the mailer that really delivers.{did_you_mean(name, real)}"
        )
    where = "MAILERS" if settings.uses_django_mailers() else "MAIL_OUTBOX['MAILERS']"
    nor = ", nor a route of that name in MAIL_OUTBOX['ROUTES']" if routes else ""
    return UnknownMailer(f"No mailer '{name}' in {where}{nor}.{did_you_mean(name, [*real, *routes])}")


def check_database(alias: str | None, conf: Conf) -> str:
    """Return the alias of a database that workers drain; raises InvalidOption for any other."""
    if alias is None:
        return conf.databases[0]
    if alias not in conf.databases:
        problem = (
            f"No worker drains database '{alias}', so its mail would never leave. Add it to MAIL_OUTBOX['DATABASE']."
            if alias in connections
            else f"No database '{alias}' in MAIL_OUTBOX['DATABASE']."
        )
        raise InvalidOption(problem + did_you_mean(str(alias), conf.databases))
    return alias


def check_address(text: str) -> str:
    """Return the address normalised; raises InvalidOption for what is not exactly one."""
    try:
        plain = parse(text)
    except InvalidMessage as error:
        raise InvalidOption(str(error)) from error
    if "@" not in plain:
        raise InvalidOption(f"'{text}' is not one address: it has no domain.")
    return plain


def check_moment(name: str, value: datetime | timedelta | None) -> None:
    """Raise InvalidOption unless the value is None, a delay that is not negative, or an aware moment."""
    if value is None:
        return
    if isinstance(value, timedelta):
        if value < timedelta(0):
            raise InvalidOption(f"{name}={value} lies in the past; a timedelta counts from now and cannot be negative.")
        return
    if not isinstance(value, datetime):
        raise InvalidOption(f"{name} must be an aware datetime or a timedelta, not {type(value).__name__}.")
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidOption(f"{name}={value} has no time zone; use django.utils.timezone.now() or make_aware().")


def _check_moments(send_at: datetime | timedelta | None, expires_at: datetime | timedelta | None) -> None:
    check_moment("send_at", send_at)
    check_moment("expires_at", expires_at)
    if expires_at is None:
        return
    now = datetime.now(UTC)
    end = now + expires_at if isinstance(expires_at, timedelta) else expires_at
    start = now + send_at if isinstance(send_at, timedelta) else send_at or now
    if end <= now:
        raise InvalidOption(f"expires_at={expires_at} is not in the future, so the mail could never be sent.")
    if end <= start:
        raise InvalidOption(f"expires_at={expires_at} is not after send_at={send_at}, so the mail could never be sent.")


def _check_number(name: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidOption(f"{name} must be a whole number from {least} to {most}, not {value!r}.")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidOption(f"{name}={value!r} is unknown.{did_you_mean(str(value), choices)}")


def _check_key(key: str | None) -> str | None:
    if key is None:
        return None
    if not isinstance(key, str) or not key or len(key) > 255 or key != key.strip() or not key.isprintable():
        raise InvalidOption(
            "idempotency_key must be 1 to 255 printable characters without spaces at its ends, "
            f"not {str(key)[:80]!r} ({type(key).__name__} of length {len(str(key))})."
        )
    return key


def _check_related(related: models.Model | None) -> str:
    if related is None:
        return ""
    if not isinstance(related, models.Model):
        raise InvalidOption(f"related must be a model instance, not {type(related).__name__}.")
    if related.pk is None:
        raise InvalidOption(f"related={type(related).__name__} is not saved yet; save it before enqueueing its mail.")
    return label_of(related)


def _check_tags(tags: Sequence[str]) -> list[str]:
    if isinstance(tags, str):
        raise InvalidOption(f"tags must be a list of texts, not one text; write tags=[{tags!r}].")
    for tag in tags:
        if not isinstance(tag, str) or not tag or len(tag) > 100 or not tag.isprintable():
            raise InvalidOption(f"tags must be printable texts of 1 to 100 characters, not {tag!r}.")
    return list(tags)


def _check_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise InvalidOption(f"metadata must be a mapping of names to values, not {type(metadata).__name__}.")
    for key, value in metadata.items():
        if not isinstance(key, str) or not (value is None or isinstance(value, str | int | float | bool)):
            raise InvalidOption(
                f"metadata[{key!r}] must be a text, a number, a truth value or None under a text as key, "
                f"not {type(value).__name__}."
            )
    return dict(metadata)
