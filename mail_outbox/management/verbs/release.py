"""`outbox release`: put back what is held."""

from mail_outbox.management.acting import acting_verb, steps_of

VERB = acting_verb("release", "Put back what is held, to be sent now.", steps=steps_of("release"))
