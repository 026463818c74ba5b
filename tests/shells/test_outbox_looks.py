"""`manage.py outbox list`, `show`, `test`, `check`, `pause`, `resume`, `promote`, `rescue`, and the thresholds of `status`."""

import json
import smtplib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError
from django.db.models.functions import Now
from django_q.models import Schedule

from mail_outbox import outbox, tasks
from mail_outbox.core.states import State
from mail_outbox.drain import wakes
from mail_outbox.management.verbs import status as status_verb
from mail_outbox.models import OutboxEntry, UtcNow, Wake, Worker
from mail_outbox.outbox import driving
from mail_outbox.outbox.driving import Driver, Sweep
from tests.fakes import BAD_LOGIN, NOBODY_KNOWS, REFUSED, TRY_LATER, Provider
from tests.shells.conftest import LOCMEM, Configure
from tests.shells.test_outbox_command import enqueue, fail, run
from tests.support import a_message, age

pytestmark = pytest.mark.django_db


def a_worker() -> None:
    """Let a worker be alive."""
    Worker.objects.create(name="w", host="h", pid=1, started_at=Now(), last_seen_at=Now())


class TestList:
    def test_it_shows_the_newest_that_fit(self):
        first, second = enqueue(2, using="bulk")
        enqueue()

        out, err = run("list", "--using", "bulk")

        assert [line.split()[:3] for line in out.splitlines()] == [
            [str(second.pk), "queued", "bulk"],
            [str(first.pk), "queued", "bulk"],
        ]
        assert err == ""

    def test_it_says_where_there_is_more_and_where_there_is_nothing(self):
        enqueue(3)

        assert "There are more" in run("list", "--limit", "2")[1]
        assert run("list", "--state", "held") == ("", "No entry fits.\n")

    def test_json_is_one_object_with_stable_keys(self):
        enqueue(3)

        found = json.loads(run("list", "--json", "--limit", "2")[0])

        assert set(found) == {"entries", "is_more"}
        assert found["is_more"] is True
        assert [entry["subject"] for entry in found["entries"]] == ["Hello", "Hello"]

    def test_a_subject_cannot_play_tricks_on_the_terminal(self):
        enqueue()
        OutboxEntry.objects.update(subject="\x1b[2J" + "x" * 100)

        line = run("list")[0]

        assert "\x1b" not in line
        assert "x" * 40 + "…" in line.replace("x" * 5, "xxxxx")


class TestShow:
    def test_it_tells_what_the_entry_is_and_what_happened(self, provider: Provider):
        provider.will(TRY_LATER, REFUSED)
        entry = outbox.enqueue(a_message(to=["jane@example.com"], cc=["joe@example.com"]))
        outbox.drain()
        age(entry, due_at=timedelta(days=-1))
        outbox.drain()

        text = run("show", str(entry.pk))[0]

        assert text.startswith(f"Entry {entry.pk} is failed")
        assert "  to  jane@example.com  " in text
        assert "  cc  joe@example.com  " in text
        assert [line[:9] for line in text.splitlines() if line.startswith("Attempt")] == ["Attempt 1", "Attempt 2"]
        assert "transient  451  4.3.0 try later" in text
        assert "permanent  550  5.7.1 refused" in text

    def test_json_is_one_object_with_stable_keys(self, provider: Provider):
        entry = outbox.enqueue(a_message(), tags=["invoice"])
        outbox.drain()

        shown = json.loads(run("show", str(entry.pk), "--json")[0])

        assert set(shown) == {
            "id", "state", "state_reason", "using", "attempts", "due_at", "created_at", "finished_at", "subject",
            "template", "outcome", "uuid", "message_id", "route", "priority", "expires_at", "related", "tags",
            "sensitive", "resent_from", "recipients", "history",
        }  # fmt: skip
        assert shown["tags"] == ["invoice"]
        assert shown["recipients"] == [
            {"role": "to", "address": "jane@example.com", "status": "accepted", "code": "", "text": ""}
        ]
        [attempt] = shown["history"]
        assert set(attempt) == {
            "number", "started_at", "duration_ms", "using", "worker", "kind", "code", "text", "provider_message_id",
        }  # fmt: skip
        assert (attempt["number"], attempt["kind"]) == (1, "sent")

    def test_an_entry_that_was_never_tried_says_so(self):
        [entry] = enqueue()

        assert "Nothing was attempted." in run("show", str(entry.pk))[0]

    def test_what_a_provider_quotes_of_sensitive_mail_is_not_shown(self, provider: Provider):
        provider.will(smtplib.SMTPDataError(550, b"5.7.1 https://x.example/reset/4711 is spam"))
        entry = outbox.enqueue(a_message("Your code: 4711"), sensitive=True)
        outbox.drain()

        shown = "".join(run("show", str(entry.pk), *options)[0] for options in ([], ["--json"]))

        assert "is spam" in shown
        assert "4711" not in shown.replace(entry.message_id, "").replace(str(entry.uuid), "")

    def test_eml_is_the_mail_as_it_will_be_sent(self):
        entry = outbox.enqueue(a_message("Grüße", to=["jane@example.com"]))

        mail = run("show", str(entry.pk), "--eml")[0]

        assert f"Message-ID: {entry.message_id}" in mail
        assert "To: jane@example.com" in mail
        assert "Subject: =?utf-8?" in mail

    def test_eml_without_a_content_is_an_error(self):
        [entry] = enqueue()
        entry.content.delete()

        with pytest.raises(CommandError, match="content") as caught:
            run("show", str(entry.pk), "--eml")
        assert caught.value.returncode == 1

    def test_an_entry_that_is_not_there_is_an_error(self):
        with pytest.raises(CommandError, match="No entry 999999"):
            run("show", "999999")


