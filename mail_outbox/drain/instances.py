"""Which deployment the database belongs to: under another one, as a copy does, nothing is sent."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.models import QuerySet

from mail_outbox import conf as settings
from mail_outbox.models import Instance, UtcNow

logger = logging.getLogger("mail_outbox.worker")

LOCAL = frozenset({"", "localhost", "127.0.0.1", "::1"})
PORTS = {"postgresql": "5432", "mysql": "3306"}


@dataclass(frozen=True, slots=True)
class Stranger:
    """The database belongs to `owner`, and this deployment is `instance`."""

    owner: str
    instance: str

    def __str__(self) -> str:
        return (
            f"this database belongs to '{self.owner}', but this is '{self.instance}'. If it is a copy, leave it so. "
            "If this deployment is to send its mail from now on: manage.py outbox adopt"
        )


def instance_of(database: str) -> str:
    """Name this deployment: `INSTANCE`, or else what the settings call the database; never the machine."""
    return settings.get_conf().instance or _place(connections[database].vendor, connections[database].settings_dict)


def owned(*, database: str) -> QuerySet[Instance]:
    """Return the one row where the database belongs to this deployment."""
    return Instance.objects.using(database).filter(pk=Instance.ONLY, name=instance_of(database))


def find_stranger(*, database: str, is_first: bool = False) -> Stranger | None:
    """Return who the database belongs to where that is another deployment, or None.

    With `is_first` a database that belongs to nobody yet belongs to this deployment from now on.
    """
    owner = Instance.objects.using(database).filter(pk=Instance.ONLY).values_list("name", flat=True).first()
    instance = instance_of(database)
    if owner is None and is_first:
        row = Instance(pk=Instance.ONLY, name=instance, adopted_at=UtcNow())
        Instance.objects.using(database).bulk_create([row], ignore_conflicts=True)
    return None if owner in (None, instance) else Stranger(owner, instance)


def adopt(*, database: str) -> None:
    """Write that the database belongs to this deployment."""
    Instance.objects.using(database).update_or_create(
        pk=Instance.ONLY, defaults={"name": instance_of(database), "adopted_at": UtcNow()}
    )


def _place(vendor: str, given: Mapping[str, Any]) -> str:
    """Write out where the database is, in one way for all spellings of it."""
    options = given.get("OPTIONS") or {}
    name = str(given.get("NAME") or options.get("service") or "")
    if vendor == "sqlite":
        is_file = name and ":memory:" not in name and "mode=memory" not in name
        return f"sqlite {os.path.realpath(name) if is_file else 'in memory'}"
    host = str(given.get("HOST") or "").lower().rstrip(".")
    if host in LOCAL or host.startswith("/"):
        host = "localhost"
    port = str(given.get("PORT") or "") or PORTS.get(vendor, "")
    return f"{vendor} {host}:{port}/{name}"
