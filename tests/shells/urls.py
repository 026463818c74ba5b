"""URLs for the tests of the shells: the admin, and what a password reset links to."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls), path("accounts/", include("django.contrib.auth.urls"))]
