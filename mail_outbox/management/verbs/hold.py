"""`outbox hold`: set aside what is still waiting."""

from mail_outbox.management.acting import reasoned_verb

VERB = reasoned_verb("hold", "Set aside what is still waiting.")
