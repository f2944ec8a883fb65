"""Bytes to rows, pure: a strict typed decode for a clean page, and event by event for one that is not."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from .lenient_json import REFUSALS, StructureError
from .lenient_page import events_of, members_by_name
from .rows import Column, Columns, EventRow, Rows
from .storable import DEEPEST, is_deep, needs_care
from .timestamps import to_texts
from .tolerant import RejectedEvent, RepairedEvent, are_plain_ids, fallback_rows, read_event, read_id

__all__ = [
    "DecodedPage",
    "EventRow",
    "RejectedEvent",
    "RepairedEvent",
    "Rows",
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

    rows: Rows
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
        copies_before = index - bisect_left(self.rows, event_id, key=attrgetter("id"))
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
_NO_SESSION = _Session()
_NOT_IN_JSON = "\0"
_ESCAPED_IN_COPY = (b"\\", b"\t", b"\n", b"\r")
_SHALLOW_CHARACTERS = 2 * DEEPEST  # a level takes two
_BLOCK_EVENTS = 50  # of an odd page: one odd event costs the strict reading of these, each alone


def decode_page(body: bytes) -> DecodedPage:
    """All events of an inflated page. Raises UnreadablePageError; no event can make it raise."""
    rows = _clean_rows(body)
    if rows is not None:
        return DecodedPage(rows, [], [], body)
    return _by_event(body)


def _clean_rows(body: bytes) -> Rows | None:
    """Every row of a page of which each event is just what the API documents; else None."""
    if needs_care(body):
        return None
    try:
        events = _CLEAN_PAGE.decode(body).data
    except REFUSALS:
        return None
    return _rows_of(events, is_plain=_is_plain(body))


def _clean_row(raw: bytes) -> EventRow | None:
    """The same of the bytes of one event."""
    if needs_care(raw):
        return None
    try:
        rows = _rows_of([_EVENT.decode(raw)], is_plain=False)
    except REFUSALS:
        return None
    return None if rows is None else rows[0]


def _is_plain(body: bytes) -> bool:
    """Whether no value of a body of valid JSON can hold a backslash, a tab or the end of a line: a string of JSON has
    them escaped, and what is kept as text as they stand."""
    return not any(mark in body for mark in _ESCAPED_IN_COPY)


def _rows_of(events: list[_Event], *, is_plain: bool) -> Rows | None:
    """The rows of events of which nothing has to be kept elsewhere; else None. `is_plain`: see `_is_plain`.

    Column by column: most of what is done to each value is then done in C, and no object is made for a row.
    """
    ids = _ids(events)
    sessions = [event.session or _NO_SESSION for event in events]
    session_ids = _session_ids([event.session_id for event in events], [session.id for session in sessions])
    occurred_at = _occurred_at([event.timestamp for event in events], [event.ts for event in events])
    properties = _properties([event.properties for event in events])
    if session_ids is None or occurred_at is None or properties is None or not are_plain_ids(ids):
        return None
    columns = Columns(
        id=ids,
        session_id=session_ids,
        user_id=[event.user_id for event in events],
        type=[event.type for event in events],
        name=[event.name for event in events],
        properties=properties,
        occurred_at=occurred_at,
        device_type=[session.device_type for session in sessions],
        browser=[session.browser for session in sessions],
        extra=[None] * len(events),
    )
    return Rows(columns, is_plain=is_plain)


def _ids(events: list[_Event]) -> list[str]:
    ids: list[Any] = [event.id for event in events]
    return list(map(str, ids)) if int in map(type, ids) else ids


def _session_ids(ids: Column, sessions_own: Column) -> Column | None:
    """The sessions' own ids fill in; None where two contradict each other."""
    if ids == sessions_own:
        return ids
    pairs = zip(ids, sessions_own, strict=True)
    filled = [own if session_id is None else session_id for session_id, own in pairs]
    return filled if all(own is None or own == one for own, one in zip(sessions_own, filled, strict=True)) else None


def _occurred_at(timestamps: list[int | str | None], ts: list[int | str | None]) -> Column | None:
    """None where an event has both, or a moment that cannot be read."""
    if ts.count(None) < len(ts):
        if not all(None in pair for pair in zip(timestamps, ts, strict=True)):
            return None
        timestamps = [one if other is None else other for one, other in zip(timestamps, ts, strict=True)]
    texts = to_texts(timestamps)
    return texts if texts.count(None) == timestamps.count(None) else None


def _properties(raws: list[msgspec.Raw]) -> Column | None:
    """As text, all at once; None where one is nested deeper than what is stored."""
    texts = str(_NOT_IN_JSON.encode().join(raws), "utf-8").split(_NOT_IN_JSON) if raws else []
    if len(texts) != len(raws):
        return None
    if max(map(len, texts), default=0) > _SHALLOW_CHARACTERS and any(is_deep(bytes(raw)) for raw in raws):
        return None
    return [None if text == "null" else text for text in texts]


def _by_event(body: bytes) -> DecodedPage:
    """A page that is not clean: in blocks, as most events of it are, and the blocks that are not, event by event."""
    raws = _raw_events(body)
    odd = _Odd()
    rows = list(
        chain.from_iterable(odd.rows(raws[at : at + _BLOCK_EVENTS], at) for at in range(0, len(raws), _BLOCK_EVENTS))
    )
    return DecodedPage(Rows.of(rows), odd.rejected, odd.repaired, body)


class _Odd:
    """What the events of a page had to be done without, block after block."""

    def __init__(self) -> None:
        self.rejected: list[RejectedEvent] = []
        self.repaired: list[RepairedEvent] = []

    def rows(self, raws: Sequence[msgspec.Raw | bytes], first: int) -> Iterable[EventRow]:
        """Rows of one id in the order of the page. `first`: the position of the first of these events."""
        block = _clean_rows(b'{"data":[' + b",".join(raws) + b"]}")
        if block is not None and len(block) == len(raws):
            return block
        return filter(None, [self._row(raw, position) for position, raw in enumerate(raws, first)])

    def _row(self, raw: msgspec.Raw | bytes, position: int) -> EventRow | None:
        row = _clean_row(bytes(raw))
        if row is not None:
            return row
        found = read_event(raw)
        if isinstance(found, str):
            self.rejected.append(RejectedEvent(position, found, bytes(raw)))
            return None
        if found.repairs:
            self.repaired.append(RepairedEvent(position, found.row.id, "; ".join(found.repairs), bytes(raw)))
        return found.row


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
