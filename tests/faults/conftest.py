"""What the tests of the tables share: the lines of the tests of delivery, and certificates."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.delivery.conftest import esp_line, open_line, pipelining, set_mailers, smtp_line
from tests.faults.certificates import make_certificate, server_side

__all__ = ["esp_line", "open_line", "pipelining", "set_mailers", "smtp_line"]

ServerSide = Callable[[str], ssl.SSLContext]


@pytest.fixture(scope="session")
def _certificates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("tls")

    def certificate(what: str) -> Path:
        path = folder / f"{what}.pem"
        return path if path.exists() else make_certificate(folder, what)

    return certificate


@pytest.fixture
def trust(_certificates: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> ServerSide:
    """Return what makes a server's side of TLS, under a certificate that the client trusts."""

    def trust(what: str) -> ssl.SSLContext:
        path = _certificates(what)
        for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
            monkeypatch.setenv(variable, str(path))
        return server_side(path)

    return trust
