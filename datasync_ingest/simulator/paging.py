"""From a query to a page: its place in the listing, its cursor, and its envelope in either shape."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace

from . import cursors
from .answers import RefusedError
from .listings import Listing
from .options import Options

DEFAULT_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Page:
    """The rows at `places` of `listing` as text (`row,row,...`), and what the envelope says of them."""

    listing: Listing
    places: range
    text: memoryview | bytes
    returned: int
    limit: int
    has_more: bool | None
    next_cursor: str | None

    def parts(self, options: Options) -> list[bytes | memoryview]:
        """The body, in pieces that need not be joined."""
        more: dict[str, object] = {} if self.has_more is None else {"hasMore": self.has_more}
        more["nextCursor"] = self.next_cursor
        if options.envelope == "nested":
            life = {"cursorExpiresIn": round(options.cursor_life)} if self.next_cursor else {}
            more = {"pagination": {"limit": self.limit, **more, **life}}
        if options.total:
            request = str(uuid.uuid4())
            more["meta"] = {
                "total": len(self.listing) + options.overcount,
                "returned": self.returned,
                "requestId": request,
            }
        return [b'{"data":[', self.text, b"]," + json.dumps(more, separators=(",", ":")).encode()[1:]]

    def spoiled(self, fault: str, query: Mapping[str, str]) -> Page:
        """The page as a fault of that name makes it: itself, for a fault that is none of a page's."""
        if fault == "no-cursor":
            return replace(self, has_more=True, next_cursor=None)
        if fault == "no-has-more":
            return replace(self, has_more=None)
        if fault == "repeat-cursor":
            return replace(self, has_more=True, next_cursor=query["cursor"])
        if fault == "empty":
            return replace(self, text=b"", returned=0, has_more=True)
        if fault == "repeat-event" and self.places.start > 0:
            before = self.listing.text(range(self.places.start - 1, self.places.start))
            return replace(self, text=b",".join((before, self.text)), returned=self.returned + 1)
        return self


class Pager:
    """Cuts pages, and knows which cursors it has issued."""

    def __init__(self) -> None:
        self._issued: set[str] = set()

    def page(self, listing: Listing, query: Mapping[str, str], options: Options, now: float) -> Page:
        """The page that `limit` and `cursor` ask for. Raises RefusedError."""
        limit = _limit(query, options)
        start = self._start(listing, query.get("cursor"), options, now)
        places = range(start, min(start + limit, len(listing)))
        has_more = places.stop < len(listing)
        cursor = self._cursor(listing, places, options, now) if has_more else None
        return Page(listing, places, listing.text(places), len(places), limit, has_more, cursor)

    def _start(self, listing: Listing, cursor: str | None, options: Options, now: float) -> int:
        if not cursor:
            return 0
        renewed = cursor not in self._issued
        try:
            position = cursors.decode(cursor, now=now, id_type=listing.id_type, style=options.cursor_style)
            if renewed and options.renewed_cursors == "refuse":
                raise cursors.CursorError(expired=False)
        except cursors.CursorError as error:
            status = options.cursor_expired_status if error.expired else options.cursor_invalid_status
            raise RefusedError(status, "CURSOR_EXPIRED" if error.expired else "INVALID_CURSOR", str(error)) from None
        return 0 if renewed and options.renewed_cursors == "misplace" else listing.start_after(position)

    def _cursor(self, listing: Listing, places: range, options: Options, now: float) -> str:
        cursor = cursors.encode(
            listing.position(places.stop - 1), now=now, life_s=options.cursor_life, style=options.cursor_style
        )
        self._issued.add(cursor)
        return cursor


def _limit(query: Mapping[str, str], options: Options) -> int:
    text = query.get("limit", str(DEFAULT_LIMIT))
    try:
        limit = int(text)
    except ValueError:
        limit = 0
    if limit < 1:
        raise RefusedError(400, "INVALID_LIMIT", f"limit must be a positive number, not {text[:50]!r}")
    if limit > options.page_cap and options.over_cap == "reject":
        raise RefusedError(400, "INVALID_LIMIT", f"limit must be at most {options.page_cap}")
    return min(limit, options.page_cap)
