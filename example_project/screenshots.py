"""`python -m example_project.screenshots`: make the pictures of the documentation anew, from a day of made-up mail.

Needs Chromium, its driver and selenium (in the extra `test`). Writes docs/screenshots/*.png, or into the directory given;
`--all` adds those of other sizes and pages.
"""

import os
import random
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from example_project.browser import chromium, log_in, look, session_of

ROOT = Path(__file__).resolve().parent.parent
SHOTS = (
    # name, page, width, height, scheme
    ("list", "/admin/mail_outbox/outboxentry/", 1280, 720, "light"),
    ("entry", "{entry}?show=html", 1280, 960, "light"),
    ("dashboard", "/admin/mail_outbox/outboxentry/dashboard/", 1280, 1000, "light"),
    ("dashboard-dark", "/admin/mail_outbox/outboxentry/dashboard/", 1280, 1000, "dark"),
)
OTHERS = (
    # not in the documentation: to look at with --all
    ("list-dark", "/admin/mail_outbox/outboxentry/", 1280, 800, "dark"),
    ("entry-dark", "{entry}?show=html", 1280, 1000, "dark"),
    ("list-375", "/admin/mail_outbox/outboxentry/", 375, 800, "light"),
    ("entry-375", "{entry}?show=html", 375, 800, "dark"),
    ("dashboard-375", "/admin/mail_outbox/outboxentry/dashboard/", 375, 800, "light"),
    ("act", "{act}", 1280, 800, "light"),
    ("act-375", "{act}", 375, 800, "dark"),
    ("order", "/admin/shop/order/1/change/", 1280, 800, "light"),
    ("mailbox", "/outbox/", 1280, 800, "dark"),
)


def main(target: Path, *, everything: bool) -> None:
    """Make the pictures."""
    with tempfile.TemporaryDirectory(prefix="screenshots-") as directory:
        os.environ["EXAMPLE_DATABASE"] = str(Path(directory) / "shots.sqlite3")
        os.environ["DJANGO_SETTINGS_MODULE"] = "example_project.settings"
        import django

        django.setup()
        from django.core.management import call_command

        from example_project.demo.website import Website

        call_command("migrate", verbosity=0)
        user, entry = _made_up_day()
        places = {
            "entry": f"/admin/mail_outbox/outboxentry/{entry}/change/",
            "act": f"/admin/mail_outbox/outboxentry/act/resend/?ids={entry}",
        }
        website = Website(0)
        website.start()
        try:
            with chromium(str(Path(directory) / "profile")) as driver:
                log_in(driver, website.url.rstrip("/"), session_of(user))
                for name, page, width, height, scheme in (*SHOTS, *(OTHERS if everything else ())):
                    look(driver, width=width, height=height, scheme=scheme)
                    driver.get(website.url.rstrip("/") + page.format(**places))
                    look(driver, width=width, height=height, scheme=scheme, full=width < 400)
                    driver.save_screenshot(str(target / f"{name}.png"))
        finally:
            website.close()


def _made_up_day() -> tuple[Any, int]:
    """Send and fail mail, spread it over a day, and return a user and the entry to look at."""
    from django.contrib.auth import get_user_model
    from django.utils import timezone

    from example_project.shop.models import Article
    from example_project.shop.newsletter import send_newsletter
    from example_project.shop.orders import place_order
    from mail_outbox import outbox
    from mail_outbox.backends import SinkBackend
    from mail_outbox.models import OutboxEntry, Worker

    chance = random.Random(7)
    SinkBackend._swallow = _sink(chance)  # type: ignore[method-assign] # noqa: SLF001 (made up, and without any wait)
    names = ["Ada Lovelace", "Grace Hopper", "Alan Turing", "Edith Clarke", "Radia Perlman"]
    for number in range(160):
        name = names[number % len(names)]
        email = f"{name.split()[0].lower()}@example.com"
        place_order(customer=name, email=email, article=list(Article)[number % 3].value)
    send_newsletter(readers=300)
    outbox.drain()
    now = timezone.now()
    for entry in OutboxEntry.objects.filter(finished_at__isnull=False):
        ago = timedelta(minutes=chance.triangular(1, 1400, 300))
        took = timedelta(seconds=chance.expovariate(1))
        moments = {
            "created_at": now - ago - took,
            "first_due_at": now - ago - took,
            "due_at": now - ago - took,
            "finished_at": now - ago,
        }
        OutboxEntry.objects.filter(pk=entry.pk).update(**moments)
        entry.attempt_set.update(started_at=now - ago - took / 2)
    for number in range(6):
        place_order(
            customer=names[number % 5], email=f"{names[number % 5].split()[0].lower()}@example.com", article="cups"
        )
    scheduled = OutboxEntry.objects.order_by("-pk")
    outbox.reschedule(scheduled[0], send_at=timedelta(minutes=4, seconds=30))
    outbox.hold(scheduled[1], reason="ask the customer for the address")
    outbox.cancel(scheduled[2], reason="order withdrawn")
    outbox.pause("newsletter", reason="waiting for a new contract", until=timedelta(hours=2))
    worker = {"host": "mail-1", "activity": "idle", "started_at": now - timedelta(hours=6), "last_seen_at": now}
    Worker.objects.bulk_create([Worker(name=f"mail-1:{pid}:5f2a", pid=pid, **worker) for pid in (4711, 4712)])
    user = get_user_model().objects.create_superuser("ada", "ada@example.com", "unused")
    failed = OutboxEntry.objects.failed().exclude(related="").order_by("-finished_at").first()
    assert failed is not None  # noqa: S101 (chance is seeded)
    return user, failed.pk


def _sink(chance: random.Random) -> Any:
    import smtplib

    errors = [
        smtplib.SMTPDataError(554, b"5.7.1 Message rejected as spam by content scanner"),
        smtplib.SMTPDataError(552, b"5.2.2 Mailbox is full"),
    ]

    def swallow(self: Any) -> bool:
        if chance.random() < 0.06:
            raise errors[0] if chance.random() < 0.7 else errors[1]
        return True

    return swallow


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    place = Path(arguments[0]) if arguments else ROOT / "docs" / "screenshots"
    place.mkdir(parents=True, exist_ok=True)
    main(place, everything="--all" in sys.argv)
