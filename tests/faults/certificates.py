"""Certificates for the loopback, good ones and bad ones, made by openssl."""

import ssl
import subprocess
from pathlib import Path

import pytest

GOOD, EXPIRED, OTHER_NAME = "good", "expired", "for another name"


def make_certificate(folder: Path, what: str = GOOD) -> Path:
    """Write a certificate and its key into one file of the folder; return the file. Skips where there is no openssl."""
    path = folder / f"{what}.pem"
    key, request, extension = (path.with_suffix(suffix) for suffix in (".key", ".csr", ".ext"))
    extension.write_text("subjectAltName=" + ("DNS:other.example" if what == OTHER_NAME else "IP:127.0.0.1"))
    days = "-1" if what == EXPIRED else "2"
    new = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=fault"
    sign = ["openssl", "x509", "-req", "-days", days, "-in", str(request), "-signkey", str(key)]
    try:
        _run([*new.split(), "-keyout", str(key), "-out", str(request)])
        _run([*sign, "-extfile", str(extension), "-out", str(path)])
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl")
    path.write_bytes(key.read_bytes() + path.read_bytes())
    return path


def server_side(certificate: Path) -> ssl.SSLContext:
    """Return what a server needs to speak TLS under this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)
