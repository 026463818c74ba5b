"""The shop's one page, its three buttons, and the list of what became of the mails."""

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_POST, require_safe

from example_project.shop.forms import GUEST, OrderForm
from example_project.shop.newsletter import READERS, send_newsletter
from example_project.shop.orders import CardDeclined, place_order, place_order_then_fail
from mail_outbox import outbox
from mail_outbox.core.states import UNFINISHED
from mail_outbox.models import OutboxEntry

NEWEST = 50
REFRESH_MOVING, REFRESH_STILL = 1, 5
"""Seconds between looks at the mails: while some are on their way, and while none is."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What the last button did, for the top of the page."""

    title: str
    text: str
    is_good: bool = True


@require_safe
@never_cache
def front(request: HttpRequest) -> HttpResponse:
    """Show the page."""
    return _page(request, OrderForm(initial=GUEST))


@require_POST
def order(request: HttpRequest) -> HttpResponse:
    """Place an order; its mail is enqueued in the same transaction."""
    form = OrderForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=400)
    placed, entry = place_order(**form.cleaned_data)
    text = f"Order {placed.pk} and its mail, {entry}, were written in one transaction; the cluster delivers the mail."
    return _page(request, form, notice=Notice("Thank you for your order.", text), status=201)


@require_POST
def order_then_fail(request: HttpRequest) -> HttpResponse:
    """Place an order and fail after the mail was enqueued; nothing of it remains."""
    form = OrderForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=400)
    try:
        place_order_then_fail(**form.cleaned_data)
    except CardDeclined as error:
        text = f"{error} The transaction was rolled back: there is no order, and there is no mail."
        return _page(request, form, notice=Notice("Your order failed, on purpose.", text, is_good=False), status=500)
    raise AssertionError("place_order_then_fail always fails")


@require_POST
def newsletter(request: HttpRequest) -> HttpResponse:
    """Enqueue the newsletter."""
    entries = send_newsletter()
    text = f"{len(entries)} mails were written at once, with a low priority. Order something: its mail overtakes them."
    return _page(request, OrderForm(initial=GUEST), notice=Notice("The newsletter is on its way.", text), status=201)


@require_safe
@never_cache
@xframe_options_sameorigin
def mails(request: HttpRequest) -> HttpResponse:
    """List the newest mails, and count all by state; the front page shows it in a frame that looks again by itself."""
    counts = outbox.stats().states
    is_moving = any(counts[state] for state in UNFINISHED)
    context = {
        "counts": counts,
        "entries": OutboxEntry.objects.prefetch_related("recipients").order_by("-pk")[:NEWEST],
        "newest": NEWEST,
        "refresh": REFRESH_MOVING if is_moving else REFRESH_STILL,
    }
    return render(request, "shop/mails.html", context)


def _page(request: HttpRequest, form: OrderForm, *, notice: Notice | None = None, status: int = 200) -> HttpResponse:
    context: dict[str, Any] = {"form": form, "notice": notice, "readers": READERS}
    return render(request, "shop/front.html", context, status=status)
