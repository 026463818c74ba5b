"""The raw loop: Django's own backend with its connections kept open, threads, and no database at all."""

import threading
from typing import Any

APPS: tuple[str, ...] = ()
PACKAGE = "django"
FORKS = False


def settings(mailer: dict[str, Any], *, processes: int, senders: int) -> dict[str, Any]:
    """Return the settings of a process."""
    return {"BENCHMARK_MAILER": mailer, "BENCHMARK_SENDERS": senders}


def fill(count: int) -> None:
    """Do nothing: there is no queue."""


def drain(count: int) -> int:
    """Send so many messages, and return how many went."""
    from django.conf import settings
    from django.utils.module_loading import import_string

    from benchmarks.message import a_message

    numbers = iter(range(count))
    lock = threading.Lock()
    sent: list[int] = []

    def send() -> None:
        mailer = settings.BENCHMARK_MAILER
        backend = import_string(mailer["BACKEND"])(**mailer["OPTIONS"])
        backend.open()
        mine = 0
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            mine += backend.send_messages([a_message(number)])
        backend.close()
        sent.append(mine)

    threads = [threading.Thread(target=send) for _ in range(settings.BENCHMARK_SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(sent)
