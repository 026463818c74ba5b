"""Routes in the settings: each mistake has a check that names it, with a hint."""

from collections.abc import Iterable
from typing import Any

import pytest
from django.core import checks
from django.core.mail import EmailMessage

from mail_outbox.checks import check_settings
from tests.shells.conftest import LOCMEM, OUTBOX, Configure

MAILERS = {"ses": LOCMEM, "mailgun": LOCMEM}


def choose(message: EmailMessage) -> str:
    """Choose, as a project's own callable does."""
    return "ses"


def ids(found: Iterable[checks.CheckMessage]) -> list[str]:
    return [str(message.id).removeprefix("mail_outbox.") for message in found]


def test_good_routes_are_found_to_be_good(configure: Configure):
    routes = {
        "main": ["mailgun", "ses"],
        "bulk": {"ses": 3, "mailgun": 0.5},
        "smart": f"{__name__}.choose",
        "smarter": choose,
    }
    configure({"default": {**OUTBOX, "OPTIONS": {"using": "main"}}, **MAILERS}, USING="main", ROUTES=routes)

    assert check_settings() == []


@pytest.mark.parametrize(
    "routes",
    [
        ["ses"],
        {3: ["ses"]},
        {"main": []},
        {"main": {}},
        {"main": ["ses", "ses"]},
        {"main": ["ses", 3]},
        {"main": {"ses": 0}},
        {"main": {"ses": -1}},
        {"main": {"ses": "much"}},
        {"main": {"ses": True}},
        {"main": None},
        {"main": "ses"},
        {"main": "shop.mail.choose"},
        {"main": f"{__name__}.MAILERS"},
        {"ses": ["mailgun"]},
    ],
    ids=str,
)
def test_what_cannot_be_a_route_is_named_with_what_can(routes: Any, configure: Configure):
    configure(MAILERS, USING="mailgun", ROUTES=routes)

    [found] = check_settings()

    assert ids([found]) == ["E003"]
    assert "ROUTES" in found.msg
    assert found.hint


def test_an_unknown_mailer_in_a_route_is_answered_with_the_closest(configure: Configure):
    configure(MAILERS, USING="mailgun", ROUTES={"main": ["mailgum", "ses"]})

    [found] = check_settings()

    assert ids([found]) == ["E002"]
    assert "['ROUTES']['main']" in found.msg
    assert "Did you mean 'mailgun'?" in str(found.hint)


def test_the_outbox_itself_is_no_way_out(configure: Configure):
    configure({"default": OUTBOX, **MAILERS}, USING="ses", ROUTES={"main": ["default", "ses"]})

    [found] = check_settings()

    assert ids([found]) == ["E004"]
    assert "ses, mailgun" in str(found.hint)


@pytest.mark.parametrize(
    "mailers",
    [MAILERS, {"default": {**OUTBOX, "OPTIONS": {"using": "mian"}}, **MAILERS}],
    ids=["USING", "the drop-in"],
)
def test_an_unknown_name_is_answered_with_routes_too(mailers: dict[str, Any], configure: Configure):
    using = "mian" if mailers is MAILERS else "ses"
    configure(mailers, USING=using, ROUTES={"main": ["ses", "mailgun"]})

    [found] = check_settings()

    assert ids([found]) == ["E002"]
    assert "Did you mean 'main'?" in str(found.hint)


def test_options_are_for_mailers_only(configure: Configure):
    configure(MAILERS, USING="ses", ROUTES={"main": ["ses"]}, MAILER_OPTIONS={"main": {"concurrency": 2}})

    assert ids(check_settings()) == ["E002"]
