"""`manage.py outbox` adopts, quarantines, erases and rotates keys, and asks before it does."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from pytest_django import Settings

from mail_outbox import outbox
from mail_outbox.management import progress
from mail_outbox.management.arguments import moment
from mail_outbox.models import EntryContent, Instance, OutboxEntry
from tests.support import a_message, age

JANE = "jane@example.com"


def run(*arguments: str) -> tuple[str, str]:
    """Run the command, and return what it wrote to stdout and to stderr."""
    out, err = StringIO(), StringIO()
    call_command("outbox", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let somebody sit there who gives these answers."""
    answers: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda: answers.pop(0))
    return answers


@pytest.mark.django_db
class TestAdopt:
    @pytest.fixture
    def copied(self, provider, settings: Settings) -> None:
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "INSTANCE": "production"}
        outbox.drain()
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "INSTANCE": "staging"}
        outbox.enqueue(a_message())

    def test_it_tells_whose_it_is_and_what_waits_and_asks(self, copied, somebody):
        somebody.append("y")

        out, err = run("adopt")

        assert "belongs to 'production'; 'staging' would adopt it" in err
        assert "1 entries wait there" in err
        assert out == "Adopted: default.\n"
        assert Instance.objects.get().name == "staging"

    @pytest.mark.parametrize("answer", ["n", ""])
    def test_no_means_no(self, copied, somebody, answer):
        somebody.append(answer)

        with pytest.raises(CommandError, match="Nothing was done"):
            run("adopt")

        assert Instance.objects.get().name == "production"

    def test_nobody_there_means_no(self, copied):
        with pytest.raises(CommandError, match="--yes"):
            run("adopt")

        assert Instance.objects.get().name == "production"

    def test_a_dry_run_asks_nobody_and_adopts_nothing(self, copied):
        out, err = run("adopt", "--dry-run")

        assert "1 entries wait there" in err
        assert out == "Would adopt: default.\n"
        assert Instance.objects.get().name == "production"

    def test_json_is_one_object(self, copied):
        expected = {"databases": ["default"], "waiting": {"default": 1}}

        assert json.loads(run("adopt", "--json", "--dry-run")[0]) == {**expected, "is_dry_run": True}
        assert json.loads(run("adopt", "--json", "--yes")[0]) == {**expected, "is_dry_run": False}
        assert Instance.objects.get().name == "staging"

    def test_where_all_is_well_there_is_nothing_to_adopt(self):
        assert run("adopt", "--yes")[0].startswith("Nothing to adopt")
        assert json.loads(run("adopt", "--json")[0]) == {"databases": [], "waiting": {}, "is_dry_run": False}


@pytest.mark.django_db
class TestQuarantine:
    def test_it_counts_asks_and_holds(self, somebody):
        outbox.enqueue(a_message())
        age(outbox.enqueue(a_message()), due_at=-timedelta(hours=2))
        somebody.append("yes")

        out, err = run("quarantine", "--since", "1h")

        assert "1 more wait that had come due before" in err
        assert out == "Held 1 entries.\n"
        assert OutboxEntry.objects.filter(state="held").count() == 1

    def test_a_dry_run_asks_nobody_and_holds_nothing(self):
        outbox.enqueue(a_message())

        out, _ = run("quarantine", "--since", "1h", "--dry-run", "--json")

        assert json.loads(out) == {"held": 1, "due_before": 0, "is_dry_run": True}
        assert OutboxEntry.objects.get().state == "queued"

    def test_a_moment_may_be_written_in_two_ways(self, settings: Settings):
        settings.TIME_ZONE = "Europe/Berlin"

        assert moment("2026-11-21T09:58+00:00") == datetime(2026, 11, 21, 9, 58, tzinfo=UTC)
        assert moment("2026-11-21 10:58") == datetime(2026, 11, 21, 9, 58, tzinfo=UTC)
        assert moment("30m") == timedelta(minutes=30)


