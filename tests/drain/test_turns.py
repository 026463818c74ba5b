"""Which places are for the oldest."""

from mail_outbox.drain.turns import Turns


def test_one_place_in_ten_is_for_the_oldest_however_they_are_claimed():
    turns, place, oldest = Turns(), 0, []
    for count in (7, 1, 1, 3, 64, 1, 25):
        oldest += [place + each for each in turns.oldest_of("default", count)]
        turns.note("default", count)
        place += count

    assert oldest == list(range(9, 102, 10))
