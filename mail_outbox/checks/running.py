"""The databases, the django-q2 cluster, and the times that must fit into each other."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Info
from django.core.files.storage import storages
from django.db import connections, router
from django.utils import timezone

from mail_outbox import conf as settings
from mail_outbox.checks.messages import error, warning
from mail_outbox.conf import LEASE_MARGIN, Conf
from mail_outbox.core.errors import did_you_mean
from mail_outbox.drain.instances import find_stranger
from mail_outbox.models import Instance, OutboxEntry

SWEEP = "mail_outbox.tasks.sweep"
TIMEOUT_MARGIN = timedelta(seconds=5)
"""What a drain leaves of django-q2's timeout, which strikes in the middle of anything."""
SHORTEST_MARGIN = timedelta(seconds=3)
"""What a lease must leave besides the deadline: for reading what was claimed, and for settling it."""
Q_DEFAULTS: Mapping[str, Any] = {"timeout": None, "retry": 60, "max_attempts": 0, "ack_failures": False}


def databases(conf: Conf) -> Iterator[CheckMessage]:
    """Check that every database of the outbox exists, is migrated there, and locks as it must."""
    for alias in conf.databases:
        if alias not in connections.settings:
            hint = "Set MAIL_OUTBOX['DATABASE'] to aliases in DATABASES." + did_you_mean(alias, connections.settings)
            yield error(7, f"MAIL_OUTBOX['DATABASE'] names '{alias}', which is not in DATABASES.", hint)
        elif not router.allow_migrate_model(alias, OutboxEntry):
            hint = f"Let DATABASE_ROUTERS allow mail_outbox on '{alias}', or take it out of MAIL_OUTBOX['DATABASE']."
            yield error(7, f"The database router keeps the tables of the outbox out of '{alias}'.", hint)
        elif connections[alias].vendor == "sqlite" and not _is_immediate(connections[alias].settings_dict):
            yield warning(
                "W003",
                f"SQLite database '{alias}' begins its transactions deferred: two workers would fail each other.",
                f"Set DATABASES['{alias}']['OPTIONS']['transaction_mode'] = 'IMMEDIATE'.",
            )


def time_zones(conf: Conf) -> Iterator[CheckMessage]:
    """Check that moments have a time zone, as all those of the outbox do."""
    if timezone.now().tzinfo is None:
        yield error(
            14,
            "USE_TZ is False: SQLite and MySQL refuse what the outbox writes, and no other moment can be compared with its own.",
            "Set USE_TZ = True.",
        )


def storage(conf: Conf) -> Iterator[CheckMessage]:
    """Check that the storage for attachments is there."""
    alias, known = conf.attachment_storage, storages.backends
    if alias is not None and alias not in known:
        hint = "Add it to STORAGES." + did_you_mean(alias, known)
        yield error(3, f"MAIL_OUTBOX['ATTACHMENT_STORAGE'] names '{alias}', which is not in STORAGES.", hint)


def _is_immediate(database: Mapping[str, Any]) -> bool:
    mode = database.get("OPTIONS", {}).get("transaction_mode")
    return str(mode).upper() in {"IMMEDIATE", "EXCLUSIVE"}


def cluster(conf: Conf) -> Iterator[CheckMessage]:
    """Check that a django-q2 cluster will deliver, and neither kills nor repeats what it does."""
    given = settings.q_cluster()
    if not apps.is_installed("django_q") or not isinstance(given, Mapping):
        yield error(
            5,
            "No django-q2 cluster will deliver the mail: django_q is not installed, or Q_CLUSTER is missing.",
            "Add 'django_q' to INSTALLED_APPS and set Q_CLUSTER. Where only `manage.py outbox drain --forever` delivers, "
            "put mail_outbox.E005 into SILENCED_SYSTEM_CHECKS.",
        )
        return
    names = {given.get("name", "default"), given.get("cluster_name", "default"), *given.get("ALT_CLUSTERS", {})}
    if conf.cluster is not None and conf.cluster not in names:
        hint = "Add it to Q_CLUSTER['ALT_CLUSTERS']." + did_you_mean(conf.cluster, names)
        yield error(3, f"MAIL_OUTBOX['CLUSTER'] names '{conf.cluster}', which Q_CLUSTER does not know.", hint)
    q_conf = {**Q_DEFAULTS, **given, **given.get("ALT_CLUSTERS", {}).get(conf.cluster, {})}
    yield from _q_times(conf, _number(q_conf["timeout"]), _number(q_conf["retry"]))
    if not q_conf["ack_failures"] and q_conf["max_attempts"] != 1:
        yield Info(
            "django-q2 runs failed tasks again and again; a wake that was lost half-way would be one of them.",
            hint="Set Q_CLUSTER['ack_failures'] = True, or Q_CLUSTER['max_attempts'] = 1: the outbox retries by itself.",
            id="mail_outbox.W002",
        )


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0


def _q_times(conf: Conf, timeout: float, retry: float) -> Iterator[CheckMessage]:
    needed = int((conf.slice + conf.longest_deadline + TIMEOUT_MARGIN).total_seconds()) + 1
    if timeout < needed:
        yield error(
            10,
            f"Q_CLUSTER['timeout'] = {timeout or None} would let django-q2 kill a worker that is sending.",
            f"Set Q_CLUSTER['timeout'] to {needed} or more: SLICE + the longest deadline of a mailer + 5 s.",
        )
    if timeout and retry <= timeout:
        hint = f"Set Q_CLUSTER['retry'] to more than {timeout}, as in {int(timeout) + 60}."
        yield error(11, f"Q_CLUSTER['retry'] = {retry} starts a task again before its timeout of {timeout} s.", hint)


def times(conf: Conf) -> Iterator[CheckMessage]:
    """Check that a claim is held longer than a message can take."""
    longest = conf.longest_deadline
    if conf.lease_length < longest + SHORTEST_MARGIN:
        good = (longest + LEASE_MARGIN).total_seconds()
        hint = f"Leave MAIL_OUTBOX['LEASE'] out, or set it to timedelta(seconds={good:g})."
        yield error(10, f"MAIL_OUTBOX['LEASE'] = {conf.lease_length} may be over while a message is being sent.", hint)


def schedule_missing(databases: Any) -> Iterator[CheckMessage]:
    """Check that the sweep is scheduled, if the database with the schedules may be asked."""
    if not apps.is_installed("django_q"):
        return
    schedule = apps.get_model("django_q", "Schedule")
    database = router.db_for_read(schedule)
    if database not in (databases or ()):
        return
    if schedule._meta.db_table not in connections[database].introspection.table_names():
        return  # not migrated yet, and migrating installs the schedule
    if not schedule._default_manager.using(database).filter(func=SWEEP).exclude(repeats=0).exists():
        yield warning(
            "W006",
            "No schedule runs the sweep: retries, scheduled mail and entries of lost workers would wait for chance.",
            f"Run `manage.py migrate`, which creates the schedule, or schedule {SWEEP} every minute.",
        )


def strangers(databases: Any) -> Iterator[CheckMessage]:
    """Check that the databases belong to this deployment, those of them that may be asked."""
    for database in settings.get_conf().databases:
        if database not in (databases or ()):
            continue
        if Instance._meta.db_table not in connections[database].introspection.table_names():
            continue  # not migrated yet, so it belongs to nobody
        if stranger := find_stranger(database=database):
            yield warning("W013", f"Nothing is sent from database '{database}'.", f"Namely: {stranger}.")
