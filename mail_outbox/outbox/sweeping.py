"""What the sweep does besides delivering, for a person who does not want to wait for it."""

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.drain.settler import announce, luck
from mail_outbox.drain.work import policy_of
from mail_outbox.outbox.announcing import after_commit


def promote(*, database: str) -> tuple[int, int]:
    """Move all that has become due to `queued`, and all that is past its expiry to `expired`; return both numbers."""
    promoted = expired = 0
    while step := transitions.expire(database=database):
        expired += step
    while step := transitions.promote(database=database):
        promoted += step
    if promoted:
        after_commit(database=database)
    return promoted, expired


def rescue(*, database: str) -> dict[str, int]:
    """Settle all that lost workers left behind, and return how many by the state they are in now."""
    conf = settings.get_conf()
    counts: dict[str, int] = {}
    while settled := transitions.rescue(policy_of=lambda entry: policy_of(entry, conf), luck=luck, database=database):
        announce(settled)
        for settlement in settled:
            state = str(settlement.decision.state)
            counts[state] = counts.get(state, 0) + 1
    return counts
