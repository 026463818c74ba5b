"""What one attempt is given."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from django.core.mail import EmailMessage

JSON: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A message, loaded from its envelope and ours alone, with what was settled when it was enqueued.

    `seed` is the same for every attempt of an entry: MIME boundaries are made from it. `deadline` is the moment of
    `time.monotonic()` by which the attempt must be over. `only` names the normalised addresses that are still open
    (None: everybody): the headers stay as they are, the envelope shrinks. `tags` and `metadata` are those given to
    `enqueue`, merged into the message's own.
    """

    message: EmailMessage
    seed: str
    message_id: str
    date: datetime
    deadline: float
    only: frozenset[str] | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, JSON] | None = None
