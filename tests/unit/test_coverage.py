"""What the pages of a sweep have not read, told by their positions and windows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasync_ingest.coverage import Gap, gaps
from datasync_ingest.messages import KnownPage, PageId, Position, Window
from datasync_ingest.plan import ACTIVE, FINISHED, rebuilt


def page(
    walk: str,
    sequence: int,
    first: int,
    last: int,
    *,
    after: int | None = None,
    since: int | None = None,
    until: int | None = None,
    ends: bool = False,
) -> KnownPage:
    """Of events whose ids are their milliseconds."""
    return KnownPage(
        PageId(walk, sequence),
        cursor=None if after is None else f"c{after}",
        next_cursor=None if ends else f"c{last}",
        ends_walk=ends,
        limit=10,
        received=10,
        after=None if after is None else Position(after, str(after)),
        first=Position(first, str(first)),
        last=Position(last, str(last)),
        window=Window("s", since, until),
    )


def times(found: list[Gap]) -> list[tuple[int | None, int | None]]:
    return [(gap.since, gap.until) for gap in found]


TOP = page("a", 0, 100, 91)
NEXT = page("a", 1, 90, 81, after=91)
LAST = page("a", 2, 80, 70, after=81, since=70, ends=True)
BELOW = page("b", 0, 69, 60, until=69)


@pytest.mark.parametrize(
    ("known", "left"),
    [
        ([], [(None, None)]),
        ([TOP], [(None, 91)]),
        ([NEXT, TOP], [(None, 81)]),
        ([TOP, NEXT, LAST], [(None, 69)]),
        ([TOP, LAST], [(81, 91), (None, 69)]),
        ([NEXT], [(91, None), (None, 81)]),
        ([TOP, NEXT, LAST, BELOW], [(None, 60)]),
        ([BELOW], [(70, None), (None, 60)]),
        ([TOP, page("c", 0, 95, 60, until=95, ends=True)], []),
    ],
)
def test_what_is_left(known: list[KnownPage], left: list[tuple[int | None, int | None]]) -> None:
    assert times(gaps(known, Gap())) == left


def test_only_what_is_wanted_is_left() -> None:
    assert times(gaps([TOP], Gap(since=85))) == [(85, 91)]
    assert times(gaps([BELOW], Gap(since=50, until=75))) == [(70, 75), (50, 60)]
    assert gaps([TOP, NEXT], Gap(since=85)) == []


def test_a_cursor_goes_on_where_a_page_has_read_a_part_of_its_last_millisecond() -> None:
    assert [gap.last for gap in gaps([TOP, NEXT], Gap())] == [NEXT]
    within = page("d", 0, 50, 50, until=50)
    assert [(gap.until, gap.last) for gap in gaps([within], Gap(until=50))] == [(50, within)]
    assert gaps([TOP, LAST], Gap())[0].last == TOP


def test_pages_are_one_chain_also_where_the_event_between_them_has_no_usable_id() -> None:
    upper, lower = replace(TOP, last=None), replace(NEXT, after=None)
    assert times(gaps([lower, upper, LAST, BELOW], Gap())) == [(None, 60)]
    assert times(gaps([upper, lower], Gap())) == [(None, 81)]
    assert times(gaps([upper, replace(lower, page=PageId("other", 1))], Gap())) == [(None, None)]
    assert times(gaps([upper, replace(lower, page=PageId("a", 2))], Gap())) == [(None, None)]


def test_a_page_more_leaves_no_more_to_read() -> None:
    nowhere = Position(None, "without a time")
    unplaced = replace(NEXT, after=nowhere)
    assert times(gaps([LAST], Gap())) == times(gaps([unplaced, LAST], Gap())) == [(81, None), (None, 69)]
    upper, shared = replace(NEXT, last=nowhere), replace(LAST, after=nowhere)
    other = replace(BELOW, window=Window("s", None, 85), last=nowhere)
    assert times(gaps([upper, shared], Gap())) == [(91, None), (None, 69)]
    assert times(gaps([upper, shared, other], Gap())) == [(91, None), (None, 69)]


def test_a_page_without_times_counts_for_nothing() -> None:
    nowhere = KnownPage(PageId("a", 0), None, "c", False, 10, 10, None, None, None, window=Window("s", None, None))
    assert times(gaps([nowhere], Gap())) == [(None, None)]


@given(
    events=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    borders=st.sets(st.integers(0, 40), max_size=4),
    size=st.integers(1, 7),
    lost=st.sets(st.integers(0, 40), max_size=12),
)
def test_what_no_page_has_is_in_a_gap(events: list[int], borders: set[int], size: int, lost: set[int]) -> None:
    positions = [Position(when, f"e{number}") for number, when in enumerate(sorted(events, reverse=True))]
    pages, held = [], {}
    tops: list[int | None] = [None, *sorted(borders, reverse=True)]
    for number, until in enumerate(tops):
        since = tops[number + 1] if number + 1 < len(tops) else None
        window = Window("s", None if since is None else since + 1, until)
        inside = [one for one in positions if _within(one, window)]
        after, sequence = None, 0
        while sequence == 0 or inside:
            found, inside = inside[:size], inside[size:]
            known = KnownPage(
                PageId(f"w{number}", sequence),
                cursor=None if after is None else "cursor",
                next_cursor="more" if inside else None,
                ends_walk=not inside,
                limit=size,
                received=len(found),
                after=after,
                first=found[0] if found else None,
                last=found[-1] if found else None,
                window=window,
            )
            pages.append(known)
            held[known.page] = found
            after, sequence = found[-1] if found else None, sequence + 1
    kept = [one for number, one in enumerate(pages) if number not in lost]
    left = gaps(kept, Gap())
    have = {position for one in kept for position in held[one.page]}
    for position in positions:
        assert position in have or any(_within(position, Window("s", gap.since, gap.until)) for gap in left)
    assert bool(left) or len(have) == len(positions)
    if len(kept) == len(pages):
        assert left == []
    for newer, older in pairwise(left):
        assert newer.since is not None
        assert older.until is not None
        assert newer.since > older.until + 1


def _within(position: Position, window: Window) -> bool:
    when = position.timestamp_ms
    assert when is not None
    return (window.since is None or when >= window.since) and (window.until is None or when <= window.until)


def test_a_sweep_is_rebuilt_from_its_pages_as_finished_only_where_nothing_is_left() -> None:
    (whole,) = rebuilt([TOP, page("c", 0, 95, 60, until=95, ends=True)], [])
    assert (whole.walk, whole.state, whole.is_sweep, whole.head) == ("s", FINISHED, True, Position(100, "100"))
    (part,) = rebuilt([TOP, BELOW], [])
    assert (part.state, part.is_sweep) == (ACTIVE, True)
