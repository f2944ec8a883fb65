"""Which stretches of time the pages of a sweep have not read yet: the one answer to a restart, a dead cursor, and a
sidecar that is rebuilt.

A page is newest first. Pages that belong together are told by position: one begins behind the event with which the
other ends; where that event has no usable id, it is the next page of the same walk. Such a chain has read everything
from its window's end, or from the event behind which it begins, down to its last event; below that millisecond where
its last page ends its window.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .messages import KnownPage, PageId, Position


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of `since` to `until` (epoch ms, both inclusive; None: open) that are not all read.

    `last` is the page after which a cursor goes on with just these, where there is one: then of the millisecond
    `until` a part has been read.
    """

    since: int | None = None
    until: int | None = None
    last: KnownPage | None = None


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Milliseconds that a chain has read whole, both inclusive; none where `low` is above `high`."""

    low: float
    high: float
    last: KnownPage | None


def gaps(pages: Sequence[KnownPage], whole: Gap) -> list[Gap]:
    """What of `whole` the pages, in any order, have not read, the newest first; [] where they have read all of it.

    Pages that begin behind an event without a readable timestamp, or end with one, count for less than they have read.
    """
    bottom, top, last = _low(whole.since), _high(whole.until), whole.last
    found = []
    for stretch in sorted(_stretches(pages), key=lambda stretch: (-stretch.high, stretch.low)):
        if stretch.high < top and stretch.low <= stretch.high:
            if max(bottom, stretch.high + 1) <= top:
                found.append(_gap(max(bottom, stretch.high + 1), top, last))
            top, last = stretch.high, None
        if stretch.high < top or stretch.low > top + 1:
            continue
        if stretch.low <= bottom:
            return found
        if stretch.low <= top or last is None:
            top, last = stretch.low - 1, stretch.last
    if top >= bottom:
        found.append(_gap(bottom, top, last))
    return found


def _gap(low: float, high: float, last: KnownPage | None) -> Gap:
    return Gap(None if low == -math.inf else int(low), None if high == math.inf else int(high), last)


def _low(since: int | None) -> float:
    return -math.inf if since is None else since


def _high(until: int | None) -> float:
    return math.inf if until is None else until


def _stretches(pages: Sequence[KnownPage]) -> Iterator[_Stretch]:
    """One for each chain of pages. With a page of which nothing tells when it begins none does, but may behind it."""
    behind: dict[Position | PageId, list[KnownPage]] = defaultdict(list)
    for page in pages:
        if page.cursor is not None:
            behind[page.after or page.page].append(page)
    ends = {_end(page) for page in pages if not page.ends_walk}
    beginnings = [
        *(page for page in pages if page.cursor is None),
        *(page for page in pages if page.cursor is not None and (page.after or page.page) not in ends),
    ]
    unplaced: set[PageId] = set()
    for first in beginnings:  # which grows
        high = _begins(first)
        if high is not None:
            low, last = _lowest(_chain(first, behind))
            yield _Stretch(low, high, last)
        elif first.page not in unplaced and not first.ends_walk:
            unplaced.add(first.page)
            beginnings.extend(behind.get(_end(first), ()))


def _chain(first: KnownPage, behind: Mapping[Position | PageId, Sequence[KnownPage]]) -> Iterator[KnownPage]:
    """The page and all that is read from it on; a page that was fetched twice may have two of different lengths."""
    waiting, seen = [first], set()
    while waiting:
        page = waiting.pop()
        if page.page not in seen:
            seen.add(page.page)
            yield page
            if not page.ends_walk:
                waiting.extend(behind.get(_end(page), ()))


def _end(page: KnownPage) -> Position | PageId:
    """Where a page ends, as the one behind it names it."""
    return page.last or PageId(page.page.walk, page.page.sequence + 1)


def _begins(first: KnownPage) -> float | None:
    """The newest millisecond that is read whole by a chain which begins with this page."""
    if first.cursor is None:
        return _high(first.window.until if first.window else None)
    if first.after is None or first.after.timestamp_ms is None:
        return None
    return first.after.timestamp_ms - 1


def _lowest(chain: Iterable[KnownPage]) -> tuple[float, KnownPage | None]:
    """How far down a chain has read, and its last page where a cursor leads on."""
    low, last = math.inf, None
    for page in chain:
        if page.ends_walk:
            reached, onward = _low(page.window.since if page.window else None), None
        elif page.last is None or page.last.timestamp_ms is None:
            continue
        else:
            reached, onward = page.last.timestamp_ms + 1, page
        if reached < low or (reached == low and onward is not None):
            low, last = reached, onward
    return low, last
