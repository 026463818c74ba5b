"""Every provider that Anymail knows has its place."""

import pkgutil
import re
from pathlib import Path

import anymail.backends

from mail_outbox.delivery.esps import PROVIDERS, provider_of

NO_PROVIDERS = {"base", "base_requests", "console", "test", "sendinblue"}  # the last is Brevo's old name


def names_of_anymail() -> set[str]:
    """Return the names of the providers that the installed Anymail has backends for."""
    names = set()
    for module in pkgutil.iter_modules(anymail.backends.__path__):
        if module.name not in NO_PROVIDERS:
            # Read, not imported: Amazon's needs boto3.
            source = Path(anymail.backends.__path__[0], f"{module.name}.py").read_text(encoding="utf-8")
            names |= set(re.findall(r'^    esp_name = "(.+)"', source, re.MULTILINE))
    return names


def test_every_provider_of_anymail_has_its_place():
    assert len(names_of_anymail()) > 10
    assert set(PROVIDERS) == names_of_anymail()


def test_a_provider_that_nobody_knows_has_nothing_particular():
    stranger = provider_of("Pigeon Post")

    assert stranger.name == "Pigeon Post"
    assert stranger.rule_for(status=500, code="Whatever", body="whatever") is None
    assert (stranger.message_id, stranger.metadata) == (False, True)