class TestTest:
    def test_it_sends_one_mail_and_prints_the_answer(self, providers: dict[str, Provider]):
        text = run("test", "jane@example.com", "--using", "bulk", "--from", "ops@example.com")[0]

        [message] = providers["bulk"].accepted
        assert (message.to, message.from_email) == (["jane@example.com"], "ops@example.com")
        assert "through mailer 'bulk'" in text
        assert text.rstrip().endswith("sent")

    def test_json_is_one_object_with_stable_keys(self, provider: Provider):
        values = json.loads(run("test", "jane@example.com", "--json")[0])

        assert set(values) == {
            "entry", "mailer", "state", "outcome", "code", "text", "provider_message_id", "seconds",
        }  # fmt: skip
        assert (values["mailer"], values["state"], values["outcome"]) == ("default", "sent", "sent")

    @pytest.mark.parametrize(
        ("trouble", "told", "state"),
        [
            (REFUSED, "permanent 550 5.7.1 refused", State.FAILED),
            (TRY_LATER, "transient 451 4.3.0 try later", State.FAILED),
            (BAD_LOGIN, "mailer 535 5.7.8 bad login", State.CANCELLED),
            (NOBODY_KNOWS, "ambiguous", State.HELD),
        ],
    )
    def test_one_that_is_not_sent_exits_with_4_and_is_not_repeated(
        self, trouble: Exception, told: str, state: State, provider: Provider
    ):
        provider.will(trouble)

        error, out = fail("test", "jane@example.com")

        assert error.returncode == 4
        assert "was not sent" in str(error)
        assert told in out
        assert OutboxEntry.objects.get().state == state

    def test_a_paused_mailer_is_an_error(self, provider: Provider):
        outbox.pause("default")

        with pytest.raises(CommandError, match="paused") as caught:
            run("test", "jane@example.com")

        assert caught.value.returncode == 1
        assert not OutboxEntry.objects.exists()

    def test_an_address_that_is_none_is_an_error(self, provider: Provider):
        with pytest.raises(CommandError):
            run("test", "jane@example.com>, <joe")


