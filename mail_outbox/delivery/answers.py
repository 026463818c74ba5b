"""What a provider's HTTP answer means, provider by provider where they differ."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from mail_outbox.core.loaded import loaded
from mail_outbox.core.outcomes import (
    Ambiguous,
    Kind,
    MailerTrouble,
    Outcome,
    Permanent,
    Throttled,
    Transient,
)
from mail_outbox.delivery import patterns
from mail_outbox.delivery.esps import Provider
from mail_outbox.delivery.text import clean

THROTTLED = frozenset({420, 429})
OUR_FAULT = frozenset({400, 413, 415, 422})
MAILERS_FAULT = frozenset({*range(300, 400), 401, 402, 403, 404, 405, 406, 407, 451})
GATEWAYS = frozenset({502, 504, *range(520, 528)})

# Some providers send the others with every answer, so they count for a throttled one only.
RETRY_AFTER = ("retry-after", "x-ratelimit-reset", "ratelimit-reset", "x-sib-ratelimit-reset")
SHORTEST, LONGEST = 1.0, 3600.0
EPOCH = 1_000_000_000
"""From here on a number of seconds is a moment, not a delay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, whichever library brought it."""

    status: int
    body: str = ""
    code: str = ""
    """The provider's own error code, where the library has found it already."""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_json: bool = False

    @property
    def is_success(self) -> bool:
        """Tell whether the HTTP status says that the request was carried out."""
        return 200 <= self.status <= 299


def answer_of(response: Any, *, status: object = None) -> Answer | None:
    """Return the answer in a common form, or None if there is none."""
    match response:
        case _ if isinstance(response, loaded("requests", "Response")):
            body = response.content[:4096].decode(errors="replace")
            return Answer(
                status=response.status_code,
                body=body,
                headers=response.headers,
                is_json=body.lstrip()[:1] in ("{", "["),
            )
        case {"ResponseMetadata": {"HTTPStatusCode": int()}}:
            return _botocores(response)
    return Answer(status=status) if isinstance(status, int) else None


def _botocores(response: dict[str, Any]) -> Answer:
    about, error = response["ResponseMetadata"], response.get("Error", {})
    results = response.get("BulkEmailEntryResults", [])
    statuses = {result.get("Status", "") for result in results}
    if len(statuses) == 1 and "SUCCESS" not in statuses:
        error = {"Code": statuses.pop(), "Message": results[0].get("Error", "")}
    code = str(error.get("Code", ""))
    return Answer(
        status=about["HTTPStatusCode"],
        body=str(error.get("Message", "")),
        code=code,
        headers={str(name): str(value) for name, value in about.get("HTTPHeaders", {}).items()},
        # To somebody else's page botocore gives the status for a code.
        is_json=not code.isdigit(),
    )


def read(answer: Answer, *, provider: Provider) -> Outcome | None:
    """Return what the answer alone comes to; None when it says yes, and the statuses of the recipients decide."""
    rule = provider.rule_for(status=answer.status, code=answer.code, body=answer.body)
    kind = rule.kind if rule else kind_of(answer)
    code, text = answer.code or str(answer.status), clean(answer.body)
    match kind:
        case Kind.THROTTLED:
            # Of a quota that is used up, the headers often tell only the time that the next request may come.
            waits = [wait for wait in (retry_after(answer.headers), rule and rule.wait) if wait]
            return Throttled(code=code, text=text, retry_after=max(waits, default=None))
        case Kind.TRANSIENT:
            # Not a 409: the first request with this key may still be under way, and only this provider knows it.
            is_mailers = answer.status >= 500 or (rule is not None and rule.is_mailers)
            wait = retry_after(answer.headers, names=RETRY_AFTER[:1])
            return Transient(code=code, text=text, not_before=wait, is_mailers=is_mailers)
        case Kind.MAILER:
            return MailerTrouble(code=code, text=text)
        case Kind.PERMANENT:
            return Permanent(code=code, text=text, pattern=patterns.of_answer(answer.status, answer.code, answer.body))
        case Kind.AMBIGUOUS:
            return Ambiguous(code=code, text=text)
    return None


def kind_of(answer: Answer) -> Kind | None:
    """Return what the HTTP status means in general, None for success."""
    status = answer.status
    if answer.is_success:
        return None
    if status in THROTTLED:
        return Kind.THROTTLED
    if status in OUR_FAULT:
        return Kind.PERMANENT
    if status in MAILERS_FAULT:
        return Kind.MAILER
    if 400 <= status <= 499:
        return Kind.TRANSIENT  # refused, certainly not sent; 408 and 409 ask for it, of the others nobody knows better
    if 500 <= status <= 599 and status not in GATEWAYS and answer.is_json:
        return Kind.TRANSIENT
    # A gateway lost the answer, or put its own page in place of it.
    return Kind.AMBIGUOUS


def retry_after(
    headers: Mapping[str, str], *, names: tuple[str, ...] = RETRY_AFTER, now: float | None = None
) -> timedelta | None:
    """Return how long the provider asks us to wait, between one second and one hour; None if it does not say."""
    given = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    for name in names:
        if name in given:
            seconds = _seconds(given[name], now=time.time() if now is None else now)
            return timedelta(seconds=min(max(seconds, SHORTEST), LONGEST))
    return None


def _seconds(text: str, *, now: float) -> float:
    if re.fullmatch(r"-?\d{1,15}(?:\.\d+)?", text):
        seconds = float(text)
        return seconds - now if seconds >= EPOCH else seconds
    try:
        return parsedate_to_datetime(text).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return SHORTEST
