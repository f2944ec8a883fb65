"""What a page says about itself: next cursor, more or not, total, first and last position. Events are not built.

Two envelopes occur and both are read:

    {"data": [...], "pagination": {"limit": 5000, "hasMore": true, "nextCursor": "...", "cursorExpiresIn": 116},
     "meta": {"total": 3000000, "returned": 5000, "requestId": "<uuid>"}}
    {"data": [...], "hasMore": true, "nextCursor": "..."}
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ..lenient_json import REFUSALS, StructureError
from ..lenient_page import events_of, members_by_name
from ..messages import Position
from ..storable import as_text
from ..tolerant import read_place


class NotAPageError(ValueError):
    """Raised when a body is not a whole page: cut off, no JSON, no `data`, or silent about whether there is more."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """`total`, `request_id` and `cursor_life_s` (seconds) are None where the server does not send them."""

    received: int
    has_more: bool
    next_cursor: str | None
    total: int | None
    request_id: str | None
    first: Position | None
    last: Position | None
    cursor_life_s: int | None = None


class _Pagination(msgspec.Struct, rename="camel"):
    has_more: bool | None = None
    next_cursor: str | int | None = None
    cursor_expires_in: Any = None


class _Meta(msgspec.Struct, rename="camel"):
    total: Any = None
    request_id: Any = None


class _Page(msgspec.Struct, rename="camel"):
    data: list[msgspec.Raw]
    pagination: _Pagination | None = None
    has_more: bool | None = None
    next_cursor: str | int | None = None
    meta: _Meta | None = None


_PAGE = msgspec.json.Decoder(_Page)
_INTEGER = re.compile(rb"-?[0-9]+")
_DAY_MS = 86_400_000
_FAR = 100  # times what a page spans; pages of the live API span 72 minutes
_MOST_DIGITS = 1000  # Python itself refuses 4,301
_HIGHEST_TOTAL = 2**63 - 1  # what both ledgers can hold


def read(body: bytes) -> Envelope:
    """Reads the envelope of an inflated body (UTF-8 JSON), also of one with events that no strict parser takes.

    Raises NotAPageError.
    """
    page = _page(body)
    nested, meta = page.pagination or _Pagination(), page.meta or _Meta()
    has_more = nested.has_more if nested.has_more is not None else page.has_more
    if has_more is None:
        raise NotAPageError("the page does not say whether there is more (no hasMore)")
    return Envelope(
        received=len(page.data),
        has_more=has_more,
        next_cursor=_cursor(nested.next_cursor) or _cursor(page.next_cursor),
        total=meta.total if type(meta.total) is int and 0 <= meta.total <= _HIGHEST_TOTAL else None,
        request_id=meta.request_id if isinstance(meta.request_id, str) else None,
        first=_position(page.data[0]) if page.data else None,
        last=_end(page.data) if page.data else None,
        cursor_life_s=_life(nested.cursor_expires_in),
    )


def positions(body: bytes) -> list[Position | None]:
    """Where each event of an inflated body stands, in the page's order. Raises NotAPageError."""
    return [_position(event) for event in _page(body).data]


def _page(body: bytes) -> _Page:
    try:
        return _PAGE.decode(body)
    except REFUSALS:
        return _read_leniently(body)


def _read_leniently(body: bytes) -> _Page:
    """The same of a body that msgspec refuses, for whatever reason."""
    try:
        found = members_by_name(body)
        data = [msgspec.Raw(event) for event in events_of(body, found)]
        page = {name: body[member.value] for name, member in found.items()}
        pagination, meta = _members(page.get("pagination")), _members(page.get("meta"))
    except StructureError as error:
        raise NotAPageError(f"{error} (the body begins {body[:40]!r})") from None
    return _Page(
        data=data,
        pagination=_Pagination(
            _flag(pagination.get("hasMore")),
            _scalar(pagination.get("nextCursor")),
            _scalar(pagination.get("cursorExpiresIn")),
        ),
        has_more=_flag(page.get("hasMore")),
        next_cursor=_scalar(page.get("nextCursor")),
        meta=_Meta(_scalar(meta.get("total")), _scalar(meta.get("requestId"))),
    )


def _members(raw: bytes | None) -> dict[str, bytes]:
    """The members of an object; none where it is another value. Raises StructureError."""
    if raw is None or not raw.startswith(b"{"):
        return {}
    return {name: raw[member.value] for name, member in members_by_name(raw).items()}


def _flag(raw: bytes | None) -> bool | None:
    return {b"true": True, b"false": False}.get(raw or b"")


def _scalar(raw: bytes | None) -> str | int | None:
    """A string or an integer as it came; None for anything else."""
    if raw is None:
        return None
    if _INTEGER.fullmatch(raw) and len(raw) <= _MOST_DIGITS:
        return int(raw)
    if not raw.startswith(b'"'):
        return None
    text, changed = as_text(raw)
    return None if changed else text


def _cursor(value: str | int | None) -> str | None:
    """A cursor that can be kept and sent again."""
    return None if value is None or value == "" or "\0" in str(value) else str(value)


def _life(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _end(data: Sequence[msgspec.Raw]) -> Position | None:
    """Where the last event stands: without its time where that is not below the others', or so far below that it may
    be none.

    Whoever held it against a time would take for read what was not: without one, the next page will tell.
    """
    last = _position(data[-1])
    newest, near = _times(data[:1]), _times(data[1:-1][-3:])
    if last is None or last.timestamp_ms is None or not (newest or near):
        return last
    above = max(near or newest)
    far_ms = max(_DAY_MS, _FAR * (newest[0] - above if newest else 0))
    return last if 0 <= above - last.timestamp_ms <= far_ms else replace(last, timestamp_ms=None)


def _times(events: Sequence[msgspec.Raw]) -> list[int]:
    """Those that can be read."""
    places = [place for event in events if (place := _position(event)) is not None]
    return [place.timestamp_ms for place in places if place.timestamp_ms is not None]


def _position(event: msgspec.Raw) -> Position | None:
    """Where an event stands; None for one without a usable id, whose place nothing can tell."""
    place = read_place(event)
    if place is None:
        return None
    return Position(None if place.microseconds is None else place.microseconds // 1000, place.event_id)
