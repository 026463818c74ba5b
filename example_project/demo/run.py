"""The demo from start to stop: migrate, start the cluster and the shop, send sample mail, watch, stop."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from example_project.demo.alone import alone_on, note
from example_project.demo.cluster import Cluster
from example_project.demo.interruption import Interruption
from example_project.demo.login import USERNAME, renew_login
from example_project.demo.logs import log_to
from example_project.demo.samples import send_samples
from example_project.demo.terminal import Terminal
from example_project.demo.watching import Watch, is_rollback_clean, is_settled, line_of
from example_project.demo.website import Website
from mail_outbox.core.states import State

FINE, SOME_FAILED, INTERRUPTED = 0, 4, 130
LOOK_EVERY = 0.25
STALLED_AFTER = 180.0
"""Seconds without any change after which waiting is given up: the sweep has looked at least twice by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says."""

    port: int
    orders: int
    readers: int
    chaos: float
    exit_when_idle: bool


class Demo:
    """One run of the demo."""

    def __init__(self, options: Options, terminal: Terminal) -> None:
        self._options = options
        self._terminal = terminal
        self._interruption = Interruption()
        self._started_at = timezone.now()
        database = Path(str(settings.DATABASES["default"]["NAME"])).resolve()
        self._database = database
        self._log = database.with_name(f"{database.name}-demo.log")

    def run(self) -> int:
        """Show it all until somebody stops it, or until everything is settled; return the exit code."""
        is_waited_for = self._options.exit_when_idle
        with (
            self._interruption.listening(),
            alone_on(self._database) as lock,
            nullcontext() if is_waited_for else closing(Website(self._options.port)) as website,
        ):
            log_to(self._log)
            call_command("migrate", verbosity=0, interactive=False)
            watch = Watch()
            with self._cluster(inherited=lock.fileno()) as cluster:
                note(lock, f", its cluster {cluster.pid}")
                last_order = send_samples(orders=self._options.orders, readers=self._options.readers)
                if website is not None:
                    self._open(website)
                is_interrupted = self._follow(watch, cluster)
        if not is_waited_for:
            return FINE
        return INTERRUPTED if is_interrupted else self._sum_up(watch, overtaken=watch.overtaken_by(last_order))

    @contextmanager
    def _cluster(self, *, inherited: int) -> Iterator[Cluster]:
        environment = {"EXAMPLE_CHAOS": str(self._options.chaos), "PYTHONUNBUFFERED": "1"}
        cluster = Cluster(self._log, environment=environment, inherited=[inherited])
        try:
            yield cluster
        finally:
            self._terminal.show("Stopping: the cluster finishes what it is sending.")
            # As long as django-q2 lets a task run, and a moment more.
            patience = settings.Q_CLUSTER["timeout"] + 5
            went_by_itself = cluster.stop(patience=patience, interruption=self._interruption)
            self._terminal.say("Stopped." if went_by_itself else "Stopped; the cluster had to be killed.")

    def _open(self, website: Website) -> None:
        password = renew_login()
        website.start()
        self._terminal.say(f"The shop   {website.url}")
        self._terminal.say(f"The admin  {website.url}admin/  user {USERNAME}, password {password} (new at each start)")
        self._terminal.say(f"The log    {self._log}")
        self._terminal.say("Ctrl-C stops it all.")
        self._terminal.say()

    def _follow(self, watch: Watch, cluster: Cluster) -> bool:
        """Show what becomes of the mails; tell whether somebody stopped it before all were settled."""
        is_first_known = False
        before, changed_at = None, time.monotonic()
        while not self._interruption.wait(LOOK_EVERY):
            cluster.check()
            counts = watch.counts()
            is_first_known = is_first_known or self._tell_first(watch)
            self._terminal.show(line_of(counts))
            if counts != before:
                before, changed_at = counts, time.monotonic()
            if self._options.exit_when_idle and is_settled(counts):
                return False
            if self._options.exit_when_idle and time.monotonic() - changed_at > STALLED_AFTER:
                raise CommandError(f"Nothing has moved for {STALLED_AFTER:.0f} s: {line_of(counts)}. See {self._log}")
        return True

    def _tell_first(self, watch: Watch) -> bool:
        """Say when the first mail was delivered, once it is known."""
        first = watch.first_delivered_at()
        if first is not None:
            seconds = (first - self._started_at).total_seconds()
            self._terminal.say(f"The first mail was delivered {seconds:.1f} s after the start.")
        return first is not None

    def _sum_up(self, watch: Watch, *, overtaken: int) -> int:
        """Print what became of the mails, and return the exit code."""
        counts = watch.counts()
        seconds = (timezone.now() - self._started_at).total_seconds()
        lines = [
            f"{counts.total()} mails settled in {seconds:.1f} s:",
            "",
            *watch.table(),
            "",
            f"The order placed behind the newsletter overtook {overtaken} of its mails.",
            "The order that was rolled back left "
            + ("neither an order nor a mail." if is_rollback_clean() else "something behind, which it must not."),
        ]
        for line in lines:
            self._terminal.say(line)
        is_fine = counts.total() == counts[State.SENT] and is_rollback_clean()
        return FINE if is_fine else SOME_FAILED
