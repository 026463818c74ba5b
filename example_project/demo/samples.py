"""Sample mail, through the shop's own code."""

from contextlib import suppress

from example_project.shop.models import Article
from example_project.shop.newsletter import send_newsletter
from example_project.shop.orders import CardDeclined, place_order, place_order_then_fail
from mail_outbox.models import OutboxEntry

GUESTS = ["Ada Lovelace", "Grace Hopper", "Edsger Dijkstra", "Barbara Liskov", "Alan Turing"]
UNLUCKY = {"customer": "Charles Babbage", "email": "rolled.back@example.com", "article": Article.KETTLE}


def send_samples(*, orders: int, readers: int) -> OutboxEntry:
    """Place so many orders and one that is rolled back, with a newsletter before the last; return that one's mail."""
    for number in range(orders - 1):
        _order(number)
    send_newsletter(readers=readers)
    with suppress(CardDeclined):
        place_order_then_fail(**UNLUCKY)
    return _order(orders - 1)


def _order(number: int) -> OutboxEntry:
    guest = GUESTS[number % len(GUESTS)]
    email = f"{guest.split()[0].lower()}@example.com"
    _, entry = place_order(customer=guest, email=email, article=Article.values[number % len(Article)])
    return entry
