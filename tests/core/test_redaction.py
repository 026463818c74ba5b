"""What may be shown of a text with a secret in it, and lengths of time in words."""

from datetime import timedelta

import pytest

from mail_outbox.core.durations import humanise, roughly
from mail_outbox.core.redaction import MASK, redact


@pytest.mark.parametrize(
    "secret",
    [
        "https://shop.example/reset/MQ/c4x-1a2b/",
        "HTTPS://shop.example/reset",
        "www.shop.example/x",
        "shop.example/reset/abc",
        "myapp://login?t=abc",
        "mailto:ann@y.example",
        "123456",
        "123-456",
        "1 2 3 4 5 6",
        "A B C D",
        "G-48213",
        "x7kq",
        "KXQW-PLMB",
        "abcdefghijklmnopqrstuvwxyz",
        "(123456)",
    ],
)
def test_links_and_codes_are_masked_wherever_they_stand(secret):
    for text in (secret, f"{secret} is your code", f"Your code: {secret}.", f"Log in\nwith {secret} now"):
        shown = redact(text)
        assert MASK in shown
        assert secret.strip("()") not in shown


def test_words_are_left_alone():
    assert redact("Reset your password at the shop") == "Reset your password at the shop"


@pytest.mark.parametrize(
    ("length", "words", "word"),
    [
        (timedelta(seconds=-3), "0 s", "0 s"),
        (timedelta(seconds=192), "3 min 12 s", "3 min"),
        (timedelta(days=2, minutes=5), "2 d", "2 d"),
    ],
)
def test_a_length_of_time_is_told_in_its_largest_units(length, words, word):
    assert (humanise(length), roughly(length)) == (words, word)