class TestPauseAndResume:
    def test_one_mailer_rests_for_a_while(self):
        text = run("pause", "--using", "bulk", "--reason", "maintenance", "--for", "30m")[0]

        assert text.startswith("Mailer 'bulk' is paused for 1800 s.")
        [mailer] = [mailer for mailer in outbox.health().mailers if mailer.alias == "bulk"]
        assert (mailer.is_paused, mailer.pause_reason) == (True, "maintenance")
        assert mailer.paused_until is not None

        run("resume", "--using", "bulk")
        assert outbox.health().is_flowing

    def test_without_a_name_all_of_them_rest(self):
        assert run("pause")[0].startswith("All mailers are paused until it is resumed.")
        assert outbox.health().is_paused
        assert run("resume")[0].startswith("All mailers work again.")
        assert not outbox.health().is_paused

    def test_json_is_one_object_with_stable_keys(self):
        paused = json.loads(run("pause", "--using", "bulk", "--for", "90s", "--json")[0])

        assert paused == {"using": "bulk", "is_paused": True, "reason": "", "seconds": 90.0}
        assert json.loads(run("resume", "--json")[0]) == {"using": None, "is_paused": False}

    @pytest.mark.parametrize("verb", ["pause", "resume"])
    def test_an_unknown_mailer_is_an_error_that_suggests(self, verb: str):
        with pytest.raises(CommandError, match="Did you mean 'bulk'"):
            run(verb, "--using", "bluk")

    @pytest.mark.parametrize("length", ["0m", "soon", "5y", "-1h"])
    def test_a_length_of_time_has_a_unit(self, length: str):
        with pytest.raises(CommandError, match="no length of time"):
            run("pause", f"--for={length}")


class TestPromoteAndRescue:
    def test_what_is_due_is_promoted_and_what_is_over_expires(self):
        due, over, later = enqueue(3, send_at=timedelta(hours=1))
        for entry in (due, over):
            age(entry, due_at=-timedelta(hours=2))
        OutboxEntry.objects.filter(pk=over.pk).update(expires_at=UtcNow() - timedelta(minutes=1))

        assert run("promote")[0] == "1 promoted, 1 expired.\n"
        assert json.loads(run("promote", "--json")[0]) == {"promoted": 0, "expired": 0}
        states = dict(OutboxEntry.objects.values_list("pk", "state"))
        assert states == {due.pk: "queued", over.pk: "expired", later.pk: "scheduled"}

    def test_what_a_lost_worker_left_is_settled(self):
        lost = [*enqueue(1), *enqueue(1, on_ambiguous="hold")]
        enqueue()
        for entry in lost:
            OutboxEntry.objects.filter(pk=entry.pk).update(
                state=State.SENDING, attempts=1, claim_id=uuid4(), lease_expires_at=UtcNow() - timedelta(seconds=1)
            )

        assert json.loads(run("rescue", "--json")[0]) == {"rescued": 2, "states": {"scheduled": 1, "held": 1}}
        assert run("rescue")[0] == "0 rescued: nothing.\n"


