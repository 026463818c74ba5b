"""The page on the envelope has every attribute that the installed Django and Anymail know, with what becomes of it."""

import ast
import inspect
from collections.abc import Iterator
from datetime import timedelta
from email.message import Message
from pathlib import Path
from typing import Any

import anymail.backends
import django
import django.core.mail.backends
import pytest
from anymail.backends.base import BasePayload
from anymail.message import AnymailMessage
from django.core.mail import EmailMessage, EmailMultiAlternatives

from mail_outbox.core import errors
from mail_outbox.core.envelope import dump, load
from mail_outbox.core.envelope.classes import CONTENT, LIVE, OURS, RETIRED, class_of
from tests.test_docs import REFERENCE, codes, rows_of, text_of

PAGE = REFERENCE / "envelope.md"
ROWS = {codes(name)[0]: fate for name, fate, *_ in rows_of(PAGE, "Attribute", "Fate")}
CLASSES = [EmailMessage, EmailMultiAlternatives, AnymailMessage]
TABLES = ("base_message_attrs", "anymail_message_attrs", "esp_message_attrs")
BACKENDS = [*anymail.backends.__path__, *django.core.mail.backends.__path__]
GIVEN_UP = {"get_connection"}
"""Methods that Django 6.1 only looks for to complain of them."""
KEPT, LEFT_BEHIND = "kept", "live"
BEFORE, SINCE = "kept before Django 6.0, ", " since"


def fate_of(name: str) -> str:
    """Return what the page says becomes of the attribute under the Django that runs."""
    fate = ROWS[name]
    if not fate.startswith(BEFORE):
        return fate
    return KEPT if django.VERSION < (6, 0) else fate.removeprefix(BEFORE).removesuffix(SINCE)


def in_instances() -> set[str]:
    """List what a new message of each class has."""
    return {name for known in CLASSES for name in vars(known(from_email="a@x.example"))}


def in_classes() -> set[str]:
    """List what the classes have, are annotated with, or read and write by name in their methods."""
    names: set[str] = set()
    for known in {parent for message in CLASSES for parent in message.__mro__[:-1]}:
        names |= {name for name, value in vars(known).items() if not callable(value)} | set(known.__annotations__)
        names |= set(attributes_in(ast.parse(inspect.getsource(known)), "self"))
    return {name for name in names if not name.startswith("__")}


def in_payloads() -> set[str]:
    """List what Anymail's payloads read, those of every ESP included, whether or not its library is installed."""
    names = {row[0] for table in TABLES for row in getattr(BasePayload, table)}
    names.update(BasePayload.batch_attrs)
    for tree in sources_of_backends():
        for node in ast.walk(tree):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id in TABLES for target in targets):
                names |= {
                    row.elts[0].value
                    for row in ast.walk(node)
                    if isinstance(row, ast.Tuple) and row.elts and isinstance(row.elts[0], ast.Constant)
                }
    return names


def in_backends() -> set[str]:
    """List what Django's and Anymail's backends read from and write on a message, or on the MIME they make of it."""
    owners = ("message", "email_message", "msg_copy")
    return {name for tree in sources_of_backends() for name in attributes_in(tree, *owners)}


def sources_of_backends() -> Iterator[ast.Module]:
    for folder in BACKENDS:
        for module in sorted(Path(folder).glob("*.py")):
            yield ast.parse(text_of(module))


