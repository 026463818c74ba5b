"""Orders, and the mail that confirms them: both are written, or neither is."""

from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.template.loader import render_to_string

from example_project.shop.models import Order
from mail_outbox import outbox
from mail_outbox.models import OutboxEntry


class CardDeclined(Exception):
    """The bank said no, after the order and its mail had been written."""


@transaction.atomic
def place_order(*, customer: str, email: str, article: str) -> tuple[Order, OutboxEntry]:
    """Write the order and its confirmation in one transaction, and return both."""
    order = Order.objects.create(customer=customer, email=email, article=article)
    return order, outbox.enqueue(confirmation_of(order), related=order, tags=["order"])


@transaction.atomic
def place_order_then_fail(*, customer: str, email: str, article: str) -> None:
    """Write the order and its confirmation, and then raise CardDeclined: the transaction takes both back."""
    order, entry = place_order(customer=customer, email=email, article=article)
    raise CardDeclined(f"The card was declined after {order} and {entry} had been written.")


def confirmation_of(order: Order) -> EmailMultiAlternatives:
    """Render the mail that confirms the order, as plain text and as HTML."""
    context = {"order": order}
    message = EmailMultiAlternatives(
        subject=f"Your order {order.pk}: {order.get_article_display()}",
        body=render_to_string("shop/mail/order.txt", context),
        to=[order.email],
    )
    message.attach_alternative(render_to_string("shop/mail/order.html", context), "text/html")
    return message
