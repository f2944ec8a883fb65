"""What can be listed page by page: the events, those of one session, a window of the feed, the sessions."""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from .dataset import Dataset, EventId, Position
from .rendering import is_iso

_ISO_STAMP = re.compile(rb'"\d{4}-\d\d-\d\dT[\d:.]{12}Z"')


class Listing(Protocol):
    """Rows in a fixed order, newest first."""

    id_type: type[EventId]

    def __len__(self) -> int: ...

    def start_after(self, position: Position) -> int:
        """The place of the first row behind `position`, whether or not there is a row at it."""

    def position(self, place: int) -> Position: ...

    def text(self, places: range) -> memoryview | bytes:
        """`row,row,...`"""

    def event_index(self, place: int) -> int | None:
        """The number of the event at a place, which never changes; None where the rows are no events."""


class Events:
    """All events from `first` on, without a copy."""

    def __init__(self, dataset: Dataset, shown: range) -> None:
        self._dataset = dataset
        self._shown = shown
        self.id_type: type[EventId] = type(dataset.event_id(0)) if len(dataset) else str

    def __len__(self) -> int:
        return len(self._shown)

    def start_after(self, position: Position) -> int:
        return _clamped(index_after(self._dataset, position), self._shown) - self._shown.start

    def position(self, place: int) -> Position:
        return self._dataset.position(self._shown[place])

    def text(self, places: range) -> memoryview | bytes:
        return self._dataset.text(self._shown[places.start : places.stop])

    def event_index(self, place: int) -> int:
        return self._shown[place]


class Feed(Events):
    """A window of all events, with timestamps as epoch milliseconds throughout."""

    def text(self, places: range) -> bytes:
        indices = self._shown[places.start : places.stop]
        stamps = (b"%d" % self._dataset.stamps[index] for index in indices if is_iso(index))
        return _ISO_STAMP.sub(lambda _: next(stamps), self._dataset.text(indices))


def feed_text(dataset: Dataset, index: int) -> bytes:
    """One event as the feed spells it."""
    return Feed(dataset, range(index, index + 1)).text(range(1))


class SessionEvents:
    """The events of one session."""

    def __init__(self, dataset: Dataset, shown: range, session: int | None) -> None:
        self._dataset = dataset
        span = range(0) if session is None else dataset.sessions[session].span
        numbers = dataset.session_numbers
        self._indices = [index for index in span if index >= shown.start and numbers[index] == session]
        self.id_type: type[EventId] = type(dataset.event_id(0)) if len(dataset) else str

    def __len__(self) -> int:
        return len(self._indices)

    def start_after(self, position: Position) -> int:
        return bisect_left(self._indices, index_after(self._dataset, position))

    def position(self, place: int) -> Position:
        return self._dataset.position(self._indices[place])

    def text(self, places: range) -> bytes:
        return b",".join(self._dataset.event(self._indices[place]) for place in places)

    def event_index(self, place: int) -> int:
        return self._indices[place]


class Sessions:
    """The sessions in the order of their newest events, about; a cursor's timestamp is the session's number."""

    id_type: type[EventId] = str

    def __init__(self, dataset: Dataset, shown: range) -> None:
        self._dataset = dataset
        hidden = Counter(dataset.session_numbers[: shown.start])
        self._numbers: Sequence[int] = [
            number for number, session in enumerate(dataset.sessions) if session.events > hidden[number]
        ]
        self._hidden = hidden

    def __len__(self) -> int:
        return len(self._numbers)

    def start_after(self, position: Position) -> int:
        return bisect_right(self._numbers, position.timestamp_ms)

    def position(self, place: int) -> Position:
        number = self._numbers[place]
        return Position(number, self._dataset.sessions[number].identifier)

    def text(self, places: range) -> bytes:
        return b",".join(self.row(self._numbers[place]) for place in places)

    def event_index(self, place: int) -> None:
        del place

    def row(self, number: int) -> bytes:
        session = self._dataset.sessions[number]
        fields = {
            "id": session.identifier,
            "userId": session.user,
            "deviceType": session.device,
            "browser": session.browser,
            "eventCount": session.events - self._hidden[number],
        }
        return json.dumps(fields, separators=(",", ":")).encode()


def index_after(dataset: Dataset, position: Position) -> int:
    """The number of the first event behind a position, in the order newest first by (timestamp, id)."""
    run = dataset.between(position.timestamp_ms, position.timestamp_ms)
    low, high = run.start, run.stop
    while low < high:  # ids descend within a run of equal timestamps
        middle = (low + high) // 2
        if dataset.event_id(middle) >= position.identifier:  # type: ignore[operator]
            low = middle + 1
        else:
            high = middle
    return low


def _clamped(index: int, shown: range) -> int:
    return min(max(index, shown.start), shown.stop)


def session_number(dataset: Dataset, identifier: str) -> int | None:
    """The number of the session with this id."""
    return next((number for number, one in enumerate(dataset.sessions) if one.identifier == identifier), None)
