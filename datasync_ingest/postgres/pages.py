"""One page, one transaction: its rows, rejects, repairs and its row in `ingested_pages` commit together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from ..events import DecodedPage, RejectedEvent, RepairedEvent, fallback_rows
from ..messages import Counts, PageId, RawPage
from ..rows import Rows
from .connection import connect_patiently, first_line, is_connection_trouble, is_data_error, named
from .locks import HOLD_FOR_PAGE
from .tables import PAGES, REJECTED, REPAIRED, Connection, here, schema_of
from .writers import InsertRows

_INSERT_PAGE = f"""
    INSERT INTO {PAGES} (walk, sequence, cursor, next_cursor, ends_walk, page_limit, received, inserted,
                         already_there, rejected, repaired, after_position, first_position, last_position,
                         sweep, since_ms, until_ms)
    VALUES (%s, %s, %s, %s, %s, %s, 0, 0, 0, 0, 0, %s, %s, %s, %s, %s, %s)
    ON CONFLICT DO NOTHING
"""
_UPDATE_COUNTS = f"""
    UPDATE {PAGES} SET received = %s, inserted = %s, already_there = %s, rejected = %s, repaired = %s
    WHERE walk = %s AND sequence = %s
"""
_STORED_COUNTS = f"""
    SELECT received, inserted, already_there, rejected, repaired FROM {PAGES} WHERE walk = %s AND sequence = %s
"""
_IS_STORED = f"""
    SELECT received = %s AND first_position IS NOT DISTINCT FROM %s AND last_position IS NOT DISTINCT FROM %s
    FROM {PAGES} WHERE walk = %s AND sequence = %s
"""
_INSERT_REJECTED = f"INSERT INTO {REJECTED} (walk, sequence, position, reason, raw) VALUES %s"
_INSERT_REPAIRED = f"INSERT INTO {REPAIRED} (walk, sequence, position, event_id, reason, raw) VALUES %s"

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Written:
    """What the transaction of a page did; `repeated`: nothing, since the page was there before."""

    counts: Counts
    repeated: bool


class PageStore:
    """Commits pages over one connection, which it makes when it is first needed and again when it was lost."""

    def __init__(
        self,
        conninfo: str,
        *,
        schema: str,
        insert: InsertRows,
        patience_s: float,
        application_name: str,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._conninfo = conninfo
        self._schema = schema
        self._insert = insert
        self._patience_s = patience_s
        self._application_name = application_name
        self._sleep = sleep
        self._clock = clock
        self._connection: Connection | None = None

    def commit(self, page: RawPage, decoded: DecodedPage, *, waiting: Callable[[str], None]) -> Written:
        """Returns when the page is durably there. Blocks up to the patience while the database is away.

        The whole page is tried again after a lost connection, also one lost in the middle of COMMIT: the row in
        `ingested_pages` tells whether that commit took place.
        Raises DatabaseUnreachableError, DatabaseRefusedError, DatabaseError or DiskFullError.
        """
        deadline = self._clock() + self._patience_s
        wait_s = _FIRST_WAIT_S
        insert = self._insert_plainly
        while True:
            try:
                return self._attempt(page, decoded, insert, waiting, patience_s=deadline - self._clock())
            except (psycopg2.Error, ValueError, OverflowError) as error:
                self._roll_back()
                if is_data_error(error) and insert == self._insert_plainly:
                    insert = self._insert_isolating
                    continue
                if not isinstance(error, psycopg2.Error):
                    raise
                if not is_connection_trouble(error) or self._clock() + wait_s > deadline:
                    raise named(error) from error
                waiting(f"database: {first_line(error)}")
            self._sleep(wait_s)
            wait_s = min(_LONGEST_WAIT_S, wait_s * 2)

    def close(self) -> None:
        """Idempotent; never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg2.Error):
                connection.close()

    def _attempt(
        self,
        page: RawPage,
        decoded: DecodedPage,
        insert: _Insert,
        waiting: Callable[[str], None],
        *,
        patience_s: float,
    ) -> Written:
        if self._connection is None:
            self._connection = connect_patiently(
                self._conninfo,
                schema=self._schema,
                application_name=self._application_name,
                patience_s=patience_s,
                waiting=waiting,
                sleep=self._sleep,
                clock=self._clock,
            )
        with self._connection, self._connection.cursor() as cursor:
            return _write(cursor, page, decoded, insert)

    def _roll_back(self) -> None:
        """After an error the connection is either clean again or thrown away."""
        try:
            if self._connection is not None:
                self._connection.rollback()
        except psycopg2.Error:
            self.close()

    def _insert_plainly(self, cursor: Cursor, decoded: DecodedPage) -> _Inserted:
        return _Inserted(self._insert(cursor, decoded.rows))

    def _insert_isolating(self, cursor: Cursor, decoded: DecodedPage) -> _Inserted:
        return _Isolation(cursor, decoded, self._insert).run()


@dataclass(frozen=True, slots=True)
class _Inserted:
    """`new` rows were not there before; `rejected` rows could not be stored in any form."""

    new: int
    rejected: tuple[RejectedEvent, ...] = ()
    repaired: tuple[RepairedEvent, ...] = ()


_Insert = Callable[[Cursor, DecodedPage], _Inserted]


