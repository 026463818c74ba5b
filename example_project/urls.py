"""URLs of the example project: the shop, the admin, and the mailbox for developers."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("outbox/", include("mail_outbox.urls")),
    path("", include("example_project.shop.urls")),
]
