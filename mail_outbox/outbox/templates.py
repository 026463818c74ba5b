"""Mail from Django templates: rendered where it is enqueued, so that a worker only ever sends finished text."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from email.message import MIMEPart
from email.mime.base import MIMEBase
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol, Unpack

from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMultiAlternatives
from django.http import HttpRequest
from django.template import TemplateDoesNotExist, engines
from django.template.backends.django import Template as DjangoTemplate
from django.template.context import make_context
from django.template.loader import get_template
from django.utils import translation

from mail_outbox import conf as settings
from mail_outbox.core.errors import OutboxError, did_you_mean
from mail_outbox.core.html_text import html_to_text
from mail_outbox.models import TEMPLATE_LENGTH, OutboxEntry
from mail_outbox.outbox.enqueueing import make_draft, write
from mail_outbox.outbox.options import OnceOptions, check_options
from mail_outbox.outbox.twins import has_twin

AnyAttachment = MIMEBase | MIMEPart | tuple[str | None, Any] | tuple[str | None, Any, str | None]
"""What Django's EmailMessage takes in `attachments`, its named tuple EmailAttachment included."""

NAMINGS = (
    ("/subject.txt", "/body.txt", "/body.html"),
    ("_subject.txt", "_message.txt", "_message.html"),  # allauth's
)
"""What a prefix is followed by in the names of a mail's subject, text and HTML."""

# No-break spaces belong to the text: "Bonjour !" has one.
SPACES = re.compile(r"[^\S\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}]+")


class UnknownTemplate(OutboxError, TemplateDoesNotExist):
    """There are no templates for a mail of that name; the error lists the names that were tried."""


class _Template(Protocol):
    def render(self, context: dict[str, Any] | None = ..., request: HttpRequest | None = ...) -> str: ...


@dataclass(frozen=True, slots=True)
class _Templates:
    """What a mail is made from: at least one of text and HTML is there."""

    subject: _Template
    text: _Template | None
    html: _Template | None


@has_twin
def enqueue_template(
    name: str,
    to: Sequence[str],
    context: Mapping[str, Any] | None = None,
    *,
    language: str | None = None,
    request: HttpRequest | None = None,
    from_email: str | None = None,
    cc: Sequence[str] = (),
    bcc: Sequence[str] = (),
    reply_to: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    attachments: Sequence[AnyAttachment] = (),
    **options: Unpack[OnceOptions],
) -> OutboxEntry:
    """Render the templates `<name>/subject.txt`, `body.txt` and `body.html` now, enqueue the mail and return its entry.

    allauth's `<name>_subject.txt`, `_message.txt` and `_message.html` do as well. One body is enough: a missing text is
    derived from the HTML. `language` (None: the active one) is active while it renders, and `request` gives the context
    processors. Subject and text are not HTML-escaped, the HTML is. `sensitive` is True for SENSITIVE_TEMPLATES unless
    said otherwise; the other keywords are those of EmailMessage and of `enqueue`. Raises UnknownTemplate, whatever the
    templates raise, and what `enqueue` raises, and then has written nothing.
    """
    with _speaking(language):
        subject, text, html = _render(_find(name), context or {}, request)
        message = EmailMultiAlternatives(
            subject,
            text,
            from_email,
            to,
            cc=cc,
            bcc=bcc,
            reply_to=reply_to,
            headers=dict(headers or {}),
            attachments=attachments,  # type: ignore[arg-type]  # the stubs miss MIMEPart
        )
        if html:
            message.attach_alternative(html, "text/html")
        return _enqueue(message, name, options)


def _enqueue(message: EmailMultiAlternatives, name: str, options: OnceOptions) -> OutboxEntry:
    if options.get("sensitive") is None:
        options["sensitive"] = _is_sensitive(name)
    checked = check_options(**options)
    draft = make_draft(message, checked)
    draft.entry.template = name[:TEMPLATE_LENGTH]
    return write(draft, checked)


def _speaking(language: str | None) -> AbstractContextManager[None]:
    # Django's override(None) would switch translation off.
    return translation.override(language) if language else nullcontext()


def _find(name: str) -> _Templates:
    for naming in NAMINGS:
        subject, text, html = (_load(name + ending) for ending in naming)
        if subject and (text or html):
            return _Templates(subject, text, html)
    names = [name + ending for naming in NAMINGS for ending in naming]
    tried = f"Tried: {', '.join(names)}."
    present = [file for file in names if _load(file)]
    if present:
        raise UnknownTemplate(
            f"The templates of '{name}' are incomplete: there is {' and '.join(present)}, "
            f"but a mail needs a subject and a body, text or HTML. {tried}"
        )
    raise UnknownTemplate(f"There are no templates of '{name}'. {tried}{did_you_mean(name, set(_known_names()))}")


def _load(file: str) -> _Template | None:
    try:
        return get_template(file)
    except TemplateDoesNotExist:
        return None


def _known_names() -> Iterator[str]:
    for folder in {Path(folder) for engine in engines.all() for folder in engine.template_dirs}:
        for path in folder.rglob("*subject.txt"):
            file = path.relative_to(folder).as_posix()
            for subject, *bodies in NAMINGS:
                name = file.removesuffix(subject)
                if name != file and any((folder / f"{name}{body}").is_file() for body in bodies):
                    yield name


def _render(templates: _Templates, context: Mapping[str, Any], request: HttpRequest | None) -> tuple[str, str, str]:
    # Each template gets a copy of the context, because tags may write into it.
    subject = SPACES.sub(" ", _render_plainly(templates.subject, dict(context), request)).strip()
    text = _render_plainly(templates.text, dict(context), request).strip() if templates.text else ""
    html = templates.html.render(dict(context), request).strip() if templates.html else ""
    return subject, text or html_to_text(html), _inline_css(html)


def _render_plainly(template: _Template, context: dict[str, Any], request: HttpRequest | None) -> str:
    # Django escapes for HTML whatever the file is called, and "Tom & Jerry" would arrive as "Tom &amp; Jerry".
    if isinstance(template, DjangoTemplate):
        return template.template.render(make_context(context, request, autoescape=False))
    return template.render(context, request)


def _inline_css(html: str) -> str:
    if not html or not settings.get_conf().inline_css:
        return html
    try:
        import css_inline
    except ImportError:
        raise ImproperlyConfigured(
            "MAIL_OUTBOX['INLINE_CSS'] needs the package css-inline: pip install 'mail-outbox[html]'."
        ) from None
    if "<style" not in html.lower():
        return html
    # No files and no network: what the template says is all. Rules that fit into no attribute, as @media, stay.
    return css_inline.inline(html, keep_at_rules=True, load_remote_stylesheets=False)


def _is_sensitive(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in settings.get_conf().sensitive_templates)
