"""The database's side of the books: whose schema this is, who runs on it, which pages and how many events it has."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import psycopg2
from psycopg2.extensions import cursor as Cursor

from ..errors import AlreadyRunningError
from ..messages import CompletedPage, Counts, PageId, Position, Window
from .connection import connect_patiently, first_line, is_connection_trouble, named
from .locks import end_earlier_pages, try_for_run
from .preparing import SourceIdentity, adopt, by_search_path, identity, is_there, one_value, prepare
from .rereading import Reread, reread
from .tables import EVENTS, PAGES, REJECTED, SOURCE, Connection, here, schema_of

T = TypeVar("T")

# A backend whose client was killed notices it as soon as it reads; a stop of the last run may still be under way.
_LOCK_PATIENCE_S = 5.0

_PAGES = f"""
    SELECT walk::text, sequence, cursor, next_cursor, ends_walk, page_limit, received, inserted, already_there,
           rejected, repaired, after_position, first_position, last_position, sweep::text, since_ms, until_ms
    FROM {PAGES}
"""
# A walk that is repeated meets the same unusable events again: what counts is the most that one walk has of each. Each
# chain of a sweep is a walk here: two may meet the same one, and counted twice it would stand for one that is missing.
_REJECTED = f"""
    SELECT coalesce(sum(most), 0)::bigint FROM (
        SELECT max(copies) AS most FROM (
            SELECT sha256(raw) AS digest, count(*) AS copies FROM {REJECTED} GROUP BY sha256(raw), walk
        ) AS in_a_walk GROUP BY digest
    ) AS events
"""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the database holds now: events in the table, and distinct rejected ones."""

    events: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a connection leads to: `where` it is, without a secret, and the id of the schema there, if it has one."""

    where: str
    database_id: str | None

    @property
    def described(self) -> str:
        return "was not made by this program" if self.database_id is None else f"has the database id {self.database_id}"


class Waits(Protocol):
    """Whoever calls a function that may block for long, and returns its result."""

    def __call__(self, work: Callable[[], T], /) -> T: ...


def _at_once(work: Callable[[], T]) -> T:
    return work()


class SourceDatabase:
    """The main process's connection. It holds the advisory lock that keeps a second run out.

    A lost connection is made again, and the lock taken again, for as long as `patience_s` says. `waits` runs each
    question; where it raises while one is under way, that one is left behind and nothing more can be asked.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        schema: str,
        patience_s: float,
        waiting: Callable[[str], None],
        waits: Waits = _at_once,
    ) -> None:
        self.patience_s = patience_s
        self._conninfo = conninfo
        self.schema = schema
        self._waiting = waiting
        self._waits = waits
        self._holds_lock = False
        self._is_asking = False
        self._connection: Connection | None = None

    def __enter__(self) -> SourceDatabase:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent; never raises. Releases the lock; with a question that was left behind, the process's end does."""
        if not self._is_asking:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg2.Error):
                connection.close()

    def lock(self) -> None:
        """Holds the lock from here to `close`, when no page of an earlier run can be committed any more.

        Raises AlreadyRunningError where another run holds it.
        """
        self._holds_lock = True
        self._ask(end_earlier_pages)

    def prepare(self, source: str) -> SourceIdentity:
        """Makes schema and tables for `source` where there are none; returns the identity that is there.

        Raises DatabaseRefusedError where they cannot be made, OtherSourceError, ConfigurationError.
        """
        return self._ask(lambda cursor: prepare(cursor, source))

    def identity(self) -> SourceIdentity | None:
        """The identity that is there; None where there are no tables."""
        return self._ask(identity)

    def by_search_path(self) -> str | None:
        """The schema of the tables to which the search path leads, which the program itself never follows."""
        return self._ask(by_search_path)

    def adopt(self, source: str) -> None:
        """The source has moved to another address."""
        self._ask(lambda cursor: adopt(cursor, source))

    def forget_pages(self) -> None:
        """Begins the books of the pages anew; events, rejects and repairs stay."""
        self._ask(_forget_pages)

    def pages(self) -> list[CompletedPage]:
        """Every committed page, in no particular order."""
        return self._ask(_pages)

    def holdings(self) -> Holdings:
        """Exact counts, by reading: about 0.1 s per million events."""
        return self._ask(count_holdings)

    def reread(self) -> Reread:
        """Reads rejected and repaired events once more, see `rereading.reread`."""
        return self._ask(reread)

    def found(self) -> Found:
        """What is there, and where; nothing is made."""
        return self._ask(_found)

    def check(self) -> None:
        """Makes sure that the connection stands and holds the lock."""
        self._ask(lambda cursor: cursor.execute("SELECT 1"))

    def _ask(self, question: Callable[[Cursor], T]) -> T:
        """Runs `question` in a transaction of its own, again after a lost connection.

        Raises DatabaseError, DatabaseRefusedError, DatabaseUnreachableError, DiskFullError, AlreadyRunningError, and
        what `waits` raises.
        """
        self._is_asking = True
        return self._waits(partial(self._answer, question))

    def _answer(self, question: Callable[[Cursor], T]) -> T:
        try:
            return self._patiently(question)
        finally:
            self._is_asking = False

    def _patiently(self, question: Callable[[Cursor], T]) -> T:
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                connection = self._connected()
                with connection, connection.cursor() as cursor:
                    return question(cursor)
            except psycopg2.Error as error:
                if not is_connection_trouble(error) or time.monotonic() > deadline:
                    raise named(error) from error
                self._waiting(f"database: {first_line(error)}")
                self._disconnect()

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = connect_patiently(
                self._conninfo,
                schema=self.schema,
                application_name="datasync_ingest",
                patience_s=self.patience_s,
                waiting=self._waiting,
            )
            if self._holds_lock:
                try:
                    _lock(connection)
                except BaseException:
                    connection.close()
                    raise
            self._connection = connection
        return self._connection


