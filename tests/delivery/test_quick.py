"""Where a later Python has other private names, messages are built as that Python builds them."""

import subprocess
import sys
from pathlib import Path

import pytest

from mail_outbox.delivery.policy import is_as_good

ROOT = Path(__file__).resolve().parents[2]
LATER = """
import importlib, inspect, sys

module = importlib.import_module(sys.argv[1])
source = inspect.getsource(module)
assert sys.argv[2] in source
exec(source.replace(sys.argv[2], "_renamed"), vars(module))

import django
django.setup()

from django.core.mail import EmailMultiAlternatives
from mail_outbox.delivery.mime import FLATTEN
from mail_outbox.delivery.policy import is_as_good
from mail_outbox.delivery.stamps import POLICY, Frozen

message = EmailMultiAlternatives("Hello", "a = b " * 20, "Shop <shop@x.example>", ["ann@x.example"])
message.attach_alternative("<p>Hello", "text/html")
headers = {"Date": "Fri, 20 Nov 2026 12:00:00 +0000", "Message-ID": "<1@x.example>"}
frozen = [Frozen(message, headers=headers, seed="6f1c", trace=None) for _ in range(2)]
frozen[0].build_ahead(only_bytes=True)
quick, plain = [each(**POLICY).as_bytes(**FLATTEN) for each in frozen]
assert quick == plain, quick
print(is_as_good())
"""


def test_here_the_quick_way_is_as_good():
    assert is_as_good()


@pytest.mark.parametrize(
    ("module", "name", "is_good"),
    [
        ("email.generator", "_NL", False),
        ("email.generator", "_write_lines", True),
        ("email.headerregistry", "_params", True),
    ],
)
def test_a_name_that_is_gone_costs_speed_and_not_the_message(module: str, name: str, is_good: bool):  # noqa: FBT001
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", LATER, module, name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert child.stderr == ""
    assert child.stdout == f"{is_good}\n"
