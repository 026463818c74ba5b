"""What is particular to each provider behind Anymail, by the name Anymail gives it."""

import re
from dataclasses import dataclass
from datetime import timedelta

from mail_outbox.core.outcomes import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An answer that means something else than its HTTP status does elsewhere; `says` is looked for in the body."""

    kind: Kind
    status: int
    says: str
    wait: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamps:
    """What the outbox may add to a message for this provider."""

    message_id: bool = False
    """A Message-ID header of ours: kept by few, refused by Mailjet, which Anymail then takes for a success."""
    metadata: bool = True
    """Metadata of enqueue's: Anymail raises where the provider knows none."""


STAMPS: dict[str, Stamps] = {
    "Mailgun": Stamps(message_id=True),
    "Mandrill": Stamps(message_id=True),
    "MailerSend": Stamps(metadata=False),
    "Postal": Stamps(metadata=False),
}

QUOTA = timedelta(hours=1)
"""How long to wait when a daily or monthly quota is used up: it is asked again at most hourly."""

RULES: dict[str, tuple[Rule, ...]] = {
    "Mailgun": (Rule(kind=Kind.MAILER, status=200, says="Mailgun Magnificent API"),),
    "Postmark": (
        Rule(kind=Kind.THROTTLED, status=422, says=r'"ErrorCode":\s*429\b'),
        Rule(kind=Kind.MAILER, status=422, says=r'"ErrorCode":\s*(?:10|400|401|405|412|413)\b'),
        Rule(kind=Kind.TRANSIENT, status=422, says=r'"ErrorCode":\s*100\b'),
    ),
    "Resend": (
        Rule(kind=Kind.THROTTLED, status=429, says="(?:daily|monthly)_quota_exceeded", wait=QUOTA),
        Rule(kind=Kind.PERMANENT, status=409, says="invalid_idempotent_request"),
    ),
    "Mandrill": (
        Rule(kind=Kind.MAILER, status=500, says=r'"name":\s*"(?:Invalid_Key|PaymentRequired|Unknown_Subaccount)"'),
        Rule(kind=Kind.PERMANENT, status=500, says=r'"name":\s*"ValidationError"'),
    ),
    "Mailtrap": (Rule(kind=Kind.PERMANENT, status=200, says=r'"success":\s*false|"errors":\s*\[\s*[^\s\]]'),),
    "Postal": (
        Rule(kind=Kind.MAILER, status=200, says=r'"code":\s*"(?:InvalidServerAPIKey|AccessDenied|ServerSuspended)"'),
        Rule(kind=Kind.PERMANENT, status=200, says=r'"status":\s*"(?:parameter-)?error"'),
    ),
}

SES: dict[str, Kind] = {
    "TooManyRequestsException": Kind.THROTTLED,
    "ThrottlingException": Kind.THROTTLED,
    "Throttling": Kind.THROTTLED,
    "LimitExceededException": Kind.THROTTLED,
    "AccessDenied": Kind.MAILER,
    "AccessDeniedException": Kind.MAILER,
    "InvalidClientTokenId": Kind.MAILER,
    "UnrecognizedClientException": Kind.MAILER,
    "SignatureDoesNotMatch": Kind.MAILER,
    "InvalidSignatureException": Kind.MAILER,
    "ExpiredToken": Kind.MAILER,
    "ExpiredTokenException": Kind.MAILER,
    "RequestTimeTooSkewed": Kind.MAILER,
    "AccountSuspendedException": Kind.MAILER,
    "SendingPausedException": Kind.MAILER,
    "MailFromDomainNotVerifiedException": Kind.MAILER,
    "NotFoundException": Kind.MAILER,
    "MessageRejected": Kind.PERMANENT,
    "BadRequestException": Kind.PERMANENT,
}
"""Amazon's error codes, as botocore hands them on."""

SES_WAITS = {"LimitExceededException": timedelta(minutes=15)}

BOTO_NOT_SENT = frozenset(
    {
        "ConnectTimeoutError",
        "CredentialRetrievalError",
        "EndpointConnectionError",
        "NoCredentialsError",
        "NoRegionError",
        "PartialCredentialsError",
        "ProxyConnectionError",
        "SSLError",
    }
)
"""botocore's exceptions that prove that no request has left; all of them are the mailer's trouble."""


def refine(esp: str, status: int, body: str) -> Rule | None:
    """Return the provider's own rule for this answer, if there is one."""
    for rule in RULES.get(esp, ()):
        if rule.status == status and re.search(rule.says, body):
            return rule
    return None
