"""Settings of the test suite; `MAIL_OUTBOX_TEST_DB` chooses the database: sqlite, postgresql or mariadb."""

import os
import sys
import tempfile
from pathlib import Path

import django
from django.core import mail

# Every run has a database of its own, so that runs (other Pythons, other Djangos, another shell) do not meet.
# Child processes inherit the variable, and with it the database.
RUN = os.environ.setdefault("MAIL_OUTBOX_TEST_RUN", str(os.getpid()))
DATABASE_NAME = "mail_outbox_py{}{}_dj{}{}_{}".format(*sys.version_info[:2], *django.VERSION[:2], RUN)


def database() -> dict[str, object]:
    """Return the database that `MAIL_OUTBOX_TEST_DB` names."""
    match os.environ.get("MAIL_OUTBOX_TEST_DB", "sqlite"):
        case "sqlite":
            return sqlite()
        case "postgresql":
            return postgresql()
        case "mariadb":
            return mariadb()
        case other:
            raise ValueError(f"MAIL_OUTBOX_TEST_DB is '{other}'. Known: sqlite, postgresql, mariadb.")


def sqlite() -> dict[str, object]:
    """Return SQLite in a file, which child processes can open too."""
    name = str(Path(tempfile.gettempdir()) / f"{DATABASE_NAME}.sqlite3")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name,
        "TEST": {"NAME": name},
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            "timeout": 20,
        },
    }


def postgresql() -> dict[str, object]:
    """Return PostgreSQL on the loopback, or where `MAIL_OUTBOX_TEST_POSTGRESQL_*` says."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": DATABASE_NAME,
        "TEST": {"NAME": DATABASE_NAME},
        **server("POSTGRESQL", port="5432"),
    }


def mariadb() -> dict[str, object]:
    """Return MariaDB on the loopback, or where `MAIL_OUTBOX_TEST_MARIADB_*` says."""
    import pymysql

    pymysql.install_as_MySQLdb()
    return {
        "ENGINE": "django.db.backends.mysql",
        "NAME": DATABASE_NAME,
        "TEST": {"NAME": DATABASE_NAME, "CHARSET": "utf8mb4"},
        "OPTIONS": {"charset": "utf8mb4", "isolation_level": "read committed"},
        **server("MARIADB", port="3306"),
    }


def server(kind: str, *, port: str) -> dict[str, object]:
    """Return where a database server listens and who we are there."""
    prefix = f"MAIL_OUTBOX_TEST_{kind}"
    return {
        "HOST": os.environ.get(f"{prefix}_HOST", "127.0.0.1"),
        "PORT": os.environ.get(f"{prefix}_PORT", port),
        "USER": os.environ.get(f"{prefix}_USER", "root"),
        "PASSWORD": os.environ.get(f"{prefix}_PASSWORD", ""),
    }


# The test database and the database of the settings are one and the same, because a child process knows only the latter.
DATABASES = {"default": database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

SECRET_KEY = "for tests only"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.urls"
STATIC_URL = "/static/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_q",
    "anymail",
    "mail_outbox",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
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

_LOCMEM = "django.core.mail.backends.locmem.EmailBackend"
_MAILERS = {"default": {"BACKEND": _LOCMEM}, "bulk": {"BACKEND": _LOCMEM}}
if hasattr(mail, "mailers"):  # Django 6.1 and later
    MAILERS = _MAILERS
    MAIL_OUTBOX: dict[str, object] = {}
else:
    MAIL_OUTBOX = {"MAILERS": _MAILERS}

Q_CLUSTER = {
    "name": "mail_outbox_tests",
    "orm": "default",
    "workers": 2,
    "poll": 0.2,
    "timeout": 240,  # a slice and the longest send (SMTP: 180 s) fit in
    "retry": 300,
    "max_attempts": 1,
    "ack_failures": True,
    "catch_up": False,
    "save_limit": 50,
}
