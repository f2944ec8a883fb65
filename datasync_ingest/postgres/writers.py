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
from .tables import EVENTS, here

InsertRows = Callable[[Cursor, Rows], int]

_COLUMNS = ", ".join(EventRow._fields)
_INSERT = f"INSERT INTO {EVENTS} ({_COLUMNS}) VALUES %s ON CONFLICT (id) DO NOTHING"
_COPY = f"COPY {EVENTS} ({_COLUMNS}) FROM STDIN"
_STAGED = "pg_temp.staged_events"  # goes with the session
_STAGE = f"""
    CREATE TEMPORARY TABLE IF NOT EXISTS {_STAGED} (LIKE {EVENTS}) ON COMMIT DELETE ROWS;
    TRUNCATE {_STAGED}
"""
_COPY_STAGED = f"COPY {_STAGED} ({_COLUMNS}) FROM STDIN"
_MOVE_STAGED = f"""
    INSERT INTO {EVENTS} ({_COLUMNS}) SELECT {_COLUMNS} FROM {_STAGED} ON CONFLICT (id) DO NOTHING
"""
_BLOCK_BYTES = 1 << 16


def insert_by_execute_values(cursor: Cursor, rows: Rows) -> int:
    """One INSERT for all rows: `rowcount` covers only the last block, so there must be only one."""
    if not rows:
        return 0
    execute_values(cursor, here(cursor, _INSERT), rows.in_order(zip(*rows.columns, strict=True)), page_size=len(rows))
    return cursor.rowcount


def insert_by_copy(cursor: Cursor, rows: Rows) -> int:
    """COPY straight into the table; where an id is there already, through a temporary table that skips it."""
    if not rows:
        return 0
    text = copy_text(rows)
    cursor.execute("SAVEPOINT straight")
    try:
        cursor.copy_expert(here(cursor, _COPY), BytesIO(text), size=_BLOCK_BYTES)
    except UniqueViolation:
        cursor.execute("ROLLBACK TO SAVEPOINT straight; RELEASE SAVEPOINT straight")
        return _copy_staged(cursor, text)
    cursor.execute("RELEASE SAVEPOINT straight")
    return len(rows)


def _copy_staged(cursor: Cursor, text: bytes) -> int:
    cursor.execute(here(cursor, _STAGE))
    cursor.copy_expert(_COPY_STAGED, BytesIO(text), size=_BLOCK_BYTES)
    cursor.execute(here(cursor, _MOVE_STAGED))
    return cursor.rowcount


WRITERS: dict[str, InsertRows] = {"execute_values": insert_by_execute_values, "copy": insert_by_copy}
DEFAULT_WRITER = "execute_values"
