"""Between rows of the sidecar and the values that the other rooms know."""

from __future__ import annotations

import time
from typing import Any

from ..messages import CompletedPage, Counts, KnownPage, PageId, Position, Window

# The columns that `pages` and `spool` share.
KNOWN = (
    "walk, sequence, cursor, next_cursor, ends_walk, page_limit, received, after_position, first_position,"
    " last_position, sweep, since_ms, until_ms"
)
_KNOWN_COLUMNS = 13


def text_of(position: Position | None) -> str | None:
    return None if position is None else position.to_text()


def position_of(text: str | None) -> Position | None:
    return None if text is None else Position.from_text(text)


def page_row(page: CompletedPage) -> tuple[object, ...]:
    """KNOWN, the counts of `pages` but for `received`, and the time."""
    counts = page.counts
    return (
        page.page.walk,
        page.page.sequence,
        page.cursor,
        page.next_cursor,
        page.ends_walk,
        page.limit,
        counts.received,
        text_of(page.after),
        text_of(page.first),
        text_of(page.last),
        *window_row(page.window),
        counts.inserted,
        counts.already_there,
        counts.rejected,
        counts.repaired,
        time.time(),
    )


def completed_page(row: tuple[Any, ...]) -> CompletedPage:
    """KNOWN, and the counts of `pages` but for `received`."""
    facts = facts_of(row)
    return CompletedPage(**facts, counts=Counts(facts["received"], *row[_KNOWN_COLUMNS:]))


def known_page(row: tuple[Any, ...]) -> KnownPage:
    """KNOWN."""
    return KnownPage(**facts_of(row))


def window_row(window: Window | None) -> tuple[str | int | None, ...]:
    """The last three of KNOWN."""
    return (None, None, None) if window is None else (window.sweep, window.since, window.until)


def facts_of(row: tuple[Any, ...]) -> dict[str, Any]:
    """What KNOWN, at the beginning of a row, says of a page, by the names that every kind of page has for it."""
    walk, sequence, cursor, next_cursor, ends_walk, limit, received, after, first, last, *window = row[:_KNOWN_COLUMNS]
    return {
        "page": PageId(walk, sequence),
        "cursor": cursor,
        "next_cursor": next_cursor,
        "ends_walk": bool(ends_walk),
        "limit": limit,
        "received": received,
        "after": position_of(after),
        "first": position_of(first),
        "last": position_of(last),
        "window": None if window[0] is None else Window(*window),
    }
