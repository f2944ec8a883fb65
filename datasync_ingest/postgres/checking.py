"""Whether a database can take the events: what a first look shows, without making or changing anything."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

import psycopg2
from psycopg2.extensions import cursor as Cursor

from .connection import connect_patiently, named

OLDEST = 130_000  # PostgreSQL 13 is the first with gen_random_uuid() of its own

_LOOK = """
    SELECT current_setting('server_version'), current_setting('server_version_num')::int,
           pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on',
           current_setting('server_encoding'), current_user, current_database(), current_schema(),
           coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
           to_regclass('ingest_source') IS NOT NULL
"""
_TABLES = ("ingest_source", "ingested_events", "ingested_pages", "rejected_events", "repaired_events")
_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
_RIGHT = "SELECT coalesce(has_table_privilege(to_regclass(%s), %s), false)"


@dataclass(frozen=True, slots=True)
class Standing:
    """What was seen. `schema` is None where the search path leads nowhere; `source` where there are no tables yet.

    `lacking` are rights on the tables that are there, such as "INSERT on ingested_pages".
    """

    version: str
    version_number: int
    read_only: bool
    encoding: str
    user: str
    database: str
    schema: str | None
    may_create: bool
    source: str | None = None
    events: int = 0
    lacking: tuple[str, ...] = ()


def look(conninfo: str, *, patience_s: float, waiting: Callable[[str], None]) -> Standing:
    """Raises DatabaseUnreachableError, DatabaseRefusedError, DatabaseError."""
    connection = connect_patiently(
        conninfo, application_name="datasync_ingest quick-test", patience_s=patience_s, waiting=waiting
    )
    with closing(connection):
        try:
            with connection, connection.cursor() as cursor:
                return _seen(cursor)
        except psycopg2.Error as error:
            raise named(error) from error


def _seen(cursor: Cursor) -> Standing:
    cursor.execute(_LOOK)
    row = cursor.fetchone()
    assert row is not None, "a SELECT of function calls always has a row"
    *facts, has_tables = row
    if not has_tables:
        return Standing(*facts)
    lacking = tuple(f"{right} on {table}" for table in _TABLES for right in _RIGHTS if not _has(cursor, table, right))
    if any(right.startswith("SELECT") for right in lacking):
        return replace(Standing(*facts), lacking=lacking)
    cursor.execute("SELECT source, (SELECT count(*) FROM ingested_events) FROM ingest_source")
    source, events = cursor.fetchone() or (None, 0)
    return replace(Standing(*facts), source=source, events=events, lacking=lacking)


def _has(cursor: Cursor, table: str, right: str) -> bool:
    cursor.execute(_RIGHT, (table, right))
    row = cursor.fetchone()
    return row is not None and bool(row[0])