def _lock(connection: Connection) -> None:
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while not _try_lock(connection):
        if time.monotonic() > deadline:
            raise AlreadyRunningError(
                f"Another run is writing into this database, in the schema {connection.schema}.",
                hint="Wait until it has ended, or stop it; two data directories may share a schema in turn, and several"
                " runs a database, each with a --schema of its own.",
            )
        time.sleep(0.1)


def _try_lock(connection: Connection) -> bool:
    with connection, connection.cursor() as cursor:
        return try_for_run(cursor)


def _found(cursor: Cursor) -> Found:
    info = cursor.connection.info
    where = f"the schema {schema_of(cursor)!r} of {info.dbname!r} at {info.host}:{info.port}"
    if not is_there(cursor, SOURCE):
        return Found(where, None)
    cursor.execute(here(cursor, f"SELECT database_id::text FROM {SOURCE}"))
    row = cursor.fetchone()
    return Found(where, None if row is None else str(row[0]))


def _forget_pages(cursor: Cursor) -> None:
    if is_there(cursor, PAGES):
        cursor.execute(here(cursor, f"DELETE FROM {PAGES}"))


def _pages(cursor: Cursor) -> list[CompletedPage]:
    cursor.execute(here(cursor, _PAGES))
    return [_completed_page(row) for row in cursor.fetchall()]


def count_holdings(cursor: Cursor) -> Holdings:
    """As the transaction sees them."""
    cursor.execute(here(cursor, f"SELECT count(*) FROM {EVENTS}"))
    events = one_value(cursor)
    cursor.execute(here(cursor, _REJECTED))
    return Holdings(events, one_value(cursor))


def _completed_page(row: tuple[object, ...]) -> CompletedPage:
    walk, sequence, cursor, next_cursor, ends_walk, limit, *rest = row
    positions = [None if text is None else Position.from_text(str(text)) for text in rest[5:8]]
    sweep, since, until = rest[8:]
    counts = Counts(*(int(str(count)) for count in rest[:5]))
    return CompletedPage(
        page=PageId(str(walk), int(str(sequence))),
        cursor=None if cursor is None else str(cursor),
        next_cursor=None if next_cursor is None else str(next_cursor),
        ends_walk=bool(ends_walk),
        limit=int(str(limit)),
        received=counts.received,
        after=positions[0],
        first=positions[1],
        last=positions[2],
        counts=counts,
        window=None if sweep is None else Window(str(sweep), _whole(since), _whole(until)),
    )


def _whole(value: object) -> int | None:
    return None if value is None else int(str(value))
