"""The mails about an object, on its own page; and the outbox under somebody else's ModelAdmin."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.test import Client, RequestFactory
from django.urls import path

from mail_outbox import outbox
from mail_outbox.admin import OutboxAdminMixin, OutboxPanel
from mail_outbox.models import OutboxEntry
from tests.shells.admin.conftest import VIEW, page_of
from tests.support import a_message

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class GroupAdmin(OutboxPanel, admin.ModelAdmin):
    fields = ("name",)


class ThemeModelAdmin(admin.ModelAdmin):
    """What a theme brings."""

    change_list_template = "admin/change_list.html"


class ThemedOutbox(OutboxAdminMixin, ThemeModelAdmin):
    pass


site = admin.AdminSite(name="other")
site.register(Group, GroupAdmin)
site.register(OutboxEntry, ThemedOutbox)
urlpatterns = [path("admin/", admin.site.urls), path("other/", site.urls)]


@pytest.fixture
def group(providers) -> Group:
    """Write a mail about a group, and one about nothing."""
    group = Group.objects.create(name="g")
    outbox.enqueue(a_message("about <it>"), related=group)
    outbox.enqueue(a_message("about nothing"))
    return group


def test_the_page_of_an_object_lists_the_mails_about_it(admin_client, group):
    page = admin_client.get(f"/other/auth/group/{group.pk}/change/").content.decode()

    assert "about &lt;it&gt;" in page
    assert "about nothing" not in page
    entry = OutboxEntry.objects.get(related__gt="")
    assert page_of(entry).replace("/admin/", "/other/") in page
    assert "mail_outbox/outbox.css" in page


def test_the_object_can_still_be_added_and_saved(admin_client, group):
    assert "Mails about it" not in admin_client.get("/other/auth/group/add/").content.decode()

    admin_client.post(f"/other/auth/group/{group.pk}/change/", {"name": "new"})

    group.refresh_from_db()
    assert group.name == "new"


def test_who_may_not_view_mail_sees_none(group):
    user = User.objects.create_user("ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_group", "change_group"]))
    client = Client()
    client.force_login(user)
    url = f"/other/auth/group/{group.pk}/change/"
    assert "about" not in client.get(url).content.decode().replace("about:", "")

    user.user_permissions.add(Permission.objects.get(codename=VIEW))
    assert "about &lt;it&gt;" in client.get(url).content.decode()


def test_a_code_in_a_sensitive_subject_is_hidden(admin_client, group):
    outbox.enqueue(a_message("Code 483920"), related=group, sensitive=True)

    assert "483920" not in admin_client.get(f"/other/auth/group/{group.pk}/change/").content.decode()


def test_fieldsets_of_the_project_stay_and_the_panel_comes_last(group, admin_user):
    request = RequestFactory().get("/")
    request.user = admin_user

    fieldsets = GroupAdmin(Group, site).get_fieldsets(request, group)

    assert [list(options["fields"]) for _, options in fieldsets] == [["name"], ["outbox_mails"]]


def test_another_site_and_another_model_admin_show_the_outbox(admin_client, group):
    entry = OutboxEntry.objects.first()

    codes = [
        admin_client.get(f"/other/mail_outbox/outboxentry/{place}").status_code
        for place in ("", "dashboard/", f"{entry.pk}/change/", f"act/cancel/?ids={entry.pk}", "mailers/pause/")
    ]

    assert codes == [200] * 5


def test_links_stay_on_the_site_one_is_on(admin_client, group):
    for place in ("", "dashboard/", f"{OutboxEntry.objects.first().pk}/change/"):
        page = admin_client.get(f"/other/mail_outbox/outboxentry/{place}").content.decode()
        assert "/other/mail_outbox/outboxentry/" in page
        assert "/admin/mail_outbox/outboxentry/" not in page
