"""Counts that can be added up."""

from dataclasses import dataclass

from mail_outbox.core.counts import Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Fruit(Counts):
    apples: int = 0
    pears: int = 0


def test_the_sum_of_two_is_of_their_kind_and_has_each_name_once():
    assert Fruit(apples=1, pears=2).plus(Fruit(apples=3)) == Fruit(apples=4, pears=2)


def test_they_are_plain_values_for_json():
    assert Fruit(apples=1).as_dict() == {"apples": 1, "pears": 0}
