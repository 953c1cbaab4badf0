"""Of several pods that start, the status shows the one that says most."""

from modelengine_operator.observed import Progress, most_telling

WAITING = Progress("waiting for another download")


def test_a_pod_that_counts_bytes_is_shown_before_one_that_waits_for_it():
    downloading = Progress("downloading", 0, 100)
    assert most_telling([WAITING, None, downloading]) is downloading


def test_of_two_downloads_the_one_that_has_more_is_shown():
    assert most_telling([Progress("downloading", 10, 100), Progress("downloading", 20, 100)]).bytes == 20


def test_where_nobody_says_anything_nothing_is_shown():
    assert most_telling([None]) is None
    assert most_telling([]) is None
    assert most_telling([WAITING]) is WAITING
