"""`python -m benchmarks.admin`: how long each page of the admin takes with few rows and with a million.

MAIL_OUTBOX_TEST_DB chooses the database, as for the tests, and the test database is what it fills. Prints Markdown; with
`--json FILE` writes the same as JSON. Exits with 1 where a page takes more than five times as long with many rows.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

ENTRIES = "/admin/mail_outbox/outboxentry/"
PAGES = {
    "list": ENTRIES,
    "list, page 20": f"{ENTRIES}?p=20",
    **{f"state {state}": f"{ENTRIES}?state={state}" for state in ("queued", "scheduled", "sent", "failed", "held")},
    "mailer, common": f"{ENTRIES}?using=default",
    "mailer, rare": f"{ENTRIES}?using=bulk",
    "last hour": f"{ENTRIES}?window=hour",
    "last 7 days": f"{ENTRIES}?window=week",
    "needs a person": f"{ENTRIES}?attention=person",
    "stuck": f"{ENTRIES}?attention=stuck",
    "has an error": f"{ENTRIES}?attention=error",
    "state and mailer": f"{ENTRIES}?state=failed&using=bulk",
    "search, address": f"{ENTRIES}?q=reader17@example.com",
    "search, unknown address": f"{ENTRIES}?q=nobody@example.com",
    "search, provider's id": f"{ENTRIES}?q=provider-17",
    "search, words": f"{ENTRIES}?q=order+sent",
    "search, words in vain": f"{ENTRIES}?q=zzz",
    "entry": f"{ENTRIES}{{entry}}/change/",
    "confirm all failed": f"{ENTRIES}act/retry/?state=failed",
    "dashboard": f"{ENTRIES}dashboard/",
}
ROUNDS = 15
MOST = 5.0


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 1_000_000], help="how many finished entries")
    parser.add_argument("--json", type=Path, help="where to write the results as JSON")
    options = parser.parse_args()

    import django

    django.setup()
    from django.db import connection
    from django.test.utils import setup_test_environment, teardown_test_environment

    setup_test_environment(debug=False)
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        sizes = sorted(options.rows)
        results = {rows: measure(rows, sizes[number - 1] if number else 0) for number, rows in enumerate(sizes)}
    finally:
        connection.creation.destroy_test_db(str(connection.settings_dict["NAME"]), verbosity=0)
        teardown_test_environment()
    name = f"{connection.vendor}, Django {django.get_version()}, Python {sys.version.split()[0]}"
    print(markdown(name, results))
    if options.json:
        options.json.write_text(json.dumps({"on": name, "milliseconds": results}, indent=2) + "\n", encoding="utf-8")
    few, many = results[sizes[0]], results[sizes[-1]]
    return int(any(many[page] > MOST * few[page] for page in few))


def measure(rows: int, there: int) -> dict[str, float]:
    """Fill up to so many rows, and return the best time of each page in milliseconds."""
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.test import Client

    from mail_outbox.models import OutboxEntry
    from tests.admin_rows import fill

    fill(rows - there, waiting=0 if there else 200, body="Text " * 300)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM (ANALYZE)")
    user, _ = get_user_model().objects.get_or_create(
        username="admin", defaults={"is_staff": True, "is_superuser": True}
    )
    client = Client()
    client.force_login(user)
    entry = OutboxEntry.objects.failed().order_by("-pk").values_list("pk", flat=True).first()
    return {name: best_of(lambda url=url: get(client, url.format(entry=entry))) for name, url in PAGES.items()}  # type: ignore[misc]


def get(client: Any, url: str) -> None:
    """Read the page."""
    response = client.get(url)
    if response.status_code not in {200, 302}:
        raise RuntimeError(f"{url} answered {response.status_code}")


def best_of(act: Callable[[], None]) -> float:
    """Return the best of some times in milliseconds, after one that does not count."""
    act()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        act()
        times.append((time.perf_counter() - began) * 1000)
    return round(min(times), 1)


def markdown(name: str, results: dict[int, dict[str, float]]) -> str:
    """Return the results as a table."""
    few, many = min(results), max(results)
    head = [f"Whole response in ms, best of {ROUNDS}, {name}", ""]
    head += [f"| page | {few:,} rows | {many:,} rows | times |", "|---|---|---|---|"]
    lines = [
        f"| {page} | {results[few][page]} | {results[many][page]} | {results[many][page] / results[few][page]:.1f} |"
        for page in results[few]
    ]
    return "\n".join(head + lines)


if __name__ == "__main__":
    sys.exit(main())
