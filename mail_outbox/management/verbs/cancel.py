"""`outbox cancel`: stop what no sender has yet."""

from mail_outbox.management.acting import reasoned_verb

VERB = reasoned_verb("cancel", "Stop what no sender has yet.")
