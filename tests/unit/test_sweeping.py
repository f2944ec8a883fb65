"""Many chains read a feed that is a list: every event once, whatever its bounds mean and wherever its events lie."""

from __future__ import annotations

import json
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Container, Sequence
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasync_ingest.activity import Activity
from datasync_ingest.api.time_bounds import TimeReading
from datasync_ingest.chain import Chain
from datasync_ingest.coverage import Gap, gaps
from datasync_ingest.errors import ApiUnreachableError, CursorExpiredError
from datasync_ingest.ledger import Walk
from datasync_ingest.messages import FEED, KnownPage, PageAddress, Position, RawPage, TimeBounds
from datasync_ingest.part import Part
from datasync_ingest.plan import ACTIVE, extent_of
from datasync_ingest.stopping import Interrupted, Wake
from datasync_ingest.sweeping import Sweeping, UnsweepableError
from tests.harness import until

SWEEP = Walk("5eeb", until=None, cursor=None, after=None, head=None, state=ACTIVE, endpoint=FEED, is_sweep=True)
INCLUSIVE = TimeReading(since_inclusive=True, until_inclusive=True)
PATIENCE_S = 20.0


class ListedFeed:
    """Serves these milliseconds newest first, `size` events a page at most."""

    def __init__(self, times: Sequence[int], size: int, reading: TimeReading, *, totals: str = "filtered") -> None:
        self.positions = [Position(when, f"e{number}") for number, when in enumerate(sorted(times, reverse=True))]
        self._ages = [-position.timestamp_ms for position in self.positions if position.timestamp_ms is not None]
        self.size = size
        self.reading = reading
        self.totals = totals
        self.lives = 1 << 60  # requests until a cursor is dead
        self.asked: list[PageAddress] = []
        self._lock = threading.Lock()

    @property
    def ids(self) -> set[str]:
        return {position.event_id for position in self.positions}

    def page(self, address: PageAddress) -> RawPage:
        with self._lock:
            self.asked.append(address)
            number = len(self.asked)
        first, stop = self._window(address.bounds)
        begin = first
        if address.cursor is not None:
            place, issued = map(int, address.cursor.split("~"))
            if number - issued > self.lives:
                raise CursorExpiredError("The cursor has expired.")
            begin = max(first, place)
        end = max(begin, min(begin + (address.limit or self.size), stop))
        found = self.positions[begin:end]
        more = end < stop
        total = {"filtered": max(0, stop - first), "all": len(self.positions), "none": None}[self.totals]
        return RawPage(
            page=address.page,
            cursor=address.cursor,
            next_cursor=f"{end}~{number}" if more else None,
            ends_walk=not more,
            limit=self.size,
            received=len(found),
            after=address.after,
            first=found[0] if found else None,
            last=found[-1] if found else None,
            total=total,
            request_id=None,
            body=json.dumps({"data": [_event(position) for position in found], "hasMore": more}).encode(),
        )

    def _window(self, bounds: TimeBounds) -> tuple[int, int]:
        since, until = bounds.since, bounds.until
        first, stop = 0, len(self.positions)
        if until is not None and self.reading.until_inclusive is not None:
            first = bisect_left(self._ages, -until + (not self.reading.until_inclusive))
        if since is not None and self.reading.since_inclusive is not None:
            stop = bisect_left(self._ages, -since + bool(self.reading.since_inclusive))
        return first, stop


def _event(position: Position) -> dict[str, str | int | None]:
    return {"id": position.event_id, "timestamp": position.timestamp_ms}


class Fetcher:
    """One chain's."""

    def __init__(self, feed: ListedFeed, stopped: threading.Event) -> None:
        self.activity = Activity()
        self._feed = feed
        self._stopped = stopped

    def fetch(self, address: PageAddress) -> RawPage:
        if self._stopped.is_set():
            raise Interrupted
        return self._feed.page(address)

    def stop(self) -> None:
        self._stopped.set()


class Reader:
    """A main loop that takes pages as they come; `known` is what it has of them."""

    def __init__(self, feed: ListedFeed, chains: int, sweep: Walk = SWEEP) -> None:
        self.feed = feed
        self.known: list[KnownPage] = []
        self.ids: Counter[str] = Counter()
        self.totals: list[int] = []
        self.heard: list[int] = []
        self.reading: TimeReading | None = None
        self.stopped = threading.Event()
        self._chains = chains
        self._sweep = sweep

    def read(self, stop_after: int | None = None, lose: Container[int] = ()) -> None:
        """Reads what is left; stops after so many pages, of which those with the numbers in `lose` are not kept."""
        with closing(Wake()) as wake:
            self.stopped = stopped = threading.Event()
            sweeping = Sweeping(
                self._sweep,
                gaps(self.known, extent_of(self._sweep)),
                [Chain(Fetcher(self.feed, stopped), wake) for _ in range(self._chains)],
                reading=self.reading,
                learned=self._learned,
                heard=self.heard.append,
                sustains=lambda: None,
            )
            sweeping.start()
            deadline, number = time.monotonic() + PATIENCE_S, 0
            while not sweeping.ended:
                assert time.monotonic() < deadline
                if stopped.is_set():
                    sweeping.halt()
                sweeping.tend()
                while sweeping.has_page:
                    page = sweeping.take()
                    if number not in lose and not stopped.is_set():
                        self._keep(page)
                    number += 1
                    if number == stop_after:
                        stopped.set()
                time.sleep(0)
            assert sweeping.wait_for_end(PATIENCE_S)
            if sweeping.error is not None:
                raise sweeping.error

    def _learned(self, reading: TimeReading) -> None:
        self.reading = reading

    def _keep(self, page: RawPage) -> None:
        self.known.append(KnownPage.of(page))
        if page.total is not None:
            self.totals.append(page.total)
        begin = self.feed.positions.index(page.first) if page.first is not None else 0
        self.ids.update(position.event_id for position in self.feed.positions[begin : begin + page.received])


