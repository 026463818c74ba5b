"""`manage.py demo`: the shop, a real cluster and sample mail, with one command."""

import argparse
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from example_project.demo.run import Demo, Options
from example_project.demo.terminal import Terminal
from example_project.shop.newsletter import READERS


class Command(BaseCommand):
    """Show the outbox at work."""

    help = "Start the shop with a real cluster and send sample mail. Ctrl-C stops it and leaves no process behind."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="where the shop listens (default 8000; 0: any)")
        parser.add_argument("--orders", type=_count, default=5, help="how many sample orders (default 5)")
        parser.add_argument("--readers", type=_count, default=READERS, help=f"readers of the newsletter ({READERS})")
        parser.add_argument("--chaos", type=_share, default=0.0, help="share of attempts that go wrong: 0.1 or 10%%")
        parser.add_argument(
            "--exit-when-idle",
            action="store_true",
            help="no web server: wait until all is settled, print a summary, exit (4: something did not go out)",
        )

    def handle(self, *, port: int, orders: int, readers: int, chaos: float, exit_when_idle: bool, **_: Any) -> None:
        if os.name != "posix":
            raise CommandError("The demo needs a POSIX system; elsewhere run migrate, runserver and qcluster by hand.")
        options = Options(port=port, orders=orders, readers=readers, chaos=chaos, exit_when_idle=exit_when_idle)
        if code := Demo(options, Terminal(self.stdout)).run():
            sys.exit(code)


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _share(text: str) -> float:
    share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError("from 0 to 1, or from 0% to 100%")
    return share
