"""Routes: an order, or shares."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail_outbox.core.routing import Route, read_route

FAILOVER = Route("main", ("a", "b", "c"))
SPREAD = Route("bulk", ("a", "b", "c"), (3, 1, 1))
LUCK = st.floats(0, 1)


@given(luck=LUCK)
def test_the_first_in_order_sends_whatever_the_luck(luck: float):
    assert FAILOVER.choose(FAILOVER.mailers, luck=luck) == "a"
    assert FAILOVER.choose({"c", "b"}, luck=luck) == "b"


def test_a_spread_route_gives_each_mailer_its_share():
    chosen = Counter(SPREAD.choose(SPREAD.mailers, luck=step / 1000) for step in range(1000))

    assert chosen == {"a": 600, "b": 200, "c": 200}


def test_the_shares_of_the_missing_go_to_the_others():
    chosen = Counter(SPREAD.choose({"a", "b"}, luck=step / 1000) for step in range(1000))

    assert chosen == {"a": 750, "b": 250}


@pytest.mark.parametrize("route", [FAILOVER, SPREAD], ids=["failover", "spread"])
def test_who_does_not_belong_to_the_route_never_sends(route: Route):
    assert route.choose({"stranger"}, luck=0.5) is None
    assert route.choose((), luck=0.5) is None


@given(luck=LUCK, weights=st.lists(st.floats(1e-9, 1e9), min_size=3, max_size=3))
def test_every_luck_chooses_somebody(luck: float, weights: list[float]):
    assert Route("bulk", ("a", "b", "c"), tuple(weights)).choose("abc", luck=luck) in {"a", "b", "c"}


@given(luck=LUCK, route=st.sampled_from([FAILOVER, SPREAD]))
def test_everybody_is_tried_once_and_then_nobody_is_left(luck: float, route: Route):
    tried: list[str] = []
    while (mailer := route.untried(tried, luck=luck)) is not None:
        tried.append(mailer)

    assert sorted(tried) == ["a", "b", "c"]


def test_neighbours_go_round():
    assert [FAILOVER.neighbour(mailer) for mailer in "abc"] == ["b", "c", "a"]
    assert FAILOVER.neighbour("gone since") == "a"


def test_a_mailer_that_is_gone_takes_its_weight_with_it():
    assert SPREAD.limited_to(["a", "c"]) == Route("bulk", ("a", "c"), (3, 1))
    assert FAILOVER.limited_to(["b"]) == Route("main", ("b",))


@pytest.mark.parametrize(
    ("value", "route"),
    [
        (["ses", "mailgun"], Route("r", ("ses", "mailgun"))),
        (("ses",), Route("r", ("ses",))),
        ({"ses": 3, "mailgun": 0.5}, Route("r", ("ses", "mailgun"), (3, 0.5))),
    ],
)
def test_a_setting_becomes_a_route(value: object, route: Route):
    assert read_route("r", value) == route


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "no mailer"),
        ({}, "no mailer"),
        (["ses", "ses"], "twice"),
        (["ses", 3], "no text"),
        ([["ses"]], "no mailer"),
        ({"ses": 0}, "above zero"),
        ({"ses": -1}, "above zero"),
        ({"ses": True}, "above zero"),
        ({"ses": "3"}, "above zero"),
        ({"ses": float("nan")}, "above zero"),
        ({"ses": float("inf")}, "above zero"),
        ("ses", "neither"),
        (3, "neither"),
        (None, "neither"),
    ],
)
def test_what_is_no_route_is_refused_with_the_reason(value: Any, problem: str):
    with pytest.raises(ValueError, match=problem):
        read_route("r", value)