@pytest.mark.django_db(transaction=True)
class TestErase:
    def test_it_counts_asks_and_erases(self, somebody):
        outbox.enqueue(a_message(to=[JANE]))
        somebody.append("y")

        out, err = run("erase", JANE)

        assert "1 entries (1 of them not sent yet), 1 contents" in err
        assert out.startswith("Erased: 1 entries (1 of them not sent yet)")
        assert not EntryContent.objects.exists()

    def test_nobody_there_means_no(self):
        outbox.enqueue(a_message(to=[JANE]))

        with pytest.raises(CommandError, match="--yes"):
            run("erase", JANE)

        assert EntryContent.objects.exists()

    def test_a_dry_run_erases_nothing(self):
        outbox.enqueue(a_message(to=[JANE]))

        assert run("erase", JANE, "--dry-run")[0].startswith("Would erase: 1 entries")
        assert OutboxEntry.objects.get().state == "queued"

    def test_what_is_left_is_told(self):
        outbox.enqueue(a_message(to=[JANE, "bob@example.com"]))

        out, _ = run("erase", JANE, "--yes")

        assert "1 messages still have to go to others" in out

    def test_it_tells_now_and_then_how_far_it_is(self, monkeypatch):
        outbox.enqueue(a_message(to=[JANE]))
        monkeypatch.setattr(progress, "EVERY", 0.0)

        assert "1 entries (1 of them not sent yet), 1 contents" in run("erase", JANE, "--yes")[1]
        assert run("erase", JANE, "--yes", "--json")[1] == ""

    def test_json_is_one_object(self):
        outbox.enqueue(a_message(to=[JANE]))

        result = json.loads(run("erase", JANE, "--yes", "--json")[0])

        assert (result["entries"], result["cancelled"], result["is_dry_run"]) == (1, 1, False)

    def test_what_is_no_address_is_an_error(self):
        with pytest.raises(CommandError, match="not one address"):
            run("erase", "jane", "--yes")


@pytest.mark.django_db(transaction=True)
class TestRotateKeys:
    def test_it_seals_and_tells(self, settings: Settings):
        outbox.enqueue(a_message())
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}

        assert run("rotate-keys")[0] == "Sealed 1 contents and 0 attachments with the first key.\n"
        assert json.loads(run("rotate-keys", "--json")[0]) == {
            "contents": 0,
            "attachments": 0,
            "undecryptable": 0,
            "is_dry_run": False,
        }

    def test_a_dry_run_only_counts(self, settings: Settings, somebody):
        outbox.enqueue(a_message(attachments=[("a.bin", b"1", "x/y")]))
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}

        assert run("rotate-keys", "--dry-run")[0] == "Would seal 1 contents and 1 attachments with the first key.\n"
        assert EntryContent.objects.get().key_id == ""

    def test_at_a_terminal_it_asks(self, settings: Settings, somebody):
        outbox.enqueue(a_message())
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
        somebody += ["n", "y"]

        with pytest.raises(CommandError, match="Nothing was done"):
            run("rotate-keys")
        assert EntryContent.objects.get().key_id == ""
        out, err = run("rotate-keys")

        assert err.startswith("1 contents and 0 attachments.\nSeal them with the first key?")
        assert out.startswith("Sealed 1 contents")

    def test_it_tells_now_and_then_how_far_it_is(self, settings: Settings, monkeypatch):
        for _ in range(2):
            outbox.enqueue(a_message())
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
        monkeypatch.setattr(progress, "EVERY", 0.0)

        _, err = run("rotate-keys", "--batch-size", "1")

        assert err.splitlines()[:2] == [f"{count} contents and 0 attachments so far" for count in (1, 2)]

    def test_what_is_lost_is_told(self, settings: Settings):
        keys = [Fernet.generate_key().decode() for _ in range(2)]
        for key in keys:
            settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": [key]}
            outbox.enqueue(a_message())

        assert "1 could not be opened" in run("rotate-keys")[0]

    def test_without_keys_it_is_an_error(self):
        with pytest.raises(CommandError, match="ENCRYPTION_KEYS"):
            run("rotate-keys")
