"""What stands beside the outbox is checked: transactions of the database, Django's own mail, webhooks."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core import checks, mail
from django.db import connections, router
from django.test import override_settings
from django.urls import include, path
from pytest_django import Settings

from mail_outbox.checks import check_deployment, check_locks, check_neighbours, check_settings
from tests.shells.conftest import LOCMEM, OUTBOX, SINK, Configure
from tests.shells.test_checks import hint_of, ids

HAS_DJANGO_MAILERS = hasattr(mail, "mailers")

urlpatterns = [path("anymail/", include("anymail.urls"))]


class ElsewhereRouter:
    """A router that writes the project's own data to another database."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        """Send everything but the outbox elsewhere."""
        return None if model._meta.app_label == "mail_outbox" else "elsewhere"


class UsersElsewhereRouter:
    """A router that writes only the users to another database."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        """Send the users elsewhere."""
        return "elsewhere" if model is get_user_model() else None


class TestW004:
    @pytest.mark.usefixtures("no_test_outbox")
    def test_mail_of_django_that_goes_past_the_outbox_is_mentioned(self, configure: Configure):
        configure({"default": LOCMEM})

        found = check_neighbours()

        assert ids(found) == ["W004"]
        assert found[0].level == checks.INFO
        assert ("MAILERS['default']['BACKEND'] = " if HAS_DJANGO_MAILERS else "EMAIL_BACKEND = ") in hint_of(found)
        assert OUTBOX["BACKEND"] in hint_of(found)

    def test_the_drop_in_is_fine(self, outbox_backend: None):
        assert check_neighbours() == []

    def test_what_djangos_test_setup_has_put_in_its_place_is_fine(self):
        assert check_neighbours() == []

    def test_what_a_test_has_put_there_by_itself_is_mentioned(self, configure: Configure, settings: Settings):
        configure({"default": SINK})
        if not HAS_DJANGO_MAILERS:
            settings.EMAIL_BACKEND = SINK["BACKEND"]

        assert ids(check_neighbours()) == ["W004"]

    @pytest.mark.skipif(not HAS_DJANGO_MAILERS, reason="before 6.1 Django has one backend of its own")
    def test_the_drop_in_under_another_name_is_fine(self, configure: Configure):
        configure({"default": LOCMEM, "later": {**OUTBOX, "OPTIONS": {"using": "default"}}})

        assert check_neighbours() == []

    def test_bad_settings_come_first(self, configure: Configure):
        configure({"default": LOCMEM}, MAX_ATTEMPTS=0)

        assert check_neighbours() == []


class TestW008:
    POSTMARK = {"BACKEND": "anymail.backends.postmark.EmailBackend", "OPTIONS": {"server_token": "t"}}
    MAILGUN = {"BACKEND": "anymail.backends.mailgun.EmailBackend", "OPTIONS": {"api_key": "k"}}

    def test_a_webhook_without_a_secret_is_warned_about(self, configure: Configure):
        configure({"default": self.POSTMARK})

        with override_settings(ROOT_URLCONF=__name__):
            found = check_deployment()

        assert ids(found) == ["W008"]
        assert "Postmark" in found[0].msg
        assert "ANYMAIL['WEBHOOK_SECRET'] = " in hint_of(found)

    def test_a_secret_is_fine(self, configure: Configure):
        configure({"default": self.POSTMARK})

        with override_settings(ROOT_URLCONF=__name__, ANYMAIL={"WEBHOOK_SECRET": "jane:secret"}):
            assert check_deployment() == []
        with override_settings(ROOT_URLCONF=__name__, ANYMAIL_WEBHOOK_SECRET="jane:secret"):
            assert check_deployment() == []

    def test_a_provider_that_signs_is_fine(self, configure: Configure):
        configure({"default": self.MAILGUN})

        with override_settings(ROOT_URLCONF=__name__):
            assert check_deployment() == []

    @pytest.mark.parametrize("urls", ["tests.shells.urls", None])
    def test_no_webhook_is_fine(self, urls: str | None, configure: Configure):
        configure({"default": self.POSTMARK})

        with override_settings(ROOT_URLCONF=urls):
            assert check_deployment() == []


class TestW009:
    @pytest.fixture
    def database(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """Let the database be of another vendor, with other options."""

        def database(vendor: str, options: dict[str, Any]) -> None:
            monkeypatch.setattr(connections["default"], "vendor", vendor)
            monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", options)

        return database

    @pytest.mark.parametrize(
        ("vendor", "level", "good"),
        [
            ("mysql", "repeatable read", "'read committed'"),
            ("mysql", "Serializable", "'read committed'"),
            ("mysql", None, "'read committed'"),
            ("postgresql", "REPEATABLE_READ", "READ_COMMITTED"),
            ("postgresql", "SERIALIZABLE", "READ_COMMITTED"),
        ],
    )
    def test_transactions_that_see_an_old_picture_are_warned_about(
        self, vendor: str, level: Any, good: str, database: Callable[..., None]
    ):
        if vendor == "postgresql":
            level = pytest.importorskip("psycopg").IsolationLevel[level]
        database(vendor, {"isolation_level": level})

        found = check_settings()

        assert ids(found) == ["W009"]
        assert "DATABASES['default']['OPTIONS']['isolation_level']" in hint_of(found)
        assert good in hint_of(found)

    @pytest.mark.parametrize(
        ("vendor", "options"),
        [
            ("mysql", {}),
            ("mysql", {"isolation_level": "read committed"}),
            ("postgresql", {}),
            ("postgresql", {"isolation_level": 2}),
            ("postgresql", {"isolation_level": "no such level"}),
            ("sqlite", {"isolation_level": None, "transaction_mode": "IMMEDIATE"}),
        ],
    )
    def test_transactions_that_see_what_is_committed_are_fine(
        self, vendor: str, options: dict[str, Any], database: Callable[..., None]
    ):
        database(vendor, options)

        assert check_settings() == []

    @pytest.mark.django_db
    def test_a_server_that_cannot_skip_locks_is_warned_about(
        self, database: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ):
        database("mysql", {"isolation_level": "read committed"})
        monkeypatch.setattr(connections["default"].features, "has_select_for_update_skip_locked", False)

        found = check_locks(databases=["default"])

        assert ids(found) == ["W009"]
        assert "MariaDB 10.6" in hint_of(found)

    @pytest.mark.django_db
    def test_this_server_is_fine(self):
        assert check_locks(databases=["default"]) == []

    @pytest.mark.django_db
    @pytest.mark.parametrize("databases", [None, [], ["other"]])
    def test_the_database_is_not_asked_unasked(
        self, databases: list[str] | None, database: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ):
        database("mysql", {"isolation_level": "read committed"})
        monkeypatch.setattr(connections["default"].features, "has_select_for_update_skip_locked", False)

        assert check_locks(databases=databases) == []


class TestW012:
    def test_an_outbox_that_shares_no_transaction_is_warned_about(self, settings: Settings):
        settings.DATABASE_ROUTERS = [f"{__name__}.ElsewhereRouter"]
        assert router.db_for_write(get_user_model()) == "elsewhere"

        found = check_settings()

        assert ids(found) == ["W012"]
        assert "MAIL_OUTBOX['DATABASE'] to 'elsewhere'" in hint_of(found)

    def test_one_that_shares_some_is_fine(self, settings: Settings):
        settings.DATABASE_ROUTERS = [f"{__name__}.UsersElsewhereRouter"]

        assert check_settings() == []

    def test_one_database_for_all_is_fine(self):
        assert check_settings() == []
