"""Amazon SES (version 2 of its API), which botocore speaks to."""

from datetime import timedelta
from typing import Any

from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery.esps.provider import Provider, Rule

CONNECT = 10.0
SHORTEST = 0.01

# In capitals: what SendBulkEmail, which sends templates, says of one of its messages.
THROTTLED = frozenset({"TooManyRequestsException", "ThrottlingException", "Throttling", "ACCOUNT_THROTTLED"})
DAILY_QUOTA = frozenset({"LimitExceededException", "ACCOUNT_DAILY_QUOTA_EXCEEDED"})
MAILERS_FAULT = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AccountSuspendedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MailFromDomainNotVerifiedException",
        "NotAuthorized",
        "NotFoundException",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SendingPausedException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "ACCOUNT_SENDING_PAUSED",
        "ACCOUNT_SUSPENDED",
        "CONFIGURATION_SET_NOT_FOUND",
        "CONFIGURATION_SET_SENDING_PAUSED",
        "INVALID_SENDING_POOL_NAME",
        "MAIL_FROM_DOMAIN_NOT_VERIFIED",
    }
)
MESSAGES_FAULT = frozenset(
    {"BadRequestException", "MessageRejected", "INVALID_PARAMETER", "MESSAGE_REJECTED", "TEMPLATE_NOT_FOUND"}
)
PASSING = frozenset({"FAILED", "TRANSIENT_FAILURE"})

AMAZON_SES = Provider(
    name="Amazon SES",
    rules=(
        Rule(kind=Kind.THROTTLED, codes=THROTTLED),
        Rule(kind=Kind.THROTTLED, codes=DAILY_QUOTA, wait=timedelta(minutes=15)),
        Rule(kind=Kind.MAILER, codes=MAILERS_FAULT),
        Rule(kind=Kind.PERMANENT, codes=MESSAGES_FAULT),
        Rule(kind=Kind.TRANSIENT, codes=PASSING, is_mailers=True),
    ),
    not_sent=frozenset(
        {
            "ConnectTimeoutError",
            "CredentialRetrievalError",
            "EndpointConnectionError",
            "NoCredentialsError",
            "NoRegionError",
            "PartialCredentialsError",
            "ProxyConnectionError",
        }
    ),
    not_built=frozenset({"ParamValidationError"}),
)


def repeats(backend: Any) -> bool:
    """Tell whether the backend has botocore repeat a request, which posts a message twice if the answer was lost."""
    config = _config_of(backend)
    if config is None:
        return False
    retries = config.retries or {}
    if "total_max_attempts" in retries:
        return bool(retries["total_max_attempts"] != 1)
    if "max_attempts" in retries:
        return bool(retries["max_attempts"] != 0)
    return _most_attempts_elsewhere(backend) != 1


def _most_attempts_elsewhere(backend: Any) -> int | None:
    """Return what AWS_MAX_ATTEMPTS says, or the profile in AWS's configuration files; None where nothing does, or nobody can read it."""
    from botocore.session import Session

    params = backend.session_params
    try:
        session = params.get("botocore_session") or Session(profile=params.get("profile_name"))
        attempts: int | None = session.get_config_variable("max_attempts")
    except Exception:  # noqa: BLE001 - a profile that is not there, a number that is none
        return None
    return attempts


def limit_waits(backend: Any, *, left: float) -> None:
    """Let the backend, before it is opened, wait for nothing longer than a send may take."""
    config = _config_of(backend)
    if config is not None:
        left = max(left, SHORTEST)
        connect = min(config.connect_timeout or CONNECT, CONNECT, left / 2)
        limits = type(config)(connect_timeout=connect, read_timeout=min(config.read_timeout or left, left - connect))
        backend.client_params["config"] = config.merge(limits)


def _config_of(backend: Any) -> Any:
    params = getattr(backend, "client_params", None)
    return params.get("config") if isinstance(params, dict) else None
