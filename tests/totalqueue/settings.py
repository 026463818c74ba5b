"""Settings of the processes of a run: what `HANDED_OVER` names, on top of the test suite's."""

import json
import os
from datetime import timedelta
from typing import Any

from django.core import mail

from tests import settings as suite
from tests.settings import *  # noqa: F403
from tests.totalqueue import DEADLINE, HANDED_OVER, LEASE

GIVEN: dict[str, Any] = json.loads(os.environ[HANDED_OVER])
"""What the run hands over: database, mailers, where the history is, the shape, and what is to be broken on purpose."""


if GIVEN["database"]["ENGINE"].endswith("mysql"):
    import pymysql

    pymysql.install_as_MySQLdb()

DATABASES = {"default": {**GIVEN["database"], "CONN_MAX_AGE": 60}}
INSTALLED_APPS = [*suite.INSTALLED_APPS, "tests.totalqueue.apps.TotalQueueConfig"]

MAIL_OUTBOX: dict[str, Any] = {
    "INSTANCE": "total-queue check",  # each process has a way of its own to the database, and it is one database
    "ROUTES": {"either": list(GIVEN["mailers"])} if GIVEN["mailers"] else {},
    "LEASE": timedelta(seconds=LEASE),
    "SLICE": timedelta(seconds=2),
    "BACKOFF": {"first": timedelta(seconds=0.2), "longest": timedelta(seconds=1)},
    "MAILER_OPTIONS": {
        alias: {"deadline": timedelta(seconds=DEADLINE), "concurrency": 4} for alias in GIVEN["mailers"]
    },
}
if hasattr(mail, "mailers"):  # Django 6.1 and later
    MAILERS = GIVEN["mailers"]
else:
    MAIL_OUTBOX["MAILERS"] = GIVEN["mailers"]

Q_CLUSTER = {**suite.Q_CLUSTER, "timeout": 30, "retry": 40}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "()": "logging.Formatter",
            "fmt": "%(asctime)s %(process)d %(name)s %(levelname)s %(message)s %(error)s",
            "defaults": {"error": ""},
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {"mail_outbox": {"handlers": ["stderr"], "level": "INFO"}},
}
