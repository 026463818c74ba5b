"""What the shop knows: orders."""

from django.db import models


class Article(models.TextChoices):
    """What the shop sells."""

    TEAPOT = "teapot", "A blue teapot"
    KETTLE = "kettle", "A copper kettle"
    CUPS = "cups", "Two cups and saucers"


class Order(models.Model):
    """Somebody wants an article."""

    customer = models.CharField(max_length=100)
    email = models.EmailField("e-mail address")
    article = models.CharField(max_length=10, choices=Article.choices, default=Article.TEAPOT)
    placed_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"order {self.pk}"
