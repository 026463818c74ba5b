"""Every check has one test that provokes it and one that does not."""

import logging
import sys
from collections.abc import Iterable
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core import checks, mail
from django.core.mail import EmailMessage
from django.db import connections
from django.test import override_settings
from django.utils.log import AdminEmailHandler
from pytest_django import Settings

from mail_outbox import conf, outbox, tasks
from mail_outbox.backends import OutboxBackend
from mail_outbox.checks import check_deployment, check_schedule, check_settings, running, values
from mail_outbox.core.retention import Retention
from mail_outbox.core.retry import Backoff
from tests.shells.conftest import LOCMEM, OUTBOX, SINK, Configure

SMTP = "django.core.mail.backends.smtp.EmailBackend"
FERNET_KEY = "dGhpcnR5LXR3byBieXRlcyBmb3IgdGVzdHMgb25seSE="
HOUR = timedelta(hours=1)
BULK = "bulk" if hasattr(mail, "mailers") else LOCMEM["BACKEND"]
"""What the handler of errors must be told to send through the mailer `bulk`."""


class OutboxInDisguise(OutboxBackend):
    """A drop-in of a project's own."""


class Letter(EmailMessage):
    """A message class of a project's own."""


def classify(error: Exception | None, **about: Any) -> None:
    """A classifier of a project's own."""


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
        MAILER_OPTIONS={
            "bulk": {"concurrency": 2, "deadline": timedelta(seconds=5), "idle_after": HOUR},
            "default": {"rate": "14 recipients/s", "max_connections": 2, "pipelining": False},
        },
        MAX_ATTEMPTS=3,
        BACKOFF={"first": timedelta(seconds=1), "longest": HOUR},
        RETENTION={"sent": HOUR, "content": None},
        ATTACHMENT_STORAGE="default",
        LEASE=timedelta(minutes=5),
        DATABASE=["default"],
        MESSAGE_CLASSES=[f"{__name__}.Letter"],
        MAX_DRAINS=1,
        REDIRECT_TO=["dev@staging.example", "Ops <ops@staging.example>"],
        ALLOW_TO=["*@staging.example", "jane@example.com"],
        INTERCEPTORS=[f"{__name__}.ids", ids],
    )

    assert check_settings() == []


def test_the_checks_are_registered():
    registered = checks.registry.registry.get_checks(include_deployment_checks=False)

    assert {check_settings, check_schedule} <= set(registered)
    deployment = checks.registry.registry.get_checks(include_deployment_checks=True)
    assert check_deployment in set(deployment) - set(registered)


