"""Rejected and repaired events read once more, from the bytes that were kept: a newer version may understand them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from ..rows import EventRow
from ..tolerant import ReadEvent, read_event
from .connection import is_data_error
from .tables import EVENTS, PAGES, REJECTED, REPAIRED, here

_BATCH = 500  # events read at once: flat memory, however many were kept

_FORGET_REJECT = f"DELETE FROM {REJECTED} WHERE walk = %s AND sequence = %s AND position = %s"
_FORGET_REPAIR = f"DELETE FROM {REPAIRED} WHERE walk = %s AND sequence = %s AND position = %s"
_KEPT = """
    SELECT walk, sequence, position, raw FROM {table}
    WHERE (walk, sequence, position) > (%s, %s, %s) ORDER BY walk, sequence, position LIMIT %s
"""
_BEFORE_ALL = ("00000000-0000-0000-0000-000000000000", -1, -1)
_COLUMNS = ", ".join(EventRow._fields)
_INSERT = f"INSERT INTO {EVENTS} ({_COLUMNS}) VALUES %s ON CONFLICT (id) DO NOTHING"
_VALUES = [name for name in EventRow._fields if name not in ("id", "extra")]
# Fills in what could not be read before, and nothing else: another version of the event may have made the row.
_FILL = f"INSERT INTO {EVENTS} AS events ({_COLUMNS}) VALUES %s ON CONFLICT (id) DO UPDATE SET " + ", ".join(
    f"{name} = coalesce(events.{name}, excluded.{name})" for name in _VALUES
)
_KEEP_REPAIR = f"""
    INSERT INTO {REPAIRED} (walk, sequence, position, event_id, reason, raw) VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (walk, sequence, position) DO UPDATE SET reason = excluded.reason
"""
_MOVE_COUNTS = f"""
    UPDATE {PAGES} SET rejected = rejected - 1, inserted = inserted + %s, already_there = already_there + %s,
                              repaired = repaired + %s
    WHERE walk = %s AND sequence = %s
"""
_ONE_REPAIR_LESS = f"UPDATE {PAGES} SET repaired = repaired - 1 WHERE walk = %s AND sequence = %s"

_Place = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Reread:
    """How many rejected events have a row now, and how many repaired ones need no repair any more."""

    accepted: int
    mended: int


def reread(cursor: Cursor) -> Reread:
    """Reads all that was kept once more, inside the caller's transaction. Books of pages stay balanced.

    What is still refused, or still repaired, stays as it is.
    """
    accepted = sum(_accept(cursor, place, raw) for place, raw in _kept(cursor, REJECTED))
    mended = sum(_mend(cursor, place, raw) for place, raw in _kept(cursor, REPAIRED))
    return Reread(accepted, mended)


def _kept(cursor: Cursor, table: str) -> Iterator[tuple[_Place, bytes]]:
    """Places and bytes, in the order of the places; between two of them the caller may use the cursor."""
    statement = here(cursor, _KEPT.format(table=table))
    last: _Place = _BEFORE_ALL
    while True:
        cursor.execute(statement, (*last, _BATCH))
        rows = cursor.fetchall()
        if not rows:
            return
        for walk, sequence, position, raw in rows:
            last = (walk, sequence, position)
            yield last, bytes(raw)


def _accept(cursor: Cursor, place: _Place, raw: bytes) -> bool:
    found = read_event(raw)
    if not isinstance(found, ReadEvent):
        return False
    inserted = _try(cursor, _INSERT, found.row)
    if inserted is None:
        return False
    cursor.execute(here(cursor, _FORGET_REJECT), place)
    if found.repairs:
        cursor.execute(here(cursor, _KEEP_REPAIR), (*place, found.row.id, "; ".join(found.repairs), raw))
    cursor.execute(here(cursor, _MOVE_COUNTS), (inserted, 1 - inserted, int(bool(found.repairs)), *place[:2]))
    return True


def _mend(cursor: Cursor, place: _Place, raw: bytes) -> bool:
    found = read_event(raw)
    if not isinstance(found, ReadEvent) or found.repairs or _try(cursor, _FILL, found.row) is None:
        return False
    cursor.execute(here(cursor, _FORGET_REPAIR), place)
    cursor.execute(here(cursor, _ONE_REPAIR_LESS), place[:2])
    return True


def _try(cursor: Cursor, statement: str, row: EventRow) -> int | None:
    """The number of rows written; None where PostgreSQL refuses the row, with the transaction as it was before."""
    cursor.execute("SAVEPOINT reread")
    try:
        execute_values(cursor, here(cursor, statement), [row])
    except (psycopg2.Error, ValueError, OverflowError) as error:
        if not is_data_error(error):
            raise
        cursor.execute("ROLLBACK TO SAVEPOINT reread; RELEASE SAVEPOINT reread")
        return None
    count = cursor.rowcount
    cursor.execute("RELEASE SAVEPOINT reread")
    return count
