"""How the rows of a page reach `ingested_events`: one function a writer, one name a function.

A writer inserts rows inside the caller's transaction, skips ids that are already there, and returns how many were new.
Adding one is a function, a line in `WRITERS` and a parameter of `tests/contracts/test_writers.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from psycopg2.errors import UniqueViolation
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from ..rows import EventRow, Rows
from .copy_text import copy_text

InsertRows = Callable[[Cursor, Rows], int]

_COLUMNS = ", ".join(EventRow._fields)
_INSERT = f"INSERT INTO ingested_events ({_COLUMNS}) VALUES %s ON CONFLICT (id) DO NOTHING"  # noqa: S608
_COPY = f"COPY ingested_events ({_COLUMNS}) FROM STDIN"
# Its name hides no table of the user's: temporary ones come first in the search path, and go with the session.
_STAGE = "CREATE TEMPORARY TABLE IF NOT EXISTS staged_events (LIKE ingested_events) ON COMMIT DELETE ROWS"
_COPY_STAGED = f"COPY staged_events ({_COLUMNS}) FROM STDIN"
_MOVE_STAGED = f"""
    INSERT INTO ingested_events ({_COLUMNS}) SELECT {_COLUMNS} FROM staged_events ON CONFLICT (id) DO NOTHING
"""  # noqa: S608
_BLOCK_BYTES = 1 << 16


def insert_by_execute_values(cursor: Cursor, rows: Rows) -> int:
    """One INSERT for all rows: `rowcount` covers only the last block, so there must be only one."""
    if not rows:
        return 0
    execute_values(cursor, _INSERT, rows.in_order(zip(*rows.columns, strict=True)), page_size=len(rows))
    return cursor.rowcount


def insert_by_copy(cursor: Cursor, rows: Rows) -> int:
    """COPY straight into the table; where an id is there already, through a temporary table that skips it."""
    if not rows:
        return 0
    text = copy_text(rows)
    cursor.execute("SAVEPOINT straight")
    try:
        cursor.copy_expert(_COPY, BytesIO(text), size=_BLOCK_BYTES)
    except UniqueViolation:
        cursor.execute("ROLLBACK TO SAVEPOINT straight; RELEASE SAVEPOINT straight")
        return _copy_staged(cursor, text)
    cursor.execute("RELEASE SAVEPOINT straight")
    return len(rows)


def _copy_staged(cursor: Cursor, text: bytes) -> int:
    cursor.execute(f"{_STAGE}; TRUNCATE staged_events")
    cursor.copy_expert(_COPY_STAGED, BytesIO(text), size=_BLOCK_BYTES)
    cursor.execute(_MOVE_STAGED)
    return cursor.rowcount


WRITERS: dict[str, InsertRows] = {"execute_values": insert_by_execute_values, "copy": insert_by_copy}
DEFAULT_WRITER = "execute_values"
