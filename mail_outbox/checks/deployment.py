"""What a test or a staging site needs, and a real one must not have."""

from collections.abc import Iterator

from django.core.checks import CheckMessage

from mail_outbox import conf as settings
from mail_outbox.checks.messages import warning
from mail_outbox.conf import Conf

SEND_NOTHING = frozenset(
    {
        "mail_outbox.backends.SinkBackend",
        "anymail.backends.console.EmailBackend",
        "anymail.backends.test.EmailBackend",
        *(f"django.core.mail.backends.{name}.EmailBackend" for name in ("console", "dummy", "filebased", "locmem")),
    }
)


def mailers_that_send_nothing() -> Iterator[CheckMessage]:
    """Check that every mailer really sends."""
    for alias, mailer in settings.known_mailers().items():
        backend = mailer.get("BACKEND")
        if backend in SEND_NOTHING:
            yield warning(
                "W020",
                f"Mailer '{alias}' takes messages and sends none: {backend}.",
                "Give it a BACKEND that sends, or take it out.",
            )


def guards(conf: Conf) -> Iterator[CheckMessage]:
    """Check that mail goes to whom it is for."""
    for key, value in {"REDIRECT_TO": conf.redirect_to, "ALLOW_TO": conf.allow_to}.items():
        if value is not None:
            yield warning(
                "W021",
                f"MAIL_OUTBOX['{key}'] keeps mail from those it is for.",
                "Take it out of the settings of a real site; a staging site puts mail_outbox.W021 into SILENCED_SYSTEM_CHECKS.",
            )


def kept_for_ever(conf: Conf) -> Iterator[CheckMessage]:
    """Check that the content of what was sent goes at some time."""
    if conf.retention_policy.sent is None and conf.retention_policy.content is None:
        yield warning(
            "W005",
            "The content of all mail that was ever sent is kept for ever.",
            "Set MAIL_OUTBOX['RETENTION']['content'] to a timedelta, or 'sent', which takes the whole entries.",
        )


def kept_secrets(conf: Conf) -> Iterator[CheckMessage]:
    """Check that links to reset a password are erased when they have been sent."""
    if not conf.sensitive_templates:
        yield warning(
            "W022",
            "No template counts as sensitive: links to reset a password lie in the database after they were sent.",
            "Name yours in MAIL_OUTBOX['SENSITIVE_TEMPLATES'], or take it out, which is ('registration/*', 'account/email/*').",
        )
