"""Is mail flowing, for a program that asks over HTTP: 200 or 503, with the words that the admin and the command use."""

from collections.abc import Iterable

from django.db import Error, transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from mail_outbox import outbox
from mail_outbox.delivery.text import mask_addresses
from mail_outbox.outbox import Problem

NO_DATABASE = Problem(code="database", text="The database of the outbox does not answer.")


def judge() -> tuple[Problem, ...]:
    """Return what keeps mail from flowing, fit to be shown to anybody; never raises for a database that is away."""
    try:
        return tuple(outbox.all_problems())
    except Error:
        return (NO_DATABASE,)


def words_of(problems: Iterable[Problem]) -> list[str]:
    """Return the problems in sentences, the mailbox names of addresses masked: a reason is whatever a person wrote."""
    return [mask_addresses(problem.text) for problem in problems]


# A transaction around the view, as ATOMIC_REQUESTS makes it, would fail before the view can say so.
@transaction.non_atomic_requests
@require_safe
def outbox_health(request: HttpRequest) -> JsonResponse:
    """Answer 200 where mail flows, else 503, with the reasons as JSON; for monitors, not for what restarts a process."""
    problems = judge()
    body = {
        "is_flowing": not problems,
        "problems": [
            {"code": problem.code, "mailer": problem.mailer, "text": text}
            for problem, text in zip(problems, words_of(problems), strict=True)
        ],
    }
    return JsonResponse(body, status=503 if problems else 200, headers={"Cache-Control": "no-store"})
