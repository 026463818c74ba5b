"""A message built with remembered headers is, byte for byte, the message the standard library builds."""

from email.message import EmailMessage as MIMEMessage
from email.policy import SMTP
from typing import Any

import django
import pytest
from anymail.message import attach_inline_image
from django.core.mail import EmailMessage, EmailMultiAlternatives
from hypothesis import example, given
from hypothesis import strategies as st

from mail_outbox.delivery import policy, quick
from mail_outbox.delivery.policy import AS_IT_STANDS, MOST_KEPT, REMEMBERING_SMTP
from mail_outbox.delivery.stamps import freeze_boundaries

pytestmark = pytest.mark.skipif(django.VERSION < (6, 0), reason="before Django 6.0 messages have no policy")

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=120)
NAMES = st.one_of(st.just("Shop"), st.just("Jö Shöp"), TEXTS)


def a_message(subject: str, name: str, body: str, html: str, filename: str) -> EmailMultiAlternatives:
    sender = f'"{name.replace(chr(92), "").replace(chr(34), "")}" <shop@x.example>'
    headers = {"Message-ID": "<1@x.example>", "Date": "Fri, 20 Nov 2026 12:00:00 +0000", "X-Campaign": subject}
    message = EmailMultiAlternatives(subject, body, sender, ["jo@x.example"], reply_to=[sender], headers=headers)
    message.attach_alternative(html, "text/html")
    message.attach(filename, b"\x00\x01", "application/pdf")
    return message


def as_bytes(message: EmailMessage, **options: Any) -> bytes:
    built = message.message(**options)
    for number, part in enumerate(part for part in built.walk() if part.is_multipart()):
        part.set_boundary(f"==={number}==")
    return built.as_bytes()


@given(TEXTS, NAMES, TEXTS, TEXTS, st.sampled_from(["a.pdf", "Rechnung für März.pdf", "x" * 90 + ".pdf"]))
@example("Hello", "Shop", "Text", "<p>Text</p>", "a.pdf")
@example("Grüße " * 20, "Jö Shöp " * 9, "Zeile\n" * 9, "<p>ü</p>", "Rechnung für März.pdf")
def test_the_bytes_are_those_of_the_standard_library(subject: str, name: str, body: str, html: str, filename: str):
    message = a_message(subject, name, body, html, filename)

    plain = as_bytes(message, policy=SMTP)

    assert [as_bytes(message, policy=REMEMBERING_SMTP) for _ in range(3)] == [plain] * 3


@pytest.mark.parametrize("seed", ["one", "two"])
def test_boundaries_are_in_it_as_if_each_header_had_been_parsed(seed: str):
    message = a_message("Hello", "Shop", "Text", "<p>Text</p>", "a.pdf")
    attach_inline_image(message, b"\x89PNG", "a.png", subtype="png")

    plain, ours = (message.message(policy=each) for each in (SMTP, REMEMBERING_SMTP))
    for built in (plain, ours):
        freeze_boundaries(built, seed=seed)

    boundaries = [part.get_boundary() for part in ours.walk()]
    assert boundaries == [part.get_boundary() for part in plain.walk()]
    assert len(set(boundaries)) > 2
    assert [part["Content-Type"].params for part in ours.walk()] == [
        part["Content-Type"].params for part in plain.walk()
    ]
    assert [ours.as_bytes() for _ in range(2)] == [plain.as_bytes()] * 2
    assert ours.as_string() == plain.as_string()


def header_values(name: str) -> st.SearchStrategy[str]:
    """Return values that go out as they stand, many of them about as long as a line."""
    if name in {"to", "cc"}:
        mailbox = r"[A-Z+a-z0-9_-]{1,9}(\.[a-z]{1,5})?@[A-Za-z0-9-]{1,9}(\.[a-z]{1,5})?"
        return st.lists(st.from_regex(mailbox, fullmatch=True), min_size=1, max_size=5).map(", ".join)
    return st.from_regex(AS_IT_STANDS[name], fullmatch=True)


@pytest.mark.parametrize("name", sorted(AS_IT_STANDS))
@given(st.data())
def test_what_goes_out_as_it_stands_is_what_the_standard_library_makes_of_it(name: str, data: st.DataObject):
    value = data.draw(header_values(name))
    spelled = data.draw(st.sampled_from([name, name.title(), name.upper()]))

    plain, ours = (MIMEMessage(policy=each) for each in (SMTP, REMEMBERING_SMTP))
    plain[spelled] = ours[spelled] = value

    assert ours.as_bytes() == plain.as_bytes()
    assert ours[spelled] == plain[spelled]


def test_an_inline_image_and_an_attached_message_are_the_same_too():
    message = a_message("Hello", "Shop", "Text", "<p>Text</p>", "a.pdf")
    attach_inline_image(message, b"\x89PNG", "a.png", subtype="png")
    message.attach("inner.eml", EmailMessage("Inner", "Text", "a@x.example", headers={"Date": "-"}), "message/rfc822")
    message.attachments[-1][1].extra_headers["Message-ID"] = "<2@x.example>"

    assert as_bytes(message, policy=REMEMBERING_SMTP) == as_bytes(message, policy=SMTP)


def test_a_newline_in_a_remembered_header_is_still_refused():
    message = EmailMessage("Hello", "Text", "shop@x.example", ["jo@x.example"])
    message.content_subtype = "plain\nBcc: eve@x.example"

    with pytest.raises(ValueError, match=r"linefeed|newline"):
        message.message(policy=REMEMBERING_SMTP).as_bytes()


def test_only_so_many_headers_are_remembered():
    for number in range(2 * MOST_KEPT):
        EmailMessage("Hello", "Text", f"Shop <shop{number}@x.example>", ["jo@x.example"]).message(
            policy=REMEMBERING_SMTP
        )

    assert len(policy._headers) <= MOST_KEPT


LINES = st.text(st.sampled_from("ab =\t.é\x00\x7f\x1c"), max_size=200)


@given(st.lists(LINES, max_size=15), st.sampled_from(["\n", "\r\n", "\r", "\x0c"]), st.sampled_from(["plain", "html"]))
@example(["=" * 100] * 12, "\n", "html")
@example(["a" * 100] * 12, "\n", "html")
@example(["a" * 90 + " "] * 3, "\r", "plain")
def test_a_body_is_encoded_as_the_standard_library_does(lines: list[str], newline: str, subtype: str):
    message = EmailMessage("Hello", newline.join(lines), "shop@x.example", ["jo@x.example"])
    message.content_subtype = subtype
    message.extra_headers = {"Message-ID": "<1@x.example>", "Date": "Fri, 20 Nov 2026 12:00:00 +0000"}

    plain, ours = (message.message(policy=each) for each in (SMTP, REMEMBERING_SMTP))

    assert quick.as_bytes(ours) == ours.as_bytes() == plain.as_bytes()
    assert ours.get_content() == plain.get_content()
