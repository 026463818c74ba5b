"""Whom mail from a staging site really goes to is said before it is sent."""

import pytest
from django.conf import settings
from django.test import override_settings

from mail_outbox import outbox
from mail_outbox.admin.guard import tell_guard, tell_rule
from mail_outbox.conf import Conf
from tests.shells.admin.conftest import ENTRIES, act_on, page_of
from tests.support import a_message

JANE, JOE = "jane@shop.example", "joe@team.example"
THEIRS = ("a@x.example", "b@x.example", "c@x.example", "d@x.example", "e@x.example")
DEV, QA = "dev@team.example", "qa@team.example"


@pytest.mark.parametrize(
    ("conf", "addresses", "story"),
    [
        (Conf(), [JANE], []),
        (
            Conf(redirect_to=DEV),
            [JANE, JOE, JANE],
            [f"It will be redirected to {DEV} instead of {JANE} and {JOE} (MAIL_OUTBOX['REDIRECT_TO'])."],
        ),
        (
            Conf(redirect_to=[DEV, QA], allow_to=["*@team.example"]),
            [JANE, JOE],
            [f"It will be redirected to {DEV} and {QA} instead of {JANE} (MAIL_OUTBOX['REDIRECT_TO'])."],
        ),
        (Conf(redirect_to=DEV, allow_to=["*@team.example"]), [JOE], []),
        (
            Conf(allow_to=["*@team.example"]),
            [JANE, JOE],
            [f"It will not go to {JANE} (MAIL_OUTBOX['ALLOW_TO'])."],
        ),
        (Conf(allow_to=[]), [JANE], ["It will go to nobody, and be cancelled (MAIL_OUTBOX['ALLOW_TO'])."]),
        (
            Conf(redirect_to=DEV),
            THEIRS,
            [
                f"It will be redirected to {DEV} instead of a@x.example, b@x.example, c@x.example and 2 more "
                "(MAIL_OUTBOX['REDIRECT_TO'])."
            ],
        ),
        (
            Conf(redirect_to=[]),
            [JANE],
            ["This site sends nothing: MAIL_OUTBOX['REDIRECT_TO'] is neither an address nor a list of addresses."],
        ),
        (
            Conf(interceptors=["shop.mail.sign", tell_rule]),
            [JANE],
            ["Before each attempt these may change or stop it: shop.mail.sign, tell_rule."],
        ),
    ],
)
def test_the_story_of_one_mail(conf: Conf, addresses: list[str], story: list[str]):
    assert tell_guard(addresses, conf, is_over=False) == story


def test_the_story_of_a_mail_that_is_over_is_what_would_be():
    assert tell_guard([JANE], Conf(redirect_to=DEV), is_over=True) == [
        f"Sent again, it would go to {DEV} instead of {JANE} (MAIL_OUTBOX['REDIRECT_TO'])."
    ]
    assert tell_guard([JANE], Conf(allow_to=[]), is_over=True) == [
        "Sent again, it would go to nobody, and be cancelled (MAIL_OUTBOX['ALLOW_TO'])."
    ]


@pytest.mark.parametrize(
    ("conf", "rule"),
    [
        (Conf(), ""),
        (
            Conf(redirect_to=DEV),
            f"This site redirects mail: it goes to {DEV} (MAIL_OUTBOX['REDIRECT_TO']), not to its recipients.",
        ),
        (
            Conf(redirect_to=DEV, allow_to=["*@team.example"]),
            f"This site redirects mail: it goes to {DEV} (MAIL_OUTBOX['REDIRECT_TO']), except what is for *@team.example.",
        ),
        (
            Conf(allow_to=["*@team.example"]),
            "This site sends mail to nobody but *@team.example (MAIL_OUTBOX['ALLOW_TO']).",
        ),
        (Conf(allow_to=[]), "This site sends no mail: MAIL_OUTBOX['ALLOW_TO'] is empty."),
        (
            Conf(allow_to=["x"]),
            "This site sends nothing: MAIL_OUTBOX['ALLOW_TO'] is no list of addresses and patterns.",
        ),
    ],
)
def test_the_rule_of_the_site(conf: Conf, rule: str):
    assert tell_rule(conf) == rule


@pytest.mark.django_db
def test_page_form_and_dashboard_say_it(admin_client, providers):
    entry = outbox.enqueue(a_message())
    with override_settings(MAIL_OUTBOX={**settings.MAIL_OUTBOX, "REDIRECT_TO": DEV}):
        pages = [
            admin_client.get(url).content.decode()
            for url in (page_of(entry), act_on("reschedule", entry), f"{ENTRIES}dashboard/", act_on("cancel", entry))
        ]

    assert f"It will be redirected to {DEV} instead of jane@example.com" in pages[0]
    assert "Shown is what was enqueued." in pages[0]
    assert "This site redirects mail" in pages[1]
    assert "This site redirects mail" in pages[2]
    assert "redirects" not in pages[3]
    assert "redirect" not in admin_client.get(page_of(entry)).content.decode()
