"""The command line of the outbox: `manage.py outbox VERB`, put together from the verbs there are."""

import argparse
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connections

from mail_outbox.conf import get_conf
from mail_outbox.core.errors import OutboxError
from mail_outbox.management.verb import INTERRUPTED, Output
from mail_outbox.management.verbs import all_verbs
from mail_outbox.transitions import DATABASE_AWAY

EXIT_CODES = """\
exit codes: 0 fine, 1 error, 2 usage, 3 unhealthy, 4 finished but some messages failed for good, 130 interrupted"""


class Command(BaseCommand):
    """Look after the outbox from the command line."""

    help = "Look after the mail outbox."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the verbs and their options."""
        parser.epilog = EXIT_CODES
        parsers = parser.add_subparsers(dest="verb", metavar="verb", required=True)
        for verb in all_verbs():
            parser_of_verb = parsers.add_parser(verb.name, help=verb.help, description=verb.help)
            _take_djangos(parser_of_verb)
            verb.add_arguments(parser_of_verb)

    def check(self, *args: Any, **options: Any) -> None:
        """Run Django's checks; those that ask MySQL or MariaDB must not keep `drain --forever` from waiting for it."""
        try:
            super().check(*args, **options)
        except DATABASE_AWAY as error:
            self.stderr.write(f"System checks left out, because the database is away: {type(error).__name__}.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what the verb says."""
        [verb] = [verb for verb in all_verbs() if verb.name == options["verb"]]
        try:
            verb.run(options, Output(self.stdout, self.stderr))
        except OutboxError as error:
            raise CommandError(str(error)) from error
        except Error as error:
            problem = _missing_tables()
            if not problem:
                raise
            raise CommandError(problem) from error
        except KeyboardInterrupt:
            raise CommandError("Interrupted.", returncode=INTERRUPTED) from None


def _take_djangos(parser: CommandParser) -> None:
    """Let Django's own options stand after the verb, too, where everybody writes them."""
    absent: dict[str, Any] = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    parser.add_argument("-v", "--verbosity", type=int, choices=(0, 1, 2, 3), **absent)
    for option in ("--settings", "--pythonpath"):
        parser.add_argument(option, **absent)
    for option in ("--traceback", "--no-color", "--force-color", "--skip-checks"):
        parser.add_argument(option, action="store_true", **absent)


def _missing_tables() -> str:
    """Return which database is not migrated and what to do about it, or nothing where that is not what is wrong."""
    wanted = {model._meta.db_table for model in apps.get_app_config("mail_outbox").get_models()}
    for alias in get_conf().databases:
        try:
            missing = wanted.difference(connections[alias].introspection.table_names())
        except Error:
            continue  # the database is away: another matter
        if missing:
            return (
                f"Database '{alias}' lacks tables of the outbox. Create them with: manage.py migrate --database {alias}"
            )
    return ""
