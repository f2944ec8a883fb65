"""Between rows of the sidecar and the values that the other rooms know."""

from __future__ import annotations

import time
from typing import Any

from ..messages import CompletedPage, Counts, KnownPage, PageId, Position


def text_of(position: Position | None) -> str | None:
    return None if position is None else position.to_text()


def position_of(text: str | None) -> Position | None:
    return None if text is None else Position.from_text(text)


def page_row(page: CompletedPage) -> tuple[object, ...]:
    """The columns of `pages`."""
    counts = page.counts
    return (
        page.page.walk,
        page.page.sequence,
        page.cursor,
        page.next_cursor,
        page.ends_walk,
        page.limit,
        counts.received,
        counts.inserted,
        counts.already_there,
        counts.rejected,
        counts.repaired,
        text_of(page.after),
        text_of(page.first),
        text_of(page.last),
        time.time(),
    )


def completed_page(row: tuple[Any, ...]) -> CompletedPage:
    """The columns of `pages` but for the time."""
    return CompletedPage(
        PageId(row[0], row[1]),
        cursor=row[2],
        next_cursor=row[3],
        ends_walk=bool(row[4]),
        limit=row[5],
        received=row[6],
        after=position_of(row[11]),
        first=position_of(row[12]),
        last=position_of(row[13]),
        counts=Counts(*row[6:11]),
    )


def known_page(row: tuple[Any, ...]) -> KnownPage:
    """The columns that `pages` and `spool` share."""
    return KnownPage(
        PageId(row[0], row[1]),
        cursor=row[2],
        next_cursor=row[3],
        ends_walk=bool(row[4]),
        limit=row[5],
        received=row[6],
        after=position_of(row[7]),
        first=position_of(row[8]),
        last=position_of(row[9]),
    )
