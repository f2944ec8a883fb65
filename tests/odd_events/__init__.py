"""Odd events, one a line, and what must become of each: the columns of its row, or why it has none."""

from __future__ import annotations

from tests.odd_events.fields import NO_OBJECTS, PROPERTIES, SESSIONS, TEXTS, UNKNOWN
from tests.odd_events.keys import IDS, TIMESTAMPS
from tests.odd_events.outcome import Odd, comparable, row_of

__all__ = ["ODD_EVENTS", "Odd", "comparable", "row_of"]

ODD_EVENTS: dict[str, Odd] = {**IDS, **TIMESTAMPS, **TEXTS, **SESSIONS, **PROPERTIES, **UNKNOWN, **NO_OBJECTS}
