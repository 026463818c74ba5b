"""The keys and values of `MAIL_OUTBOX`, each by itself."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any

from django.core.checks import CheckMessage
from django.core.mail import EmailMessage
from django.utils.module_loading import import_string

from mail_outbox import conf as settings
from mail_outbox.checks.messages import error
from mail_outbox.conf import Conf
from mail_outbox.core.errors import did_you_mean
from mail_outbox.core.rates import RATE
from mail_outbox.delivery.guard import is_list_of_addresses, is_list_of_patterns

Rule = tuple[Callable[[Any], bool], str]
"""What a value must fulfil, and how to say so after "Set it to"."""


def unknown_keys() -> Iterator[CheckMessage]:
    """Check that every key of `MAIL_OUTBOX` means something."""
    for key, suggestion in settings.unknown_keys():
        yield error(1, f"MAIL_OUTBOX has no key '{key}'.", suggestion.strip())


def _is_period(value: object) -> bool:
    return isinstance(value, timedelta) and value > timedelta(0)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_rate(value: object) -> bool:
    return isinstance(value, str) and RATE.fullmatch(value) is not None


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(_is_text(item) for item in value)


def _is_list_of_functions(value: object) -> bool:
    return isinstance(value, list | tuple) and all(_is_text(item) or callable(item) for item in value)


def _is_dict(value: object) -> bool:
    return isinstance(value, Mapping) and all(_is_text(key) for key in value)


def _is_dict_of_dicts(value: object) -> bool:
    return isinstance(value, Mapping) and _is_dict(value) and all(_is_dict(item) for item in value.values())


def _or_none(is_good: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_good(value)


PERIOD: Rule = (_is_period, "a timedelta above zero")
COUNT: Rule = (_is_count, "a whole number from 1")
FLAG: Rule = (_is_flag, "True or False")
FUNCTIONS: Rule = (_is_list_of_functions, "a list of functions or of their dotted names")

RULES: Mapping[str, Rule] = {
    "USING": (_or_none(_is_text), "the alias of a mailer or the name of a route, or to None"),
    "MAILERS": (_or_none(_is_dict_of_dicts), 'a dict like {"mailgun": {"BACKEND": "…", "OPTIONS": {…}}}'),
    "MAILER_OPTIONS": (_is_dict_of_dicts, 'a dict like {"mailgun": {"concurrency": 8}}'),
    "ROUTES": (_is_dict, 'a dict like {"main": ["mailgun", "ses"]}'),
    "MAX_ATTEMPTS": COUNT,
    "MAX_AGE": PERIOD,
    "BACKOFF": (_is_dict, 'a dict like {"first": timedelta(seconds=30), "longest": timedelta(hours=4)}'),
    "LEASE": (_or_none(_is_period), "a timedelta above zero, or to None"),
    "SLICE": PERIOD,
    "MAX_DRAINS": (_or_none(_is_count), "a whole number from 1, or to None for no limit"),
    "CLUSTER": (_or_none(_is_text), "the name of a django-q2 cluster, or to None"),
    "ON_AMBIGUOUS": (("retry", "hold").__contains__, '"retry" or "hold"'),
    "WAKE": FLAG,
    "POLL": PERIOD,
    "PAUSED": FLAG,
    "INSTANCE": (_or_none(_is_text), "a name for this deployment, or to None"),
    "REDIRECT_TO": (
        lambda value: value is None or is_list_of_addresses([value] if isinstance(value, str) else value),
        "an address or a list of addresses, or to None",
    ),
    "ALLOW_TO": (_or_none(is_list_of_patterns), 'a list like ["jane@example.com", "*@example.org"], or to None'),
    "INTERCEPTORS": FUNCTIONS,
    "ENCRYPTION_KEYS": (
        lambda value: value is None or callable(value) or _is_list_of_texts(value),
        "a list of keys, a function that returns one, or to None",
    ),
    "ERASURE_KEY": (_or_none(_is_text), "a text that nobody can guess, or to None"),
    "DATABASE": (
        lambda value: _is_text(value) or (_is_list_of_texts(value) and len(value) > 0),
        "the alias of a database, or a list of aliases",
    ),
    "OUTSIDE_ATOMIC": (("allow", "warn", "error").__contains__, '"allow", "warn" or "error"'),
    "MAX_MESSAGE_BYTES": COUNT,
    "MESSAGE_CLASSES": (_is_list_of_texts, "a list of dotted names of message classes"),
    "CLASSIFIERS": FUNCTIONS,
    "INLINE_CSS": FLAG,
    "SENSITIVE_TEMPLATES": (_is_list_of_texts, 'a list of names and patterns like ["registration/*"]'),
    "LOG_RECIPIENTS": FLAG,
    "REGISTER_ADMIN": FLAG,
    "RETENTION": (_is_dict, 'a dict like {"sent": timedelta(days=30), "failed": timedelta(days=90), "content": None}'),
    "ATTACHMENT_STORAGE": (_or_none(_is_text), "an alias in STORAGES, or to None"),
}
OPTION_RULES: Mapping[str, Rule] = {
    "concurrency": COUNT,
    "deadline": (_or_none(_is_period), "a timedelta above zero, or to None"),
    "messages_per_connection": COUNT,
    "idle_after": PERIOD,
    "rate": (_or_none(_is_rate), 'a text like "14/s", "100/m", "5000/h" or "14 recipients/s", or to None'),
    "max_connections": (_or_none(_is_count), "a whole number from 1, or to None for no limit"),
    "pipelining": FLAG,
}
SECRET = frozenset({"ENCRYPTION_KEYS", "ERASURE_KEY"})
BACKOFF_RULES: Mapping[str, Rule] = {"first": PERIOD, "longest": PERIOD}
AGE: Rule = (_or_none(_is_period), "a timedelta above zero, or to None to keep it for ever")
RETENTION_RULES: Mapping[str, Rule] = {"sent": AGE, "failed": AGE, "content": AGE, "attempts": AGE, "events": AGE}


def bad_values(conf: Conf) -> Iterator[CheckMessage]:
    """Check that every value is of a kind that can be used."""
    values = {field.name.upper(): getattr(conf, field.name) for field in fields(Conf)}
    yield from _judge("MAIL_OUTBOX", values, RULES)
    if _is_dict_of_dicts(conf.mailer_options):
        for alias, options in conf.mailer_options.items():
            yield from _judge(f"MAIL_OUTBOX['MAILER_OPTIONS']['{alias}']", options, OPTION_RULES)
    if _is_dict(conf.backoff):
        yield from _judge("MAIL_OUTBOX['BACKOFF']", conf.backoff, BACKOFF_RULES)
    if _is_dict(conf.retention):
        yield from _judge("MAIL_OUTBOX['RETENTION']", conf.retention, RETENTION_RULES)
    if _is_list_of_texts(conf.message_classes):
        yield from _bad_message_classes(conf.message_classes)
    for key, given, signature in (
        ("INTERCEPTORS", conf.interceptors, "message, entry"),
        ("CLASSIFIERS", conf.classifiers, "error, *, mailer, backend, result"),
    ):
        if _is_list_of_functions(given):
            yield from _bad_functions(key, given, signature)


def _judge(where: str, values: Mapping[str, Any], rules: Mapping[str, Rule]) -> Iterator[CheckMessage]:
    for key, value in values.items():
        if key not in rules:
            yield error(3, f"{where} has no option '{key}'.", did_you_mean(key, rules).strip())
            continue
        is_good, wanted = rules[key]
        if not is_good(value):
            # What is in a container may be a secret, and so may be a key.
            is_open = isinstance(value, str | int | float | timedelta | None) and key not in SECRET
            shown = value if is_open else type(value)
            yield error(3, f"{where}['{key}'] cannot be {shown!r}.", f"Set it to {wanted}.")


def _bad_message_classes(paths: Sequence[str]) -> Iterator[CheckMessage]:
    for path in paths:
        try:
            is_good = issubclass(import_string(path), EmailMessage)
        except (ImportError, TypeError):
            is_good = False
        if not is_good:
            hint = "Name importable classes that inherit from django.core.mail.EmailMessage."
            yield error(3, f"MAIL_OUTBOX['MESSAGE_CLASSES'] lists '{path}', which is no message class.", hint)


def _bad_functions(key: str, given: Sequence[object], signature: str) -> Iterator[CheckMessage]:
    for path in given:
        try:
            is_good = callable(path) or callable(import_string(str(path)))
        except ImportError:
            is_good = False
        if not is_good:
            yield error(
                3,
                f"MAIL_OUTBOX['{key}'] lists '{path}', which cannot be called.",
                f"Name importable functions that take ({signature}).",
            )


def has_bad(found: Iterable[CheckMessage]) -> bool:
    """Tell whether a value is bad, so that nothing can be made of the settings."""
    return any(message.id == "mail_outbox.E003" for message in found)
