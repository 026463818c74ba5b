"""A mailbox for developers: the latest mails as their recipients would see them, and the same as JSON; only in DEBUG."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_safe

from mail_outbox import outbox
from mail_outbox.conf import get_conf, is_debug
from mail_outbox.core.addresses import normalise
from mail_outbox.models import OutboxEntry, Recipient
from mail_outbox.outbox.preview import DOCUMENT_HEADERS, Preview, preview

LATEST = 50
PARAMETER = "database"
MOST = 1_000

View = Callable[..., HttpResponse]


def only_in_debug(view: View) -> View:
    """Answer 404 unless DEBUG is on: whoever reads this mailbox reads everybody's mail."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **keywords: Any) -> HttpResponse:
        if not is_debug():
            raise Http404("The mailbox is for development: it is there only while DEBUG is True.")
        return view(request, *args, **keywords)

    return require_safe(never_cache(guarded))


@only_in_debug
def mailbox(request: HttpRequest) -> HttpResponse:
    """List the latest mails."""
    entries = _found(request).prefetch_related("recipients")[:LATEST]
    database = _database_of(request)
    context = {
        "entries": entries,
        "database": database,
        "databases": get_conf().databases,
        "query": _query_of(database),
        "to": request.GET.get("to", ""),
        "subject": request.GET.get("subject", ""),
    }
    return render(request, "mail_outbox/mailbox/list.html", context)


@only_in_debug
def mail(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one mail."""
    entry = _entry(request, pk)
    query = _query_of(_database_of(request))
    context: dict[str, Any] = {"entry": entry, "recipients": entry.recipients.order_by("pk"), "query": query}
    try:
        context["mail"] = preview(entry)
    except outbox.UnreadableEnvelope as error:
        context["problem"] = str(error)
    return render(request, "mail_outbox/mailbox/mail.html", context)


@only_in_debug
@xframe_options_sameorigin
def html(request: HttpRequest, pk: int) -> HttpResponse:
    """Show the HTML in a document that can do nothing."""
    return HttpResponse(_preview(_entry(request, pk)).document(), headers=dict(DOCUMENT_HEADERS))


@only_in_debug
def attachment(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    """Send one attachment as a file."""
    attachments = _preview(_entry(request, pk)).attachments
    if number >= len(attachments):
        raise Http404
    response = HttpResponse(attachments[number].data, headers=dict(DOCUMENT_HEADERS))
    response.headers["Content-Type"] = "application/octet-stream"
    response.headers["Content-Disposition"] = "attachment"
    return response


@only_in_debug
def messages_json(request: HttpRequest) -> HttpResponse:
    """Return the latest mails for end-to-end tests: `?to=` whole address, `?subject=` part of it, `?limit=`."""
    asked = request.GET.get("limit", "")
    limit = min(int(asked), MOST) if asked.isdecimal() and len(asked) < len(str(MOST)) + 1 else LATEST
    entries = _found(request).prefetch_related("recipients")[:limit]
    return JsonResponse({"messages": [_as_json(entry) for entry in entries]})


@only_in_debug
def message_json(request: HttpRequest, pk: int) -> HttpResponse:
    """Return one mail."""
    return JsonResponse(_as_json(_entry(request, pk)))


def _database_of(request: HttpRequest) -> str:
    """Return the database that the address asks for, or the first; raises Http404 for one that has no outbox."""
    known = get_conf().databases
    asked = request.GET.get(PARAMETER, known[0])
    if asked not in known:
        raise Http404(f"MAIL_OUTBOX['DATABASE'] does not name it. Known: {', '.join(known)}.")
    return asked


def _query_of(database: str) -> str:
    """Return what an address needs at its end to ask for the database: nothing, where it is the first."""
    return "" if database == get_conf().databases[0] else f"?{urlencode({PARAMETER: database})}"


def _found(request: HttpRequest) -> QuerySet[OutboxEntry]:
    entries = OutboxEntry.objects.using(_database_of(request)).order_by("-pk")
    if to := request.GET.get("to", ""):
        addressed = Recipient.objects.using(entries.db).filter(address=normalise(to))
        entries = entries.filter(pk__in=addressed.values("entry_id"))
    if subject := request.GET.get("subject", ""):
        entries = entries.filter(subject__icontains=subject)
    return entries


def _entry(request: HttpRequest, pk: int) -> OutboxEntry:
    entries = OutboxEntry.objects.using(_database_of(request))
    entry = entries.filter(pk=pk).first() if pk < 2**63 else None
    if entry is None:
        raise Http404
    return entry


def _preview(entry: OutboxEntry) -> Preview:
    try:
        return preview(entry)
    except outbox.UnreadableEnvelope as error:
        raise Http404(str(error)) from error


def _as_json(entry: OutboxEntry) -> dict[str, Any]:
    query = _query_of(entry._state.db or "")
    values: dict[str, Any] = {
        "id": entry.pk,
        "uuid": str(entry.uuid),
        "state": entry.state,
        "mailer": entry.using,
        "message_id": entry.message_id,
        "related": entry.related,
        "tags": entry.tags,
        "enqueued_at": entry.created_at.isoformat(),
        "finished_at": None if entry.finished_at is None else entry.finished_at.isoformat(),
        "subject": entry.subject,
        "recipients": [{"role": each.role, "address": each.address} for each in entry.recipients.all()],
        "url": reverse("mail_outbox:mail", args=[entry.pk]) + query,
    }
    try:
        mail = preview(entry)
    except outbox.UnreadableEnvelope as error:
        return {**values, "problem": str(error)}
    return {
        **values,
        "headers": [list(header) for header in mail.headers],
        "text": mail.text,
        "html": mail.html,
        "attachments": [
            {
                "name": each.name,
                "content_type": each.content_type,
                "size": len(each.data),
                "url": reverse("mail_outbox:attachment", args=[entry.pk, number]) + query,
            }
            for number, each in enumerate(mail.attachments)
        ],
    }
