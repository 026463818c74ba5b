"""URLs of the shop."""

from django.urls import path

from example_project.shop import views

app_name = "shop"
urlpatterns = [
    path("", views.front, name="front"),
    path("orders/", views.order, name="order"),
    path("orders/fail/", views.order_then_fail, name="order_then_fail"),
    path("newsletter/", views.newsletter, name="newsletter"),
    path("mails/", views.mails, name="mails"),
]