def spread(events: int, span_ms: int = 10_000_000) -> list[int]:
    return [1_700_000_000_000 + span_ms * number // events for number in range(events)]


READINGS = [TimeReading(since, until) for since in (True, False, None) for until in (True, False)]
SHAPES = {
    "spread evenly": spread(2000),
    "with nothing in the middle": [*spread(700, 5_000), *(when + 90_000_000 for when in spread(700, 5_000))],
    "in one second": [1_700_000_000_000 + number % 1000 for number in range(3000)],
    "many at the same millisecond": [1_700_000_000_000 + number // 400 * 10 for number in range(2500)],
    "old and few, then many": [*spread(40, 50_000_000), *(when + 60_000_000 for when in spread(1500, 3000))],
    "fewer than a page": spread(30),
    "none": [],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("totals", ["filtered", "all", "none"])
@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_every_event_is_read_by_one_chain_or_another(shape: str, totals: str, reading: TimeReading) -> None:
    times = SHAPES[shape]
    reader = Reader(ListedFeed(times, 50, reading, totals=totals), chains=4)
    try:
        reader.read()
    except UnsweepableError:
        assert shape == "many at the same millisecond"
        return
    assert set(reader.ids) == reader.feed.ids
    assert gaps(reader.known, Gap()) == []
    if reading.since_inclusive is not None:
        twice = sum(reader.ids.values()) - len(times)
        assert twice <= reader.feed.size, "a page on its way may pass a cut"
    assert set(reader.totals) <= {len(times)}, "the total of a part is not the API's"
    # Each cut leaves a page that is not full, and how many there are hangs on who comes first: 32 to 51 requests for
    # the 28 pages of "nothing in the middle" in 1,200 sweeps, half of them on a busy machine.
    assert len(reader.feed.asked) <= 2 * len(times) / reader.feed.size + 4


def test_a_server_that_heeds_no_bounds_is_read_by_one_chain() -> None:
    reader = Reader(ListedFeed(spread(1000), 50, TimeReading(None, None)), chains=4)
    with pytest.raises(UnsweepableError):
        reader.read()
    assert reader.reading == TimeReading(None, None)
    assert len(reader.feed.asked) <= 6
    with pytest.raises(UnsweepableError):
        reader.read()
    assert len(reader.feed.asked) <= 6, "the next run knows, where this one ended before it could act on it"


def test_the_head_is_looked_at_once_more_while_the_last_pages_come() -> None:
    reader = Reader(ListedFeed(spread(1000), 50, INCLUSIVE), chains=4)
    reader.read()
    assert reader.heard == [1000]


def test_where_the_newest_events_are_far_apart_nothing_before_1970_is_asked_for() -> None:
    months = [1_700_000_000_000 - number * 30 * 86_400_000 for number in range(100)]
    feed = ListedFeed([*months, *(months[-1] - number for number in range(3000))], 50, INCLUSIVE)
    reader = Reader(feed, chains=4)
    reader.read()
    assert set(reader.ids) == feed.ids
    assert all(address.bounds.until is None or address.bounds.until >= 0 for address in feed.asked)


def test_a_sweep_of_what_is_new_stops_where_the_older_walk_began() -> None:
    times = spread(1000)
    sweep = replace(SWEEP, until=Position(times[600], "e399"))
    reader = Reader(ListedFeed(times, 50, INCLUSIVE), chains=4, sweep=sweep)
    reader.read()
    assert len(reader.ids) in range(400, 450)
    assert reader.totals[0] == 1000


def test_what_is_new_is_not_cut_into_more_parts_than_it_has_pages() -> None:
    times = spread(10_000)
    sweep = replace(SWEEP, until=Position(times[-120], "e119"))
    reader = Reader(ListedFeed(times, 50, INCLUSIVE), chains=8, sweep=sweep)
    reader.reading = INCLUSIVE
    reader.read()
    assert len(reader.feed.asked) <= 4, "the first page tells the total of all events, and not of those"


def test_a_sweep_that_goes_on_with_a_walk_reads_what_is_below() -> None:
    times = spread(1000)
    reader = Reader(
        ListedFeed(times, 50, INCLUSIVE), chains=4, sweep=replace(SWEEP, after=Position(times[600], "e399"))
    )
    reader.read()
    assert len(reader.ids) == 601
    assert max(reader.ids.values()) == 1


Interruptions = st.lists(st.tuples(st.integers(1, 15), st.sets(st.integers(0, 14))), max_size=4)


@settings(max_examples=80)
@given(
    times=st.lists(st.integers(1_000_000, 1_000_060), max_size=200),
    size=st.integers(1, 30),
    chains=st.integers(2, 6),
    reading=st.sampled_from(READINGS),
    totals=st.sampled_from(["filtered", "all", "none"]),
    interruptions=Interruptions,
)
def test_whatever_was_lost_when_it_was_stopped_is_read_later(
    times: list[int],
    size: int,
    chains: int,
    reading: TimeReading,
    totals: str,
    interruptions: list[tuple[int, set[int]]],
) -> None:
    reader = Reader(ListedFeed(times, size, reading, totals=totals), chains)
    try:
        for stop_after, lose in interruptions:
            reader.read(stop_after, lose)
        reader.read()
    except UnsweepableError:
        return
    assert set(reader.ids) == reader.feed.ids
    assert gaps(reader.known, Gap()) == []


def test_gaps_that_are_less_than_a_page_are_not_cut() -> None:
    reader = Reader(ListedFeed(spread(9_000), 500, INCLUSIVE), chains=8)
    reader.read(lose={3, 7, 11})
    left, before = len(gaps(reader.known, Gap())), len(reader.feed.asked)
    reader.read()
    assert 1 <= left <= 3
    assert len(reader.feed.asked) - before <= 2 * left + 1, "each to its end, and one look at the head"


def test_cursors_that_die_cost_no_page() -> None:
    times = spread(2000)
    reader = Reader(ListedFeed(times, 50, INCLUSIVE), chains=8)
    reader.feed.lives = 6
    reader.read()
    assert set(reader.ids) == reader.feed.ids
    pages = sum(address.cursor is None for address in reader.feed.asked)
    assert pages > 20
    assert sum(reader.ids.values()) - len(times) <= pages, "of each rest one millisecond is read again"


def test_a_cursor_that_dies_within_one_millisecond_is_an_error() -> None:
    reader = Reader(ListedFeed([*spread(300), *[1_800_000_000_000] * 50], 10, INCLUSIVE), chains=2)
    reader.reading = INCLUSIVE
    reader.feed.lives = 0
    with pytest.raises(CursorExpiredError):
        reader.read()


class StallingFeed(ListedFeed):
    """Answers by cursor once what bounds mean is known, or never will be; `asked_about` is called with the question."""

    def __init__(self, events: int = 2000) -> None:
        super().__init__(spread(events), 50, INCLUSIVE)
        self.asked_about: Callable[[], object] = lambda: None
        self._held = threading.Event()
        self._over = threading.Event()

    def page(self, address: PageAddress) -> RawPage:
        if address.limit is not None:
            assert self._held.wait(PATIENCE_S)
            try:
                self.asked_about()
            finally:
                self._over.set()
        elif address.cursor is not None:
            assert self._over.wait(PATIENCE_S)
        page = super().page(address)
        if address.bounds.until is not None and address.limit is None:
            self._held.set()
        return page


def test_a_chain_that_fails_ends_all_while_pages_are_held_back() -> None:
    feed = StallingFeed()
    reader = Reader(feed, chains=4)

    def gone() -> None:
        raise ApiUnreachableError("gone")

    feed.asked_about = gone
    with pytest.raises(ApiUnreachableError):
        reader.read()
    assert reader.known, "what was there is kept"


def test_a_stop_ends_all_while_pages_are_held_back() -> None:
    feed = StallingFeed()
    reader = Reader(feed, chains=4)

    def stop() -> None:
        reader.stopped.set()
        raise Interrupted

    feed.asked_about = stop
    reader.read()
    assert len(reader.known) == 1


def test_what_becomes_of_a_page_that_nobody_wants_ends_nothing() -> None:
    feed = ListedFeed(spread(1000), 50, TimeReading(None, None))
    reader = Reader(feed, chains=4)
    serve = feed.page

    def page(address: PageAddress) -> RawPage:
        if address.bounds.until is None or address.limit is not None:
            return serve(address)
        until(lambda: reader.reading is not None, what="the answer to the question")
        raise ApiUnreachableError("gone")

    feed.page = page  # type: ignore[method-assign]
    with pytest.raises(UnsweepableError):
        reader.read()
    assert not reader.stopped.is_set(), "one chain reads everything with the same fetcher"


def test_a_part_asks_for_no_less_than_is_meant_while_the_reading_becomes_known() -> None:
    asked: list[TimeBounds] = []

    class Asking(Part):
        """Asks whenever something has changed, as its chain's thread may."""

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name in ("until", "reading") and hasattr(self, "_asked"):
                asked.append(self.bounds())

    part = Asking(Gap(None, 100), None)
    part.bounds()
    part.settle(TimeReading(since_inclusive=False, until_inclusive=False))
    assert part.until == 99
    assert len(asked) == 2
    assert all(bounds.until is not None and bounds.until - 1 >= 99 for bounds in asked)
