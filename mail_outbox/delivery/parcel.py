"""What one attempt is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from django.core.mail import EmailMessage

JSON: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None


class NotNow(Exception):
    """The message must not be handed over now: nothing was sent, and no attempt was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A message, loaded from its envelope and ours alone, with what was settled when it was enqueued.

    `seed` is the same for every attempt of an entry: MIME boundaries are made from it. `deadline` is the moment of
    `time.monotonic()` by which the attempt must be over. `only` names the normalised addresses that are still open
    (None: everybody): the headers stay as they are, the envelope shrinks. `tags` and `metadata` are those given to
    `enqueue`, merged into the message's own. `is_guarded` once the guard has decided who its recipients are. Where an
    earlier attempt `may_be_out`, the provider may know its key; with `needs_key` the message must not go unless it does.
    `refused_ago` is how long ago the mailer last refused one for now, which may have taken the key as well.
    `gate` is called when all is ready and the message is about to be handed over: it may wait, or raise NotNow.
    """

    message: EmailMessage
    seed: str
    message_id: str
    date: datetime
    deadline: float
    only: frozenset[str] | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, JSON] | None = None
    is_guarded: bool = False
    may_be_out: bool = False
    needs_key: bool = False
    refused_ago: timedelta | None = None
    gate: Callable[[], None] | None = None
