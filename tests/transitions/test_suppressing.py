"""The list of suppressed addresses: asked exactly, written without a loss, fed without overruling anybody."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from mail_outbox.conf import erasure_keys
from mail_outbox.core.pseudonyms import pseudonym
from mail_outbox.models import Suppression
from mail_outbox.transitions import suppress, suppressed_among, unsuppress
from mail_outbox.transitions.suppressing import feed

pytestmark = pytest.mark.django_db

JANE, BOB = "jane@example.com", "bob@example.com"
DAY = timedelta(days=1)


def put(*addresses: str, until: timedelta | None = None, reason: str = "bounced") -> None:
    suppress(dict.fromkeys(addresses, reason), until=until, database="default")


def make_older(by: timedelta) -> None:
    Suppression.objects.update(since=F("since") - by, until=F("until") - by)


def asked(*addresses: str) -> set[str]:
    return set(suppressed_among(addresses, database="default"))


class TestSuppressedAmong:
    def test_it_returns_those_who_are_on_the_list(self):
        put(JANE)

        assert suppressed_among([JANE, BOB], database="default") == {JANE: None}

    def test_it_knows_whoever_was_erased_by_the_pseudonym(self, settings):
        put(pseudonym(JANE, erasure_keys()[0]))
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]

        assert asked(JANE, BOB) == {JANE}

    def test_what_has_run_out_counts_no_more(self):
        put(JANE, until=DAY)
        assert asked(JANE) == {JANE}

        make_older(2 * DAY)

        assert asked(JANE) == set()

    def test_the_longer_one_counts_where_there_are_two(self):
        put(JANE)
        put(pseudonym(JANE, erasure_keys()[0]), until=DAY)

        assert suppressed_among([JANE], database="default") == {JANE: None}

    def test_nobody_else_who_looks_alike_is_on_it(self):
        put("jané@example.com")

        assert asked(JANE) == set()

    def test_it_is_one_query_for_many_and_none_for_nobody(self):
        put(JANE)

        with CaptureQueriesContext(connection) as queries:
            assert asked(*(f"{number}@example.com" for number in range(1000)), JANE) == {JANE}
        assert len(queries) == 1
        with CaptureQueriesContext(connection) as queries:
            assert asked() == set()
        assert len(queries) == 0

    def test_more_than_one_statement_takes_are_asked_in_parts(self, monkeypatch):
        monkeypatch.setattr("mail_outbox.transitions.suppressing.NAMES_AT_ONCE", 3)
        put(JANE, BOB)

        assert asked(*(f"{number}@example.com" for number in range(10)), JANE, BOB) == {JANE, BOB}


class TestSuppress:
    def test_again_it_gets_the_new_reason_and_end_and_keeps_its_beginning(self):
        put(JANE, until=DAY)
        make_older(DAY / 2)
        since = Suppression.objects.get().since

        put(JANE, reason="asked us")

        row = Suppression.objects.get()
        assert (row.reason, row.until, row.since) == ("asked us", None, since)

    def test_one_that_had_run_out_begins_anew(self):
        put(JANE, until=DAY)
        make_older(2 * DAY)
        since = Suppression.objects.get().since

        put(JANE)

        row = Suppression.objects.get()
        assert row.until is None
        assert row.since > since

    def test_a_long_reason_is_cut(self):
        put(JANE, reason="x" * 500)

        assert len(Suppression.objects.get().reason) == 256


class TestFeed:
    def test_it_overrules_nobody(self):
        put(JANE, until=DAY, reason="on holiday")

        feed({JANE: "rejected by default", BOB: "rejected by default"}, database="default")

        reasons = dict(Suppression.objects.values_list("address", "reason"))
        assert reasons == {JANE: "on holiday", BOB: "rejected by default"}

    def test_it_writes_no_address_where_there_is_a_pseudonym(self):
        put(pseudonym(JANE, erasure_keys()[0]))

        feed({JANE: "rejected by default"}, database="default")

        assert not Suppression.objects.filter(address=JANE).exists()

    def test_it_begins_anew_what_had_run_out(self):
        put(JANE, until=DAY)
        make_older(2 * DAY)

        feed({JANE: "rejected by default"}, database="default")

        assert asked(JANE) == {JANE}


def test_unsuppress_takes_off_all_that_stands_for_the_address():
    put(JANE, pseudonym(JANE, erasure_keys()[0]), BOB)

    assert unsuppress(f"Jane <{JANE.upper()}>", database="default") == 2
    assert Suppression.objects.get().address == BOB
