"""A schema made ready for one source, once: the schema itself, its tables, and whose they are."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import resources

from psycopg2.errors import InsufficientPrivilege
from psycopg2.extensions import cursor as Cursor

from ..errors import ConfigurationError, DatabaseRefusedError, OtherSourceError
from ..settings import PUBLIC
from .connection import first_line
from .tables import PAGES, SCHEMA, SOURCE, here, schema_of

SCHEMA_VERSION = 2

_log = logging.getLogger(__name__)

_HAS_SCHEMA = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %s)"
_BY_SEARCH_PATH = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass('ingest_source')"
_CREATE_SCHEMA = f"CREATE SCHEMA {SCHEMA}"
_HAS_TABLE = "SELECT to_regclass(%s) IS NOT NULL"
_CLAIM = f"INSERT INTO {SOURCE} (source) VALUES (%s)"
_ADOPT = f"UPDATE {SOURCE} SET source = %s"
_SOURCE = f"SELECT source, database_id::text, schema_version FROM {SOURCE}"
# What version 1 of the schema lacks.
_UPGRADE = f"""
    ALTER TABLE {PAGES} ADD COLUMN sweep uuid, ADD COLUMN since_ms bigint, ADD COLUMN until_ms bigint;
    ALTER TABLE {SOURCE} ALTER COLUMN schema_version SET DEFAULT 2;
    UPDATE {SOURCE} SET schema_version = 2;
"""


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """Whose events a schema holds (`source`: the API's base URL), and the schema's own random id."""

    source: str
    database_id: str


def prepare(cursor: Cursor, source: str) -> SourceIdentity:
    """Makes schema and tables for `source` where there are none; returns the identity that is there.

    Raises DatabaseRefusedError where they cannot be made, OtherSourceError, ConfigurationError.
    """
    if not is_there(cursor, SOURCE):
        _require_schema(cursor)
        _warn_of_others(cursor)
        tables = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
        cursor.execute(here(cursor, tables))
        cursor.execute(here(cursor, _CLAIM), (source,))
    cursor.execute(here(cursor, _SOURCE))
    row = cursor.fetchone()
    if row is None:
        raise OtherSourceError("The table ingest_source is empty.", hint="Give the program a schema of its own.")
    if row[2] > SCHEMA_VERSION:
        raise ConfigurationError(
            f"The database's schema is version {row[2]}; this program knows versions up to {SCHEMA_VERSION}.",
            hint="Use the newer version of this program that made it.",
        )
    if row[2] < SCHEMA_VERSION:
        cursor.execute(here(cursor, _UPGRADE))
    return SourceIdentity(row[0], row[1])


def _require_schema(cursor: Cursor) -> None:
    """Makes the schema where it is missing. CREATE SCHEMA IF NOT EXISTS needs the right to make one in either case."""
    schema = schema_of(cursor)
    cursor.execute(_HAS_SCHEMA, (schema,))
    if one_value(cursor):
        return
    try:
        cursor.execute(here(cursor, _CREATE_SCHEMA))
    except InsufficientPrivilege as error:
        raise DatabaseRefusedError(
            f"The schema {schema} is not there, and may not be made by this user: {first_line(error)}",
            hint=f"GRANT CREATE ON DATABASE to this user, or CREATE SCHEMA {schema} AUTHORIZATION this user; then run"
            " the same command again.",
        ) from error


def by_search_path(cursor: Cursor) -> str | None:
    """The schema of the tables to which the search path leads: there earlier versions made theirs."""
    cursor.execute(_BY_SEARCH_PATH)
    row = cursor.fetchone()
    return None if row is None else str(row[0])


def _warn_of_others(cursor: Cursor) -> None:
    if schema_of(cursor) == PUBLIC and (schema := by_search_path(cursor)):
        _log.warning(
            "the tables in the schema %s, to which the search path leads, are not used: DB_SCHEMA is %s", schema, PUBLIC
        )


def identity(cursor: Cursor) -> SourceIdentity | None:
    """None where there are no tables."""
    if not is_there(cursor, SOURCE):
        return None
    cursor.execute(here(cursor, _SOURCE))
    row = cursor.fetchone()
    return None if row is None else SourceIdentity(row[0], row[1])


def is_there(cursor: Cursor, table: str) -> bool:
    """Whether the schema has this table."""
    cursor.execute(_HAS_TABLE, (here(cursor, table),))
    return bool(one_value(cursor))


def adopt(cursor: Cursor, source: str) -> None:
    """The source has moved to another address."""
    cursor.execute(here(cursor, _ADOPT), (source,))


def one_value(cursor: Cursor) -> int:
    """Of a statement that always has one."""
    row = cursor.fetchone()
    assert row is not None, "an aggregate or a function call always has a row"
    return int(row[0])