def test_every_setting_has_a_rule():
    assert set(values.RULES) == {field.name.upper() for field in fields(conf.Conf)}
    assert set(values.OPTION_RULES) == {field.name for field in fields(conf.MailerOptions)}
    assert set(values.BACKOFF_RULES) == {field.name for field in fields(Backoff)}
    assert set(values.RETENTION_RULES) == {field.name for field in fields(Retention)}


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
            ("MAILER_OPTIONS", {"default": {"rate": "14/w"}}),
            ("MAILER_OPTIONS", {"default": {"rate": 14}}),
            ("MAILER_OPTIONS", {"default": {"max_connections": 0}}),
            ("MAILER_OPTIONS", {"default": {"pipelining": "no"}}),
            ("MAILER_OPTIONS", {"default": {"idle_after": timedelta(0)}}),
            ("REDIRECT_TO", ""),
            ("REDIRECT_TO", []),
            ("REDIRECT_TO", ["nobody"]),
            ("REDIRECT_TO", "a@x.example, b@x.example"),
            ("ALLOW_TO", "*@example.com"),
            ("ALLOW_TO", ["*"]),
            ("ALLOW_TO", ["@example.com"]),
            ("INTERCEPTORS", "shop.mail.check"),
            ("INTERCEPTORS", [7]),
            ("INTERCEPTORS", ["no.such.module"]),
            ("INTERCEPTORS", [f"{__name__}.HOUR"]),
            ("MAX_ATTEMPTS", 0),
            ("MAX_ATTEMPTS", "3"),
            ("MAX_AGE", 72),
            ("MAX_AGE", -HOUR),
            ("BACKOFF", {"first": 30}),
            ("BACKOFF", {"frist": HOUR}),
            ("BACKOFF", HOUR),
            ("RETENTION", {"sent": 30}),
            ("RETENTION", {"snet": HOUR}),
            ("RETENTION", {"content": timedelta(0)}),
            ("RETENTION", HOUR),
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
            ("CLASSIFIERS", "shop.classify"),
            ("CLASSIFIERS", [3]),
            ("CLASSIFIERS", ["shop.classify"]),
            ("CLASSIFIERS", ["mail_outbox.conf.no_such_function"]),
            ("CLASSIFIERS", ["mail_outbox.conf.OUTBOX_BACKEND"]),
            ("CLASSIFIERS", ["mail_outbox.nowhere.classify"]),
            ("REGISTER_ADMIN", None),
            ("ATTACHMENT_STORAGE", ""),
            ("ATTACHMENT_STORAGE", "defualt"),
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

    @pytest.mark.parametrize("classifier", [f"{__name__}.classify", classify], ids=["by name", "itself"])
    def test_a_classifier_may_be_named_or_given(self, classifier: Any, configure: Configure):
        configure({"default": LOCMEM}, CLASSIFIERS=[classifier])

        assert check_settings() == []

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

    def test_the_only_mailer_that_sends_without_being_named_is_fine(self, configure: Configure):
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
        configure({"default": {"BACKEND": SMTP, "OPTIONS": {"host": "mx.example", "use_tls": True}}})

        found = check_settings()

        assert ids(found) == ["E008"]
        assert found[0].level == checks.WARNING
        assert "['default']['OPTIONS']['timeout']" in hint_of(found)

    def test_smtp_with_a_timeout_is_fine(self, configure: Configure):
        configure({"default": {"BACKEND": SMTP, "OPTIONS": {"host": "mx.example", "use_tls": True, "timeout": 10}}})

        assert check_settings() == []

    @pytest.mark.skipif(hasattr(mail, "mailers"), reason="since 6.1 the timeout is an option of the mailer")
    def test_the_timeout_of_the_settings_is_fine(self, configure: Configure, settings: Settings):
        settings.EMAIL_TIMEOUT = 10
        configure({"default": {"BACKEND": SMTP, "OPTIONS": {"host": "mx.example", "use_tls": True}}})

        assert check_settings() == []


