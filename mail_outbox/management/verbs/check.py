"""`outbox check`: does everything stand that mail needs."""

from collections.abc import Iterator

from django.core import checks
from django.core.management.base import CommandError, CommandParser

from mail_outbox.conf import get_conf
from mail_outbox.management.arguments import duration
from mail_outbox.management.verb import UNHEALTHY, Options, Output, Verb, add_json
from mail_outbox.outbox.checking import Finding, check_mailers, check_workers
from mail_outbox.outbox.flow import health


def add_arguments(parser: CommandParser) -> None:
    """Declare how long a worker may take to answer."""
    parser.add_argument(
        "--wait", type=duration, default=duration("10s"), metavar="TIME", help="Give a worker so long to answer: 10s."
    )
    add_json(parser)


def run(options: Options, output: Output) -> None:
    """Try the settings, the mailers, the workers, the sweep and the wake, and tell of each."""
    findings = []
    for finding in _findings(options):
        findings.append(finding)
        if not options["json"]:
            name = f" {finding.name}" if finding.name else ""
            output.write(f"{'fine   ' if finding.is_fine else 'TROUBLE'}  {finding.subject}{name}: {finding.text}")
    troubles = sum(1 for finding in findings if not finding.is_fine)
    if options["json"]:
        output.write_json({"is_fine": not troubles, "findings": [finding.as_dict() for finding in findings]})
    if troubles:
        raise CommandError(f"{troubles} of {len(findings)} are not as they should be.", returncode=UNHEALTHY)


def _findings(options: Options) -> Iterator[Finding]:
    yield _settings()
    yield from check_mailers()
    yield from check_workers(wait=options["wait"])
    for database in get_conf().databases:
        for problem in health(database=database).problems:
            yield Finding(subject="flow", name=database, is_fine=False, text=problem.text)


def _settings() -> Finding:
    found = [message for message in checks.run_checks(tags=["mail_outbox"]) if not message.is_silenced()]
    worst = [message for message in found if message.is_serious()]
    ids = ", ".join(sorted({str(message.id) for message in worst or found}))
    if worst:
        return Finding(subject="settings", name="", is_fine=False, text=f"{ids}; see manage.py check")
    text = "no complaint" if not found else f"nothing serious: {ids}; see manage.py check"
    return Finding(subject="settings", name="", is_fine=True, text=text)


VERB = Verb(
    name="check", help="Try the mailers, the workers, the sweep and the wake.", run=run, add_arguments=add_arguments
)
