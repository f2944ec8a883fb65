"""Several fetching threads read as one: what holds them, where their time went, the first cursor to die."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from datasync_ingest.activity import DATABASE, FETCHING, RATE_LIMIT, SERVER, Activities, Activity, Doing
from datasync_ingest.api.cursors import CursorClock, CursorClocks


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_counts_are_summed_and_seconds_add_up_to_the_time_that_has_passed() -> None:
    clock = Clock()
    first, second = Activity(clock), Activity(clock)
    every = Activities(first, second)
    first.count("requests")
    second.count("requests")
    second.count("429s")
    with first.during(FETCHING), second.during(RATE_LIMIT):
        clock.now += 6
    with first.during(FETCHING), second.during(FETCHING):
        clock.now += 2
        assert every.seconds() == {FETCHING: 5.0, RATE_LIMIT: 3.0}
    assert sum(every.seconds().values()) == clock.now
    assert every.counts == {"requests": 2, "429s": 1}
    assert every.counts["retries"] == 0


@pytest.mark.parametrize(
    ("causes", "shown"),
    [
        ([None, None], None),
        ([RATE_LIMIT, None], RATE_LIMIT),
        ([RATE_LIMIT, RATE_LIMIT], RATE_LIMIT),
        ([FETCHING, FETCHING], FETCHING),
        ([FETCHING, SERVER], FETCHING),
        ([DATABASE, SERVER], None),
    ],
)
def test_what_is_shown_is_what_holds_all_of_them(causes: list[str | None], shown: str | None) -> None:
    activities = [Activity() for _ in causes]
    every = Activities(*activities)
    with ExitStack() as opened:
        for activity, cause in zip(activities, causes, strict=True):
            if cause is not None:
                opened.enter_context(activity.during(cause))
        assert (None if every.doing is None else every.doing.cause) == shown


def test_of_several_waits_the_one_that_ends_first_is_shown_and_held_is_the_shortest() -> None:
    clock = Clock()
    first, second = Activity(clock), Activity(clock)
    every = Activities(first, second)
    assert every.held_s() == 0
    with first.during(SERVER, detail="502", until=90):
        clock.now = 10
        with second.during(SERVER, detail="503", until=30):
            clock.now = 12
            assert every.doing == Doing(SERVER, "503", 30)
            assert every.held_s() == 2


def test_the_first_cursor_to_die_is_told() -> None:
    clock = Clock()
    first, second = (CursorClock(clock=clock, wall=clock) for _ in range(2))
    every = CursorClocks(first, second)
    assert every.left_s() is None
    first.issued("opaque", 0.0, 100)
    second.issued("opaque", 0.0, 60)
    clock.now += 10
    assert every.left_s() == 50
    second.issued(None, 10.0)
    assert every.left_s() == 90
