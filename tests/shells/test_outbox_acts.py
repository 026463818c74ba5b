"""`manage.py outbox retry`, `resend`, `cancel`, `hold`, `release`: chosen, asked about, done, truthfully counted."""

import builtins
import io
import json
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.management import progress
from mail_outbox.models import EntryContent, OutboxEntry, UtcNow
from mail_outbox.outbox import bulk
from tests.shells.test_outbox_command import enqueue, fail, run
from tests.support import a_message, age

pytestmark = pytest.mark.django_db


def failed(count: int = 1, *, code: str = "550", text: str = "no", **values: Any) -> list[OutboxEntry]:
    """Leave so many entries that have failed."""
    entries = enqueue(count)
    OutboxEntry.objects.filter(pk__in=[entry.pk for entry in entries]).update(
        **{
            "state": State.FAILED,
            "attempts": 1,
            "outcome_kind": "permanent",
            "outcome_code": code,
            "outcome_text": text,
            "finished_at": UtcNow(),
            **values,
        }
    )
    return entries


def states() -> list[str]:
    """Return the states of all entries, in the order of their ids."""
    return list(OutboxEntry.objects.order_by("pk").values_list("state", flat=True))


def do(*arguments: str) -> dict[str, Any]:
    """Run a verb without being asked, and return what it says in JSON."""
    out, err = run(*arguments, "--yes", "--json")
    assert err == ""
    return json.loads(out)


class Terminal(io.StringIO):
    """A terminal with a person at it."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


def answer(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Let a person sit at the terminal and answer."""
    given = iter(answers)
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(builtins, "input", lambda: next(given))


class TestVerbs:
    @pytest.mark.parametrize(
        ("verb", "before", "after"),
        [
            ("retry", State.FAILED, State.QUEUED),
            ("cancel", State.QUEUED, State.CANCELLED),
            ("hold", State.QUEUED, State.HELD),
            ("release", State.HELD, State.QUEUED),
        ],
    )
    def test_each_does_it_to_those_that_fit_and_tells_of_the_others(self, verb: str, before: State, after: State):
        fit, other = enqueue(2)
        OutboxEntry.objects.filter(pk=fit.pk).update(state=before)
        OutboxEntry.objects.filter(pk=other.pk).update(state=State.SENT, finished_at=UtcNow())

        result = do(verb, str(fit.pk), str(other.pk))

        assert (result["done"], result["skipped"]) == (1, {"sent": 1})
        assert states() == [after, State.SENT]

    def test_json_is_one_object_with_stable_keys(self):
        [entry] = failed()

        result = do("retry", str(entry.pk))

        assert result.pop("seconds") >= 0
        [sample] = result.pop("sample")
        assert result == {
            "verb": "retry",
            "selected": 1,
            "states": {"failed": 1},
            "done": 1,
            "skipped": {},
            "is_dry_run": False,
            "is_interrupted": False,
        }
        assert set(sample) == {
            "id", "state", "state_reason", "using", "attempts", "due_at", "created_at", "finished_at", "subject",
            "template", "outcome",
        }  # fmt: skip
        assert sample["outcome"] == {"kind": "permanent", "code": "550", "text": "no"}

    def test_people_are_told_on_stderr_what_is_chosen_and_on_stdout_what_was_done(self):
        entries = failed(7)

        out, err = run("retry", "--state", "failed", "--yes")

        assert out == "retry: 7 done, 0 skipped\n"
        assert err.splitlines()[0] == "7 entries: 7 failed"
        assert err.splitlines()[1].startswith(f"  {entries[0].pk}  failed  default  ")
        assert err.splitlines()[-1] == "  … and 2 more"

    def test_a_reason_is_kept(self):
        enqueue(2)

        do("hold", "--state", "queued", "--reason", "wrong price")
        assert set(OutboxEntry.objects.values_list("state", "state_reason")) == {("held", "wrong price")}

    def test_what_is_past_its_expiry_needs_a_new_one(self):
        [entry] = failed()
        age(entry, created_at=timedelta(0))
        OutboxEntry.objects.update(expires_at=UtcNow() - timedelta(hours=1))

        assert do("retry", str(entry.pk))["skipped"] == {"past their expiry, and no new one was given": 1}
        assert do("retry", str(entry.pk), "--expires-in", "2h")["done"] == 1

    def test_an_id_that_is_not_there_is_counted(self):
        [entry] = failed()

        assert do("retry", str(entry.pk), "999999")["skipped"] == {"no longer there": 1}


