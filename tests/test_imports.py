"""A worker loads what its mailers need: Anymail and requests, which take 5 MB, only where one of them is Anymail's."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.faults.http_server import Answer, HTTPFaultServer
from tests.faults.smtp_server import SMTPFaultServer

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"anymail", "requests", "urllib3"}

# What a project does, from the settings to the mail that is sent; the last line it prints is what it has come to.
SEND = """
import json, sys
import django
from django.conf import settings
from django.core.mail import EmailMessage
from django.core.management import CommandError, call_command

database, mailer, missing = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(missing))
mailers = {"default": mailer}
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django_q", "mail_outbox"],
    Q_CLUSTER={"orm": "default", "timeout": 90, "retry": 300, "max_attempts": 1, "ack_failures": True, "catch_up": False},
    **({"MAILERS": mailers} if django.VERSION >= (6, 1) else {"MAIL_OUTBOX": {"MAILERS": mailers}}),
)
django.setup()
try:
    call_command("check")
except CommandError as error:
    print(error)
call_command("migrate", verbosity=0)

from mail_outbox import outbox

entry = outbox.enqueue(EmailMessage("Hello", "Text", "shop@example.com", ["ann@example.com"]))
outbox.drain()
entry.refresh_from_db()
print(json.dumps([str(entry.state), sorted(name for name, module in sys.modules.items() if module)]))
"""


def send(tmp_path: Path, mailer: Mapping[str, Any], *, missing: list[str] | None = None) -> tuple[str, set[str], str]:
    """Send a mail in a process of its own; return its state, what was loaded for it, and what was said."""
    given = json.dumps([str(tmp_path / "db.sqlite3"), mailer, missing or []])
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    environment |= {
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    result = subprocess.run(
        [sys.executable, "-c", SEND, given], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    *said, last = result.stdout.splitlines()
    state, loaded = json.loads(last)
    return state, set(loaded), "\n".join(said)


def smtp(server: SMTPFaultServer) -> dict[str, Any]:
    options = {"host": server.host, "port": server.port, "timeout": 30}
    return {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": options}


def test_neither_anymail_nor_requests_is_loaded_to_send_over_smtp(tmp_path: Path):
    with SMTPFaultServer() as server:
        state, loaded, _ = send(tmp_path, smtp(server))

    assert (state, len(server.journal)) == ("sent", 1)
    assert {name for name in loaded if name.partition(".")[0] in HEAVY} == set()


def test_both_are_loaded_when_a_mailer_of_anymails_sends(tmp_path: Path):
    with HTTPFaultServer(default=Answer(200, {"id": "r-1"})) as server:
        options = {"api_key": "k", "api_url": server.url, "timeout": 30}
        state, loaded, _ = send(tmp_path, {"BACKEND": "anymail.backends.resend.EmailBackend", "OPTIONS": options})

    assert (state, len(server.journal)) == ("sent", 1)
    assert loaded >= HEAVY


def test_a_mailer_whose_requests_is_missing_is_found_by_the_checks_and_keeps_its_mail(tmp_path: Path):
    options = {"api_key": "k"}
    mailer = {"BACKEND": "anymail.backends.resend.EmailBackend", "OPTIONS": options}

    state, _, said = send(tmp_path, mailer, missing=["requests"])

    assert "(mail_outbox.E003) The backend of mailer 'default' cannot be imported" in said
    assert state == "queued"