class TestThresholds:
    """What a monitor asks; `status` answers with its exit code, in the words of `health`."""

    def fails(self, *options: str) -> str:
        """Run `status`, and return what it says is unhealthy."""
        error, _ = fail("status", *options)
        assert error.returncode == 3
        return str(error)

    def test_all_is_well(self):
        a_worker()
        enqueue()

        text = run(
            "status", "--fail-if-older", "10m", "--fail-if-failed", "1", "--fail-if-no-worker", "--fail-if-unhealthy"
        )[0]

        assert text.splitlines()[-1] == "Mail flows."

    def test_without_a_threshold_trouble_is_told_and_no_failure(self):
        outbox.pause("bulk", reason="maintenance")

        assert "TROUBLE: Mailer 'bulk' is paused: maintenance." in run("status")[0]

    def test_mail_that_is_due_for_long(self):
        a_worker()
        age(*enqueue(), due_at=timedelta(minutes=-11))

        words = "Mail has been due for 11 min"
        assert self.fails("--fail-if-older", "10m").startswith(words)
        assert self.fails("--fail-if-unhealthy").startswith(words)
        assert any(problem.text.startswith(words) for problem in outbox.health().problems)
        assert run("status", "--fail-if-older", "12m")

    def test_mail_that_is_due_for_long_at_a_mailer_at_rest(self):
        a_worker()
        age(*enqueue(), due_at=timedelta(hours=-3))
        outbox.pause("default")

        assert self.fails("--fail-if-older", "2h").startswith("Mail has been due for 3 h")

    def test_no_worker(self):
        assert self.fails("--fail-if-no-worker") == "No worker is there to send mail. Start one: manage.py qcluster."

        age(*enqueue(), due_at=timedelta(minutes=-11))
        [words] = [problem.text for problem in outbox.health().problems if problem.code == "no_worker"]
        assert self.fails("--fail-if-no-worker") == words
        assert words in self.fails("--fail-if-unhealthy")

    def test_a_paused_mailer(self):
        outbox.pause("bulk", reason="maintenance")

        [problem] = outbox.health().problems
        assert self.fails("--fail-if-unhealthy") == problem.text

    def test_so_many_failed(self):
        entries = enqueue(3)
        OutboxEntry.objects.filter(pk__in=[entry.pk for entry in entries[:2]]).update(state=State.FAILED)

        assert self.fails("--fail-if-failed", "2") == "2 mails have failed."
        assert run("status", "--fail-if-failed", "3")

    def test_json_tells_the_same(self):
        outbox.pause("bulk", reason="maintenance")

        told = json.loads(fail("status", "--json", "--fail-if-unhealthy")[1])

        problem = {"code": "mailer_paused", "text": "Mailer 'bulk' is paused: maintenance.", "mailer": "bulk"}
        assert (told["is_flowing"], told["problems"], told["crossed"]) == (False, [problem], [problem])

    def test_watch_shows_it_again_until_it_is_interrupted(self, monkeypatch: pytest.MonkeyPatch):
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                raise KeyboardInterrupt

        monkeypatch.setattr(status_verb.time, "sleep", sleep)

        text = run("status", "--watch")[0]

        assert text.count("Mail flows.") == 3
        assert waits == [2.0] * 3

    def test_watch_ends_when_a_threshold_is_crossed(self):
        assert self.fails("--watch", "0.01", "--fail-if-no-worker")


