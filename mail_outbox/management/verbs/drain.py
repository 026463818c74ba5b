"""`outbox drain`: deliver in this process."""

import signal
import time
from datetime import timedelta

from django.core.management.base import CommandError, CommandParser

from mail_outbox.conf import get_conf
from mail_outbox.core.states import State
from mail_outbox.management.arguments import count, seconds
from mail_outbox.management.loop import Loop, Stopped, stopping_on_signals
from mail_outbox.management.progress import Progress, counted, counting
from mail_outbox.management.verb import INTERRUPTED, SOME_FAILED, Options, Output, Verb, add_json
from mail_outbox.outbox.delivering import refuse_in_transaction
from mail_outbox.outbox.options import check_mailer


def add_arguments(parser: CommandParser) -> None:
    """Declare the bounds of a drain."""
    parser.add_argument("--limit", type=count, metavar="N", help="Make at most N attempts.")
    parser.add_argument("--using", metavar="ALIAS", help="Deliver only what goes through this mailer.")
    parser.add_argument("--max-seconds", type=seconds, metavar="S", help="Take up nothing new after S seconds.")
    parser.add_argument("--forever", action="store_true", help="Go on looking for work until SIGTERM or Ctrl-C.")
    parser.add_argument("--fail-on-failed", action="store_true", help="Exit with 4 where messages failed for good.")
    add_json(parser)


def run(options: Options, output: Output) -> None:
    """Deliver, count, and exit with a code that says how it went."""
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
            counting(output.teller(options)) as progress,
            stopping_on_signals(loop, output.say) as stopped,
        ):
            if options["forever"] and not options["json"]:
                output.say("Draining until SIGTERM or Ctrl-C.")
            loop.run()
    except KeyboardInterrupt:
        problem = "Interrupted. What was being sent is taken care of once its lease is over."
        raise CommandError(problem, returncode=INTERRUPTED) from None
    _report(loop, progress, stopped, output, took=time.monotonic() - started, as_json=options["json"])
    _exit(loop, progress, stopped, options)


def _report(loop: Loop, progress: Progress, stopped: Stopped, output: Output, *, took: float, as_json: bool) -> None:
    if as_json:
        output.write_json(
            {
                **loop.result.as_dict(),
                "failed": progress.settled[State.FAILED],
                "seconds": round(took, 3),
                "is_interrupted": stopped.by is not None,
            }
        )
        return
    left = " More is due." if loop.result.is_work_left else ""
    output.write(f"{loop.result.attempts} attempts: {counted(progress.settled)}.{left}")


def _exit(loop: Loop, progress: Progress, stopped: Stopped, options: Options) -> None:
    """Raise where the exit code is not 0."""
    if loop.is_worn_out:
        raise CommandError("So many senders are stuck that this process should be replaced. Start it again.")
    # A supervisor ends with SIGTERM what has no end of its own: that is no interruption.
    if stopped.by is not None and not (options["forever"] and stopped.by is signal.SIGTERM):
        raise CommandError("Interrupted; everything that was being sent is settled.", returncode=INTERRUPTED)
    failed = progress.settled[State.FAILED]
    if failed and options["fail_on_failed"]:
        raise CommandError(f"{failed} messages failed for good; see the outbox.", returncode=SOME_FAILED)


VERB = Verb(
    name="drain", help="Deliver all that is due in this process, then stop.", run=run, add_arguments=add_arguments
)