def attributes_in(tree: ast.AST, *owners: str) -> Iterator[str]:
    """Yield the attributes that the code uses of a variable of such a name, or of `self`'s attribute of such a name."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=owner, attr=name) if is_one_of(owner, owners):
                yield name
            case ast.Call(func=ast.Name("getattr" | "hasattr" | "setattr"), args=[owner, ast.Constant(name), *_]):
                if is_one_of(owner, owners):
                    yield name


def is_one_of(node: ast.AST, owners: tuple[str, ...]) -> bool:
    match node:
        case ast.Name(name) | ast.Attribute(value=ast.Name("self"), attr=name):
            return name in owners
    return False


def is_method(name: str) -> bool:
    return name in GIVEN_UP or any(callable(getattr(known, name, None)) for known in [*CLASSES, Message])


def installed() -> set[str]:
    """List every attribute of a message that the installed Django and Anymail know."""
    used = {name for name in in_classes() | in_backends() if not is_method(name)}
    return in_instances() | in_payloads() | used


def test_the_page_has_every_attribute_that_is_installed():
    assert installed() - ROWS.keys() == set()


def test_the_page_has_no_attribute_that_is_none():
    of_another_django = {name for name, fate in ROWS.items() if fate.startswith(BEFORE)} | {"_connection", "sent_using"}

    assert ROWS.keys() - installed() <= of_another_django


def test_the_page_has_each_attribute_once():
    rows = [codes(name) for name, *_ in rows_of(PAGE, "Attribute", "Fate")]

    assert rows == [[name] for name in ROWS]


def test_the_page_has_what_the_envelope_keeps_and_leaves_behind():
    assert {name for name in ROWS if fate_of(name) == KEPT} == CONTENT
    assert {name for name in ROWS if fate_of(name) == LEFT_BEHIND} == LIVE
    assert {name for name in RETIRED if fate_of(name) == KEPT} == set()


@pytest.mark.parametrize("found", [in_instances, in_classes, in_payloads, in_backends], ids=lambda f: f.__name__)
def test_each_way_of_looking_finds_something(found: Any):
    assert found() & CONTENT


@pytest.mark.parametrize("table", TABLES)
def test_a_new_attribute_of_anymails_payloads_is_noticed(table: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(BasePayload, table, (*getattr(BasePayload, table), ("amp_body", None, None)))

    assert installed() - ROWS.keys() == {"amp_body"}


def test_a_new_attribute_of_one_provider_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = "class P(BasePayload):\n    esp_message_attrs = (('pool', last, None),)\n"
    source += "    def set_x(self):\n        self.stream = getattr(self.message, 'stream', None)\n"
    (tmp_path / "new_esp.py").write_text(source, encoding="utf-8")
    monkeypatch.setitem(globals(), "BACKENDS", [*BACKENDS, str(tmp_path)])

    assert installed() - ROWS.keys() == {"pool", "stream"}


def test_a_new_attribute_of_a_message_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(EmailMessage, "priority", None, raising=False)

    assert installed() - ROWS.keys() == {"priority"}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("known", CLASSES, ids=lambda known: known.__name__)
def test_what_the_page_says_of_an_attribute_is_so(known: type[EmailMessage], name: str):
    message = known(from_email="a@x.example")
    vars(message)[name] = ["anything", (1, None)]  # not setattr(): some of them warn

    fate = fate_of(name)

    if fate == KEPT:
        assert vars(load(dump(message)))[name] == ["anything", (1, None)]
    elif fate == LEFT_BEHIND:
        assert vars(load(dump(message))).get(name) != ["anything", (1, None)]
    else:
        [error] = codes(fate)
        assert fate == f"refused with `{error}`"
        with pytest.raises(getattr(errors, error), match=f"'{name}'"):
            dump(message)


@pytest.mark.parametrize("known", [class_of(name, {}) for name in OURS], ids=OURS)
def test_any_other_attribute_is_refused(known: type[EmailMessage]):
    message = known(from_email="a@x.example")
    message.something_new = 1  # type: ignore[attr-defined]

    with pytest.raises(errors.UnserializableMessage, match="'something_new'"):
        dump(message)


def test_the_page_names_every_class():
    assert {name.rpartition(".")[2] for name in OURS} <= set(codes(text_of(PAGE)))


@pytest.mark.parametrize("error", sorted({code for code in codes(text_of(PAGE)) if code in vars(errors)}))
def test_every_error_on_the_page_is_one_that_a_caller_can_catch(error: str):
    assert issubclass(getattr(errors, error), errors.OutboxError)


def test_the_page_says_how_deep_a_value_may_be():
    def nested(levels: int) -> AnymailMessage:
        value: object = "leaf"
        for _ in range(levels):
            value = {"level": value}
        return AnymailMessage(from_email="a@x.example", metadata=value)

    assert "up to nine dicts inside one another" in text_of(PAGE)
    dump(nested(9))
    with pytest.raises(errors.UnserializableMessage, match="nested too deeply"):
        dump(nested(10))


def test_a_length_of_time_is_no_value():
    with pytest.raises(errors.UnserializableMessage, match="timedelta"):
        dump(AnymailMessage(from_email="a@x.example", metadata={"wait": timedelta(1)}))
