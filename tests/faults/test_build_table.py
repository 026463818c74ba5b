"""The table of what goes wrong before sending, as far as delivery sees it: no connection is opened for any of it."""

from typing import Any

import django
import pytest
from django.core.mail import EmailMultiAlternatives

from tests.delivery.conftest import OpenLine, a_message, a_parcel
from tests.faults.rows import Expected, params, permanent, sent, transient
from tests.faults.smtp_server import SMTPFaultServer

TWO_LINES = "two\r\nlines"
BUILD = permanent("build")


class Stored(EmailMultiAlternatives):
    """A message whose attachment is read when it is built; `problem` is what the storage raises."""

    problem: Exception = FileNotFoundError("invoice.pdf")

    def message(self, **options: Any) -> Any:
        """Fail to read."""
        raise self.problem


def stored(problem: Exception) -> EmailMultiAlternatives:
    message = Stored("Hello", "Hello", "shop@example.com", ["ann@example.com"])
    message.problem = problem
    return message


UNBUILDABLE: list[tuple[str, Any, Expected]] = [
    ("CR/LF in the subject", {"subject": TWO_LINES}, BUILD),
    ("CR/LF in a header's value", {"headers": {"X-A": TWO_LINES}}, BUILD),
    ("CR/LF in the sender's address", {"from_email": f"{TWO_LINES}@example.com"}, BUILD),
    ("CR/LF in a recipient's address", {"to": [f"{TWO_LINES}@example.com"]}, BUILD),
    ("a lone surrogate", {"body": "\ud800"}, BUILD),
    ("mimetype nonsense", {"alternatives": [("<p>x</p>", "nonsense")]}, BUILD),
    ("attachment gone", stored(FileNotFoundError("invoice.pdf")), transient("attachment")),
    ("attachment's storage does not answer", stored(TimeoutError("storage")), transient("attachment")),
    ("attachment's storage refuses", stored(PermissionError("403")), transient("attachment")),
    ("a message with a bug", stored(LookupError("no such font")), BUILD),
]


def message_of(given: Any) -> Any:
    if isinstance(given, dict):
        return a_message(*given.get("to", ()), **{name: value for name, value in given.items() if name != "to"})
    return given


@pytest.mark.parametrize(("given", "expected"), params(UNBUILDABLE))
def test_what_cannot_be_built_is_never_begun(smtp_line: OpenLine, given: Any, expected: Expected):
    with SMTPFaultServer() as server:
        outcome = smtp_line(server).deliver(a_parcel(message_of(given)))

    expected.compare(outcome)
    assert server.connections == 0


def test_a_number_for_a_header_is_what_this_django_makes_of_it(smtp_line: OpenLine):
    with SMTPFaultServer() as server:
        outcome = smtp_line(server).deliver(a_parcel(a_message(headers={"X-A": 1})))

    (BUILD if django.VERSION >= (6, 0) else sent("250")).compare(outcome)
    assert len(server.journal) == (django.VERSION < (6, 0))
