"""enqueue_template: which templates, what they are rendered with, and what becomes of it."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.db import transaction
from django.template import TemplateDoesNotExist, TemplateSyntaxError
from django.utils import translation
from django.utils.translation import gettext_lazy

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry

pytestmark = pytest.mark.django_db

TO = ["jane@example.com"]
WELCOME = {
    "welcome/subject.txt": "Welcome, {{ name }}!\n",
    "welcome/body.txt": "\nHello {{ name }}\n",
    "welcome/body.html": "<p>Hello <b>{{ name }}</b></p>",
}
STYLED = {
    "styled/subject.txt": "Styled",
    "styled/body.html": """<html><head>
        <link rel="stylesheet" href="https://example.com/mail.css">
        <style>p { color: red } @media (max-width: 600px) { p { color: blue } }</style>
        </head><body><p>Hello</p></body></html>""",
}

Write = Callable[[Mapping[str, str]], None]


@pytest.fixture
def write(settings, tmp_path: Path) -> Write:
    """Let the project have these templates."""
    [engine] = settings.TEMPLATES
    settings.TEMPLATES = [{**engine, "DIRS": [tmp_path]}]

    def write(templates: Mapping[str, str]) -> None:
        for name, source in templates.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source, encoding="utf-8")

    return write


def message_of(entry: OutboxEntry) -> EmailMultiAlternatives:
    """Return the message that a worker will send."""
    message = OutboxEntry.objects.get(pk=entry.pk).message()
    assert isinstance(message, EmailMultiAlternatives)
    return message


def html_of(entry: OutboxEntry) -> str:
    """Return the HTML part of the message."""
    [(html, mimetype)] = message_of(entry).alternatives
    assert mimetype == "text/html"
    assert isinstance(html, str)
    return html


class TestEnqueueTemplate:
    def test_it_enqueues_what_the_templates_say(self, write):
        write(WELCOME)

        entry = outbox.enqueue_template("welcome", TO, {"name": "Jane"})

        message = message_of(entry)
        assert entry.state == State.QUEUED
        assert entry.subject == message.subject == "Welcome, Jane!"
        assert message.body == "Hello Jane"
        assert html_of(entry) == "<p>Hello <b>Jane</b></p>"
        assert message.to == TO

    def test_it_takes_the_keywords_of_a_message(self, write):
        write(WELCOME)

        entry = outbox.enqueue_template(
            "welcome",
            TO,
            from_email="shop@example.com",
            cc=["c@example.com"],
            bcc=["b@example.com"],
            reply_to=["r@example.com"],
            headers={"X-Shop": "1"},
            attachments=[("a.txt", "Text", "text/plain")],
        )

        message = message_of(entry)
        assert message.from_email == "shop@example.com"
        assert (message.cc, message.bcc, message.reply_to) == (["c@example.com"], ["b@example.com"], ["r@example.com"])
        assert message.extra_headers["X-Shop"] == "1"
        assert [tuple(attachment) for attachment in message.attachments] == [("a.txt", "Text", "text/plain")]

    def test_it_takes_the_keywords_of_enqueue(self, write):
        write(WELCOME)
        user = User.objects.create_user("jane")

        entry = outbox.enqueue_template(
            "welcome",
            TO,
            using="bulk",
            priority=outbox.LOW,
            idempotency_key="welcome-1",
            related=user,
            tags=["welcome"],
        )
        again = outbox.enqueue_template("welcome", TO, idempotency_key="welcome-1")

        assert (entry.using, entry.priority, entry.related_object, entry.tags) == ("bulk", -50, user, ["welcome"])
        assert again.is_duplicate
        assert again.pk == entry.pk

    def test_the_entry_knows_its_template(self, write):
        write(WELCOME)

        entry = outbox.enqueue_template("welcome", TO, idempotency_key="1")
        outbox.cancel(entry)

        entry.refresh_from_db()
        assert (entry.template, outbox.resend(entry).template) == ("welcome", "welcome")

    def test_content_that_replaces_other_content_brings_its_template(self, write):
        write(WELCOME)
        entry = outbox.enqueue(EmailMessage("Hello", to=TO), idempotency_key="1")

        outbox.enqueue_template("welcome", TO, idempotency_key="1", on_conflict="replace")

        entry.refresh_from_db()
        assert entry.template == "welcome"

    def test_it_is_part_of_the_callers_transaction(self, write):
        write(WELCOME)

        with pytest.raises(ZeroDivisionError), transaction.atomic():
            outbox.enqueue_template("welcome", TO)
            raise ZeroDivisionError

        assert not OutboxEntry.objects.exists()

    def test_an_asynchronous_caller_gets_the_same_entry(self, write):
        write(WELCOME)

        entry = async_to_sync(outbox.aenqueue_template)("welcome", TO, {"name": "Jane"})

        assert OutboxEntry.objects.get(pk=entry.pk).subject == "Welcome, Jane!"


class TestNames:
    def test_the_names_of_allauth_are_known(self, write):
        write(
            {
                "account/email/email_confirmation_subject.txt": "Confirm",
                "account/email/email_confirmation_message.txt": "Text",
                "account/email/email_confirmation_message.html": "<p>HTML</p>",
            }
        )

        entry = outbox.enqueue_template("account/email/email_confirmation", TO)

        assert (entry.subject, message_of(entry).body, html_of(entry)) == ("Confirm", "Text", "<p>HTML</p>")

    def test_a_text_alone_is_enough(self, write):
        write({"plain/subject.txt": "Plain", "plain/body.txt": "Text"})

        message = message_of(outbox.enqueue_template("plain", TO))

        assert (message.body, message.alternatives) == ("Text", [])

    @pytest.mark.parametrize("text", [{}, {"rich/body.txt": "{% if False %}Text{% endif %}\n"}], ids=["no", "an empty"])
    def test_where_there_is_no_text_it_is_derived_from_the_html(self, write, text):
        write(
            {"rich/subject.txt": "Rich", "rich/body.html": "<p>Tom {{ and }}</p><a href='https://x.example'>x</a>"}
            | text
        )

        entry = outbox.enqueue_template("rich", TO, {"and": "& Jerry"})

        assert html_of(entry).startswith("<p>Tom &amp; Jerry</p>")
        assert message_of(entry).body == "Tom & Jerry\n\nx (https://x.example)"

    def test_an_unknown_name_tells_what_was_tried_and_what_there_is(self, write):
        write(WELCOME)
        write(
            {"news/weekly_subject.txt": "News", "news/weekly_message.html": "<p>News</p>", "half/subject.txt": "Half"}
        )

        with pytest.raises(outbox.UnknownTemplate) as caught:
            outbox.enqueue_template("welcom", TO)

        error = str(caught.value)
        assert "'welcom'" in error
        assert (
            "Tried: welcom/subject.txt, welcom/body.txt, welcom/body.html, welcom_subject.txt, welcom_message.txt"
            in error
        )
        assert "Did you mean 'welcome'? Known: news/weekly, welcome." in error

    def test_an_unknown_name_is_what_django_raises_too(self, write):
        with pytest.raises(TemplateDoesNotExist):
            outbox.enqueue_template("welcome", TO)
        with pytest.raises(outbox.OutboxError):
            outbox.enqueue_template("welcome", TO)

    @pytest.mark.parametrize(
        "present",
        [["half/subject.txt"], ["half/body.txt"], ["half/body.html"], ["half_message.txt", "half_message.html"]],
    )
    def test_half_a_mail_is_an_error_that_tells_which_half_there_is(self, write, present):
        write(dict.fromkeys(present, "x"))

        with pytest.raises(outbox.UnknownTemplate, match="a mail needs a subject and a body") as caught:
            outbox.enqueue_template("half", TO)

        assert f"there is {' and '.join(present)}," in str(caught.value)
        assert not OutboxEntry.objects.exists()

    def test_an_include_that_is_missing_is_djangos_own_error(self, write):
        write(WELCOME | {"welcome/body.txt": "{% include 'nowhere.txt' %}"})

        with pytest.raises(TemplateDoesNotExist, match=r"nowhere\.txt") as caught:
            outbox.enqueue_template("welcome", TO)

        assert not isinstance(caught.value, outbox.UnknownTemplate)


class TestRendering:
    def test_the_subject_is_one_line(self, write):
        write(WELCOME | {"welcome/subject.txt": "\n{% if name %}\n  Hello \t {{ name }}\n{% endif %}\n"})

        entry = outbox.enqueue_template("welcome", TO, {"name": "Jane\r\nBcc: all@example.com\u2028\x0b\x85Doe"})

        assert entry.subject == "Hello Jane Bcc: all@example.com Doe"

    def test_no_break_spaces_stay_in_the_subject(self, write):
        write(WELCOME | {"welcome/subject.txt": "Bonjour\N{NARROW NO-BREAK SPACE}! 10\N{NO-BREAK SPACE}%"})

        entry = outbox.enqueue_template("welcome", TO)

        assert entry.subject == "Bonjour\N{NARROW NO-BREAK SPACE}! 10\N{NO-BREAK SPACE}%"

    def test_only_html_is_escaped(self, write):
        write(
            WELCOME | {"welcome/body.txt": "{% include 'name.txt' %} {{ name|linebreaksbr }}", "name.txt": "{{ name }}"}
        )

        entry = outbox.enqueue_template("welcome", TO, {"name": "Tom & <Jerry>"})

        assert entry.subject == "Welcome, Tom & <Jerry>!"
        assert message_of(entry).body == "Tom & <Jerry> Tom & <Jerry>"
        assert html_of(entry) == "<p>Hello <b>Tom &amp; &lt;Jerry&gt;</b></p>"

    @pytest.mark.parametrize("text", ["{{ 7|add:1 }}", "{% include 'admin/login.html' %}", "{% foo %}"])
    def test_what_a_user_wrote_is_never_a_template(self, write, provider, text):
        write(WELCOME | {"welcome/body.html": "<p>Hello {{ name|safe }}</p>"})

        entry = outbox.enqueue_template("welcome", TO, {"name": text})
        outbox.drain()

        [sent] = provider.accepted
        assert entry.subject == sent.subject == f"Welcome, {text}!"
        assert sent.body == f"Hello {text}"
        assert sent.alternatives[0][0] == f"<p>Hello {text}</p>"

    def test_a_change_after_enqueue_changes_nothing(self, write, provider):
        write(WELCOME)
        user = User.objects.create_user("jane")
        outbox.enqueue_template("welcome", TO, {"name": user.username})

        user.delete()
        write({"welcome/body.txt": "{% broken %}"})
        outbox.drain()

        assert [message.body for message in provider.accepted] == ["Hello jane"]

    def test_a_template_that_fails_fails_here_and_writes_nothing(self, write):
        write(WELCOME | {"welcome/body.txt": "{% broken %}"})

        with pytest.raises(TemplateSyntaxError):
            outbox.enqueue_template("welcome", TO)

        assert not OutboxEntry.objects.exists()

    def test_a_request_gives_the_context_processors(self, write, rf):
        write(WELCOME)
        write({"welcome/body.txt": "{{ request.path }} {{ user.username }} {{ name }}"})
        request = rf.get("/signup/")
        request.user = User(username="jane")

        assert message_of(outbox.enqueue_template("welcome", TO, {"name": "&"})).body == "&"
        assert (
            message_of(outbox.enqueue_template("welcome", TO, {"name": "&"}, request=request)).body == "/signup/ jane &"
        )

    def test_the_callers_context_is_left_alone(self, write):
        write(WELCOME | {"welcome/subject.txt": "{% cycle 'a' 'b' as name %}"})
        context = {"name": "Jane"}

        entry = outbox.enqueue_template("welcome", TO, context)

        assert context == {"name": "Jane"}
        assert message_of(entry).body == "Hello Jane"


class TestLanguage:
    TRANSLATED = {
        "reset/subject.txt": "{% load i18n %}{% translate 'Password' %}",
        "reset/body.txt": "{% load i18n %}{% get_current_language as code %}{{ code }} {{ word }} {{ 1.5 }}",
    }

    def test_it_is_the_one_that_was_named(self, write):
        write(self.TRANSLATED)

        with translation.override("fr"):
            entry = outbox.enqueue_template("reset", TO, {"word": gettext_lazy("Password")}, language="de")
            assert translation.get_language() == "fr"

        assert entry.subject == "Passwort"
        assert message_of(entry).body == "de Passwort 1,5"

    @pytest.mark.parametrize("language", [None, ""])
    def test_it_is_the_active_one_where_none_is_named(self, write, language):
        write(self.TRANSLATED)

        with translation.override("fr"):
            entry = outbox.enqueue_template("reset", TO, language=language)

        assert entry.subject == "Mot de passe"

    def test_lazy_texts_of_the_message_are_in_it_too(self, write):
        write(self.TRANSLATED)

        entry = outbox.enqueue_template("reset", TO, language="de", headers={"X-About": gettext_lazy("Password")})

        assert message_of(entry).extra_headers["X-About"] == "Passwort"

    def test_it_ends_with_an_error(self, write):
        with translation.override("fr"):
            with pytest.raises(outbox.UnknownTemplate):
                outbox.enqueue_template("reset", TO, language="de")

            assert translation.get_language() == "fr"


class TestSensitive:
    @pytest.mark.parametrize(
        ("name", "said", "is_sensitive"),
        [
            ("welcome", None, False),
            ("welcome", True, True),
            ("registration/reset", None, True),
            ("registration/reset", False, False),
            ("account/email/password_reset_key", None, True),
            ("account/emails", None, False),
        ],
    )
    def test_the_name_decides_unless_the_caller_does(self, write, name, said, is_sensitive):
        write({f"{name}/subject.txt": "Subject", f"{name}/body.txt": "Text"})

        entry = outbox.enqueue_template(name, TO, sensitive=said)

        assert entry.sensitive is is_sensitive

    def test_the_project_can_name_others(self, write, settings):
        write(WELCOME)
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "SENSITIVE_TEMPLATES": ["w?lcome"]}

        assert outbox.enqueue_template("welcome", TO).sensitive


class TestInlineCss:
    @pytest.fixture(autouse=True)
    def inline_css(self, settings) -> None:
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "INLINE_CSS": True}

    def test_rules_move_into_the_elements_and_media_queries_stay(self, write):
        write(STYLED)

        html = html_of(outbox.enqueue_template("styled", TO))

        assert '<p style="color: red;">Hello</p>' in html
        assert "@media (max-width: 600px)" in html
        assert "p { color: red }" not in html

    def test_the_text_is_derived_all_the_same(self, write):
        write(STYLED)

        assert message_of(outbox.enqueue_template("styled", TO)).body == "Hello"

    def test_files_are_not_read(self, write, tmp_path):
        (tmp_path / "secret.css").write_text("p { color: green }")
        link = f'<link rel="stylesheet" href="{(tmp_path / "secret.css").as_uri()}">'
        write(STYLED | {"styled/body.html": f"{link}<style>p {{ margin: 0 }}</style><p>Hello</p>"})

        html = html_of(outbox.enqueue_template("styled", TO))

        assert '<p style="margin: 0;">' in html
        assert "green" not in html

    def test_html_without_style_stays_as_it_is(self, write):
        write(WELCOME)

        assert html_of(outbox.enqueue_template("welcome", TO, {"name": "Jane"})) == "<p>Hello <b>Jane</b></p>"

    def test_nothing_is_inlined_unless_the_project_says_so(self, write, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "INLINE_CSS": False}
        write(STYLED)

        assert html_of(outbox.enqueue_template("styled", TO)) == STYLED["styled/body.html"]

    def test_without_the_package_the_error_names_the_extra(self, write, monkeypatch):
        write(WELCOME)
        monkeypatch.setitem(sys.modules, "css_inline", None)

        with pytest.raises(ImproperlyConfigured, match=r"pip install 'mail-outbox\[html\]'"):
            outbox.enqueue_template("welcome", TO)
