"""Every check has one test that provokes it and one that does not."""

from collections.abc import Iterable
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core import checks, mail
from django.core.mail import EmailMessage
from django.db import connections
from django.test import override_settings
from pytest_django import Settings

from mail_outbox import conf, tasks
from mail_outbox.backends import OutboxBackend
from mail_outbox.checks import check_schedule, check_settings, running, values
from mail_outbox.core.retry import Backoff
from tests.shells.conftest import LOCMEM, OUTBOX, SINK, Configure

SMTP = "django.core.mail.backends.smtp.EmailBackend"
HOUR = timedelta(hours=1)


class OutboxInDisguise(OutboxBackend):
    """A drop-in of a project's own."""


class Letter(EmailMessage):
    """A message class of a project's own."""


class KeepOut:
    """A router that has no place for the outbox."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Refuse the outbox everywhere."""
        return False if app_label == "mail_outbox" else None


def ids(found: Iterable[checks.CheckMessage]) -> list[str]:
    """Return the ids of what was found, without the name of the app."""
    return [str(message.id).removeprefix("mail_outbox.") for message in found]


def hint_of(found: list[checks.CheckMessage]) -> str:
    """Return the hint of the one message found."""
    assert len(found) == 1, found
    return str(found[0].hint)


def test_good_settings_are_found_to_be_good(configure: Configure):
    configure(
        {"default": LOCMEM, "bulk": SINK},
        USING="bulk",
        MAILER_OPTIONS={"bulk": {"concurrency": 2, "deadline": timedelta(seconds=5), "idle_after": HOUR}},
        MAX_ATTEMPTS=3,
        BACKOFF={"first": timedelta(seconds=1), "longest": HOUR},
        LEASE=timedelta(minutes=5),
        DATABASE=["default"],
        MESSAGE_CLASSES=[f"{__name__}.Letter"],
        MAX_DRAINS=1,
    )

    assert check_settings() == []


def test_the_checks_are_registered():
    registered = checks.registry.registry.get_checks(include_deployment_checks=False)

    assert {check_settings, check_schedule} <= set(registered)


def test_every_setting_has_a_rule():
    assert set(values.RULES) == {field.name.upper() for field in fields(conf.Conf)}
    assert set(values.OPTION_RULES) == {field.name for field in fields(conf.MailerOptions)}
    assert set(values.BACKOFF_RULES) == {field.name for field in fields(Backoff)}


class TestE001:
    def test_an_unknown_key_is_answered_with_the_closest(self, configure: Configure):
        configure({"default": LOCMEM}, MAX_ATTEMTPS=3)

        found = check_settings()

        assert ids(found) == ["E001"]
        assert "Did you mean 'MAX_ATTEMPTS'?" in hint_of(found)

    def test_a_known_key_is_fine(self, configure: Configure):
        configure({"default": LOCMEM}, MAX_ATTEMPTS=3)

        assert check_settings() == []


class TestE002:
    @pytest.mark.parametrize(
        "mail_outbox",
        [{"USING": "bluk"}, {"MAILER_OPTIONS": {"bluk": {"concurrency": 2}}}],
        ids=["USING", "MAILER_OPTIONS"],
    )
    def test_an_unknown_mailer_is_answered_with_the_closest(self, mail_outbox: dict[str, Any], configure: Configure):
        configure({"default": LOCMEM, "bulk": LOCMEM}, **mail_outbox)

        found = check_settings()

        assert ids(found) == ["E002"]
        assert "Did you mean 'bulk'?" in hint_of(found)

    def test_the_drop_in_may_name_no_unknown_mailer_either(self, configure: Configure):
        configure({"default": {**OUTBOX, "OPTIONS": {"using": "bluk"}}, "bulk": LOCMEM})

        assert ids(check_settings()) == ["E002"]

    def test_known_mailers_are_fine(self, configure: Configure):
        configure(
            {"default": {**OUTBOX, "OPTIONS": {"using": "bulk"}}, "bulk": LOCMEM},
            USING="bulk",
            MAILER_OPTIONS={"bulk": {}},
        )

        assert check_settings() == []


