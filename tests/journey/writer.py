"""A process that enqueues as an application does, and prints as JSON what was committed and what was rolled back.

Run as `python -m tests.journey.writer NAME COUNT`. Every tenth transaction fails and takes its mail with it; in every
tenth a savepoint fails and takes its own mail, while the mail around it goes.
"""

import contextlib
import json
import sys
import time
from typing import Any

import django
from django.core.mail import EmailMessage
from django.db import transaction


class Failure(Exception):
    """The application's own trouble, which rolls back."""


def main(name: str, count: int) -> dict[str, Any]:
    """Run that many transactions, and return what became of their mail and how long each took."""
    from mail_outbox import outbox

    committed: list[str] = []
    rolled_back: list[str] = []
    seconds: list[float] = []

    def enqueue(key: str, fate: list[str]) -> None:
        message = EmailMessage("Order", f"Your order {key}", "shop@example.com", ["jane@example.com"])
        message.extra_headers["X-Key"] = key
        outbox.enqueue(message)
        if fate is committed:
            # Only the commit itself knows.
            transaction.on_commit(lambda: committed.append(key))
        else:
            rolled_back.append(key)

    def fail(key: str) -> None:
        with transaction.atomic():
            enqueue(key, rolled_back)
            raise Failure

    def order(key: str, number: int) -> None:
        if number % 10 == 9:
            fail(key)
        with transaction.atomic():
            enqueue(key, committed)
            if number % 10 == 4:
                with contextlib.suppress(Failure):
                    fail(f"{key}-inside")

    for number in range(count):
        began = time.monotonic()
        with contextlib.suppress(Failure):
            order(f"{name}-{number}", number)
        seconds.append(time.monotonic() - began)
    return {"committed": committed, "rolled_back": rolled_back, "seconds": seconds}


if __name__ == "__main__":
    django.setup()
    sys.stdout.write(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
