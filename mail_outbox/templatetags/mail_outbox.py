"""What the outbox's templates need beyond Django's own tags."""

from typing import Any

from django import template
from django.utils.html import format_html

register = template.Library()


@register.simple_tag(takes_context=True)
def nonce_attr(context: template.Context) -> str:
    """Return the nonce of the page's Content-Security-Policy as an attribute: Django's, or django-csp's, or nothing."""
    request: Any = context.get("request")
    nonce = context.get("csp_nonce")
    if nonce is None:
        nonce = getattr(request, "_csp_nonce", None)
    if nonce is None:
        nonce = getattr(request, "csp_nonce", None)
    return "" if nonce is None else format_html('nonce="{}"', nonce)
