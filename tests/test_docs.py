"""What the documentation says is so: states, settings, checks, signals, commands, links, and the examples run."""

import ast
import os
import re
import shlex
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from anymail.message import AnymailMessage
from django.conf import settings as project
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.mail import EmailMessage
from django.dispatch import Signal
from django.test import RequestFactory, override_settings

from mail_outbox import outbox, signals
from mail_outbox.checks import check_settings
from mail_outbox.conf import Conf, MailerOptions
from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import TRANSITIONS, State, Verb
from mail_outbox.management.commands import outbox as command
from tests.support import scripted

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
REFERENCE = ROOT / "docs" / "reference"
EXPLANATION = ROOT / "docs" / "explanation"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
HAS_DJANGO_MAILERS = hasattr(mail, "mailers")


def text_of(page: Path) -> str:
    """Return the page."""
    return page.read_text(encoding="utf-8")


def rows_of(page: Path, *head: str) -> list[list[str]]:
    """Return the rows of all tables on the page whose header begins like this."""
    rows: list[list[str]] = []
    is_inside = False
    for line in text_of(page).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            is_inside = False
        elif cells[: len(head)] == list(head):
            is_inside = True
        elif is_inside and set(line) - set("|-"):
            rows.append(cells)
    return rows


def codes(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def examples(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the Python examples of the page that carry a name in a comment before them."""
    yield from re.findall(r"<!-- test: (.+?) -->\n```python\n(.*?)```", text_of(page), re.DOTALL)


def default_of(field: Field[Any]) -> object:
    """Return the default of a setting."""
    return field.default if field.default is not MISSING else field.default_factory()  # type: ignore[misc]


class TestStates:
    PAGE = REFERENCE / "states.md"

    def changes(self) -> dict[tuple[str, State | None], set[State]]:
        changes: dict[tuple[str, State | None], set[State]] = {}
        for before, verb, after, *_ in rows_of(self.PAGE, "From", "Verb", "To"):
            for source in [State(name) for name in codes(before)] or [None]:
                changes.setdefault((verb, source), set()).update(State(name) for name in codes(after))
        return changes

    @pytest.mark.parametrize(
        ("verb", "before", "after"),
        [
            pytest.param(verb, before, after, id=f"{before or 'nothing'} {verb}")
            for verb, table in TRANSITIONS.items()
            for before, after in table.items()
        ],
    )
    def test_the_page_has_every_change(self, verb: Verb, before: State | None, after: frozenset[State]):
        assert self.changes()[verb, before] == after

    def test_the_page_has_no_change_that_is_none(self):
        known = {(verb.value, before) for verb, table in TRANSITIONS.items() for before in table}

        assert self.changes().keys() <= known

    def test_the_page_explains_every_state_and_outcome(self):
        assert [codes(state) for state, *_ in rows_of(self.PAGE, "State")] == [[state] for state in State]
        assert [codes(kind) for kind, *_ in rows_of(self.PAGE, "Outcome")] == [[kind] for kind in Kind]


class TestSettings:
    PAGE = REFERENCE / "settings.md"

    @pytest.mark.parametrize("field", fields(Conf), ids=lambda field: field.name)
    def test_the_page_has_every_key_with_its_default(self, field: Field[Any]):
        assert self.default(self.PAGE, "Key", field.name.upper()) == default_of(field)

    @pytest.mark.parametrize("field", fields(MailerOptions), ids=lambda field: field.name)
    def test_the_page_has_every_option_of_a_mailer_with_its_default(self, field: Field[Any]):
        assert self.default(self.PAGE, "Option", field.name) == default_of(field)

    def test_the_page_has_nothing_that_is_not_there(self):
        assert [codes(key) for key, *_ in rows_of(self.PAGE, "Key")] == [[f.name.upper()] for f in fields(Conf)]
        assert [codes(key) for key, *_ in rows_of(self.PAGE, "Option")] == [[f.name] for f in fields(MailerOptions)]

    @pytest.mark.parametrize("key", [codes(key)[0] for key, *_ in rows_of(README, "Key", "Default")])
    def test_the_readme_agrees(self, key: str):
        [field] = [field for field in fields(Conf) if field.name.upper() == key]

        assert self.default(README, "Key", key) == default_of(field)

    def default(self, page: Path, head: str, key: str) -> object:
        [default] = [default for name, default, *_ in rows_of(page, head, "Default") if codes(name) == [key]]
        [expression] = codes(default)
        return eval(expression, {"timedelta": timedelta})  # noqa: S307 (our own page)


class TestChecks:
    PAGE = REFERENCE / "checks.md"
    TESTS = sorted((ROOT / "tests" / "shells").glob("test_*checks.py"))
    IDS = [codes(id_)[0].removeprefix("mail_outbox.") for id_, *_ in rows_of(PAGE, "Id")]

    def test_the_page_has_every_check(self):
        sources = "\n".join(map(text_of, (ROOT / "mail_outbox" / "checks").glob("*.py")))
        numbers = re.findall(r"\berror\(\s*(\d+)", sources)
        names = re.findall(r"\bwarning\(\s*\"([EW]\d+)\"", sources) + re.findall(
            r"id=\"mail_outbox\.([EW]\d+)\"", sources
        )

        assert set(self.IDS) == {f"E{int(number):03}" for number in numbers} | set(names)
        assert len(self.IDS) == len(set(self.IDS))

    @pytest.mark.parametrize("id_", IDS)
    def test_every_check_has_a_test_that_provokes_it_and_one_that_is_fine(self, id_: str):
        tests = {
            test.name: ast.unparse(test)
            for page in self.TESTS
            for kind in ast.parse(text_of(page)).body
            if isinstance(kind, ast.ClassDef) and kind.name == f"Test{id_}"
            for test in kind.body
            if isinstance(test, ast.FunctionDef) and test.name.startswith("test_")
        }

        assert [name for name, body in tests.items() if f"['{id_}']" in body and not name.endswith("_fine")]
        assert [name for name, body in tests.items() if name.endswith("_fine") and "== []" in body]


def test_the_page_has_every_signal_with_its_arguments():
    module = ast.parse(text_of(ROOT / "mail_outbox" / "signals.py"))
    names = [name for name, value in vars(signals).items() if isinstance(value, Signal)]
    docstrings = [node.value.value for node in module.body[1:] if isinstance(node, ast.Expr)]  # type: ignore[attr-defined]
    arguments = [codes(docstring.partition("Arguments:")[2]) for docstring in docstrings]

    documented = [(codes(name), codes(given)) for name, given, *_ in rows_of(REFERENCE / "signals.md", "Signal")]

    assert documented == [([name], given) for name, given in zip(names, arguments, strict=True)]


class TestLogging:
    PAGE = REFERENCE / "logging.md"
    WRITERS = re.compile(r"(logger|entries|attempts)\.(debug|info|warning|error|exception|critical|log)|(self\.)?_log")

    def calls(self) -> Iterator[ast.Call]:
        """Yield every call that writes to the log."""
        for path in sorted((ROOT / "mail_outbox").rglob("*.py")):
            if "getLogger" in text_of(path):
                calls = [node for node in ast.walk(ast.parse(text_of(path))) if isinstance(node, ast.Call)]
                yield from (call for call in calls if self.WRITERS.fullmatch(ast.unparse(call.func)))

    def messages(self) -> list[str]:
        """List the constant messages; a call without one passes on what it was given."""
        texts = [arg.value for call in self.calls() for arg in call.args if isinstance(arg, ast.Constant)]
        return [text for text in texts if isinstance(text, str)]

    def test_the_page_has_every_message(self):
        documented = [codes(message)[0] for message, *_ in rows_of(self.PAGE, "Message")]

        assert sorted(documented) == sorted(set(self.messages()))

    def test_the_page_has_every_logger(self):
        sources = "\n".join(map(text_of, (ROOT / "mail_outbox").rglob("*.py")))

        documented = {codes(name)[0] for name, *_ in rows_of(self.PAGE, "Logger")}
        assert documented == set(re.findall(r"getLogger\(\"([\w.]+)\"\)", sources))

    def test_no_message_is_put_together(self):
        calls = list(self.calls())

        assert len(calls) > 10
        assert not [
            ast.unparse(call) for call in calls for arg in call.args if isinstance(arg, ast.JoinedStr | ast.BinOp)
        ]


class TestCommands:
    PAGE = REFERENCE / "commands.md"

    def section(self, name: str) -> set[str]:
        """Return the options that the page has for the command."""
        body = self.body(f"`manage.py {name}`")
        shared = self.body("Choosing entries")
        filters, _, caution = shared.partition("and of those that change anything")
        if "of a choice](#choosing-entries)" in body or "of [a choice](#choosing-entries)" in body:
            # A list only looks.
            body += filters if "Takes the filters" in body else filters + caution
        return set(re.findall(r"^\| `(--[a-z-]+)", body, re.MULTILINE))

    def body(self, heading: str) -> str:
        """Return what stands under the heading."""
        return re.split(r"^##+ ", text_of(self.PAGE).partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]

    def verbs(self) -> dict[str, ArgumentParser]:
        parser = command.Command().create_parser("manage.py", "outbox")
        [verbs] = [action.choices for action in parser._actions if isinstance(action, _SubParsersAction)]
        return verbs

    def test_the_page_has_every_verb_with_its_options(self):
        django = {"--help", *(option for action in self.plain()._actions for option in action.option_strings)}
        for name, parser in self.verbs().items():
            options = {option for action in parser._actions for option in action.option_strings if option[:2] == "--"}
            assert self.section(f"outbox {name}") == options - django

    def plain(self) -> ArgumentParser:
        """Return a parser with Django's own options only."""
        return command.BaseCommand().create_parser("manage.py", "plain")

    @pytest.mark.parametrize(
        "line",
        sorted(
            {line for page in PAGES for line in re.findall(r"^    manage.py outbox (.+)$", text_of(page), re.MULTILINE)}
        ),
    )
    def test_every_command_in_the_documentation_is_understood(self, line: str):
        parser = command.Command().create_parser("manage.py", "outbox")

        assert parser.parse_args(shlex.split(line.replace("…", ""))).verb in self.verbs()

    def test_the_page_has_no_verb_that_is_none(self):
        assert set(re.findall(r"^### `manage.py outbox ([\w-]+)`", text_of(self.PAGE), re.MULTILINE)) == set(
            self.verbs()
        )
        listed = {verb for cell, *_ in rows_of(self.PAGE, "Verb") for verb in codes(cell)}
        assert listed == set(self.verbs())

    def test_the_page_has_every_option_of_the_demo(self):
        source = text_of(ROOT / "example_project" / "shop" / "management" / "commands" / "demo.py")

        assert self.section("demo") == set(re.findall(r"add_argument\(\s*\"(--[a-z-]+)\"", source))

    def test_the_page_has_every_exit_code(self):
        told = re.findall(r"\b(\d+) ", command.EXIT_CODES)

        assert [code for code, *_ in rows_of(self.PAGE, "Code")] == told


class TestReferences:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
    def test_every_link_leads_somewhere(self, page: Path):
        for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text_of(page)):
            file = page.parent / target if target else page
            assert file.exists(), target
            if heading:
                # As GitHub makes anchors: what is neither a letter nor a space nor a hyphen goes.
                titles = re.findall(r"^#+ (.+)$", text_of(file), re.MULTILINE)
                anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
                assert heading in anchors, f"{target}#{heading}"

    @pytest.mark.parametrize(
        "picture", sorted((ROOT / "docs" / "screenshots").glob("*.png")), ids=lambda path: path.name
    )
    def test_every_picture_is_shown_somewhere_and_small(self, picture: Path):
        assert any(f"screenshots/{picture.name})" in text_of(page) for page in PAGES)
        assert picture.stat().st_size < 150_000

    @pytest.mark.parametrize(
        ("page", "test", "file"),
        sorted(
            {
                (page.relative_to(ROOT).as_posix(), test, file)
                for page in PAGES
                for test, file in re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", text_of(page))
            }
        ),
        ids=str,
    )
    def test_every_test_that_is_named_exists(self, page: str, test: str, file: str):
        assert re.search(rf"^ *def {test}\(", text_of((ROOT / page).parent / file), re.MULTILINE)

    def test_every_guarantee_names_a_test(self):
        guarantees = rows_of(README, "When", "then", "shown by")

        assert len(guarantees) >= 5
        assert all("`test_" in shown_by for *_, shown_by in guarantees)

    def test_every_guarantee_on_its_page_names_a_test_or_says_that_there_is_none(self):
        guarantees = rows_of(EXPLANATION / "guarantees.md", "When", "then", "shown by")

        assert len(guarantees) >= 15
        assert all("`test_" in shown_by or shown_by.startswith("not tested") for *_, shown_by in guarantees)

    def test_every_fault_names_a_test_or_says_why_there_is_none(self):
        faults = rows_of(EXPLANATION / "faults.md", "Fault", "must come to", "shown by")

        assert len(faults) >= 70
        assert all("`test_" in shown_by or len(shown_by.split()) >= 3 for *_, shown_by in faults)

    def test_every_verb_in_the_readme_exists(self):
        verbs = [verb for cell, *_ in rows_of(README, "", "") for verb in re.findall(r"`(\w+)\(", cell)]

        assert verbs
        assert set(verbs) <= set(outbox.__all__)
        assert {f"a{verb}" for verb in verbs} - {"afor_object"} <= set(outbox.__all__)


class TestReadmeExamples:
    """The sixty seconds of the README, in this project."""

    @pytest.fixture
    def project_settings(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """Run the settings of the README, as this Django is told to have them."""
        monkeypatch.setenv("MAILGUN_API_KEY", "secret")
        code = dict(examples(README))
        namespace: dict[str, Any] = {"os": os, "INSTALLED_APPS": list(project.INSTALLED_APPS), "MAIL_OUTBOX": {}}
        for name in ("common", "Django 6.1" if HAS_DJANGO_MAILERS else "Django 5.2"):
            exec(code[name], namespace)  # noqa: S102 (our own page)
        apps = namespace.pop("INSTALLED_APPS")
        assert {"django_q", "mail_outbox"} <= set(apps)
        return {name: value for name, value in namespace.items() if name.isupper()}

    def test_the_settings_pass_every_check(self, project_settings: dict[str, Any]):
        with override_settings(**project_settings):
            assert check_settings() == []

    @pytest.mark.django_db
    def test_the_view_writes_an_entry_for_the_mailer_that_delivers(self, project_settings: dict[str, Any]):
        namespace: dict[str, Any] = {}
        exec(dict(examples(README))["view"], namespace)  # noqa: S102 (our own page)
        # Any model with an address will do for an order.
        namespace["Order"] = SimpleNamespace(
            objects=SimpleNamespace(create=lambda email: get_user_model().objects.create_user("jane", email))
        )

        with override_settings(**project_settings):
            response = namespace["order"](RequestFactory().post("/", {"email": "jane@example.com"}))

        assert response.status_code == 201
        [entry] = outbox.for_object(get_user_model().objects.get())
        assert (entry.state, entry.using, entry.subject) == (State.QUEUED, "mailgun", "Your order")


class TestFailoverExamples:
    @pytest.mark.django_db
    def test_the_routes_pass_every_check_and_lead_somewhere(self):
        code = dict(examples(ROOT / "docs" / "how-to" / "failover.md"))
        namespace: dict[str, Any] = {}
        for name in ("routes", "choose"):
            exec(code[name], namespace)  # noqa: S102 (our own page)
        given = namespace["MAIL_OUTBOX"]
        # There is no shop here to import it from.
        given["ROUTES"]["smart"] = namespace["choose"]
        letter = EmailMessage("Hello", "Text", "shop@example.com", ["jane@example.com"])
        newsletter = AnymailMessage("News", "Text", "shop@example.com", ["jane@example.com"], tags=["newsletter"])

        with scripted("mailgun", "ses", **given):
            assert check_settings() == []
            entries = [outbox.enqueue(letter), outbox.enqueue(letter, using="smart")]
            entries.append(outbox.enqueue(newsletter, using="smart"))

        assert [entry.route for entry in entries] == ["main", "main", "bulk"]
        assert [entry.using for entry in entries[:2]] == ["mailgun", "mailgun"]


def test_the_readme_has_the_two_commands():
    assert "pip install -e . && python manage.py demo" in text_of(README)
    assert 'pip install -e ".[test]" && pytest' in text_of(README)
