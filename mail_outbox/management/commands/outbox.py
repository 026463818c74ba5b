"""The command line of the outbox: `manage.py outbox status`, `manage.py outbox drain`."""

import argparse
import json
import signal
import time
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from mail_outbox import outbox
from mail_outbox.conf import get_conf
from mail_outbox.core.states import State
from mail_outbox.management.loop import Loop, Stopped, stopping_on_signals
from mail_outbox.management.progress import Progress, counted, counting
from mail_outbox.management.status import describe
from mail_outbox.outbox.delivering import refuse_in_transaction
from mail_outbox.outbox.options import check_mailer

SOME_FAILED = 4
INTERRUPTED = 130

EXIT_CODES = """\
exit codes: 0 fine, 1 error, 2 usage, 3 unhealthy, 4 finished but some messages failed for good, 130 interrupted"""


class Command(BaseCommand):
    """Look after the outbox from the command line."""

    help = "Look after the mail outbox."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the verbs and their options."""
        parser.epilog = EXIT_CODES
        verbs = parser.add_subparsers(dest="verb", metavar="verb", required=True)

        status = verbs.add_parser("status", help="Show how the outbox is doing.")
        status.add_argument("--json", action="store_true", help="Print one JSON object.")

        drain = verbs.add_parser("drain", help="Deliver all that is due in this process, then stop.")
        drain.add_argument("--limit", type=_count, metavar="N", help="Make at most N attempts.")
        drain.add_argument("--using", metavar="ALIAS", help="Deliver only what goes through this mailer.")
        drain.add_argument("--max-seconds", type=_seconds, metavar="S", help="Take up nothing new after S seconds.")
        drain.add_argument("--forever", action="store_true", help="Go on looking for work until SIGTERM or Ctrl-C.")
        drain.add_argument("--fail-on-failed", action="store_true", help="Exit with 4 where messages failed for good.")
        drain.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what the verb says."""
        try:
            match options["verb"]:
                case "status":
                    self._status(as_json=options["json"])
                case "drain":
                    self._drain(options)
        except outbox.OutboxError as error:
            raise CommandError(str(error)) from error

    def _status(self, *, as_json: bool) -> None:
        databases = get_conf().databases
        all_stats = {database: outbox.stats(database=database) for database in databases}
        if as_json:
            first, *others = ({"database": database, **stats.as_dict()} for database, stats in all_stats.items())
            self.stdout.write(json.dumps({**first, "others": others}))
            return
        for database, stats in all_stats.items():
            if len(databases) > 1:
                self.stdout.write(f"Database {database}")
            self.stdout.write("\n".join(describe(stats)))

    def _drain(self, options: dict[str, Any]) -> None:
        started = time.monotonic()
        longest = options["max_seconds"]
        if options["using"] is not None:
            check_mailer(options["using"])
        refuse_in_transaction("drain", databases=get_conf().databases)
        loop = Loop(
            limit=options["limit"],
            using=options["using"],
            longest=None if longest is None else timedelta(seconds=longest),
            forever=options["forever"],
        )
        try:
            with (
                counting(None if options["json"] else self._say) as progress,
                stopping_on_signals(loop, self._say) as stopped,
            ):
                if options["forever"] and not options["json"]:
                    self._say("Draining until SIGTERM or Ctrl-C.")
                loop.run()
        except KeyboardInterrupt:
            problem = "Interrupted. What was being sent is taken care of once its lease is over."
            raise CommandError(problem, returncode=INTERRUPTED) from None
        self._report(loop, progress, stopped, seconds=time.monotonic() - started, as_json=options["json"])
        self._exit(loop, progress, stopped, options)

    def _say(self, text: str) -> None:
        self.stderr.write(text, style_func=str)

    def _report(self, loop: Loop, progress: Progress, stopped: Stopped, *, seconds: float, as_json: bool) -> None:
        if as_json:
            counts = {
                **loop.result.as_dict(),
                "failed": progress.settled[State.FAILED],
                "seconds": round(seconds, 3),
                "is_interrupted": stopped.by is not None,
            }
            self.stdout.write(json.dumps(counts))
            return
        left = " More is due." if loop.result.is_work_left else ""
        self.stdout.write(f"{loop.result.attempts} attempts: {counted(progress.settled)}.{left}")

    def _exit(self, loop: Loop, progress: Progress, stopped: Stopped, options: dict[str, Any]) -> None:
        """Raise where the exit code is not 0."""
        if loop.is_worn_out:
            raise CommandError("So many senders are stuck that this process should be replaced. Start it again.")
        # A supervisor ends with SIGTERM what has no end of its own: that is no interruption.
        if stopped.by is not None and not (options["forever"] and stopped.by is signal.SIGTERM):
            raise CommandError("Interrupted; everything that was being sent is settled.", returncode=INTERRUPTED)
        failed = progress.settled[State.FAILED]
        if failed and options["fail_on_failed"]:
            raise CommandError(f"{failed} messages failed for good; see the outbox.", returncode=SOME_FAILED)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < 10**9:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return number