class TestResend:
    def test_it_makes_new_entries_through_the_mailer_asked_for(self):
        entries = failed(2)

        result = do("resend", *(str(entry.pk) for entry in entries), "--through", "bulk")

        assert result["done"] == 2
        made = OutboxEntry.objects.exclude(resent_from=None)
        assert {(entry.resent_from_id, entry.using, entry.state) for entry in made} == {
            (entry.pk, "bulk", "queued") for entry in entries
        }

    def test_it_makes_them_for_other_recipients_where_it_is_told_to(self):
        [entry] = failed()

        result = do("resend", str(entry.pk), "--recipient", "ann@example.com", "--recipient", "bob@example.com")

        made = OutboxEntry.objects.get(resent_from=entry)
        assert (result["done"], made.message().to) == (1, ["ann@example.com", "bob@example.com"])

    def test_what_cannot_be_resent_is_told_apart(self):
        gone, waiting, fine = [*failed(), *enqueue(), *failed()]
        EntryContent.objects.filter(pk=gone.pk).delete()

        result = do("resend", str(gone.pk), str(waiting.pk), str(fine.pk))

        assert (result["done"], result["skipped"]) == (1, {"without a content that can be read": 1, "queued": 1})

    def test_an_unknown_mailer_is_an_error_that_suggests(self):
        failed()

        with pytest.raises(CommandError, match="Did you mean 'bulk'"):
            run("resend", "--state", "failed", "--through", "bluk", "--yes")
        assert OutboxEntry.objects.count() == 1


class TestSelection:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["--state", "failed", "--error", "429"],
            ["--error", "SLOW"],
            ["--state", "failed", "--using", "bulk"],
            ["--to", "Jane@Example.com"],
            ["--tag", "invoice"],
            ["--template", "shop/order"],
            ["--state", "failed", "--since", "2h", "--error", "slow"],
        ],
        ids=" ".join,
    )
    def test_only_what_fits_is_chosen(self, arguments: list[str]):
        failed(2)
        wanted = outbox.enqueue(a_message(to=["jane@example.com"]), tags=["invoice"], using="bulk")
        OutboxEntry.objects.filter(pk=wanted.pk).update(
            state=State.FAILED,
            outcome_code="429",
            outcome_text="slow down",
            template="shop/order",
            finished_at=UtcNow(),
        )

        assert do("retry", *arguments)["done"] == 1
        wanted.refresh_from_db()
        assert wanted.state == State.QUEUED

    def test_since_counts_from_when_they_ended(self):
        old, new = failed(2)
        age(old, finished_at=timedelta(hours=-3), created_at=timedelta(hours=-3))
        age(new, created_at=timedelta(hours=-3))

        result = do("retry", "--since", "2h")

        assert [sample["id"] for sample in result["sample"]] == [new.pk]

    def test_a_limit_takes_the_oldest(self):
        entries = failed(3)

        assert [sample["id"] for sample in do("retry", "--state", "failed", "--limit", "2")["sample"]] == [
            entries[0].pk,
            entries[1].pk,
        ]
        assert states() == ["queued", "queued", "failed"]

    def test_nothing_chosen_is_a_mistake_and_not_everything(self):
        failed()

        with pytest.raises(CommandError, match="--state failed") as caught:
            run("retry", "--yes")

        assert caught.value.returncode == 2
        assert states() == ["failed"]

    def test_nothing_found_is_fine(self):
        assert run("retry", "--state", "held")[0] == "retry: 0 done, 0 skipped\n"

    @pytest.mark.parametrize("option", [["--database", "othre"], ["--state", "faild"], ["--since", "soon"]])
    def test_a_mistake_is_an_error(self, option: list[str]):
        with pytest.raises(CommandError):
            run("retry", *option)


