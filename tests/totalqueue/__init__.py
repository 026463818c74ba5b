"""The total-queue check: real processes, faults on purpose, and a checker that proves from the records what was promised."""

DEADLINE = 1.5
"""Seconds a send may take in a run."""
LEASE = 4.5
"""Seconds a claim may be held in a run: as short as the checks allow, so that it runs out often."""
HANDED_OVER = "MAIL_OUTBOX_TOTAL_QUEUE"
"""The environment variable with the JSON of a run, for the settings of its processes."""
