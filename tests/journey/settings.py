"""Settings of the child processes: the test suite's own database, with mailers and options that the test hands over."""

import json
import os
from datetime import timedelta

from django.core import mail

from tests import settings as suite
from tests.settings import *  # noqa: F403

HANDED_OVER = "MAIL_OUTBOX_TEST_JOURNEY"
"""The environment variable with the JSON that a test hands over; a timedelta is {"seconds": …}."""

_given = json.loads(
    os.environ[HANDED_OVER], object_hook=lambda value: timedelta(**value) if value.keys() == {"seconds"} else value
)

# As the documentation asks: a task does not open a connection of its own.
DATABASES = {"default": {**suite.DATABASES["default"], "CONN_MAX_AGE": 60}}

MAIL_OUTBOX = _given["outbox"]
if hasattr(mail, "mailers"):  # Django 6.1 and later
    MAILERS = _given["mailers"]
else:
    MAIL_OUTBOX["MAILERS"] = _given["mailers"]

Q_CLUSTER = {key: value for key, value in {**suite.Q_CLUSTER, **_given["q_cluster"]}.items() if value is not None}

# django-q2 brings a handler of its own; ours go to the same place.
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
