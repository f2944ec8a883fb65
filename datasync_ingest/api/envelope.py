"""What a page says about itself: next cursor, more or not, total, first and last position. Events are not built.

Two envelopes occur and both are read:

    {"data": [...], "pagination": {"limit": 5000, "hasMore": true, "nextCursor": "...", "cursorExpiresIn": 116},
     "meta": {"total": 3000000, "returned": 5000, "requestId": "<uuid>"}}
    {"data": [...], "hasMore": true, "nextCursor": "..."}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from .. import timestamps
from ..messages import Position


class NotAPageError(ValueError):
    """Raised when a body is not a whole page: cut off, no JSON, no `data`, or silent about whether there is more."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """`total` and `request_id` are None where the server does not send them."""

    received: int
    has_more: bool
    next_cursor: str | None
    total: int | None
    request_id: str | None
    first: Position | None
    last: Position | None


class _Pagination(msgspec.Struct, rename="camel"):
    has_more: bool | None = None
    next_cursor: str | int | None = None


class _Meta(msgspec.Struct, rename="camel"):
    total: Any = None
    request_id: Any = None


class _Page(msgspec.Struct, rename="camel"):
    data: list[msgspec.Raw]
    pagination: _Pagination | None = None
    has_more: bool | None = None
    next_cursor: str | int | None = None
    meta: _Meta | None = None


class _Place(msgspec.Struct):
    id: Any = None
    timestamp: Any = None
    ts: Any = None


_PAGE = msgspec.json.Decoder(_Page)
_PLACE = msgspec.json.Decoder(_Place)


def read(body: bytes) -> Envelope:
    """Reads the envelope of an inflated body (UTF-8 JSON). Raises NotAPageError."""
    try:
        page = _PAGE.decode(body)
    except msgspec.DecodeError as error:
        raise NotAPageError(f"{error} (the body begins {body[:40]!r})") from None
    pagination = page.pagination or _Pagination(page.has_more, page.next_cursor)
    if pagination.has_more is None:
        raise NotAPageError("the page does not say whether there is more (no hasMore)")
    meta = page.meta or _Meta()
    cursor = pagination.next_cursor
    return Envelope(
        received=len(page.data),
        has_more=pagination.has_more,
        next_cursor=None if cursor in (None, "") else str(cursor),
        total=meta.total if type(meta.total) is int and meta.total >= 0 else None,
        request_id=meta.request_id if isinstance(meta.request_id, str) else None,
        first=_position(page.data[0]) if page.data else None,
        last=_position(page.data[-1]) if page.data else None,
    )


def _position(event: msgspec.Raw) -> Position | None:
    """Where an event stands; None for one without an id, whose place nothing can tell."""
    try:
        place = _PLACE.decode(event)
    except msgspec.DecodeError:
        return None
    if type(place.id) not in (str, int) or place.id == "":
        return None
    microseconds = timestamps.parse(place.timestamp if place.timestamp is not None else place.ts)
    return Position(None if microseconds is None else microseconds // 1000, str(place.id))
