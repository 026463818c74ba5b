"""What can be particular to a provider: what its answers mean, and what it lets the outbox add to a message."""

import re
from dataclasses import dataclass
from datetime import timedelta

from mail_outbox.core.outcomes import Kind

QUOTA = timedelta(hours=1)
"""How long to wait when a quota is used up: it is asked again at most hourly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An answer that means something else than its HTTP status does elsewhere; what is left open matches anything."""

    kind: Kind
    status: int | None = None
    codes: frozenset[str] = frozenset()
    """The provider's own error codes, where the library finds them in the answer."""
    says: str = ""
    """A regular expression that is looked for in the body."""
    wait: timedelta | None = None
    """How long a throttled mailer waits at least."""
    is_mailers: bool = False
    """Whether what is transient is the provider's own trouble, so that another may do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """How a provider recognises a repetition: by a key in this header, for so long after the first request with it."""

    header: str
    is_http_header: bool = True
    """Whether it is a header of the HTTP request; else it stands among those of the message."""
    lifetime: timedelta
    already_used: str = ""
    """A regular expression for the refusal that a repetition gets; empty where it gets the first answer once more."""
    taken_for: timedelta | None = None
    """How long a key stays refused at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """What is particular to one provider, under the name that Anymail gives it; without particulars, like all."""

    name: str = ""

    rules: tuple[Rule, ...] = ()
    """What its answers mean; the first that matches counts."""
    not_sent: frozenset[str] = frozenset()
    """Names of its library's exceptions that prove that no request has left: the mailer's trouble."""
    not_built: frozenset[str] = frozenset()
    """Names of its library's exceptions that prove that no request could be made of the message."""

    message_id: bool = False
    """Whether it keeps a Message-ID of ours: few do, and Mailjet refuses it, which Anymail takes for a success."""
    metadata: bool = True
    """Whether it takes enqueue's metadata: Anymail raises where the provider knows none."""
    suppresses: str | None = None
    """A regular expression for a whole answer whose refusals of recipients are for their addresses' sake; None: unknown."""
    key: Key | None = None
    """How it recognises a repetition; few do."""

    def means_addresses(self, body: str) -> bool:
        """Tell whether the recipients that this answer refuses would be refused in every other message, too."""
        return self.suppresses is not None and re.fullmatch(self.suppresses, body, re.DOTALL) is not None

    def rule_for(self, *, status: int, code: str, body: str) -> Rule | None:
        """Return the rule for this answer, if there is one."""
        for rule in self.rules:
            is_status = rule.status is None or rule.status == status
            is_code = not rule.codes or code in rule.codes
            if is_status and is_code and re.search(rule.says, body):
                return rule
        return None
