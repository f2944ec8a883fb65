"""Smaller pages where one fails: against a list of events some of which no page may hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from datasync_ingest.api.narrowing import FAULTS, Narrowing
from datasync_ingest.api.outcomes import Answered, Fault, NotWhole, PageFault, TooLarge


def walk(subject: Narrowing, normal: int, events: int, bad: set[int], fault: Fault) -> tuple[list[int], set[int]]:
    """Walks over all events, stepping over those that fail alone; returns every limit asked for, and those events."""
    at, asked, alone = 0, [], set()
    while at < events:
        limit = subject.limit(normal)
        asked.append(limit)
        page = range(at, min(at + limit, events))
        if not bad.intersection(page):
            subject.passed(len(page))
            at += len(page)
        elif subject.is_due(fault, limit):
            if limit > 1:
                subject.halve(limit)
                continue
            alone.add(at)
            subject.passed(1)
            at += 1
    return asked, alone


@given(normal=st.integers(1, 64), events=st.integers(1, 300), bad=st.sets(st.integers(0, 299), max_size=4))
def test_exactly_the_bad_events_are_isolated(normal: int, events: int, bad: set[int]) -> None:
    bad = {index for index in bad if index < events}
    for fault in (TooLarge("large"), NotWhole("cut"), PageFault("500")):
        asked, alone = walk(Narrowing(), normal, events, bad, fault)
        assert alone == bad
        steps = normal.bit_length() + 1
        assert len(asked) <= -(-events // normal) + len(bad) * (2 * steps + 2 * FAULTS)


def test_one_bad_event_in_5000_costs_some_thirty_requests_and_the_next_page_is_whole_again() -> None:
    asked, alone = walk(Narrowing(), 5000, 20_000, {8_000}, PageFault("500"))
    assert alone == {8_000}
    assert asked[:5] == [5000, 5000, 5000, 5000, 2500]
    assert asked[-1] == 5000
    assert len(asked) <= 35


def test_three_faults_in_a_row_halve_a_page_and_two_do_not() -> None:
    subject = Narrowing()
    assert [subject.is_due(NotWhole("cut"), 100) for _ in range(FAULTS)] == [False, False, True]
    assert subject.halve(100) == 50
    assert subject.limit(100) == 50


def test_a_body_that_is_too_large_halves_its_page_at_once() -> None:
    assert Narrowing().is_due(TooLarge("large"), 100)


def test_faults_of_the_connection_and_the_balancer_neither_count_nor_let_count() -> None:
    subject = Narrowing()
    faults = [NotWhole("cut"), NotWhole("cut"), Answered("502"), NotWhole("cut"), Fault("reset"), PageFault("500")]
    assert not any(subject.is_due(fault, 100) for fault in faults)


def test_behind_the_stretch_pages_have_their_normal_size() -> None:
    subject = Narrowing()
    subject.halve(5000)
    subject.passed(2500)
    assert subject.limit(5000) == 2500
    subject.passed(2500)
    assert subject.limit(5000) == 5000


def test_an_event_that_fails_alone_is_asked_for_three_times() -> None:
    subject = Narrowing()
    subject.halve(2)
    assert [subject.is_due(TooLarge("large"), 1) for _ in range(FAULTS)] == [False, False, True]
