"""SparkPost, which knows idempotency keys."""

from datetime import timedelta

from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery.esps.provider import Key, Provider, Rule

SPARKPOST = Provider(
    name="SparkPost",
    rules=(
        # Over the limit of the hour.
        Rule(kind=Kind.THROTTLED, says=r'"code":\s*"2102"'),
        # The message could not be generated.
        Rule(kind=Kind.PERMANENT, says=r'"code":\s*"1902"'),
        # The first request with the key is not done yet.
        Rule(kind=Kind.TRANSIENT, status=409, says=r'"code":\s*"?1600\b'),
        # The same key with another body, or no key at all: a mistake of ours, which a repetition cannot mend.
        Rule(kind=Kind.PERMANENT, status=409, says=r'"code":\s*"?1601\b'),
        Rule(kind=Kind.PERMANENT, status=400, says=r'"code":\s*"?1602\b'),
    ),
    key=Key(header="Idempotency-Key", lifetime=timedelta(hours=24)),
)
