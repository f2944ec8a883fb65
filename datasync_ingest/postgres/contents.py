"""What the tables hold, for people: counts by reason, type and day. Read only, each question within its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import psycopg2
from psycopg2.extensions import cursor as Cursor

from ..errors import DatabaseError, DatabaseRefusedError, DatabaseUnreachableError, IngestError
from .connection import connect, first_line, is_connection_trouble, named
from .tables import EVENTS, PAGES, REJECTED, REPAIRED, SOURCE, here

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5
TIME_S = 20  # for all questions; the longest takes 2 to 3 s for 3,000,000 events, on 2 cores that have other work to do
_LOCK_TIMEOUT_S = 1
_MOST_GROUPS = 10_000  # 8 types on 30 days are 240

# One core is enough, and the others are the run's.
_SESSION = f"SET lock_timeout = '{_LOCK_TIMEOUT_S}s'; SET max_parallel_workers_per_gather = 0"
_TOO_LONG = {
    "57014": f"not told within {TIME_S} s",  # query_canceled
    "55P03": f"another session has locked the table for {_LOCK_TIMEOUT_S} s",  # lock_not_available
}

_EXISTS = f"SELECT to_regclass('{SOURCE}') IS NOT NULL"
_SOURCE = f"SELECT source, database_id::text FROM {SOURCE}"
_SIZES = f"""
    SELECT pg_table_size('{EVENTS}'), pg_indexes_size('{EVENTS}'),
           pg_total_relation_size('{PAGES}') + pg_total_relation_size('{REJECTED}')
           + pg_total_relation_size('{REPAIRED}')
"""
_EVENTS = f"SELECT count(*) FROM {EVENTS}"
_TYPES_AND_DAYS = f"""
    SELECT type, occurred_at::date::text, count(*) FROM {EVENTS} GROUP BY 1, 2 ORDER BY 3 DESC
    LIMIT {_MOST_GROUPS}
"""
_REJECTED = f"SELECT reason, count(*) FROM {REJECTED} GROUP BY 1 ORDER BY 2 DESC, 1"
# An event may have several repairs, joined where `RepairedEvent` is made.
_REPAIRED = f"""
    SELECT repair, count(*) FROM {REPAIRED}, unnest(string_to_array(reason, '; ')) AS repair
    GROUP BY 1 ORDER BY 2 DESC, 1
"""
_REPAIRED_EVENTS = f"SELECT count(*) FROM {REPAIRED}"

Group = tuple[str, int]  # what they have in common, and how many


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes on the disk: of the events' table, of its index, and of all that the program keeps beside it."""

    events: int
    index: int
    books: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What the schema holds at one moment, or of it what could be told in time; `untold`: why the rest could not.

    None is not known. Days are in UTC, ascending; what has no readable timestamp or type is under an empty name, last.
    `repaired` counts an event under each of its repairs, `repaired_events` counts it once.
    """

    source: str | None
    database_id: str | None
    sizes: Sizes | None = None
    events: int | None = None
    by_type: list[Group] | None = None
    by_day: list[Group] | None = None
    rejected: list[Group] | None = None
    repaired: list[Group] | None = None
    repaired_events: int | None = None
    untold: list[str] = field(default_factory=list)


def contents(conninfo: str, schema: str) -> Contents | None:
    """Looks into the database; None where the program has made no tables in the schema.

    Takes at most about CONNECT_TIMEOUT_S and TIME_S, a broken network aside. Raises
    DatabaseUnreachableError, DatabaseRefusedError, DatabaseError, DiskFullError.
    """
    try:
        with closing(
            connect(
                conninfo,
                schema=schema,
                application_name="datasync_ingest status",
                connect_timeout_s=CONNECT_TIMEOUT_S,
            )
        ) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with connection, connection.cursor() as cursor:
                cursor.execute(_SESSION)
                return _Looking(cursor).contents()
    except psycopg2.Error as error:
        raise _named(error) from error


class _Looking:
    """One question after the other in one transaction, which goes on when one of them takes too long."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._deadline = time.monotonic() + TIME_S
        self._untold: list[str] = []

    def contents(self) -> Contents | None:
        """The quick questions first."""
        self._cursor.execute(here(self._cursor, _EXISTS))
        if not self._cursor.fetchall()[0][0]:
            return None
        self._cursor.execute(here(self._cursor, _SOURCE))
        source, database_id = (self._cursor.fetchall() or [(None, None)])[0]
        found = Contents(
            source,
            database_id,
            sizes=self._told("sizes", _SIZES, lambda rows: Sizes(*rows[0])),
            events=self._told("the number of events", _EVENTS, _one),
            rejected=self._told("rejects", _REJECTED, list),
            repaired=self._told("repairs", _REPAIRED, list),
            repaired_events=self._told("the number of repaired events", _REPAIRED_EVENTS, _one),
            untold=self._untold,
        )
        groups = self._told("events by type and day", _TYPES_AND_DAYS, list)
        return found if groups is None else self._with_groups(found, groups)

    def _told(self, what: str, statement: str, read: Callable[[list[tuple[Any, ...]]], T]) -> T | None:
        left_ms = max(1, round((self._deadline - time.monotonic()) * 1000))
        self._cursor.execute("SAVEPOINT question")
        try:
            self._cursor.execute("SELECT set_config('statement_timeout', %s, true)", (f"{left_ms}ms",))
            self._cursor.execute(here(self._cursor, statement))
            return read(self._cursor.fetchall())
        except psycopg2.Error as error:
            if error.pgcode not in _TOO_LONG:
                raise
            self._cursor.execute("ROLLBACK TO SAVEPOINT question")
            self._untold.append(f"{what}: {_TOO_LONG[error.pgcode]}")
            return None

    def _with_groups(self, found: Contents, groups: list[tuple[Any, ...]]) -> Contents:
        if len(groups) == _MOST_GROUPS:
            self._untold.append(f"events by type and day: only the {_MOST_GROUPS:,} largest groups of them")
        return replace(
            found,
            by_type=sorted(_by(0, groups), key=lambda group: (not group[0], -group[1], group[0])),
            by_day=sorted(_by(1, groups), key=lambda group: (not group[0], len(group[0]), group[0])),
        )


def _one(rows: list[tuple[Any, ...]]) -> int:
    return int(rows[0][0])


def _by(column: int, groups: list[tuple[Any, ...]]) -> list[Group]:
    found: dict[str, int] = {}
    for group in groups:
        name = group[column] or ""
        found[name] = found.get(name, 0) + group[2]
    return list(found.items())


def _named(error: psycopg2.Error) -> IngestError:
    if not is_connection_trouble(error):
        return named(error) if error.pgcode else _refused(error)
    return DatabaseUnreachableError(
        f"The database does not answer: {first_line(error)}.",
        hint="Start the database or mend DATABASE_URL, then run the same command again.",
    )


def _refused(error: psycopg2.Error) -> DatabaseError:
    return DatabaseRefusedError(
        f"PostgreSQL refused the connection: {first_line(error)}",
        hint="Check user, password and database name in DATABASE_URL (or the PG* variables).",
    )