def _write(cursor: Cursor, page: RawPage, decoded: DecodedPage, insert: _Insert) -> Written:
    key = (page.page.walk, page.page.sequence)
    insert_page = here(cursor, _INSERT_PAGE)
    cursor.execute(f"{HOLD_FOR_PAGE}; {insert_page}", (schema_of(cursor), *key, *_page_values(page)))
    before = _stored_counts(cursor, page.page) if cursor.rowcount == 0 else None
    if before is not None and _is_stored(cursor, page):
        return Written(before, repeated=True)
    inserted = insert(cursor, decoded)
    rejected = [*decoded.rejected, *inserted.rejected]
    repaired = {event.position: event for event in decoded.repaired}
    repaired.update({event.position: event for event in inserted.repaired})
    stored = len(decoded.rows) - len(inserted.rejected)
    counts = Counts(decoded.received, inserted.new, stored - inserted.new, len(rejected), len(repaired))
    if before is not None:
        if inserted.new == 0 and before.received > decoded.received:
            return Written(counts, repeated=True)  # all of it is in the books of the longer one
        counts = _with_books_of(before, counts)
        _forget(cursor, page.page)
        cursor.execute(insert_page, (*key, *_page_values(page)))
    _insert_all(cursor, _INSERT_REJECTED, [(*key, e.position, e.reason, e.raw) for e in rejected])
    _insert_all(cursor, _INSERT_REPAIRED, [(*key, e.position, e.event_id, e.reason, e.raw) for e in repaired.values()])
    cursor.execute(
        here(cursor, _UPDATE_COUNTS),
        (counts.received, counts.inserted, counts.already_there, counts.rejected, counts.repaired, *key),
    )
    return Written(counts, repeated=False)


def _with_books_of(before: Counts, counts: Counts) -> Counts:
    """With what a page of the same identity, whose books go, has inserted: it is why that was there already."""
    theirs = min(before.inserted, counts.already_there)
    return replace(counts, inserted=counts.inserted + theirs, already_there=counts.already_there - theirs)


def _is_stored(cursor: Cursor, page: RawPage) -> bool:
    """Whether what is stored under the page's identity is this page.

    It is another one where the commit of a run that was killed arrived late (it was held up on its way), after the next
    run had begun to fetch the same place anew, with another limit: its events stay, and those of this page must go in.
    """
    ends = (position and position.to_text() for position in (page.first, page.last))
    cursor.execute(here(cursor, _IS_STORED), (page.received, *ends, page.page.walk, page.page.sequence))
    row = cursor.fetchone()
    assert row is not None, "ON CONFLICT DO NOTHING found the page"
    return bool(row[0])


def _forget(cursor: Cursor, page: PageId) -> None:
    """Takes back the books of a page, but for its events."""
    for table in (REJECTED, REPAIRED, PAGES):
        statement = here(cursor, f"DELETE FROM {table} WHERE walk = %s AND sequence = %s")
        cursor.execute(statement, (page.walk, page.sequence))


def _page_values(page: RawPage) -> tuple[str | int | bool | None, ...]:
    positions, window = (page.after, page.first, page.last), page.window
    return (
        page.cursor,
        page.next_cursor,
        page.ends_walk,
        page.limit,
        *(None if position is None else position.to_text() for position in positions),
        *((None, None, None) if window is None else (window.sweep, window.since, window.until)),
    )


def _stored_counts(cursor: Cursor, page: PageId) -> Counts:
    cursor.execute(here(cursor, _STORED_COUNTS), (page.walk, page.sequence))
    row = cursor.fetchone()
    assert row is not None, "ON CONFLICT DO NOTHING found the page, and only its own transaction may take it away"
    return Counts(*row)


def _insert_all(cursor: Cursor, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    if rows:
        execute_values(cursor, here(cursor, statement), rows, page_size=len(rows))


class _Isolation:
    """Finds, by bisection inside savepoints, the rows that PostgreSQL refuses, and stores all others.

    Of a refused row as much is stored as PostgreSQL takes, at least its id, its bytes kept as a repair; if even that is
    refused, it is a reject.
    """

    def __init__(self, cursor: Cursor, decoded: DecodedPage, insert: InsertRows) -> None:
        self._cursor = cursor
        self._decoded = decoded
        self._insert = insert
        self._new = 0
        self._rejected: list[RejectedEvent] = []
        self._repaired: list[RepairedEvent] = []

    def run(self) -> _Inserted:
        self._bisect(0, len(self._decoded.rows))
        return _Inserted(self._new, tuple(self._rejected), tuple(self._repaired))

    def _bisect(self, start: int, end: int) -> None:
        refusal = self._try(self._decoded.rows[start:end])
        if refusal is None:
            return
        if end - start == 1:
            self._degrade(start, refusal)
            return
        middle = (start + end) // 2
        self._bisect(start, middle)
        self._bisect(middle, end)

    def _degrade(self, index: int, refusal: str) -> None:
        event_id = self._decoded.rows[index].id
        position, raw = self._decoded.raw_of(index)
        reason = f"PostgreSQL refused the row: {refusal}"
        if any(self._try(Rows.of([fallback])) is None for fallback in fallback_rows(raw, event_id)):
            self._repaired.append(RepairedEvent(position, event_id, reason, raw))
        else:
            self._rejected.append(RejectedEvent(position, reason, raw))

    def _try(self, rows: Rows) -> str | None:
        """None when the rows went in, else the refusal, with the transaction as it was before."""
        self._cursor.execute("SAVEPOINT rows")
        try:
            self._new += self._insert(self._cursor, rows)
        except (psycopg2.Error, ValueError, OverflowError) as error:
            if not is_data_error(error):
                raise
            self._cursor.execute("ROLLBACK TO SAVEPOINT rows; RELEASE SAVEPOINT rows")
            return f"{getattr(error, 'pgcode', None) or type(error).__name__} {first_line(error)}"
        self._cursor.execute("RELEASE SAVEPOINT rows")
        return None
