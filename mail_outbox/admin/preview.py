"""The content of a mail: shown in a document that can do nothing, or downloaded; only to whom may see it."""

import logging
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from django.contrib.admin import AdminSite
from django.contrib.admin.utils import unquote
from django.http import Http404, HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.urls import path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_safe

from mail_outbox import outbox
from mail_outbox.admin.databases import entry_url, key_of
from mail_outbox.admin.rights import Rights, require
from mail_outbox.models import OutboxEntry
from mail_outbox.outbox.preview import DOCUMENT_HEADERS, Preview, preview

logger = logging.getLogger("mail_outbox.admin")

TABS = ("text", "html", "headers", "source", "attachments")
LONGEST_SOURCE = 200_000
"""Characters of the source that a page shows; the file to download has all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a page shows of the content: one tab of it, or why there is none."""

    problem: str = ""
    tab: str = ""
    tabs: tuple[tuple[str, str, bool], ...] = ()
    text: str = ""
    is_cut: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    for_provider: dict[str, Any] = field(default_factory=dict)
    attachments: tuple[dict[str, str], ...] = ()
    frame_url: str = ""
    eml_url: str = ""


def shown_of(site: AdminSite, request: HttpRequest, entry: OutboxEntry) -> Shown:
    """Return the tab that was asked for; the text first, because it can do the least."""
    try:
        mail = preview(entry)
    except outbox.UnreadableEnvelope as error:
        return Shown(problem=f"{gettext('There is nothing to show.')} {error}")
    _note(request, entry, "shown")
    tabs = [tab for tab in TABS if _has(mail, tab)]
    asked = request.GET.get("show", "")
    tab = asked if asked in tabs else tabs[0]
    source = mail.source.decode("utf-8", "replace") if tab == "source" else ""
    texts = {"text": mail.text or "", "source": source[:LONGEST_SOURCE]}

    def url(name: str, *more: Any) -> str:
        return entry_url(site, name, key_of(entry.pk, entry._state.db), *more)

    return Shown(
        tab=tab,
        tabs=tuple((name, f"?{urlencode({'show': name})}#mail", name == tab) for name in tabs),
        text=texts.get(tab, ""),
        is_cut=len(source) > LONGEST_SOURCE,
        headers=mail.headers,
        for_provider=dict(mail.for_provider),
        attachments=tuple(
            {
                "name": each.name,
                "type": each.content_type,
                "size": filesizeformat(len(each.data)),
                "url": url("attachment", number),
            }
            for number, each in enumerate(mail.attachments)
        ),
        frame_url=url("html"),
        eml_url=url("eml"),
    )


def _has(mail: Preview, tab: str) -> bool:
    match tab:
        case "text":
            return mail.text is not None
        case "html":
            return mail.html is not None
        case "attachments":
            return bool(mail.attachments)
    return True


class PreviewMixin(Rights):
    """The documents and downloads of a mail's content; each asks for the right again."""

    def get_urls(self) -> list[Any]:
        """Add the documents."""
        wrap = self.admin_site.admin_view
        return [
            path("<str:key>/html/", wrap(self.html_view), name="mail_outbox_html"),
            path("<str:key>/source.eml", wrap(self.eml_view), name="mail_outbox_eml"),
            path("<str:key>/attachments/<int:number>/", wrap(self.attachment_view), name="mail_outbox_attachment"),
            *super().get_urls(),
        ]

    @method_decorator(require_safe)
    @method_decorator(xframe_options_sameorigin)
    def html_view(self, request: HttpRequest, key: str) -> HttpResponse:
        """Show the HTML in a document without scripts, forms, links or a network."""
        mail = self._open(request, key, "shown")
        if mail.html is None:
            raise Http404
        return HttpResponse(mail.document(), headers=dict(DOCUMENT_HEADERS), content_type="text/html; charset=utf-8")

    @method_decorator(require_safe)
    def eml_view(self, request: HttpRequest, key: str) -> HttpResponse:
        """Send the mail as a file."""
        return _download(f"mail-{unquote(key)}.eml", self._open(request, key, "downloaded").source)

    @method_decorator(require_safe)
    def attachment_view(self, request: HttpRequest, key: str, number: int) -> HttpResponse:
        """Send one attachment as a file."""
        attachments = self._open(request, key, "downloaded").attachments
        if number >= len(attachments):
            raise Http404
        return _download(attachments[number].name, attachments[number].data)

    def _open(self, request: HttpRequest, key: str, deed: str) -> Preview:
        """Return the mail to whom may read it."""
        require(self.has_view_permission(request))
        entry = self.get_object(request, unquote(key))
        if entry is None:
            require(self.has_content_permission(request))
            raise Http404
        require(self.may_read(request, entry))
        try:
            mail = preview(entry)
        except outbox.UnreadableEnvelope as error:
            raise Http404 from error
        _note(request, entry, deed)
        return mail


def _note(request: HttpRequest, entry: OutboxEntry, deed: str) -> None:
    logger.info("content of a mail %s", deed, extra={"entry": entry.pk, "user": request.user.pk})


def _download(name: str, data: bytes) -> HttpResponse:
    # Never under its own type, which a browser might open.
    headers = {**DOCUMENT_HEADERS, "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    return HttpResponse(data, content_type="application/octet-stream", headers=headers)
