"""Whether a database can take the events: what a first look shows, without making or changing anything."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

import psycopg2
from psycopg2.extensions import cursor as Cursor

from .connection import connect_patiently, named
from .tables import EVENTS, SCHEMA, SOURCE, TABLES, here, schema_of

OLDEST = 130_000  # PostgreSQL 13 is the first with gen_random_uuid() of its own

_LOOK = """
    SELECT current_setting('server_version'), current_setting('server_version_num')::int,
           pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on',
           current_setting('server_encoding'), current_user, current_database(),
           schema.oid IS NOT NULL, coalesce(has_schema_privilege(schema.oid, 'USAGE'), true),
           CASE WHEN schema.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
                ELSE has_schema_privilege(schema.oid, 'CREATE') END
    FROM (SELECT) AS one_row LEFT JOIN pg_namespace AS schema ON nspname = %s
"""
_HAS_TABLES = "SELECT to_regclass(%s) IS NOT NULL"
_SOURCE = f"SELECT source FROM {SOURCE}"
_COUNT = f"SELECT count(*) FROM {EVENTS}"
_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
_RIGHT = "SELECT coalesce(has_table_privilege(to_regclass(%s), %s), false)"


@dataclass(frozen=True, slots=True)
class Standing:
    """What was seen. `source` is None where there are no tables yet.

    `may_create`: tables in the schema, or the schema where it is not there. `lacking` are rights on the tables that are
    there, such as "INSERT on ingested_pages".
    """

    version: str
    version_number: int
    read_only: bool
    encoding: str
    user: str
    database: str
    has_schema: bool
    may_use: bool
    may_create: bool
    source: str | None = None
    events: int = 0
    lacking: tuple[str, ...] = ()


def look(conninfo: str, *, schema: str, patience_s: float, waiting: Callable[[str], None]) -> Standing:
    """Raises DatabaseUnreachableError, DatabaseRefusedError, DatabaseError."""
    connection = connect_patiently(
        conninfo,
        schema=schema,
        application_name="datasync_ingest quick-test",
        patience_s=patience_s,
        waiting=waiting,
    )
    with closing(connection):
        try:
            with connection, connection.cursor() as cursor:
                return _seen(cursor)
        except psycopg2.Error as error:
            raise named(error) from error


def _seen(cursor: Cursor) -> Standing:
    cursor.execute(_LOOK, (schema_of(cursor),))
    row = cursor.fetchone()
    assert row is not None, "an outer join with one row always has a row"
    seen = Standing(*row)
    if not (seen.has_schema and seen.may_use and _true(cursor, _HAS_TABLES, here(cursor, SOURCE))):
        return seen
    lacking = tuple(
        f"{right} on {_bare(table)}" for table in TABLES for right in _RIGHTS if not _has(cursor, table, right)
    )
    if any(right.startswith("SELECT") for right in lacking):
        return replace(seen, lacking=lacking)
    cursor.execute(here(cursor, _SOURCE))
    (source,) = cursor.fetchone() or (None,)
    cursor.execute(here(cursor, _COUNT))
    (events,) = cursor.fetchone() or (0,)
    return replace(seen, source=source, events=events, lacking=lacking)


def _bare(table: str) -> str:
    return table.removeprefix(f"{SCHEMA}.")


def _has(cursor: Cursor, table: str, right: str) -> bool:
    return _true(cursor, _RIGHT, here(cursor, table), right)


def _true(cursor: Cursor, question: str, *parameters: str) -> bool:
    cursor.execute(question, parameters)
    row = cursor.fetchone()
    return row is not None and bool(row[0])
