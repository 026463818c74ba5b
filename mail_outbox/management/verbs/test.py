"""`outbox test`: one real mail, and the provider's answer."""

from django.core.mail import EmailMessage
from django.core.management.base import CommandError, CommandParser

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.management.verb import SOME_FAILED, Options, Output, Verb, add_json

NOBODY_NEEDS_IT = "a test is not repeated"


def add_arguments(parser: CommandParser) -> None:
    """Declare to whom, from whom, and through which mailer."""
    parser.add_argument("address", metavar="ADDRESS", help="Who gets the mail.")
    parser.add_argument("--using", metavar="ALIAS", help="Send it through this mailer, not the default one.")
    parser.add_argument("--from", dest="sender", metavar="ADDRESS", help="The sender, if not DEFAULT_FROM_EMAIL.")
    add_json(parser)


def run(options: Options, output: Output) -> None:
    """Send it in this process, and tell what the provider said."""
    message = EmailMessage(
        "Test of the outbox", "This mail was sent by manage.py outbox test.\n", options["sender"], [options["address"]]
    )
    entry = outbox.send_now(message, using=options["using"], max_attempts=1)
    if entry.state in (State.QUEUED, State.SCHEDULED):
        outbox.cancel(entry, reason=NOBODY_NEEDS_IT)
        entry.refresh_from_db()
    attempt = entry.attempt_set.order_by("-pk").first()
    took = None if attempt is None or attempt.duration is None else round(attempt.duration.total_seconds(), 3)
    values = {
        "entry": entry.pk,
        "mailer": entry.using if attempt is None else attempt.using,
        "state": entry.state,
        "outcome": entry.outcome_kind,
        "code": entry.outcome_code,
        "text": entry.outcome_text,
        "provider_message_id": entry.provider_message_id,
        "seconds": took,
    }
    if options["json"]:
        output.write_json(values)
    else:
        told = " ".join(filter(None, [entry.outcome_kind, entry.outcome_code, entry.outcome_text]))
        output.write(f"Entry {entry.pk} through mailer '{values['mailer']}' in {took or 0:g} s: {told or entry.state}")
        if values["provider_message_id"]:
            output.write(f"The provider calls it {values['provider_message_id']}.")
    if entry.state != State.SENT:
        raise CommandError(f"The mail was not sent: {entry.state_reason or entry.state}.", returncode=SOME_FAILED)


VERB = Verb(
    name="test", help="Send one real mail, and print the provider's answer.", run=run, add_arguments=add_arguments
)