class TestE003:
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("USING", 3),
            ("MAILER_OPTIONS", {"default": 8}),
            ("MAILER_OPTIONS", ["default"]),
            ("MAILER_OPTIONS", {"default": {"concurency": 8}}),
            ("MAILER_OPTIONS", {"default": {"concurrency": 0}}),
            ("MAILER_OPTIONS", {"default": {"concurrency": True}}),
            ("MAILER_OPTIONS", {"default": {"deadline": 60}}),
            ("MAILER_OPTIONS", {"default": {"idle_after": timedelta(0)}}),
            ("MAX_ATTEMPTS", 0),
            ("MAX_ATTEMPTS", "3"),
            ("MAX_AGE", 72),
            ("MAX_AGE", -HOUR),
            ("BACKOFF", {"first": 30}),
            ("BACKOFF", {"frist": HOUR}),
            ("BACKOFF", HOUR),
            ("LEASE", 300),
            ("SLICE", timedelta(0)),
            ("MAX_DRAINS", 0),
            ("CLUSTER", ""),
            ("CLUSTER", "mial"),
            ("ON_AMBIGUOUS", "drop"),
            ("WAKE", 1),
            ("POLL", 60),
            ("PAUSED", "no"),
            ("DATABASE", []),
            ("DATABASE", None),
            ("OUTSIDE_ATOMIC", "forbid"),
            ("MAX_MESSAGE_BYTES", 0),
            ("MESSAGE_CLASSES", "shop.Letter"),
            ("MESSAGE_CLASSES", ["shop.Letter"]),
            ("MESSAGE_CLASSES", ["mail_outbox.conf.Conf"]),
            ("REGISTER_ADMIN", None),
        ],
    )
    def test_a_bad_value_is_named_with_a_good_one(self, key: str, value: object, configure: Configure):
        configure({"default": LOCMEM}, **{key: value})

        found = check_settings()

        assert ids(found) == ["E003"]
        assert key in found[0].msg
        assert hint_of(found)

    def test_settings_that_are_no_dict_are_said_to_be_none(self, settings: Settings):
        settings.MAIL_OUTBOX = ["USING"]

        assert ids(check_settings()) == ["E003"]

    def test_a_backend_that_cannot_be_imported_is_named(self, configure: Configure):
        configure({"default": {"BACKEND": "shop.mail.Backend"}})

        found = check_settings()

        assert ids(found) == ["E003"]
        assert "['default']['BACKEND']" in hint_of(found)

    def test_what_is_in_a_container_is_not_shown(self, configure: Configure):
        configure({"default": LOCMEM}, MAILER_OPTIONS=[{"password": "secret"}])

        assert "secret" not in str(check_settings())

    def test_a_cluster_of_its_own_is_fine(self, configure: Configure, settings: Settings):
        settings.Q_CLUSTER = {**settings.Q_CLUSTER, "ALT_CLUSTERS": {"mail": {"timeout": 300, "retry": 400}}}
        configure({"default": LOCMEM}, CLUSTER="mail")

        assert check_settings() == []


class TestE004:
    def test_without_any_mailer_that_sends_there_is_no_way_out(self, configure: Configure):
        configure({"default": OUTBOX})

        assert ids(check_settings()) == ["E004"]

    def test_the_default_may_not_be_the_outbox(self, configure: Configure):
        configure({"default": {**OUTBOX, "OPTIONS": {"using": "bulk"}}, "bulk": LOCMEM}, USING="default")

        assert ids(check_settings()) == ["E004"]

    def test_a_drop_in_may_not_deliver_to_a_drop_in(self, configure: Configure):
        other = {**OUTBOX, "OPTIONS": {"using": "bulk"}}
        configure({"default": {**OUTBOX, "OPTIONS": {"using": "other"}}, "other": other, "bulk": LOCMEM})

        found = check_settings()

        assert ids(found) == ["E004"]
        assert hint_of(found).endswith("['default']['OPTIONS']['using'] to one of: bulk.")

    def test_a_drop_in_has_to_know_which_of_several_sends(self, configure: Configure):
        configure({"default": OUTBOX, "bulk": LOCMEM, "single": LOCMEM})

        assert ids(check_settings()) == ["E004"]

    def test_an_outbox_in_disguise_is_found(self, configure: Configure):
        configure({"default": {"BACKEND": f"{__name__}.OutboxInDisguise"}, "bulk": LOCMEM}, USING="bulk")

        assert ids(check_settings()) == ["E004"]

    def test_the_only_mailer_that_sends_need_not_be_named(self, configure: Configure):
        configure({"default": OUTBOX, "bulk": LOCMEM})

        assert check_settings() == []

    @pytest.mark.skipif(hasattr(mail, "mailers"), reason="since 6.1 EMAIL_BACKEND is deprecated")
    def test_the_drop_in_alone_has_no_way_out(self, settings: Settings):
        settings.EMAIL_BACKEND = OUTBOX["BACKEND"]
        settings.MAIL_OUTBOX = {}

        assert ids(check_settings()) == ["E004"]

    @pytest.mark.skipif(not hasattr(mail, "mailers"), reason="only 6.1 has both ways to set mailers")
    @pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
    def test_the_drop_in_alone_has_no_way_out_in_the_old_settings_either(self, settings: Settings):
        del settings.MAILERS
        settings.EMAIL_BACKEND = OUTBOX["BACKEND"]
        settings.MAIL_OUTBOX = {}

        assert ids(check_settings()) == ["E004"]


