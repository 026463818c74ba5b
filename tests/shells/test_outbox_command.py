"""`manage.py outbox` tells how things are, delivers, and stops when it is told to."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.core.management import CommandError, call_command, execute_from_command_line
from django.db import OperationalError, connection, transaction
from django.db.models.functions import Now

from mail_outbox import outbox, signals
from mail_outbox.core.states import State
from mail_outbox.management import loop as loop_module
from mail_outbox.management import progress
from mail_outbox.management.loop import Loop, stopping_on_signals
from mail_outbox.management.status import humanise
from mail_outbox.management.verb import Output
from mail_outbox.models import MailerState, OutboxEntry, UtcNow, Worker
from mail_outbox.outbox import DrainResult
from tests.shells.conftest import LOCMEM, SINK, Configure

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def mailers(configure: Configure) -> None:
    """Set up a mailer that works and one that refuses everything for good."""
    configure({"default": LOCMEM, "bulk": LOCMEM}, MAILER_OPTIONS={"default": {"concurrency": 1}})


def enqueue(count: int = 1, **options: Any) -> list[OutboxEntry]:
    """Write so many ordinary messages to the outbox."""
    return outbox.enqueue_many([EmailMessage("Hello", "Text", "a@x.example", ["b@y.example"])] * count, **options)


def run(*arguments: str) -> tuple[str, str]:
    """Run the command, and return what it wrote to stdout and to stderr."""
    out, err = StringIO(), StringIO()
    call_command("outbox", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def fail(*arguments: str) -> tuple[CommandError, str]:
    """Run the command where it must fail, and return the error and what it had written to stdout."""
    out = StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("outbox", *arguments, stdout=out, stderr=StringIO())
    return caught.value, out.getvalue()


@contextmanager
def when_settled(*actions: Callable[[], object]) -> Iterator[None]:
    """Do something in the middle of a drain: when the first entry is settled, when the second is …"""
    left = iter(actions)

    def receiver(**_: object) -> None:
        action = next(left, None)
        if action is not None:
            action()

    signals.entry_settled.connect(receiver)
    try:
        yield
    finally:
        signals.entry_settled.disconnect(receiver)


def interrupt(number: signal.Signals) -> Callable[[], None]:
    """Return what sends this process a signal; its handler has run when the main thread goes on."""
    # A second signal to the process, before the first has been handled, would be the same one.
    return lambda: signal.pthread_kill(threading.main_thread().ident or 0, number)


@pytest.mark.django_db
@pytest.mark.usefixtures("mailers")
class TestStatus:
    def test_an_empty_outbox_is_told_as_such(self):
        text, _ = run("status")

        assert "Oldest due: nothing is due" in text
        assert "Workers: none alive" in text
        assert "Mailer default  0 queued, 0 sending, 0 failed" in text

    def test_it_counts_entries_and_live_workers(self):
        enqueue(3)
        enqueue(2, send_at=timedelta(hours=1), using="bulk")
        Worker.objects.create(name="w", host="h", pid=1, started_at=Now(), last_seen_at=Now())

        text, _ = run("status")

        assert "Entries: 2 scheduled, 3 queued, 0 sending" in text
        assert "Workers: 1 alive" in text
        assert "Mailer default  3 queued, 0 sending, 0 failed" in text

    def test_it_says_why_a_mailer_rests(self):
        outbox.pause("bulk", reason="maintenance")
        MailerState.objects.create(
            alias="default", strikes=1, broken_until=Now() + timedelta(minutes=5), broken_reason="535 who are you"
        )

        text, _ = run("status")

        assert "; paused: maintenance" in text
        assert ": 535 who are you" in text

    def test_it_says_how_fast_a_mailer_may_go(self, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "MAILER_OPTIONS": {"default": {"rate": "14/s"}}}
        MailerState.objects.create(alias="default", allowance=0.25, slowed_at=Now())

        text, _ = run("status")

        assert "0 failed; at most 14/s; slowed down to 25%" in text

    def test_it_says_which_mailer_is_not_configured_any_more(self):
        enqueue()
        OutboxEntry.objects.update(using="gone")

        text, _ = run("status")

        assert "Mailer gone     1 queued, 0 sending, 0 failed; not configured" in text

    def test_json_is_one_object_with_stable_keys(self):
        enqueue()

        status = json.loads(run("status", "--json")[0])

        assert set(status) == {
            "database", "states", "oldest_due_seconds", "workers", "mailers", "blocked", "is_flowing", "problems", "crossed", "others",
        }  # fmt: skip
        assert (status["database"], status["states"]["queued"], status["others"]) == ("default", 1, [])
        assert [mailer["alias"] for mailer in status["mailers"]] == ["bulk", "default"]

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [(0, "0 s"), (59, "59 s"), (192, "3 min 12 s"), (3600, "1 h"), (7505, "2 h 5 min"), (273_600, "3 d 4 h")],
    )
    def test_ages_are_told_in_two_units(self, seconds: int, words: str):
        assert humanise(timedelta(seconds=seconds)) == words


@pytest.mark.django_db
@pytest.mark.usefixtures("mailers")
class TestDrain:
    def test_it_delivers_what_is_due_and_stops(self, mailoutbox: list[EmailMessage]):
        enqueue(3)
        enqueue(send_at=timedelta(hours=1))

        text, _ = run("drain")

        assert text == "3 attempts: 3 sent.\n"
        assert len(mailoutbox) == 3
        assert not Worker.objects.exists()

    def test_nothing_to_do_is_fine(self):
        assert run("drain")[0] == "0 attempts: nothing.\n"

    def test_json_is_one_object_with_stable_keys(self):
        enqueue(2)

        counts = json.loads(run("drain", "--json")[0])

        assert set(counts) == set(DrainResult().as_dict()) | {"failed", "seconds", "is_interrupted"}
        assert (counts["sent"], counts["failed"], counts["is_interrupted"], counts["is_work_left"]) == (
            2,
            0,
            False,
            False,
        )

    def test_a_limit_leaves_the_rest(self):
        enqueue(5)

        text, _ = run("drain", "--limit", "2")

        assert text == "2 attempts: 2 sent. More is due.\n"
        assert OutboxEntry.objects.filter(state="queued").count() == 3

    def test_using_drains_one_mailer(self):
        enqueue(2)
        enqueue(3, using="bulk")

        assert run("drain", "--using", "bulk")[0] == "3 attempts: 3 sent.\n"

    def test_an_unknown_mailer_is_an_error_that_suggests(self):
        with pytest.raises(CommandError, match="Did you mean 'bulk'") as caught:
            run("drain", "--using", "bluk")

        assert caught.value.returncode == 1

    def test_inside_a_transaction_it_refuses(self):
        with pytest.raises(CommandError, match="atomic"), transaction.atomic():
            run("drain")

    def test_keywords_work_as_call_command_has_them(self):
        enqueue(3)
        out = StringIO()

        call_command("outbox", "drain", limit=1, json=True, stdout=out)

        assert json.loads(out.getvalue())["sent"] == 1

    @pytest.mark.usefixtures("no_test_outbox")
    def test_messages_that_failed_for_good_count_only_on_request(self, configure: Configure):
        # In turn: transient, ambiguous, refused for good.
        configure({"default": {**SINK, "OPTIONS": {"chaos": 1, "seed": 11}}})
        enqueue(3)
        assert "1 failed" in run("drain")[0]
        enqueue(3)

        with pytest.raises(CommandError, match="1 messages failed for good") as caught:
            run("drain", "--fail-on-failed")

        assert caught.value.returncode == 4

    def test_max_seconds_ends_what_would_go_on_for_ever(self):
        enqueue(2)

        text, _ = run("drain", "--forever", "--max-seconds", "2")

        assert text == "2 attempts: 2 sent.\n"

    def test_a_limit_ends_what_would_go_on_for_ever(self):
        enqueue(3)

        assert run("drain", "--forever", "--limit", "2")[0] == "2 attempts: 2 sent. More is due.\n"

    def test_progress_is_told_now_and_then(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(progress, "EVERY", 0.0)
        enqueue(2)

        assert run("drain")[1].splitlines() == ["1 sent so far", "2 sent so far"]
        assert run("drain", "--json")[1] == ""


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("mailers")
class TestPrune:
    @pytest.fixture(autouse=True)
    def old_entries(self) -> None:
        """Leave five entries that were sent a month ago and more."""
        enqueue(5)
        OutboxEntry.objects.update(state=State.SENT, finished_at=UtcNow() - timedelta(days=31))

    def test_it_removes_what_is_old(self):
        text, _ = run("prune", "--batch-size", "2")

        assert text == "Removed 5 entries with 0 attempts, the content of 0 more, 0 attachments, and 0 files.\n"
        assert not OutboxEntry.objects.exists()

    def test_a_dry_run_only_counts(self):
        text, _ = run("prune", "--dry-run")

        assert text.startswith("Would remove 5 entries")
        assert OutboxEntry.objects.count() == 5

    def test_at_a_terminal_it_asks(self, monkeypatch):
        answers = ["n", "y"]
        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        monkeypatch.setattr("builtins.input", lambda: answers.pop(0))

        with pytest.raises(CommandError, match="Nothing was done"):
            run("prune")
        assert OutboxEntry.objects.count() == 5
        text, told = run("prune")

        assert told.startswith("5 entries with 0 attempts")
        assert text.startswith("Removed 5 entries")

    def test_it_tells_now_and_then_how_far_it_is(self, monkeypatch):
        monkeypatch.setattr(progress, "EVERY", 0.0)

        told = run("prune", "--batch-size", "2")[1].splitlines()

        assert [line.partition(" entries")[0] for line in told[:3]] == ["2", "4", "5"]
        assert told[0].endswith(" files so far")

    @pytest.mark.parametrize("options", [[], ["--dry-run"]])
    def test_json_is_one_object_with_stable_keys(self, options: list[str]):
        assert json.loads(run("prune", "--json", *options)[0]) == {
            "entries": 5,
            "attempts": 0,
            "events": 0,
            "contents": 0,
            "attachments": 0,
            "files": 0,
            "is_dry_run": bool(options),
        }

    def test_a_drain_for_ever_removes_it_too(self):
        enqueue()

        run("drain", "--forever", "--limit", "1")
        assert OutboxEntry.objects.count() == 1

    def test_inside_a_transaction_it_refuses(self):
        with transaction.atomic(), pytest.raises(CommandError, match="outside atomic"):
            run("prune")

    def test_it_can_be_interrupted(self, monkeypatch: pytest.MonkeyPatch):
        def interrupt(_: str) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(progress, "EVERY", 0.0)
        monkeypatch.setattr(Output, "teller", lambda *_: interrupt)

        assert fail("prune", "--batch-size", "2")[0].returncode == 130
        assert OutboxEntry.objects.count() == 3


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Have SIGINT interrupt Python, as it does where nobody has started it with `&` or `nohup`."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.django_db
@pytest.mark.usefixtures("mailers")
class TestSignals:
    def test_a_signal_stops_the_claiming_and_settles_what_is_under_way(self):
        enqueue(5)

        with (
            pytest.raises(CommandError, match="Interrupted; everything") as caught,
            when_settled(interrupt(signal.SIGINT)),
        ):
            run("drain")

        assert caught.value.returncode == 130
        assert set(OutboxEntry.objects.values_list("state", flat=True)) == {"queued", "sent"}

    def test_forever_finds_what_comes_later_and_ends_well_on_sigterm(self):
        enqueue()

        with when_settled(enqueue, interrupt(signal.SIGTERM)):
            text, words = run("drain", "--forever")

        assert text == "2 attempts: 2 sent.\n"
        assert "SIGTERM: finishing what is being sent" in words

    def test_forever_ends_at_once_while_it_rests(self, monkeypatch):
        monkeypatch.setattr("mail_outbox.management.loop.LOOK_AGAIN", 60.0)
        timer = threading.Timer(0.2, interrupt(signal.SIGTERM))
        rest = Loop._rest

        def rest_and_be_stopped(loop: Loop) -> None:
            timer.start()
            rest(loop)

        monkeypatch.setattr(Loop, "_rest", rest_and_be_stopped)
        started = time.monotonic()

        run("drain", "--forever")

        assert time.monotonic() - started < 30

    @pytest.mark.usefixtures("_interruptible")
    def test_the_second_signal_does_not_wait(self):
        enqueue(2)
        kill = interrupt(signal.SIGINT)

        with pytest.raises(CommandError, match="lease") as caught, when_settled(lambda: (kill(), kill())):
            run("drain")

        assert caught.value.returncode == 130

    def test_the_handlers_are_put_back(self):
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

        run("drain")

        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

    def test_outside_the_main_thread_signals_are_left_alone(self):
        before = signal.getsignal(signal.SIGTERM)
        seen: list[object] = []

        def watch() -> None:
            with stopping_on_signals(Loop(), print):
                seen.append(signal.getsignal(signal.SIGTERM))

        thread = threading.Thread(target=watch)
        thread.start()
        thread.join()

        assert seen == [before]


@pytest.mark.django_db
@pytest.mark.usefixtures("mailers")
def test_forever_outlives_a_database_that_was_gone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, mailoutbox: list[EmailMessage]
):
    monkeypatch.setattr(loop_module, "LOOK_AGAIN", 0.01)
    enqueue()
    loop = Loop(forever=True)
    errors = iter([OperationalError("server gone")])

    def fail_once(execute: Callable[..., Any], sql: str, params: Any, *more: Any) -> Any:
        if (error := next(errors, None)) is not None:
            raise error
        return execute(sql, params, *more)

    with connection.execute_wrapper(fail_once), when_settled(loop.stop):
        loop.run()

    assert "database trouble" in caplog.text
    assert len(mailoutbox) == 1


class TestUsage:
    @pytest.mark.parametrize(
        "arguments",
        [[], ["drian"], ["drain", "--limit", "0"], ["drain", "--limit", "x"], ["drain", "--max-seconds", "-1"]],
    )
    def test_a_mistake_exits_with_2_and_says_what_there_is(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ):
        with pytest.raises(SystemExit) as caught:
            execute_from_command_line(["manage.py", "outbox", *arguments])

        assert caught.value.code == 2
        assert "usage: manage.py outbox" in capsys.readouterr().err

    def test_an_unknown_verb_is_answered_with_the_known_ones(self, capsys: pytest.CaptureFixture[str]):
        with pytest.raises(SystemExit):
            execute_from_command_line(["manage.py", "outbox", "drian"])

        assert "drain" in capsys.readouterr().err

    def test_call_command_raises_instead(self):
        with pytest.raises(CommandError):
            run("drian")


@pytest.mark.django_db(transaction=True)
class TestProcess:
    """The exit codes of a real process."""

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
    def test_forever_ends_on_a_signal(self, number: signal.Signals, code: int):
        process = start("drain", "--forever")
        assert process.stderr is not None
        assert process.stderr.readline() == "Draining until SIGTERM or Ctrl-C.\n"

        process.send_signal(number)
        _, words = process.communicate(timeout=120)

        assert process.returncode == code, words
        assert words.startswith(f"{number.name}: finishing what is being sent.")

    def test_status_is_fine(self):
        process = start("status", "--json")
        text, words = process.communicate(timeout=120)

        assert (process.returncode, words) == (0, "")
        assert json.loads(text)["workers"] == 0

    def test_an_error_exits_with_1(self):
        process = start("drain", "--using", "nobody")
        _, words = process.communicate(timeout=120)

        assert process.returncode == 1
        assert words.startswith("CommandError: No mailer 'nobody'")


@pytest.mark.django_db
@pytest.mark.usefixtures("mailers")
@pytest.mark.parametrize(
    "line",
    ["status --settings tests.settings --skip-checks", "--no-color status -v 0 --traceback", "status --no-color"],
)
def test_djangos_own_options_may_stand_on_either_side_of_the_verb(line: str):
    execute_from_command_line(["manage.py", "outbox", *line.split()])


@pytest.mark.parametrize("line", ["status", "pause", "test a@x.example"])
def test_before_the_first_migration_a_verb_says_that_the_tables_are_missing_and_who_makes_them(
    line: str, tmp_path: Path
):
    process = start(*line.split(), MAIL_OUTBOX_TEST_DB="sqlite", TMPDIR=str(tmp_path))
    _, words = process.communicate(timeout=120)

    assert process.returncode == 1
    assert words == (
        "CommandError: Database 'default' lacks tables of the outbox. "
        "Create them with: manage.py migrate --database default\n"
    )


@pytest.mark.django_db
def test_another_error_of_the_database_is_not_taken_for_missing_tables(monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any, **__: Any) -> None:
        raise OperationalError("disk I/O error")

    monkeypatch.setattr(outbox, "stats", broken)

    with pytest.raises(OperationalError, match="disk"):
        call_command("outbox", "status")


def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own, on the test's database where no variable says otherwise."""
    # Django's own checks have words for some databases, which are no business of these tests.
    command = [sys.executable, "-W", "error", "-m", "django", "outbox", "--skip-checks", *arguments]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", **variables}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
