"""How the rows of a page reach `ingested_events`: one function a writer, one name a function.

A writer inserts rows inside the caller's transaction, skips ids that are already there, and returns how many were new.
Adding one is a function, a line in `WRITERS` and a parameter of `tests/contracts/test_writers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from ..events import EventRow

InsertRows = Callable[[Cursor, Sequence[EventRow]], int]

_INSERT = f"INSERT INTO ingested_events ({', '.join(EventRow._fields)}) VALUES %s ON CONFLICT (id) DO NOTHING"  # noqa: S608


def insert_by_execute_values(cursor: Cursor, rows: Sequence[EventRow]) -> int:
    """One INSERT for all rows: `rowcount` covers only the last block, so there must be only one."""
    if not rows:
        return 0
    execute_values(cursor, _INSERT, rows, page_size=len(rows))
    return cursor.rowcount


WRITERS: dict[str, InsertRows] = {"execute_values": insert_by_execute_values}
DEFAULT_WRITER = "execute_values"
