"""Who may do what: see that a mail exists, see its content, act on it, operate the mailers."""

from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from mail_outbox.core.redaction import redact
from mail_outbox.models import OutboxEntry

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin as Base
else:
    Base = object

HIDDEN = _("(hidden: sensitive)")


class ReadOnly(Base):
    """Nobody adds, changes or deletes rows here, whatever permissions they have."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Say no."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Say no."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Say no."""
        return False


class Rights(ReadOnly):
    """The four rights, each a permission of Django's; none counts without the right to view."""

    def has_content_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may see what stands in a mail."""
        return self._has(request, "view_content")

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may retry, resend, cancel and so on."""
        return self._has(request, "act_on_entries")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may pause and resume mailers."""
        return self._has(request, "operate_mailers")

    def _has(self, request: HttpRequest, permission: str) -> bool:
        return self.has_view_permission(request) and bool(request.user.has_perm(f"mail_outbox.{permission}"))

    def may_read(self, request: HttpRequest, entry: OutboxEntry) -> bool:
        """Tell whether the user may see the content of this mail: a sensitive one's is seen by nobody."""
        return not entry.sensitive and self.has_content_permission(request)


def require(condition: Any) -> None:
    """Raise PermissionDenied unless it is so."""
    if not condition:
        raise PermissionDenied


def shown_subject(entry: OutboxEntry, *, may_see_content: bool) -> str:
    """Return the subject as this user may see it: a sensitive one may hold a code."""
    if not entry.sensitive:
        return entry.subject or gettext("(no subject)")
    return redact(entry.subject) if may_see_content else str(HIDDEN)


def shown_text(entry: OutboxEntry, text: str) -> str:
    """Return a provider's words, which may quote the mail."""
    return redact(text) if entry.sensitive else text
