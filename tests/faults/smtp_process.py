"""The SMTP server in a process of its own, so that what it holds is not counted with what the sender holds."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class SMTPProcess:
    """A server that accepts everything, and says in the end how many bytes each message had, and when it came."""

    host = "127.0.0.1"

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert process.stdout is not None
        self.port = int(process.stdout.readline())

    def accepted(self) -> list[int]:
        """Stop the server, and return the sizes of the messages it accepted, in order."""
        return [int(size) for size, _ in self._report()]

    def moments(self) -> list[float]:
        """Stop the server, and return the moments at which it accepted a message, in order, as `time.time()` has them."""
        return [float(moment) for _, moment in self._report()]

    def _report(self) -> list[list[str]]:
        output, _ = self._process.communicate(timeout=60)
        return [line.split() for line in output.splitlines()]


@contextlib.contextmanager
def smtp_process() -> Iterator[SMTPProcess]:
    """Run the server."""
    arguments = [sys.executable, "-m", "tests.faults.smtp_process"]
    with subprocess.Popen(
        arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="ascii"
    ) as process:
        try:
            yield SMTPProcess(process)
        finally:
            process.kill()


def main() -> None:
    """Say the port, serve until the input ends, say what came."""
    from tests.faults.smtp_server import SMTPFaultServer

    with SMTPFaultServer() as server:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        sys.stdin.read()
    for message in server.journal:
        sys.stdout.write(f"{len(message.data)} {message.at}\n")


if __name__ == "__main__":
    main()
