"""Recipes for model-bakery: entries as they are queued, sent, failed and held, with all that belongs to them.

    from mail_outbox.testing.recipes import failed
    entry = failed.make(related="shop.order:42", message=EmailMessage(…))

What a recipe's name says of the entry, its recipients and its attempt say too. Needs model-bakery.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from django.core.mail import EmailMessage
from model_bakery.recipe import Recipe

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.core import envelope
from mail_outbox.core.addresses import mailboxes
from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import State
from mail_outbox.models import Attempt, OutboxEntry, Recipient, RecipientStatus
from mail_outbox.transitions import Draft


class EntryRecipe(Recipe[OutboxEntry]):
    """A recipe that writes an entry the way `enqueue` does, and then lets become of it what its attributes say."""

    def __init__(self, *, recipients: RecipientStatus = RecipientStatus.OPEN, **attributes: Any) -> None:
        super().__init__(OutboxEntry, **attributes)
        self._recipients = recipients

    def make(self, *, message: EmailMessage | None = None, **attributes: Any) -> Any:  # type: ignore[override]
        """Write the entry (a list of them for `_quantity`) with the message, and return it."""
        database = attributes.get("_using") or settings.get_conf().databases[0]
        message = message or EmailMessage("Hello", "Text", "shop@example.com", ["jane@example.com"])
        made = self.prepare(**attributes)
        names = {*self.attr_mapping, *(name for name in attributes if not name.startswith("_"))}
        for entry in made if isinstance(made, list) else [made]:
            self._write(entry, message, names, database)
        return made

    def _write(self, entry: OutboxEntry, message: EmailMessage, names: set[str], database: str) -> None:
        wanted = {name: getattr(entry, name) for name in names}
        entry.subject = wanted.get("subject") or str(message.subject)
        draft = Draft(entry=entry, envelope=envelope.dump(message), mailboxes=mailboxes(message))
        transitions.insert([draft], database=database)
        OutboxEntry.objects.using(database).filter(pk=entry.pk).update(**wanted)
        entry.refresh_from_db(using=database)
        Recipient.objects.using(database).filter(entry=entry).update(status=self._recipients)
        if entry.outcome_kind:
            Attempt.objects.using(database).create(
                entry=entry,
                number=entry.attempts,
                claim_id=uuid4(),
                using=entry.using,
                started_at=entry.created_at,
                duration=timedelta(milliseconds=100),
                kind=entry.outcome_kind,
                code=entry.outcome_code,
                text=entry.outcome_text,
            )


def _mailer() -> str:
    return settings.default_mailer() or "default"


def _now() -> datetime:
    return datetime.now(UTC)


def _message_id() -> str:
    return f"<{uuid4().hex}@example.com>"


def _recipe(state: State, *, recipients: RecipientStatus = RecipientStatus.OPEN, **attributes: Any) -> EntryRecipe:
    return EntryRecipe(
        recipients=recipients,
        state=state.value,
        uuid=uuid4,
        using=_mailer,
        on_ambiguous="retry",
        message_id=_message_id,
        date=_now,
        due_at=_now,
        first_due_at=_now,
        created_at=_now,
        **attributes,
    )


queued = _recipe(State.QUEUED)
sent = _recipe(
    State.SENT,
    recipients=RecipientStatus.ACCEPTED,
    attempts=1,
    outcome_kind=Kind.SENT.value,
    outcome_code="250",
    finished_at=_now,
)
failed = _recipe(
    State.FAILED,
    recipients=RecipientStatus.REFUSED,
    attempts=1,
    state_reason="550",
    outcome_kind=Kind.PERMANENT.value,
    outcome_code="550",
    outcome_text="5.1.1 unknown",
    finished_at=_now,
)
held = _recipe(
    State.HELD,
    attempts=3,
    state_reason="ambiguous",
    outcome_kind=Kind.AMBIGUOUS.value,
    outcome_code="timeout",
    finished_at=_now,
)
