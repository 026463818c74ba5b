"""`MAIL_OUTBOX` is read live: what is remembered of it is never older than the setting."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as live
from django.test import override_settings

from mail_outbox.conf import get_conf


@pytest.fixture(autouse=True)
def given(settings: Any) -> dict[str, Any]:
    """Return the dict that is the setting."""
    settings.MAIL_OUTBOX = {**live.MAIL_OUTBOX, "MAX_ATTEMPTS": 7, "MAILER_OPTIONS": {"bulk": {"concurrency": 2}}}
    found: dict[str, Any] = settings.MAIL_OUTBOX
    return found


def test_it_is_the_same_value_while_nothing_changes():
    assert get_conf() is get_conf()
    assert get_conf().max_attempts == 7


def test_another_setting_counts_at_once_and_no_longer_than_it_stands(given: dict[str, Any]):
    with override_settings(MAIL_OUTBOX={**given, "MAX_ATTEMPTS": 8}):
        assert get_conf().max_attempts == 8

    assert get_conf().max_attempts == 7


def test_so_does_what_is_written_into_the_dict(given: dict[str, Any]):
    assert get_conf().max_attempts == 7

    given["MAX_ATTEMPTS"] = 9
    given["SLICE"] = timedelta(seconds=1)

    assert (get_conf().max_attempts, get_conf().slice) == (9, timedelta(seconds=1))

    del given["MAX_ATTEMPTS"]

    assert get_conf().max_attempts == 30


def test_so_does_what_is_written_into_a_dict_inside(given: dict[str, Any]):
    assert get_conf().options_of("bulk").concurrency == 2

    given["MAILER_OPTIONS"]["bulk"]["concurrency"] = 3

    assert get_conf().options_of("bulk").concurrency == 3


def test_so_does_a_dict_inside_that_was_equal_at_first(given: dict[str, Any]):
    assert get_conf().options_of("bulk").concurrency == 2

    given["MAILER_OPTIONS"] = {"bulk": {"concurrency": 2}}
    assert get_conf().options_of("bulk").concurrency == 2
    given["MAILER_OPTIONS"]["bulk"]["concurrency"] = 4

    assert get_conf().options_of("bulk").concurrency == 4
