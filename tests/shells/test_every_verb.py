"""Every verb of `manage.py outbox`: what it prints for programs, and the exit codes it ends with."""

import json
import sys
from argparse import _SubParsersAction
from io import StringIO

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connections
from pytest_django import Settings

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.management.commands.outbox import Command
from mail_outbox.management.verbs import all_verbs
from mail_outbox.models import OutboxEntry, UtcNow
from tests.fakes import REFUSED
from tests.support import a_message

pytestmark = pytest.mark.django_db(transaction=True)

ACTED = "verb selected states done skipped is_dry_run is_interrupted sample seconds"
JSON = {
    "adopt --yes": "databases waiting is_dry_run",
    "cancel 1 --yes": ACTED,
    "check --wait 1s": "is_fine findings",
    "drain": "sent partial transient throttled permanent mailer ambiguous cancelled given_back held promoted expired rescued "
    "is_work_left failed seconds is_interrupted",
    "erase jane@example.com --yes": "entries cancelled contents attachments recipients events texts suppressions waiting "
    "sending unsearched files is_dry_run",
    "hold 1 --yes": ACTED,
    "list": "entries is_more",
    "pause --using default": "using is_paused reason seconds",
    "promote": "promoted expired",
    "prune --yes": "entries attempts events contents attachments files is_dry_run",
    "quarantine --since 1h --yes": "held due_before is_dry_run",
    "release 1 --yes": ACTED,
    "rescue": "rescued states",
    "resend 1 --yes": ACTED,
    "resume": "using is_paused",
    "retry 1 --yes": ACTED,
    "rotate-keys --yes": "contents attachments undecryptable is_dry_run",
    "show 1": "id state state_reason using attempts due_at created_at finished_at subject template outcome uuid message_id "
    "route priority expires_at related tags sensitive resent_from recipients history",
    "status": "database states workers mailers blocked oldest_due_seconds is_flowing problems crossed others",
    "test jane@example.com": "entry mailer state outcome code text provider_message_id seconds",
}
"""The keys of the object that `--json` prints, by the verb with all it needs."""

ENDS = [
    ("status", 0),
    ("status --fail-if-failed 1", 3),
    ("check --wait 1s", 3),
    ("drain", 0),
    ("drain --fail-on-failed", 4),
    ("test jane@example.com", 4),
    ("retry", 2),
    ("cancel --state queued", 2),
    ("erase jane@example.com", 2),
    ("adopt --frobnicate", 2),
    ("frobnicate", 2),
    ("show 999999", 1),
    ("erase jane", 1),
    ("rotate-keys", 1),
]
"""How a command ends with one entry queued and one failed, nobody at the terminal, no keys, and no worker."""


@pytest.fixture
def entry(provider, monkeypatch: pytest.MonkeyPatch) -> OutboxEntry:
    """Enqueue one mail, and let nobody be there to be asked."""
    monkeypatch.setattr("sys.stdin", StringIO())
    return outbox.enqueue(a_message(to=["jane@example.com"]))


def test_the_table_has_every_verb():
    assert {line.split()[0] for line in JSON} == {verb.name for verb in all_verbs()}


@pytest.mark.parametrize("line", JSON)
def test_json_is_one_object_with_stable_keys_and_nothing_else(line: str, entry: OutboxEntry, settings: Settings):
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
    words = [str(entry.pk) if word == "1" else word for word in line.split()]
    out, err = StringIO(), StringIO()

    try:
        call_command("outbox", *words, "--json", stdout=out, stderr=err)
    except CommandError as error:
        assert (words[0], error.returncode) == ("check", 3)  # noqa: PT017 - no worker is there

    told = json.loads(out.getvalue())
    assert set(told) == set(JSON[line].split())
    assert out.getvalue().count("\n") == 1
    assert err.getvalue() == ""


@pytest.mark.parametrize(("line", "code"), ENDS)
def test_the_exit_code_says_how_it_went(line: str, code: int, entry: OutboxEntry, provider, monkeypatch):
    failed = outbox.enqueue(a_message())
    OutboxEntry.objects.filter(pk=failed.pk).update(state=State.FAILED, finished_at=UtcNow())
    if code == 4:
        provider.will(REFUSED)

    assert ended(line, monkeypatch) == code


@pytest.mark.usefixtures("unmigrated")
@pytest.mark.parametrize("line", [*JSON, "drain --forever"])
def test_where_the_tables_are_missing_a_verb_says_so_and_waits_for_nothing(
    line: str, settings: Settings, caplog: pytest.LogCaptureFixture
):
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}

    with pytest.raises(
        CommandError, match=r"lacks tables of the outbox.*manage.py migrate --database default"
    ) as caught:
        call_command("outbox", *line.split(), stdout=StringIO(), stderr=StringIO())

    assert caught.value.returncode == 1
    assert "database trouble" not in caplog.messages


def with_database() -> list[str]:
    """List the lines of the verbs that can be told which database to look at."""
    parser = Command().create_parser("manage.py", "outbox")
    [verbs] = [action.choices for action in parser._actions if isinstance(action, _SubParsersAction)]
    return [line for line in JSON if "--database" in verbs[line.split()[0]].format_help()]


@pytest.mark.parametrize("line", with_database())
def test_a_database_that_is_not_there_is_answered_with_the_closest_and_with_those_that_are(
    line: str, settings: Settings
):
    settings.MAIL_OUTBOX = {
        **settings.MAIL_OUTBOX,
        "DATABASE": ["default", "other"],
        "ENCRYPTION_KEYS": [Fernet.generate_key().decode()],
    }

    with pytest.raises(CommandError) as caught:
        call_command("outbox", *line.split(), "--database", "othr")

    assert str(caught.value) == (
        "No database 'othr' in MAIL_OUTBOX['DATABASE']. Did you mean 'other'? Known: default, other."
    )
    assert caught.value.returncode == 1


def test_a_database_without_an_outbox_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(connections.settings, "reports", {**connections.settings["default"]})

    with pytest.raises(CommandError, match=r"No worker drains database 'reports'.* Known: default\."):
        call_command("outbox", "list", "--database", "reports")


def ended(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the line as `manage.py` does, and return the exit code."""
    monkeypatch.setattr(sys, "argv", ["manage.py", "outbox", *line.split()])
    try:
        Command().run_from_argv(sys.argv)
    except SystemExit as end:
        return int(end.code or 0)
    return 0
