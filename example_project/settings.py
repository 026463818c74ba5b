"""Settings of the example: SQLite, django-q2's ORM broker, and mailers that accept everything and send nothing."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core import mail

BASE_DIR = Path(__file__).resolve().parent

SECRET_KEY = "an example has no secrets"
DEBUG = True
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
ASGI_APPLICATION = "example_project.asgi.application"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_q",
    "mail_outbox",
    "example_project.shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- The database ----------------------------------------------------------------------------------------------------

DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("EXAMPLE_DATABASE", str(BASE_DIR / "example.sqlite3")),
        "OPTIONS": {
            # Readers and the one writer do not wait for each other, and a transaction that is going to write takes its
            # turn at the start: without these two, web and workers meet as "database is locked".
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        },
    },
}
if "EXAMPLE_POSTGRESQL_HOST" in os.environ:  # as deploy/docker/compose.yml has it; who and where else libpq knows
    DATABASES["default"] = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("PGDATABASE", "example"),
        "HOST": os.environ["EXAMPLE_POSTGRESQL_HOST"],
        # Without it each task, and each request, opens a connection of its own.
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Mail ------------------------------------------------------------------------------------------------------------

DEFAULT_FROM_EMAIL = "The teapot shop <shop@example.com>"

# `manage.py demo --chaos` sets it: the share of attempts that go wrong.
_CHAOS = float(os.environ.get("EXAMPLE_CHAOS", "0"))

# "default" is the outbox, so that send_mail() and password resets go through it; it hands over to "shop".
_MAILERS: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "mail_outbox.backends.OutboxBackend", "OPTIONS": {"using": "shop"}},
    "shop": {"BACKEND": "mail_outbox.backends.SinkBackend", "OPTIONS": {"latency": 0.05, "chaos": _CHAOS}},
    "newsletter": {"BACKEND": "mail_outbox.backends.SinkBackend", "OPTIONS": {"latency": 0.1, "chaos": _CHAOS}},
}

MAIL_OUTBOX: dict[str, Any] = {
    "USING": "shop",
    # One slice of work and the longest send must fit into django-q2's timeout below.
    "SLICE": timedelta(seconds=5),
    "MAILER_OPTIONS": {
        "shop": {"deadline": timedelta(seconds=10)},
        "newsletter": {"deadline": timedelta(seconds=10), "concurrency": 4},
    },
    # A demonstration is impatient: in production the defaults (30 s, doubling to 4 h, 30 attempts) are kinder to a
    # provider in trouble.
    "BACKOFF": {"first": timedelta(seconds=2), "longest": timedelta(seconds=20)},
    "MAX_ATTEMPTS": 5,
}

if hasattr(mail, "mailers"):  # Django 6.1 and later
    MAILERS = _MAILERS
else:  # Django 5.2 and 6.0: the same dict, one level in
    EMAIL_BACKEND = "mail_outbox.backends.OutboxBackend"
    MAIL_OUTBOX["MAILERS"] = _MAILERS

# --- The cluster -----------------------------------------------------------------------------------------------------

Q_CLUSTER: dict[str, Any] = {
    "name": "example",
    # Tasks are kept in the same database as everything else: nothing more to install. Redis or SQS when it gets busy.
    "orm": "default",
    "workers": 2,
    # Longer than a slice and the longest send (5 s + 10 s), because a timeout strikes in the middle of anything.
    "timeout": 30,
    # Longer than the timeout, and than a task may wait behind others in memory: else it is run a second time meanwhile.
    "retry": 120,
    # The outbox repeats what needs repeating. A wake is only a hint: no use in running it again.
    "max_attempts": 1,
    "ack_failures": True,
    # After a standstill the sweep runs once, not once per minute missed.
    "catch_up": False,
    # Every result that is kept costs the next one time.
    "save_limit": 50,
    # Seconds between looks at the queue: it decides how long the first mail waits.
    "poll": 0.2,
    # A worker is replaced after so many tasks, or when it has grown past so many KiB, so that no leak lasts.
    "recycle": 500,
    "max_rss": 500_000,
}
if "EXAMPLE_REDIS" in os.environ:  # as deploy/docker/compose.yml has it
    # Tasks wait in Redis; the mail itself stays in the database, and what Redis forgets the sweep finds.
    del Q_CLUSTER["orm"]
    Q_CLUSTER["redis"] = os.environ["EXAMPLE_REDIS"]

# --- Logging ---------------------------------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        # One line per task and per process started is more than anybody reads.
        "django-q": {"level": "WARNING"},
    },
}
