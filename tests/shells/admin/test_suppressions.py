"""The list of suppressed addresses in the admin: looked up by the whole address, changed by who operates the mailers."""

import pytest

from mail_outbox import outbox
from mail_outbox.models import Suppression
from tests.shells.admin.conftest import OPERATE, VIEW, page_of
from tests.support import a_message

pytestmark = pytest.mark.django_db

LIST = "/admin/mail_outbox/suppression/"
SEE = "view_suppression"
JANE = "jane@example.com"


def remove(client, row: Suppression):
    return client.post(f"{LIST}{row.pk}/delete/", {"post": "yes"})


class TestRights:
    @pytest.mark.parametrize(("rights", "code"), [((), 403), ((OPERATE,), 403), ((SEE,), 200)])
    def test_the_list_is_for_who_may_view_it(self, login, rights, code):
        assert login(*rights).get(LIST).status_code == code

    @pytest.mark.parametrize("rights", [(SEE,), (OPERATE,), (SEE, VIEW)])
    def test_without_the_right_to_operate_it_is_only_to_look_at(self, login, rights):
        outbox.suppress(JANE)
        client = login(*rights)

        assert client.get(f"{LIST}add/").status_code == 403
        assert client.post(f"{LIST}add/", {"address": "bob@example.com"}).status_code == 403
        assert remove(client, Suppression.objects.get()).status_code == 403
        assert Suppression.objects.get().address == JANE

    def test_a_row_cannot_be_written_over(self, login):
        outbox.suppress(JANE)

        response = login(SEE, OPERATE).post(f"{LIST}{Suppression.objects.get().pk}/change/", {"address": "x@y.example"})

        assert response.status_code == 403
        assert Suppression.objects.get().address == JANE


class TestActs:
    def test_an_address_is_put_on_the_list(self, login):
        response = login(SEE, OPERATE).post(f"{LIST}add/", {"address": f"Jane <{JANE.title()}>", "reason": "asked us"})

        assert response.status_code == 302
        row = Suppression.objects.get()
        assert (row.address, row.reason, row.until) == (JANE, "asked us", None)

    def test_one_that_is_there_gets_the_new_reason(self, login):
        outbox.suppress(JANE, reason="bounced")

        login(SEE, OPERATE).post(f"{LIST}add/", {"address": JANE, "reason": "asked us"})

        assert Suppression.objects.get().reason == "asked us"

    @pytest.mark.parametrize("address", ["jane, bob", "jane", ""])
    def test_what_is_no_address_is_refused(self, login, address):
        response = login(SEE, OPERATE).post(f"{LIST}add/", {"address": address, "reason": "asked us"})

        assert response.status_code == 200
        assert not Suppression.objects.exists()

    def test_one_is_taken_off_the_list(self, login):
        outbox.suppress(JANE)
        outbox.suppress("bob@example.com")

        remove(login(SEE, OPERATE), Suppression.objects.get(address=JANE))

        assert Suppression.objects.get().address == "bob@example.com"

    def test_several_are_taken_off_at_once(self, login):
        for address in (JANE, "bob@example.com"):
            outbox.suppress(address)
        outbox.erase(JANE)
        keys = list(Suppression.objects.values_list("pk", flat=True))

        login(SEE, OPERATE).post(LIST, {"action": "delete_selected", "_selected_action": keys, "post": "yes"})

        assert not Suppression.objects.exists()


class TestSearch:
    def test_the_whole_address_finds_it_in_any_case(self, login):
        outbox.suppress(JANE, reason="asked us")
        outbox.suppress("bob@example.com", reason="complained")

        page = login(SEE).get(LIST, {"q": "Jane@Example.com"}).content.decode()

        assert "asked us" in page
        assert "complained" not in page

    def test_a_part_of_it_finds_nothing(self, login):
        outbox.suppress(JANE, reason="asked us")

        assert "asked us" not in login(SEE).get(LIST, {"q": "jane"}).content.decode()

    def test_who_was_erased_is_found_under_the_pseudonym(self, login):
        outbox.suppress(JANE, reason="asked us")
        outbox.erase(JANE)

        page = login(SEE).get(LIST, {"q": JANE}).content.decode()

        assert "asked us" in page


def test_the_page_of_a_mail_says_who_is_not_written_to(admin_client, providers):
    outbox.suppress(JANE)
    entry = outbox.enqueue(a_message(to=[JANE, "bob@example.com"]))

    page = admin_client.get(page_of(entry)).content.decode()

    assert page.count("not written to: suppressed") == 1
