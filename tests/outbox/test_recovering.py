"""A copy of the database sends nothing, and what a failover brought back is set aside."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from mail_outbox import outbox
from mail_outbox.checks import check_schedule
from mail_outbox.drain import instances
from mail_outbox.models import Instance, MailerState, OutboxEntry
from mail_outbox.outbox.pruning import keep_house
from tests.fakes import Provider
from tests.support import a_message, age

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture
def copied(provider, settings) -> Provider:
    """Drain as production, then be a copy of it."""
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "INSTANCE": "production"}
    outbox.drain()
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "INSTANCE": "staging"}
    return provider


class TestAnotherInstance:
    def test_the_first_drain_makes_the_database_its_own(self, provider):
        outbox.enqueue(a_message())

        outbox.drain()

        assert Instance.objects.get().name == instances.instance_of("default")
        assert len(provider.accepted) == 1

    def test_a_copy_sends_nothing_and_enqueue_goes_on(self, copied):
        outbox.enqueue(a_message())

        result = outbox.drain()

        assert copied.accepted == []
        assert OutboxEntry.objects.get().state == "queued"
        assert not result.is_work_left

    def test_a_copy_leaves_everything_as_it_was(self, copied):
        age(outbox.enqueue(a_message(), send_at=HOUR), due_at=-2 * HOUR)
        age(outbox.enqueue(a_message(), expires_at=HOUR), expires_at=-2 * HOUR)
        stuck = outbox.enqueue(a_message())
        OutboxEntry.objects.filter(pk=stuck.pk).update(
            state="sending", lease_expires_at=datetime(2020, 1, 1, tzinfo=UTC)
        )

        outbox.drain()

        assert list(OutboxEntry.objects.order_by("pk").values_list("state", flat=True)) == [
            "scheduled",
            "queued",
            "sending",
        ]

    def test_a_copy_prunes_nothing_because_its_files_may_be_the_originals(self, copied):
        entry = outbox.enqueue(a_message())
        outbox.cancel(entry)
        age(entry, finished_at=timedelta(days=-999))

        assert not keep_house("default", seconds=5)
        with pytest.raises(outbox.OutboxPaused, match="production"):
            outbox.prune()
        assert OutboxEntry.objects.exists()

    def test_a_copy_refuses_to_send_now_and_says_whose_it_is(self, copied):
        with pytest.raises(outbox.OutboxPaused, match=r"belongs to 'production', but this is 'staging'.*outbox adopt"):
            outbox.send_now(a_message())

        assert not OutboxEntry.objects.exists()

    def test_who_looks_is_told(self, copied, caplog):
        with caplog.at_level(logging.ERROR):
            outbox.drain()

        stats = outbox.stats()
        assert "production" in stats.blocked
        assert all(mailer.is_paused and "another deployment" in mailer.pause_reason for mailer in stats.mailers)
        assert [problem.code for problem in outbox.health().problems] == ["not_adopted"]
        assert [record.message for record in caplog.records] == ["database of another instance"]
        assert [message.id for message in check_schedule(databases=["default"])][-1] == "mail_outbox.W013"

    def test_status_says_it(self, copied, capsys):
        call_command("outbox", "status")

        assert "TROUBLE: Nothing is sent: this database belongs to 'production'" in capsys.readouterr().out

    def test_adopted_it_sends(self, copied):
        outbox.enqueue(a_message())

        outbox.adopt()
        outbox.drain()

        assert len(copied.accepted) == 1
        assert outbox.stats().blocked == ""
        assert "mail_outbox.W013" not in [message.id for message in check_schedule(databases=["default"])]

    def test_the_one_it_was_copied_from_goes_on(self, copied, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "INSTANCE": "production"}
        outbox.enqueue(a_message())

        outbox.drain()

        assert len(copied.accepted) == 1

    def test_asking_how_it_is_makes_nobody_the_owner(self):
        outbox.stats()
        check_schedule(databases=["default"])

        assert not Instance.objects.exists()

    def test_a_pause_by_hand_is_another_matter(self, copied):
        outbox.pause(reason="mine")

        outbox.adopt()

        assert MailerState.objects.get().is_paused


class TestInstanceOf:
    @pytest.mark.parametrize(
        ("host", "port"),
        [("", ""), ("localhost", 5432), ("127.0.0.1", "5432"), ("::1", ""), ("/var/run/postgresql", "")],
    )
    def test_all_ways_to_write_this_machine_are_one(self, host, port):
        given = {"NAME": "shop", "HOST": host, "PORT": port}

        assert instances._place("postgresql", given) == "postgresql localhost:5432/shop"

    def test_a_database_on_another_host_or_of_another_name_is_another(self):
        given = {"NAME": "shop", "HOST": "db.example", "PORT": ""}
        places = [
            instances._place("mysql", {**given, **change})
            for change in ({}, {"HOST": "db2.example"}, {"PORT": "3307"}, {"NAME": "shop_staging"})
        ]

        assert len(set(places)) == 4
        assert instances._place("mysql", {**given, "HOST": "DB.example."}) == places[0]

    def test_credentials_and_options_are_no_part_of_it(self):
        given = {"NAME": "shop", "HOST": "db", "USER": "u", "PASSWORD": "secret"}

        assert instances._place("postgresql", given) == instances._place("postgresql", {**given, "PASSWORD": "new"})
        assert "secret" not in instances._place("postgresql", given)

    def test_a_file_is_the_same_behind_a_link(self, tmp_path: Path):
        (tmp_path / "real.sqlite3").touch()
        (tmp_path / "link.sqlite3").symlink_to(tmp_path / "real.sqlite3")

        places = {instances._place("sqlite", {"NAME": tmp_path / name}) for name in ("real.sqlite3", "link.sqlite3")}

        assert len(places) == 1

    @pytest.mark.parametrize("name", [":memory:", "file:memorydb_default_1?mode=memory&cache=shared"])
    def test_databases_in_memory_are_all_alike(self, name):
        assert instances._place("sqlite", {"NAME": name}) == "sqlite in memory"

    def test_without_a_name_the_database_says_it(self):
        assert instances.instance_of("default").startswith(connection.vendor)


class TestQuarantine:
    def test_what_came_due_since_then_and_what_is_claimed_is_set_aside(self, provider):
        lately = outbox.enqueue(a_message())
        retried = outbox.enqueue(a_message(), send_at=HOUR)
        age(retried, due_at=-1.5 * HOUR)
        claimed = outbox.enqueue(a_message())
        OutboxEntry.objects.filter(pk=claimed.pk).update(state="sending", due_at=datetime(2020, 1, 1, tzinfo=UTC))
        ahead = outbox.enqueue(a_message(), send_at=HOUR)
        old = outbox.enqueue(a_message())
        age(old, due_at=-3 * HOUR)

        result = outbox.quarantine(2 * HOUR)

        held = set(OutboxEntry.objects.filter(state="held", state_reason="quarantine").values_list("pk", flat=True))
        assert held == {lately.pk, retried.pk, claimed.pk}
        assert (result.held, result.due_before) == (3, 1)
        assert not OutboxEntry.objects.filter(pk__in=[ahead.pk, old.pk], state="held").exists()

    def test_it_is_not_sent_until_somebody_says_so(self, provider):
        entry = outbox.enqueue(a_message())
        outbox.quarantine(HOUR)
        outbox.drain()
        assert provider.accepted == []

        outbox.release(entry)
        outbox.drain()

        assert len(provider.accepted) == 1

    def test_a_worker_that_was_sending_meanwhile_still_settles_its_success(self, provider):
        def quarantine(message):
            outbox.quarantine(HOUR)

        provider.will(quarantine)
        entry = outbox.send_now(a_message())

        assert entry.state == "sent"

    def test_a_dry_run_only_counts(self):
        outbox.enqueue(a_message())

        assert outbox.quarantine(datetime.now(UTC) - HOUR, dry_run=True).held == 1
        assert OutboxEntry.objects.get().state == "queued"

    def test_a_moment_to_come_is_refused(self):
        with pytest.raises(outbox.InvalidOption, match="passed"):
            outbox.quarantine(datetime.now(UTC) + HOUR)
