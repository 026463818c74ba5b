"""Nothing lost and nothing doubled without a reason, whatever happens to the processes."""

from collections import Counter, defaultdict

import pytest

from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import State
from mail_outbox.models import Attempt, OutboxEntry, Worker
from tests.faults.smtp_server import SMTPFaultServer
from tests.journey.processes import Child, Processes, eventually, look, unfinished

pytestmark = [pytest.mark.journey, pytest.mark.slow]


def test_every_committed_mail_arrives_and_no_other_though_a_cluster_is_killed_halfway(
    processes: Processes, sink: SMTPFaultServer
):
    processes.q_cluster = {"queue_limit": 1}
    doomed, survivor = processes.cluster(), processes.cluster()
    writers = [processes.writer(f"writer{number}", 500) for number in range(4)]
    eventually(lambda: len(sink.journal) >= 800)
    # The sink takes its time, accepts, and answers nobody: the worst moment there is.
    sink.latency = 0.5
    look(12)
    eventually(lambda: has_mail_in_flight(survivor) and has_mail_in_flight(doomed), every=0.01, meanwhile=look)
    doomed.kill()
    sink.latency = 0.0
    processes.cluster()

    reports = [writer.result() for writer in writers]
    eventually(lambda: not unfinished(), meanwhile=look)

    committed = {key for report in reports for key in report["committed"]}
    rolled_back = {key for report in reports for key in report["rolled_back"]}
    copies = Counter(accepted.header("X-Key") for accepted in sink.journal)
    assert (len(committed), len(rolled_back)) == (1800, 400)
    assert committed - copies.keys() == set(), "lost"
    assert copies.keys() - committed == set(), "never committed"
    keys = {entry.message_id: entry.pk for entry in OutboxEntry.objects.all()}
    ambiguous = Counter(Attempt.objects.filter(kind=Kind.AMBIGUOUS).values_list("entry", flat=True))
    assert ambiguous, "nothing was in flight when the cluster was killed"
    of_each: dict[str, set[tuple[str, bytes]]] = defaultdict(set)
    for accepted in sink.journal:
        key = accepted.header("X-Key")
        of_each[key].add((accepted.message_id, accepted.data))
        assert copies[key] - 1 <= ambiguous[keys[accepted.message_id]], f"{key} was doubled without a reason"
    assert {len(seen) for seen in of_each.values()} == {1}, "a second copy differs from the first"
    assert Counter(OutboxEntry.objects.values_list("state", flat=True)) == {State.SENT: 1800}


def has_mail_in_flight(cluster: Child) -> bool:
    """Tell whether a worker of this cluster is sending something."""
    workers = Worker.objects.filter(pid__in=cluster.members).values_list("name", flat=True)
    return OutboxEntry.objects.filter(state=State.SENDING, worker__in=list(workers)).exists()
