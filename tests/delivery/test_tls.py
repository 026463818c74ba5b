"""The conversation is tracked through TLS as well."""

import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from mail_outbox.core.outcomes import Kind
from tests.delivery.conftest import BIG, OpenLine, a_message, a_parcel
from tests.faults import HANGS
from tests.faults.certificates import make_certificate, server_side
from tests.faults.smtp_server import SMTPFaultServer

HERE = "tests.delivery.backends"
FOREIGN = f"{HERE}.ForeignBackend"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fresh certificate for 127.0.0.1, with its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


class TestTLS:
    """The conversation is tracked through TLS as well."""

    @pytest.fixture
    def tls(self, certificate: Path) -> ssl.SSLContext:
        """Return the server's side."""
        return server_side(certificate)

    @pytest.fixture(params=["use_tls", "use_ssl"])
    def way(self, request: pytest.FixtureRequest) -> str:
        """Return how TLS begins."""
        return str(request.param)

    def test_a_certificate_nobody_vouches_for_is_the_mailers_trouble(
        self, smtp_line: OpenLine, tls: ssl.SSLContext, way: str
    ):
        with SMTPFaultServer(tls=tls, is_tls_from_the_start=way == "use_ssl") as server:
            outcome = smtp_line(server, **{way: True}).deliver(a_parcel())

        assert (outcome.kind, outcome.code) == (Kind.MAILER, "tls")

    @pytest.mark.parametrize(
        ("script", "kind"),
        [
            ({}, Kind.SENT),
            ({"dot": "accept-then-drop"}, Kind.AMBIGUOUS),
            ({"data": "drop"}, Kind.TRANSIENT),
            ({"body": "hang"}, Kind.TRANSIENT),
            ({"mail": ("slow", 0.5)}, Kind.TRANSIENT),
        ],
    )
    def test_outcomes_are_as_without(
        self,
        smtp_line: OpenLine,
        monkeypatch: pytest.MonkeyPatch,
        certificate: Path,
        tls: ssl.SSLContext,
        way: str,
        script: dict[str, Any],
        kind: Kind,
    ):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        message = a_message(body="x" * 70 + "\n" * 1000) if "body" not in script else a_message(body=BIG)
        with SMTPFaultServer(script, tls=tls, is_tls_from_the_start=way == "use_ssl") as server:
            line = smtp_line(server, username="shop", password="secret", **{way: True})
            started = time.monotonic()
            outcome = line.deliver(a_parcel(message, seconds=20 if kind is not Kind.TRANSIENT else 5))
            took = time.monotonic() - started
            line.close()

        assert outcome.kind is kind, outcome
        assert took < HANGS
        assert "AUTH PLAIN" in " ".join(server.commands)