class TestE005:
    def test_without_django_q2_nobody_delivers(self, settings: Settings):
        settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django_q"]

        assert ids(check_settings()) == ["E005"]

    @override_settings()
    def test_without_a_cluster_nobody_delivers(self, settings: Settings):
        del settings.Q_CLUSTER

        assert ids(check_settings()) == ["E005"]

    def test_a_cluster_is_fine(self):
        assert apps.is_installed("django_q")
        assert check_settings() == []


class TestE007:
    def test_an_unknown_database_is_answered_with_the_closest(self, configure: Configure):
        configure({"default": LOCMEM}, DATABASE=["default", "defualt"])

        found = check_settings()

        assert ids(found) == ["E007"]
        assert "Did you mean 'default'?" in hint_of(found)

    def test_a_router_may_not_keep_the_outbox_out(self, settings: Settings):
        settings.DATABASE_ROUTERS = [KeepOut()]

        assert ids(check_settings()) == ["E007"]

    def test_a_known_database_is_fine(self, configure: Configure):
        configure({"default": LOCMEM}, DATABASE="default")

        assert check_settings() == []


class TestE008:
    def test_smtp_without_a_timeout_is_warned_about(self, configure: Configure):
        configure({"default": {"BACKEND": SMTP, "OPTIONS": {"host": "mx.example"}}})

        found = check_settings()

        assert ids(found) == ["E008"]
        assert found[0].level == checks.WARNING
        assert "['default']['OPTIONS']['timeout']" in hint_of(found)

    def test_smtp_with_a_timeout_is_fine(self, configure: Configure):
        configure({"default": {"BACKEND": SMTP, "OPTIONS": {"host": "mx.example", "timeout": 10}}})

        assert check_settings() == []

    @pytest.mark.skipif(hasattr(mail, "mailers"), reason="since 6.1 the timeout is an option of the mailer")
    def test_the_timeout_of_the_settings_is_fine(self, configure: Configure, settings: Settings):
        settings.EMAIL_TIMEOUT = 10
        configure({"default": {"BACKEND": SMTP, "OPTIONS": {"host": "mx.example"}}})

        assert check_settings() == []


class TestE010:
    @pytest.mark.parametrize("timeout", [None, 0, 70, "300"])
    def test_the_cluster_must_not_kill_a_drain_half_way(self, timeout: Any, configure: Configure, settings: Settings):
        configure({"default": LOCMEM})  # 60 s over HTTP
        settings.Q_CLUSTER = {**settings.Q_CLUSTER, "timeout": timeout}

        found = check_settings()

        assert ids(found) == ["E010"]
        assert "Set Q_CLUSTER['timeout'] to 71 or more" in hint_of(found)

    def test_time_for_a_slice_and_the_longest_send_is_fine(self, configure: Configure, settings: Settings):
        configure({"default": LOCMEM})
        settings.Q_CLUSTER = {**settings.Q_CLUSTER, "timeout": 71}

        assert check_settings() == []

    def test_the_cluster_that_counts_is_the_one_for_mail(self, configure: Configure, settings: Settings):
        settings.Q_CLUSTER = {**settings.Q_CLUSTER, "timeout": None, "ALT_CLUSTERS": {"mail": {"timeout": 299}}}
        configure({"default": LOCMEM}, CLUSTER="mail")

        assert check_settings() == []

    def test_a_lease_must_outlast_the_longest_send(self, configure: Configure):
        configure({"default": LOCMEM}, LEASE=timedelta(seconds=60))

        found = check_settings()

        assert ids(found) == ["E010"]
        assert "timedelta(seconds=120)" in hint_of(found)

    def test_a_lease_that_outlasts_it_is_fine(self, configure: Configure):
        configure({"default": LOCMEM}, LEASE=timedelta(seconds=70))

        assert check_settings() == []


