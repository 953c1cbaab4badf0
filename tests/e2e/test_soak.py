"""The soak of `bench/soak.py`, small: clients of every kind, and an engine that is frozen while they ask."""

from __future__ import annotations

from bench import soak
from bench.visits import Kind


def test_every_answer_is_the_one_that_the_request_gets_alone_and_nothing_is_left() -> None:
    report = soak.run(requests=240, seed=3, freeze_s=0.5)
    assert report.wrong == []
    assert {kind for kind, count in report.came.items() if count > 5} == set(Kind)
    assert report.came.total() == 240
    assert (report.freezes, report.left > 0) == (soak.QUARTERS, True)
    # What is made once is made in the first quarter.
    assert report.footprints[-1].threads <= report.footprints[0].threads
    assert report.footprints[-1].files <= report.footprints[0].files + soak.CONCURRENCY
