"""The names of our tables. Every statement says which schema it means: none relies on the session's search path.

A search path lives in the session: a pooler may lose it or hand it to somebody else, a role or a database may have one
of its own, and a table that is missing in the first of its schemas is silently taken from the next.
"""

from __future__ import annotations

from psycopg2.extensions import connection as PlainConnection
from psycopg2.extensions import cursor as Cursor

# Stands in a statement for the schema that is set, see `here`.
SCHEMA = "{schema}"
SOURCE, EVENTS, PAGES, REJECTED, REPAIRED = TABLES = tuple(
    f"{SCHEMA}.{name}"
    for name in ("ingest_source", "ingested_events", "ingested_pages", "rejected_events", "repaired_events")
)


class Connection(PlainConnection):
    """A connection that knows the schema which the statements on it are about."""

    schema: str


def here(cursor: Cursor, statement: str) -> str:
    """The statement with its tables in the schema of the cursor's connection."""
    return statement.replace(SCHEMA, quoted(schema_of(cursor)))


def schema_of(cursor: Cursor) -> str:
    connection = cursor.connection
    assert isinstance(connection, Connection), "made by `connect`"
    return connection.schema


def quoted(schema: str) -> str:
    """As an identifier: `user` is a good name for a schema, and a word of SQL's own."""
    return '"' + schema.replace('"', '""') + '"'
