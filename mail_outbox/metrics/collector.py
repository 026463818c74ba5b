"""The outbox in numbers, as families of metrics for a registry of Prometheus."""

from collections.abc import Iterator, Sequence

from django.db import Error
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mail_outbox import outbox
from mail_outbox.conf import get_conf
from mail_outbox.outbox import Measurement


class OutboxCollector(Collector):
    """Reads the outbox on every scrape, all its databases together; `CollectorRegistry.register` takes it."""

    def describe(self) -> Iterator[Metric]:
        """Name the metrics without asking a database, so that it can be registered before there is one."""
        yield from _Families().in_order

    def collect(self) -> Iterator[Metric]:
        """Read the outbox; with the database away there is only `mail_outbox_up`, which is 0 then."""
        families = _Families()
        try:
            found = [outbox.measure(database=alias) for alias in get_conf().databases]
        except Error:
            families.up.add_metric([], 0)
            yield families.up
            return
        families.up.add_metric([], 1)
        families.fill(found)
        yield from families.in_order


class _Families:
    """What is known, each under its name."""

    def __init__(self) -> None:
        gauge, mailer = GaugeMetricFamily, ["mailer"]
        self.up = gauge("mail_outbox_up", "Whether the outbox's database answers.")
        self.flowing = gauge("mail_outbox_flowing", "Whether nothing keeps mail from flowing.")
        self.problem = gauge("mail_outbox_problem", "What keeps mail from flowing.", labels=["code", "mailer"])
        self.entries = gauge(
            "mail_outbox_entries", "Entries, counted no further than documented.", labels=["state", "mailer"]
        )
        self.oldest = gauge("mail_outbox_oldest_due_seconds", "How long the oldest mail has been due.", labels=mailer)
        self.paused = gauge("mail_outbox_paused", "Whether a person has paused the mailer.", labels=mailer)
        self.broken = gauge("mail_outbox_broken", "Whether the mailer rests after trouble.", labels=mailer)
        self.workers = gauge("mail_outbox_workers", "Workers seen within two minutes.")
        self.seen = gauge("mail_outbox_worker_last_seen_seconds", "Since when no worker has been seen.")
        self.attempts = CounterMetricFamily(
            "mail_outbox_attempts", "Attempts that have ended, by outcome.", labels=["mailer", "outcome"]
        )
        self.seconds = HistogramMetricFamily("mail_outbox_delivery_seconds", "How long attempts took.", labels=mailer)
        self.in_order: list[Metric] = list(vars(self).values())

    def fill(self, found: Sequence[Measurement]) -> None:
        """Add up what was found in each database; of ages the longest counts, of workers the one seen last."""
        problems = {(problem.code, problem.mailer) for one in found for problem in one.health.problems}
        self.flowing.add_metric([], not problems)
        for labels in sorted(problems):
            self.problem.add_metric(labels, 1)
        self.workers.add_metric([], sum(one.health.workers for one in found))
        seen = [one.last_seen.total_seconds() for one in found if one.last_seen is not None]
        if seen:
            self.seen.add_metric([], min(seen))
        for state, alias in sorted({key for one in found for key in one.entries}):
            self.entries.add_metric([state, alias], sum(one.entries.get((state, alias), 0) for one in found))
        for alias, kind in sorted({key for one in found for key in one.attempts}):
            self.attempts.add_metric([alias, kind], sum(one.attempts.get((alias, kind), 0) for one in found))
        self._fill_mailers(found)
        self._fill_durations(found)

    def _fill_mailers(self, found: Sequence[Measurement]) -> None:
        for alias in sorted({alias for one in found for alias in one.oldest_due}):
            ages = [one.oldest_due[alias].total_seconds() for one in found if alias in one.oldest_due]
            self.oldest.add_metric([alias], max(ages))
        for alias in sorted({mailer.alias for one in found for mailer in one.health.mailers}):
            mailers = [mailer for one in found for mailer in one.health.mailers if mailer.alias == alias]
            is_paused = any(one.health.is_paused for one in found)
            self.paused.add_metric([alias], is_paused or any(mailer.is_paused for mailer in mailers))
            self.broken.add_metric([alias], any(mailer.is_broken for mailer in mailers))

    def _fill_durations(self, found: Sequence[Measurement]) -> None:
        for alias in sorted({alias for one in found for alias in one.durations}):
            durations = [one.durations[alias] for one in found if alias in one.durations]
            buckets = [
                (str(bound.total_seconds()), sum(one.within[number][1] for one in durations))
                for number, (bound, _) in enumerate(durations[0].within)
            ]
            total = sum(one.total.total_seconds() for one in durations)
            self.seconds.add_metric([alias], [*buckets, ("+Inf", sum(one.count for one in durations))], sum_value=total)
