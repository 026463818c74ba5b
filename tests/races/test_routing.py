"""Rerouting beside claiming: an entry is sent once, by the mailer it was claimed for."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import OperationalError, connection

from mail_outbox import outbox, transitions
from mail_outbox.core.states import State
from mail_outbox.models import Attempt, OutboxEntry
from tests.fakes import BAD_LOGIN, SLOW_DOWN, Provider
from tests.races.parallel import at_once, drain
from tests.support import a_message, scripted

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

COUNT = 200
LEASE = timedelta(minutes=4)


@pytest.fixture
def providers() -> Iterator[dict[str, Provider]]:
    """Let two mailers of a route obey scripts."""
    with scripted("a", "b", ROUTES={"main": ["a", "b"]}) as providers:
        yield providers


def unless_deadlocked(act: Callable[[], list[int] | int]) -> list[int] | int:
    """Do it; a deadlock, which InnoDB may see here, does nothing, and a worker tries again."""
    try:
        return act()
    except OperationalError:
        assert connection.vendor == "mysql"
        return 0


def test_what_is_claimed_while_it_is_handed_over_belongs_to_one_of_them(providers: dict[str, Provider]):
    outbox.enqueue_many((a_message() for _ in range(COUNT)), using="main")

    def claim(mailer: str) -> list[tuple[int, str]]:
        taken: list[tuple[int, str]] = []
        for _ in range(COUNT // 10):
            keys = unless_deadlocked(
                lambda: transitions.claim(
                    mailer, 5, claim_id=uuid4(), worker=mailer, lease=LEASE, database="default", oldest=range(4, 5)
                )
            )
            taken += [(key, mailer) for key in keys or []]
        return taken

    def hand_over(mailer: str, to: str) -> list[tuple[int, str]]:
        for _ in range(COUNT // 10):
            unless_deadlocked(lambda: transitions.reroute("main", mailer, to=to, limit=30, database="default"))
        return []

    acts = [lambda: claim("a"), lambda: claim("b"), lambda: hand_over("a", "b"), lambda: hand_over("b", "a")]
    taken = [each for some in at_once(*acts) for each in some]

    assert len({key for key, _ in taken}) == len(taken)
    claimed = OutboxEntry.objects.filter(state=State.SENDING)
    assert set(taken) == set(claimed.values_list("pk", "using"))
    assert all(using == worker for using, worker in claimed.values_list("using", "worker"))
    assert OutboxEntry.objects.count() == COUNT
    assert set(OutboxEntry.objects.values_list("using", flat=True)) <= {"a", "b"}


@pytest.mark.parametrize("trouble", [BAD_LOGIN, SLOW_DOWN], ids=["mailer", "throttled"])
def test_four_workers_and_a_first_mailer_in_trouble_send_everything_once(
    providers: dict[str, Provider], trouble: Exception
):
    providers["a"].will_always(trouble)
    outbox.enqueue_many((a_message(f"mail {number}") for number in range(COUNT)), using="main")

    at_once(*[drain] * 4)
    drain()

    assert Counter(providers["b"].subjects) == {f"mail {number}": 1 for number in range(COUNT)}
    assert set(OutboxEntry.objects.values_list("state", "using", "attempts")) == {(State.SENT, "b", 1)}
    assert Attempt.objects.filter(using="b").count() == COUNT


def test_a_first_mailer_that_comes_and_goes_doubles_nothing(providers: dict[str, Provider]):
    providers["a"].will(*[None, SLOW_DOWN, None, BAD_LOGIN] * 10)
    outbox.enqueue_many((a_message(f"mail {number}") for number in range(COUNT)), using="main")

    at_once(*[drain] * 4)
    drain()

    sent = Counter(providers["a"].subjects + providers["b"].subjects)
    assert sent == {f"mail {number}": 1 for number in range(COUNT)}
    assert set(OutboxEntry.objects.values_list("state", "attempts")) == {(State.SENT, 1)}
