"""When is it bad enough to call somebody: the limits a monitor sets, and the words of what crossed them."""

from dataclasses import dataclass
from datetime import timedelta

from mail_outbox.core.durations import humanise
from mail_outbox.core.states import State
from mail_outbox.outbox.flow import OVERDUE_AFTER, Health, Problem, health
from mail_outbox.outbox.watching import Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What may not be: mail that is due for longer, so many failed, no worker, or anything that keeps mail from flowing."""

    older: timedelta | None = None
    failed: int | None = None
    no_worker: bool = False
    any_problem: bool = False

    def judge(self, *, database: str) -> Health:
        """Judge whether mail flows, taking as overdue what these thresholds do."""
        return health(overdue_after=self.older or OVERDUE_AFTER, database=database)

    def crossed(self, found: Health, stats: Stats) -> list[Problem]:
        """Return what crossed a threshold, in the words of `health` where it has any for it."""
        by_code = {problem.code: problem for problem in found.problems}
        problems = list(found.problems) if self.any_problem else []
        if self.older is not None and found.oldest_due is not None and found.oldest_due > self.older:
            text = f"Mail has been due for {humanise(found.oldest_due)} and has not been sent."
            problems.append(by_code.get("overdue", Problem(code="overdue", text=text)))
        if self.no_worker and found.workers == 0:
            text = "No worker is there to send mail. Start one: manage.py qcluster."
            problems.append(by_code.get("no_worker", Problem(code="no_worker", text=text)))
        failed = stats.states.get(State.FAILED, 0)
        if self.failed is not None and failed >= self.failed:
            problems.append(Problem(code="failed", text=f"{failed} mails have failed."))
        return list(dict.fromkeys(problems))