class TestCaution:
    def test_a_dry_run_counts_shows_and_does_nothing(self):
        failed(2)

        out, err = run("retry", "--state", "failed", "--dry-run")
        result = json.loads(run("retry", "--state", "failed", "--dry-run", "--json")[0])

        assert out == "retry: nothing done, this was a dry run\n"
        assert err.startswith("2 entries: 2 failed\n")
        assert (result["selected"], result["done"], result["is_dry_run"], len(result["sample"])) == (2, 0, True, 2)
        assert states() == ["failed", "failed"]

    @pytest.mark.parametrize("word", ["y", "Yes "])
    def test_it_asks_a_person(self, word: str, monkeypatch: pytest.MonkeyPatch):
        failed(2)
        answer(monkeypatch, word)

        out, err = run("retry", "--state", "failed")

        assert "Retry 2 entries? [y/N]" in err
        assert out == "retry: 2 done, 0 skipped\n"

    @pytest.mark.parametrize("word", ["", "n", "what?"])
    def test_anything_but_yes_is_no(self, word: str, monkeypatch: pytest.MonkeyPatch):
        failed()
        answer(monkeypatch, word)

        with pytest.raises(CommandError, match=r"Nothing was done\.") as caught:
            run("retry", "--state", "failed")

        assert caught.value.returncode == 1
        assert states() == ["failed"]

    def test_where_nobody_is_it_wants_to_be_told(self, monkeypatch: pytest.MonkeyPatch):
        failed()
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))

        with pytest.raises(CommandError, match="--yes") as caught:
            run("retry", "--state", "failed", "--json")

        assert caught.value.returncode == 2
        assert states() == ["failed"]

    def test_ctrl_c_at_the_question_is_no_and_exits_with_130(self, monkeypatch: pytest.MonkeyPatch):
        failed()
        answer(monkeypatch)
        monkeypatch.setattr(builtins, "input", lambda: (_ for _ in ()).throw(KeyboardInterrupt))

        assert fail("retry", "--state", "failed")[0].returncode == 130
        assert states() == ["failed"]

    def test_the_end_of_the_input_is_no(self, monkeypatch: pytest.MonkeyPatch):
        failed()
        answer(monkeypatch)
        monkeypatch.setattr(builtins, "input", lambda: (_ for _ in ()).throw(EOFError))

        assert fail("retry", "--state", "failed")[0].returncode == 1
        assert states() == ["failed"]

    def test_a_sensitive_subject_is_not_shown(self):
        outbox.enqueue(a_message("Your code: 123456"), sensitive=True)

        assert "123456" not in "".join(run("cancel", "--state", "queued", "--dry-run"))
        assert "123456" not in run("cancel", "--state", "queued", "--dry-run", "--json")[0]


class TestLongWork:
    @pytest.fixture(autouse=True)
    def small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Work in chunks of two."""
        monkeypatch.setattr(bulk, "CHUNK", 2)

    def test_progress_is_told_now_and_then_but_never_in_json(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(progress, "EVERY", 0.0)
        failed(4)

        _, err = run("retry", "--state", "failed", "--yes")

        assert err.splitlines()[-2:] == [
            "2 done, 0 skipped of 4 so far",
            "4 done, 0 skipped of 4 so far",
        ]
        assert do("cancel", "--state", "queued")["done"] == 4

    @pytest.mark.parametrize("options", [[], ["--json"]], ids=["people", "JSON"])
    def test_an_interruption_counts_what_is_done(self, options: list[str], monkeypatch: pytest.MonkeyPatch):
        failed(5)
        step = bulk._act
        calls: list[int] = []

        def interrupt(*arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return step(*arguments)

        monkeypatch.setattr(bulk, "_act", interrupt)

        error, out = fail("retry", "--state", "failed", "--yes", *options)

        assert (error.returncode, str(error)) == (130, "Interrupted; what is counted as done is done.")
        assert "2" in out
        assert states() == ["queued"] * 2 + ["failed"] * 3
