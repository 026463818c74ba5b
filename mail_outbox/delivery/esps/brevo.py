"""Brevo, which knows idempotency keys (https://developers.brevo.com/docs/heterogenous-versions-batch-emails)."""

from datetime import timedelta

from mail_outbox.delivery.esps.provider import Key, Provider

BREVO = Provider(
    name="Brevo",
    key=Key(
        header="idempotencyKey",
        is_http_header=False,
        # Its pages say 15 and 30 minutes.
        lifetime=timedelta(minutes=10),
        already_used="duplicate_parameter",
        taken_for=timedelta(minutes=30),
    ),
)
