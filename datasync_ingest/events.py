"""Bytes to rows, pure: a strict typed decode for a clean page, and event by event for one that is not."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

import msgspec
from msgspec.structs import astuple

from .lenient_json import REFUSALS, StructureError
from .lenient_page import events_of, members_by_name
from .storable import DEEPEST, is_deep, needs_care
from .timestamps import to_text
from .tolerant import EventRow, RejectedEvent, RepairedEvent, fallback_rows, is_plain_id, read_event, read_id

__all__ = [
    "DecodedPage",
    "EventRow",
    "RejectedEvent",
    "RepairedEvent",
    "UnreadablePageError",
    "fallback_rows",
    "decode_page",
]


class UnreadablePageError(ValueError):
    """Raised when a body is not a JSON object with a list `data`."""


class Raws(NamedTuple):
    """A row's place in its page, and its bytes there."""

    position: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class DecodedPage:
    """`rows` are sorted by id, so that workers that meet on the same ids take their locks in one order; rows of one id
    stand as in the page."""

    rows: list[EventRow]
    rejected: list[RejectedEvent]
    repaired: list[RepairedEvent]
    body: bytes = field(repr=False)
    _places: dict[str, list[Raws]] = field(init=False, repr=False, compare=False, default_factory=dict)

    @property
    def received(self) -> int:
        return len(self.rows) + len(self.rejected)

    def raw_of(self, index: int) -> Raws:
        """Where the row at `index` stands in the page, and its bytes. Reads the page again, once, when first asked."""
        if not self._places:
            for position, raw in enumerate(_raw_events(self.body)):
                event_id = read_id(raw)
                if event_id is not None:
                    self._places.setdefault(event_id, []).append(Raws(position, bytes(raw)))
        event_id = self.rows[index].id
        copies_before = index - bisect_left(self.rows, event_id, key=itemgetter(0))
        return self._places[event_id][copies_before]


class _Session(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    id: str | None = None
    device_type: str | None = None
    browser: str | None = None


class _Event(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    id: str | int
    session_id: str | None = None
    user_id: str | None = None
    type: str | None = None
    name: str | None = None
    properties: msgspec.Raw = msgspec.Raw(b"null")
    timestamp: int | str | None = None  # a float would be rounded already
    ts: int | str | None = None
    session: _Session | None = None


class _CleanPage(msgspec.Struct):
    data: list[_Event]


class _RawPage(msgspec.Struct):
    data: list[msgspec.Raw]


_CLEAN_PAGE = msgspec.json.Decoder(_CleanPage)
_RAW_PAGE = msgspec.json.Decoder(_RawPage)
_EVENT = msgspec.json.Decoder(_Event)
_SHALLOW_CHARACTERS = 2 * DEEPEST  # a level takes two


def decode_page(body: bytes) -> DecodedPage:
    """All events of an inflated page. Raises UnreadablePageError; no event can make it raise."""
    rows = _clean_rows(body)
    if rows is not None:
        rows.sort(key=itemgetter(0))
        return DecodedPage(rows, [], [], body)
    return _by_event(body)


def _clean_rows(body: bytes) -> list[EventRow] | None:
    """Every row of a page of which each event is just what the API documents; else None."""
    if needs_care(body):
        return None
    try:
        events = _CLEAN_PAGE.decode(body).data
    except REFUSALS:
        return None
    rows = []
    for event in events:
        row = _clean_row(event)
        if row is None:
            return None
        rows.append(row)
    return rows


def _clean_row(event: _Event) -> EventRow | None:
    """The row of an event of which nothing has to be kept elsewhere; else None."""
    event_id, session_id, user_id, kind, name, raw_properties, timestamp, ts, session = astuple(event)
    session_own_id, device_type, browser = (None, None, None) if session is None else astuple(session)
    if timestamp is None:
        timestamp = ts
    elif ts is not None:
        return None
    occurred_at = to_text(timestamp)
    if occurred_at is None and timestamp is not None:
        return None
    if session_id is None:
        session_id = session_own_id
    elif session_own_id is not None and session_own_id != session_id:
        return None
    event_id = event_id if type(event_id) is str else str(event_id)
    if not is_plain_id(event_id):
        return None
    properties = str(raw_properties, "utf-8")
    if len(properties) > _SHALLOW_CHARACTERS and is_deep(bytes(raw_properties)):
        return None
    kept = None if properties == "null" else properties
    return EventRow(event_id, session_id, user_id, kind, name, kept, occurred_at, device_type, browser, None)


def _by_event(body: bytes) -> DecodedPage:
    rows: list[EventRow] = []
    rejected: list[RejectedEvent] = []
    repaired: list[RepairedEvent] = []
    for position, raw in enumerate(_raw_events(body)):
        row = _strictly(raw)
        if row is None:
            found = read_event(raw)
            if isinstance(found, str):
                rejected.append(RejectedEvent(position, found, bytes(raw)))
                continue
            row = found.row
            if found.repairs:
                repaired.append(RepairedEvent(position, row.id, "; ".join(found.repairs), bytes(raw)))
        rows.append(row)
    rows.sort(key=itemgetter(0))
    return DecodedPage(rows, rejected, repaired, body)


def _strictly(raw: msgspec.Raw | bytes) -> EventRow | None:
    if needs_care(bytes(raw)):
        return None
    try:
        return _clean_row(_EVENT.decode(raw))
    except REFUSALS:
        return None


def _raw_events(body: bytes) -> Sequence[msgspec.Raw | bytes]:
    """Every event's bytes, in the order of the page. Raises UnreadablePageError."""
    try:
        return _RAW_PAGE.decode(body).data
    except REFUSALS:
        pass
    try:
        return events_of(body, members_by_name(body))
    except StructureError as error:
        raise UnreadablePageError(f"the page cannot be read: {error}") from None
