"""The moments others may listen to; each is sent after the commit, and a receiver's error is logged, never raised."""

from django.dispatch import Signal

entry_enqueued = Signal()
"""An entry has been committed. Arguments: `entry`."""

attempt_finished = Signal()
"""An attempt has ended and is recorded. Arguments: `entry`, `outcome`, `duration`."""

entry_settled = Signal()
"""An entry has left `sending`. Arguments: `entry`, `state`, `previous`."""

work_waiting = Signal()
"""Work was committed to the outbox; sent once per transaction. Arguments: `database`."""
