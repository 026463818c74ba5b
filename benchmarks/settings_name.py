"""The name of the environment variable through which settings reach a measured process."""

HANDED_OVER = "MAIL_OUTBOX_BENCHMARK"