class TestCheck:
    @pytest.fixture
    def drive(self) -> Iterator[Callable[..., None]]:
        """Let the drains be called by somebody else than django-q2."""
        before = driving.driver()

        def drive(wake: Callable[[str], object], sweep: Sweep | None) -> None:
            driving.use(Driver(wake=lambda database: wake(database) and None, sweep=lambda: sweep))  # type: ignore[func-returns-value]

        yield drive
        driving._drivers[:] = [] if before is None else [before]

    @pytest.fixture
    def healthy(self, drive: Callable[..., None], configure: Configure) -> None:
        """Let everything stand that mail needs."""
        configure({"default": LOCMEM})
        a_worker()
        drive(self.answered, Sweep(every=timedelta(minutes=1), next_at=datetime.now(UTC)))

    def answered(self, database: str) -> None:
        """Ask for a drain, and look at once."""
        wakes.ask(database=database)
        wakes.answer(database=database)

    def trouble(self, *options: str) -> dict[str, str]:
        """Run `check`, and return what is not as it should be, by subject."""
        error, out = fail("check", "--json", *options)
        assert error.returncode == 3
        told = json.loads(out)
        assert told["is_fine"] is False
        return {found["subject"]: found["text"] for found in told["findings"] if not found["is_fine"]}

    @pytest.mark.usefixtures("healthy")
    def test_everything_is_fine(self):
        text, err = run("check")

        assert [line.partition(":")[0].split() for line in text.splitlines()] == [
            ["fine", "settings"],
            ["fine", "mailer", "default"],
            ["fine", "workers", "default"],
            ["fine", "sweep"],
            ["fine", "wake", "default"],
        ]
        assert err == ""

    @pytest.mark.usefixtures("healthy")
    def test_json_is_one_object_with_stable_keys(self):
        told = json.loads(run("check", "--json")[0])

        assert set(told) == {"is_fine", "findings"}
        assert told["is_fine"] is True
        assert all(set(found) == {"subject", "name", "is_fine", "text", "seconds"} for found in told["findings"])
        assert [found["seconds"] is not None for found in told["findings"]] == [False, True, False, False, True]

    @pytest.mark.usefixtures("healthy", "no_test_outbox")
    def test_a_mailer_that_does_not_open(self, configure: Configure):
        smtp = {"BACKEND": "django.core.mail.backends.smtp.EmailBackend"}
        configure({"default": {**smtp, "OPTIONS": {"host": "127.0.0.1", "port": 1, "timeout": 5}}})

        assert self.trouble()["mailer"].startswith("mailer connect")

    @pytest.mark.usefixtures("healthy", "no_test_outbox")
    def test_of_a_provider_over_http_it_says_that_only_the_configuration_was_tried(self, configure: Configure):
        postmark = {"BACKEND": "anymail.backends.postmark.EmailBackend", "OPTIONS": {"server_token": "wrong"}}
        configure({"default": postmark})

        [line] = [line for line in run("check")[0].splitlines() if "mailer default" in line]

        assert line.startswith("fine")
        assert "nothing more is proved: the provider judges the key with the first message" in line

    @pytest.mark.usefixtures("healthy")
    def test_a_mailer_that_is_paused(self):
        outbox.pause("default", reason="maintenance")

        assert self.trouble() == {"flow": "Mailer 'default' is paused: maintenance."}

    @pytest.mark.usefixtures("healthy")
    def test_no_worker(self):
        Worker.objects.all().delete()

        assert self.trouble()["workers"].startswith("none alive")

    @pytest.mark.usefixtures("healthy")
    def test_a_wake_that_nobody_answers_is_waited_for_no_longer_than_told(self, drive: Callable[..., None]):
        drive(
            lambda database: wakes.ask(database=database), Sweep(every=timedelta(minutes=1), next_at=datetime.now(UTC))
        )

        assert self.trouble("--wait", "1s") == {"wake": "no worker has answered within 1 s"}

    @pytest.mark.usefixtures("healthy")
    def test_a_wake_that_cannot_be_asked_for(self):
        Wake.objects.all().delete()

        assert "manage.py migrate" in self.trouble()["wake"]

    @pytest.mark.usefixtures("healthy")
    def test_a_sweep_that_is_not_scheduled(self, drive: Callable[..., None]):
        drive(self.answered, None)

        assert "manage.py migrate" in self.trouble()["sweep"]

    @pytest.mark.usefixtures("healthy")
    def test_a_sweep_that_should_have_run(self, drive: Callable[..., None]):
        drive(self.answered, Sweep(every=timedelta(minutes=1), next_at=datetime.now(UTC) - timedelta(minutes=3)))

        assert "no cluster runs the schedules" in self.trouble()["sweep"]

    @pytest.mark.usefixtures("healthy")
    def test_settings_that_are_wrong(self, settings: Any):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "USING": "bluk"}

        assert self.trouble()["settings"].startswith("mail_outbox.E002")

    @pytest.mark.usefixtures("healthy")
    def test_without_django_q2_the_sweep_and_the_wake_are_no_matter(self):
        driving._drivers.clear()

        assert "manage.py outbox drain --forever" in run("check")[0]

    @pytest.mark.usefixtures("healthy")
    def test_without_wakes_nobody_is_waited_for(self, settings: Any, drive: Callable[..., None]):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "WAKE": False}
        drive(
            lambda database: wakes.ask(database=database), Sweep(every=timedelta(minutes=1), next_at=datetime.now(UTC))
        )

        assert "workers are not woken" in run("check")[0]


class TestDriver:
    """What django-q2 tells of itself."""

    def test_django_q2_is_the_driver(self):
        assert driving.driver() is tasks.DRIVER

    def test_the_schedule_of_the_sweep_is_read(self):
        Schedule.objects.filter(func=tasks.SWEEP).delete()
        assert tasks.read_sweep() is None

        next_at = datetime.now(UTC)
        schedule = Schedule.objects.create(func=tasks.SWEEP, schedule_type="I", minutes=2, next_run=next_at)
        assert tasks.read_sweep() == Sweep(every=timedelta(minutes=2), next_at=next_at)

        Schedule.objects.filter(pk=schedule.pk).update(repeats=0)
        assert tasks.read_sweep() is None