class TestE011:
    @pytest.mark.parametrize("retry", [240, 100, None])
    def test_the_cluster_must_not_repeat_what_still_runs(self, retry: int | None, settings: Settings):
        settings.Q_CLUSTER = {**settings.Q_CLUSTER, "retry": retry}

        found = check_settings()

        assert ids(found) == ["E011"]
        assert "more than 240" in hint_of(found)

    def test_the_default_of_django_q2_is_judged_too(self, settings: Settings):
        settings.Q_CLUSTER = {key: value for key, value in settings.Q_CLUSTER.items() if key != "retry"}

        assert ids(check_settings()) == ["E011"]

    def test_a_longer_retry_is_fine(self, settings: Settings):
        settings.Q_CLUSTER = {**settings.Q_CLUSTER, "retry": 241}

        assert check_settings() == []


class TestW002:
    def test_a_cluster_that_repeats_failures_is_mentioned(self, settings: Settings):
        settings.Q_CLUSTER = {**settings.Q_CLUSTER, "ack_failures": False, "max_attempts": 3}

        found = check_settings()

        assert ids(found) == ["W002"]
        assert found[0].level == checks.INFO

    @pytest.mark.parametrize(
        "changes", [{"ack_failures": False, "max_attempts": 1}, {"ack_failures": True, "max_attempts": 0}]
    )
    def test_a_cluster_that_does_not_is_fine(self, changes: dict[str, Any], settings: Settings):
        settings.Q_CLUSTER = {**settings.Q_CLUSTER, **changes}

        assert check_settings() == []


class TestW003:
    @pytest.mark.parametrize("options", [{}, {"transaction_mode": None}, {"transaction_mode": "DEFERRED"}])
    def test_sqlite_with_deferred_transactions_is_warned_about(
        self, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(connections["default"], "vendor", "sqlite")
        monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", options)

        found = check_settings()

        assert ids(found) == ["W003"]
        assert "DATABASES['default']['OPTIONS']['transaction_mode'] = 'IMMEDIATE'" in hint_of(found)

    @pytest.mark.parametrize(("vendor", "options"), [("sqlite", {"transaction_mode": "immediate"}), ("postgresql", {})])
    def test_anything_else_is_fine(self, vendor: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(connections["default"], "vendor", vendor)
        monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", options)

        assert check_settings() == []


@pytest.mark.django_db
class TestW006:
    @pytest.fixture
    def schedule(self) -> Any:
        """Return django-q2's schedules, with the sweep among them."""
        schedule = apps.get_model("django_q", "Schedule")
        schedule.objects.get_or_create(name="sweep", func=running.SWEEP, schedule_type="I", minutes=1)
        return schedule.objects

    def test_a_missing_sweep_is_warned_about(self, schedule: Any):
        schedule.all().delete()

        assert ids(check_schedule(databases=["default"])) == ["W006"]

    def test_a_sweep_that_has_run_out_counts_as_missing(self, schedule: Any):
        schedule.update(repeats=0)

        assert ids(check_schedule(databases=["default"])) == ["W006"]

    def test_a_scheduled_sweep_is_fine(self, schedule: Any):
        assert schedule.exists()
        assert check_schedule(databases=["default"]) == []

    @pytest.mark.parametrize("databases", [None, [], ["other"]])
    def test_the_database_is_not_asked_unasked(self, databases: list[str] | None, schedule: Any):
        schedule.all().delete()

        assert check_schedule(databases=databases) == []

    def test_before_the_first_migration_there_is_nothing_to_say(self, schedule: Any, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(schedule.model._meta, "db_table", "not_there_yet")

        assert check_schedule(databases=["default"]) == []

    def test_the_checks_and_the_task_speak_of_the_same_sweep(self):
        assert running.SWEEP == tasks.SWEEP
        assert running.TIMEOUT_MARGIN == tasks.TIMEOUT_MARGIN
