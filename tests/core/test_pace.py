"""Batches become larger while they are quick, and smaller where they are not."""

import pytest

from mail_outbox.core.pace import FIRST, LONGEST, Pace


def test_quick_batches_grow_until_they_are_as_large_as_may_be():
    pace = Pace(500)
    sizes = []
    for _ in range(6):
        sizes.append(pace.size)
        pace.note(LONGEST / 10)

    assert sizes == [FIRST, 100, 200, 400, 500, 500]


def test_slow_batches_shrink_down_to_one():
    pace = Pace(500, size=5)
    sizes = []
    for _ in range(4):
        sizes.append(pace.size)
        pace.note(LONGEST * 2)

    assert sizes == [5, 2, 1, 1]


def test_what_takes_about_as_long_as_it_may_stays():
    pace = Pace(500, size=200)
    pace.note(LONGEST * 0.7)

    assert pace.size == 200


@pytest.mark.parametrize("most", [1, 7])
def test_it_never_begins_with_more_than_it_may(most: int):
    assert Pace(most).size == most


@pytest.mark.parametrize("each", [0.0001, 0.001, 0.01])
def test_it_settles_where_batches_are_quick_enough(each: float):
    """However long one row takes, no batch but perhaps the first takes twice as long as it should."""
    pace = Pace(500)
    took = []
    for _ in range(50):
        took.append(each * pace.size)
        pace.note(took[-1])

    assert max(took[1:]) <= 2 * LONGEST
    assert took[-1] >= min(LONGEST / 4, each * 500)