class TestE009:
    SES = "anymail.backends.amazon_ses.EmailBackend"

    @pytest.fixture(autouse=True)
    def no_settings_of_aws(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        pytest.importorskip("boto3")
        for name in ("AWS_MAX_ATTEMPTS", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"client_params": {"config": {"connect_timeout": 2}}},
            {"client_params": {"config": {"retries": {"total_max_attempts": 3}}}},
            {"client_params": {"config": {"retries": {"mode": "standard"}}}},
        ],
    )
    def test_amazon_with_boto3s_repetitions_is_an_error(self, options: dict[str, Any], configure: Configure):
        configure({"default": {"BACKEND": self.SES, "OPTIONS": options}})

        found = check_settings()

        assert ids(found) == ["E009"]
        assert "['default']['OPTIONS']['client_params']" in hint_of(found)

    @pytest.mark.parametrize("retries", [{"total_max_attempts": 1}, {"max_attempts": 0}])
    def test_amazon_without_them_is_fine(self, retries: dict[str, int], configure: Configure):
        params = {"config": {"retries": retries}}
        configure({"default": {"BACKEND": self.SES, "OPTIONS": {"client_params": params}}})

        assert check_settings() == []

    @pytest.mark.parametrize(("attempts", "found"), [("1", []), ("3", ["E009"]), ("many", ["E009"])])
    def test_the_environment_counts_where_the_mailer_is_silent(
        self, attempts: str, found: list[str], configure: Configure, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", attempts)
        configure({"default": {"BACKEND": self.SES}})

        assert ids(check_settings()) == found

    def test_the_mailer_counts_more_than_the_environment(self, configure: Configure, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        params = {"config": {"retries": {"total_max_attempts": 3}}}
        configure({"default": {"BACKEND": self.SES, "OPTIONS": {"client_params": params}}})

        assert ids(check_settings()) == ["E009"]

    @pytest.mark.parametrize(("profile", "found"), [("mail", []), ("other", ["E009"]), ("none", ["E009"])])
    def test_so_does_the_profile(self, profile: str, found: list[str], configure: Configure, tmp_path: Path):
        (tmp_path / "config").write_text("[profile mail]\nmax_attempts = 1\n[profile other]\nregion = eu-west-1\n")
        configure({"default": {"BACKEND": self.SES, "OPTIONS": {"session_params": {"profile_name": profile}}}})

        assert ids(check_settings()) == found

    def test_they_may_be_off_in_anymails_settings(self, configure: Configure, settings: Settings):
        settings.ANYMAIL = {"AMAZON_SES_CLIENT_PARAMS": {"config": {"retries": {"total_max_attempts": 1}}}}
        configure({"default": {"BACKEND": self.SES}})

        assert check_settings() == []


class TestE014:
    def test_moments_without_a_time_zone_are_an_error(self, configure: Configure):
        configure({"default": LOCMEM})

        with override_settings(USE_TZ=False):
            found = check_settings()

        assert ids(found) == ["E014"]
        assert "USE_TZ" in hint_of(found)

    def test_moments_with_one_are_fine(self, configure: Configure):
        configure({"default": LOCMEM})

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


class TestW007:
    POSTMARK = "anymail.backends.postmark.EmailBackend"

    def test_a_mailer_that_prints_is_warned_about(self, configure: Configure):
        options = {"server_token": "t", "debug_api_requests": True}
        configure({"default": {"BACKEND": self.POSTMARK, "OPTIONS": options}})

        found = check_settings()

        assert ids(found) == ["W007"]
        assert "['default']['OPTIONS']" in hint_of(found)

    def test_a_setting_that_makes_all_of_them_print_is_warned_about(self, configure: Configure, settings: Settings):
        settings.ANYMAIL = {"DEBUG_API_REQUESTS": True}
        configure({"default": {"BACKEND": self.POSTMARK, "OPTIONS": {"server_token": "t"}}})

        assert ids(check_settings()) == ["W007"]

    @pytest.mark.parametrize("options", [{"server_token": "t"}, {"server_token": "t", "debug_api_requests": False}, {}])
    def test_a_silent_one_is_fine(self, options: dict[str, Any], configure: Configure):
        configure({"default": {"BACKEND": self.POSTMARK, "OPTIONS": options}})

        assert check_settings() == []


class TestW010:
    """Django's own logging mails errors to ADMINS, unless the project has other plans."""

    @pytest.fixture
    def outbox_is_default(self, configure: Configure, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let Django send through the outbox, as the drop-in does."""
        configure({"default": {**OUTBOX, "OPTIONS": {"using": "bulk"}}, "bulk": LOCMEM})
        if not hasattr(mail, "mailers"):
            settings.EMAIL_BACKEND = OUTBOX["BACKEND"]

    @pytest.fixture
    def admins(self, settings: Settings) -> None:
        """Name somebody to mail errors to."""
        settings.ADMINS = ["ada@example.com"] if hasattr(mail, "mailers") else [("Ada", "ada@example.com")]

    @pytest.fixture
    def handler(self, monkeypatch: pytest.MonkeyPatch) -> logging.Handler:
        """Return the handler that mails errors, the only one there is."""
        handler = AdminEmailHandler()
        handler.name = "mail_admins"
        monkeypatch.setattr(logging.getLogger("django"), "handlers", [handler])
        return handler

    @pytest.mark.usefixtures("outbox_is_default", "admins", "handler")
    def test_errors_through_the_outbox_are_warned_about(self):
        found = check_settings()

        assert ids(found) == ["W010"]
        assert "LOGGING['handlers']['mail_admins']" in hint_of(found)

    @pytest.mark.usefixtures("outbox_is_default", "admins")
    def test_errors_through_a_mailer_that_sends_are_fine(self, handler: Any):
        setattr(handler, "using" if hasattr(mail, "mailers") else "email_backend", BULK)

        assert check_settings() == []

    @pytest.mark.usefixtures("outbox_is_default", "handler")
    def test_nobody_to_mail_to_is_fine(self):
        assert check_settings() == []

    @pytest.mark.usefixtures("outbox_is_default", "admins")
    def test_no_handler_that_mails_is_fine(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(logging.getLogger("django"), "handlers", [])

        assert check_settings() == []

    @pytest.mark.usefixtures("admins", "handler")
    def test_a_default_that_sends_is_fine(self, configure: Configure):
        configure({"default": LOCMEM})

        assert check_settings() == []

    @pytest.mark.skipif(not hasattr(mail, "mailers"), reason="before 6.1 there is one way to set mailers")
    @pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
    @pytest.mark.usefixtures("admins", "handler")
    def test_the_old_settings_are_understood_too(self, settings: Settings):
        del settings.MAILERS
        settings.EMAIL_BACKEND = OUTBOX["BACKEND"]
        settings.MAIL_OUTBOX = {"MAILERS": {"bulk": LOCMEM}}

        assert "W010" in ids(check_settings())


class TestW011:
    def smtp(self, **options: Any) -> dict[str, Any]:
        """Return a mailer over SMTP."""
        return {"default": {"BACKEND": SMTP, "OPTIONS": {"timeout": 10, **options}}}

    @pytest.mark.parametrize("host", ["mx.example", "192.0.2.1", "2001:db8::1"])
    def test_plain_text_to_another_machine_is_warned_about(self, host: str, configure: Configure):
        configure(self.smtp(host=host))

        found = check_settings()

        assert ids(found) == ["W011"]
        assert "['default']['OPTIONS']['use_tls']" in hint_of(found)

    @pytest.mark.parametrize(
        "options",
        [
            {"host": "localhost"},
            {"host": "127.0.0.1"},
            {"host": "::1"},
            {"host": "mx.example", "use_tls": True},
            {"host": "mx.example", "use_ssl": True},
        ],
    )
    def test_tls_or_this_machine_is_fine(self, options: dict[str, Any], configure: Configure):
        configure(self.smtp(**options))

        assert check_settings() == []


class TestW020:
    @pytest.mark.parametrize(
        "backend",
        [
            SINK["BACKEND"],
            "anymail.backends.console.EmailBackend",
            *(f"django.core.mail.backends.{name}.EmailBackend" for name in ("console", "dummy", "filebased", "locmem")),
        ],
    )
    def test_a_mailer_that_sends_nothing_is_warned_about(self, backend: str, configure: Configure):
        options = {"file_path": "."} if "filebased" in backend else {}
        configure({"default": {"BACKEND": backend, "OPTIONS": options}})

        found = check_deployment()

        assert ids(found) == ["W020"]
        assert "'default'" in found[0].msg

    def test_mailers_that_send_and_the_outbox_itself_are_fine(self, configure: Configure):
        smtp = {"BACKEND": SMTP, "OPTIONS": {"host": "mx.example", "timeout": 10}}
        configure({"default": {**OUTBOX, "OPTIONS": {"using": "mx"}}, "mx": smtp})

        assert check_deployment() == []

    def test_bad_settings_come_first(self, configure: Configure):
        configure({"default": LOCMEM}, MAX_ATTEMPTS=0)

        assert check_deployment() == []


class TestW021:
    SENDING = {"BACKEND": SMTP, "OPTIONS": {"host": "mx.example", "timeout": 10}}

    @pytest.mark.parametrize("guard", [{"REDIRECT_TO": "dev@staging.example"}, {"ALLOW_TO": []}], ids=str)
    def test_a_guard_is_warned_about(self, guard: dict[str, Any], configure: Configure):
        configure({"default": self.SENDING}, **guard)

        found = check_deployment()

        assert ids(found) == ["W021"]
        assert next(iter(guard)) in found[0].msg

    def test_no_guard_is_fine(self, configure: Configure):
        configure({"default": self.SENDING}, REDIRECT_TO=None, ALLOW_TO=None)

        assert check_deployment() == []


class TestW022:
    SENDING = {"BACKEND": SMTP, "OPTIONS": {"host": "mx.example", "timeout": 10}}

    def test_no_sensitive_templates_are_warned_about(self, configure: Configure):
        configure({"default": self.SENDING}, SENSITIVE_TEMPLATES=[])

        found = check_deployment()

        assert ids(found) == ["W022"]
        assert "MAIL_OUTBOX['SENSITIVE_TEMPLATES']" in hint_of(found)

    def test_those_of_the_project_are_fine(self, configure: Configure):
        configure({"default": self.SENDING}, SENSITIVE_TEMPLATES=["accounts/*"])

        assert check_deployment() == []


class TestE006:
    def test_keys_in_a_list_or_from_a_function_are_fine(self, configure: Configure):
        for keys in ([FERNET_KEY], lambda: [FERNET_KEY], None):
            configure({"default": LOCMEM}, ENCRYPTION_KEYS=keys)

            assert check_settings() == []

    @pytest.mark.parametrize(
        ("keys", "said"),
        [
            ([], "there is no key"),
            (list, "there is no key"),
            ([FERNET_KEY, "short"], "key number 2"),
            (lambda: 1 / 0, "ZeroDivisionError"),
        ],
        ids=["none", "none from a function", "bad", "a function that fails"],
    )
    def test_keys_that_are_none_are_told_without_telling_them(self, keys: Any, said: str, configure: Configure):
        configure({"default": LOCMEM}, ENCRYPTION_KEYS=keys)

        found = check_settings()

        assert ids(found) == ["E006"]
        assert said in found[0].msg
        assert not any(key in str(found) for key in (FERNET_KEY, "short"))

    def test_a_missing_library_is_told(self, configure: Configure, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
        configure({"default": LOCMEM}, ENCRYPTION_KEYS=[FERNET_KEY])

        assert "mail-outbox[encryption]" in check_settings()[0].msg

    def test_a_key_outside_a_list_is_not_shown(self, configure: Configure):
        configure({"default": LOCMEM}, ENCRYPTION_KEYS=FERNET_KEY)

        found = check_settings()

        assert ids(found) == ["E003"]
        assert FERNET_KEY not in str(found)


class TestW005:
    def test_content_that_is_kept_for_ever_is_told(self, configure: Configure):
        configure({"default": TestW021.SENDING}, RETENTION={"sent": None, "content": None})

        assert ids(check_deployment()) == ["W005"]

    @pytest.mark.parametrize("retention", [{}, {"sent": None}, {"content": None}], ids=str)
    def test_content_that_goes_at_some_time_is_fine(self, retention: dict[str, None], configure: Configure):
        configure({"default": TestW021.SENDING}, RETENTION=retention)

        assert check_deployment() == []


@pytest.mark.django_db
class TestW013:
    def test_a_database_of_another_deployment_is_told(self, configure: Configure):
        configure({"default": LOCMEM}, INSTANCE="production")
        outbox.drain()
        configure({"default": LOCMEM}, INSTANCE="staging")

        found = [each for each in check_schedule(databases=["default"]) if each.id != "mail_outbox.W006"]

        assert ids(found) == ["W013"]
        assert "'production'" in found[0].hint

    def test_ones_own_and_what_may_not_be_asked_are_fine(self, configure: Configure):
        configure({"default": LOCMEM}, INSTANCE="production")
        outbox.drain()
        own = [each for each in check_schedule(databases=["default"]) if each.id != "mail_outbox.W006"]
        configure({"default": LOCMEM}, INSTANCE="staging")

        assert own + check_schedule(databases=None) == []
