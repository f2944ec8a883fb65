"""Follows a cursor from where a plan begins to the walk's end; refuses loops; skips what the ledger has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Set
from typing import Protocol

from .errors import CursorExpiredError
from .messages import Fetches, KnownPage, PageAddress, PageFacts, PageId, Position, RawPage, TimeBounds
from .plan import Plan


class DivergedError(Exception):
    """Raised when completed pages beyond a gap do not fit what the API serves now; `at` is where to branch off."""

    def __init__(self, at: Plan) -> None:
        super().__init__(f"walk {at.walk.walk[:8]} does not continue at page {at.sequence} as it did before")
        self.at = at


class Renews(Protocol):
    """Whoever gets another cursor for what comes after a known page; None where there is none to be had."""

    def next_cursor(self, last: PageFacts, expired: CursorExpiredError) -> str | None: ...


class Extent(Protocol):
    """What of all events a walk is to read, beside its plan: it may become less while pages are on their way."""

    def bounds(self) -> TimeBounds:
        """To ask for the next page with."""

    def reaches(self, page: RawPage) -> bool:
        """Whether nothing beyond this page is wanted."""


class Whole:
    """Every event, or those newer than the `until` of a walk."""

    def __init__(self, until: Position | None) -> None:
        self._until = until

    def bounds(self) -> TimeBounds:
        return TimeBounds()

    def reaches(self, page: RawPage) -> bool:
        return _reaches(page, self._until)


def follow(
    plan: Plan, fetcher: Fetches, renewal: Renews | None = None, extent: Extent | None = None
) -> Iterator[RawPage]:
    """Yields the pages that are not known yet, in order, until the walk's end.

    Raises what `fetcher` raises (it refuses cursors that this walk has met before), and DivergedError. A cursor that
    has expired is renewed where there is a `renewal`; CursorExpiredError is raised where that fails, or brings no page.
    """
    extent = extent or Whole(plan.walk.until)
    place = plan
    seen = set(plan.seen_cursors)
    while not place.ended:
        known = place.known.get(place.sequence)
        if known is not None and _fits(known, place):
            if known.ends_walk:
                return
            place = _beyond(place, known.next_cursor, known)
            continue
        if known is not None:
            raise DivergedError(place)
        page = _fetched(place, seen, extent.bounds(), fetcher, renewal)
        if extent.reaches(page):
            page = dataclasses.replace(page, ends_walk=True)
        yield page
        if page.ends_walk or page.next_cursor is None or extent.reaches(page):
            return
        seen.add(page.next_cursor)
        place = _beyond(place, page.next_cursor, page)


def _fetched(place: Plan, seen: set[str], bounds: TimeBounds, fetcher: Fetches, renewal: Renews | None) -> RawPage:
    """The page at `place`, if need be with one renewed cursor, which `seen` then holds as well."""
    try:
        return fetcher.fetch(_address(place, seen, bounds))
    except CursorExpiredError as expired:
        if renewal is None or place.last is None:
            raise
        cursor = renewal.next_cursor(place.last, expired)
        if cursor is None or cursor in seen:
            raise
    seen.add(cursor)
    return fetcher.fetch(_address(dataclasses.replace(place, cursor=cursor), seen, bounds))


def _address(place: Plan, seen: Set[str], bounds: TimeBounds) -> PageAddress:
    """A walk for what is new must not be told by a cache that nothing is."""
    fresh = place.cursor is None and place.walk.until is not None
    return PageAddress(PageId(place.walk.walk, place.sequence), place.cursor, place.after, seen, fresh, bounds=bounds)


def _beyond(place: Plan, cursor: str | None, last: PageFacts) -> Plan:
    return dataclasses.replace(place, sequence=place.sequence + 1, cursor=cursor, after=last.last, last=last)


def _fits(known: KnownPage, place: Plan) -> bool:
    """Whether a known page begins where the walk stands, told by position: a cursor carries its expiry."""
    return known.after is not None and known.after == place.after


def _reaches(page: RawPage, until: Position | None) -> bool:
    """Whether a page, newest first, ends at or beyond `until`. Unknown timestamps reach nothing."""
    if until is None or page.last is None or page.last.timestamp_ms is None or until.timestamp_ms is None:
        return False
    return page.last.timestamp_ms < until.timestamp_ms or until in (page.first, page.last)
