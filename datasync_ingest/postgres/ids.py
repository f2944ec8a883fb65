"""All ids of the table as a stream of bytes, sorted bytewise, one a line, exactly as the API spelled them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial

import psycopg2
from psycopg2.errors import FeatureNotSupported
from psycopg2.extensions import BYTES, register_type
from psycopg2.extensions import cursor as Cursor

from .connection import connect, connect_patiently, first_line, named
from .tables import EVENTS, Connection, here

# The ids of a range as one value: a row an id costs the client 0.4 s of CPU and more for 3,000,000, and this 0.1 s; the
# server has no more to do than for COPY. LIMIT in the place of the range's end would cost it half as much again.
_FROM_THE_LAST = rf"SELECT string_agg(id, E'\n' ORDER BY id) || E'\n' FROM {EVENTS} WHERE id > %s"
_UP_TO = f"{_FROM_THE_LAST} AND id <= %s"

# About so many ids are in a range. Its borders are of a sample, so that it may be a few times as many, or none.
_IDS_IN_A_BLOCK = 10_000
_SAMPLED_PAGES = 512  # of the table: 20,000 events
_PAGES = f"SELECT pg_relation_size('{EVENTS}') / current_setting('block_size')::integer"
_SAMPLE = f"SELECT id FROM {EVENTS} TABLESAMPLE SYSTEM (%s) ORDER BY id"
# Reads all ids, and knows no pages: for a table that lies elsewhere, in partitions or on other servers.
_BORDERS_ELSEWHERE = f"SELECT id FROM {EVENTS} WHERE random() < %s ORDER BY id"

_APPLICATION_NAME = "datasync_ingest export"

# By the index, whatever the planner knows of a table just filled. Whoever takes the blocks may be slow (`| less`).
_PREPARE = """
    SET LOCAL idle_in_transaction_session_timeout = 0;
    SET LOCAL enable_seqscan = off;
    SET LOCAL enable_bitmapscan = off
"""

# What one connection sees, another may see, too, for as long as the first one's transaction lasts.
_SNAPSHOT = "SELECT pg_export_snapshot()"
_OF_THE_SNAPSHOT = "SET TRANSACTION SNAPSHOT %s"

_BLOCKS = 6  # that are being read or wait to be taken

_log = logging.getLogger(__name__)

Range = tuple[str, str | None]  # ids above the first, up to the second; None: all above


def ids(
    conninfo: str, *, schema: str, patience_s: float, waiting: Callable[[str], None]
) -> Generator[bytes, None, None]:
    """Yields blocks of whole lines until all ids of one moment went by; memory stays flat.

    Two connections read in turn what they come to; one does where the server has no second for us. libpq waits in
    threads, so that a signal's exception can end the wait for a block; close the generator then. A thread that is left
    behind in libpq touches nothing any more. `waiting` is called there.
    Raises DatabaseUnreachableError, DatabaseRefusedError, DatabaseError.
    """
    passage = _Passage()
    _Reading(conninfo, schema, passage).start(patience_s, waiting)
    try:
        while (block := passage.take()) is not None:
            if block:
                yield block
    finally:
        passage.close()


class _NotWanted(Exception):  # noqa: N818 - nobody sees it
    """Raised in a thread when nobody takes its blocks any more."""


class _Passage:
    """Ranges are given out to whoever reads; their blocks go through in the order of the ranges, a few at a time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ranges: Sequence[Range] | None = None
        self._begun = 0
        self._taken = 0
        self._blocks: dict[int, bytes] = {}
        self._error: Exception | None = None
        self._is_closed = False

    def open(self, ranges: Sequence[Range]) -> None:
        """All that there is to read."""
        with self._changed:
            self._ranges = ranges
            self._changed.notify_all()

    def work(self) -> Iterator[tuple[int, Range]]:
        """Yields ranges to read, each to one thread alone, as fast as their blocks are taken. Raises _NotWanted."""
        assert self._ranges is not None, "it was opened"
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._begun < self._taken + _BLOCKS)
                self._require_open()
                number = self._begun
                if number == len(self._ranges):
                    return
                self._begun += 1
            yield number, self._ranges[number]

    def give(self, number: int, block: bytes) -> None:
        """What the range of this number holds, which may be nothing."""
        with self._changed:
            self._blocks[number] = block
            self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """Ends it with what `take` raises."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def require_open(self) -> None:
        """Raises _NotWanted where it is closed."""
        with self._changed:
            self._require_open()

    def _require_open(self) -> None:
        if self._is_closed:
            raise _NotWanted

    def take(self) -> bytes | None:
        """Waits for the next block; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._taken in self._blocks or self._is_empty)
            if self._error is not None:
                raise self._error
            if self._is_empty:
                return None
            block = self._blocks.pop(self._taken)
            self._taken += 1
            self._changed.notify_all()
            return block

    @property
    def _is_empty(self) -> bool:
        return self._ranges is not None and self._taken == len(self._ranges)

    def close(self) -> None:
        """Whoever waits for room goes on, to find nobody here."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the threads do: the first one finds out what there is to read, the other one helps if it can."""

    conninfo: str
    schema: str
    passage: _Passage

    def start(self, patience_s: float, waiting: Callable[[str], None]) -> None:
        self._start(partial(self._read_all, patience_s, waiting))

    def _start(self, work: Callable[[], None]) -> None:
        threading.Thread(target=copy_context().run, args=(self._guarded, work), name="read ids", daemon=True).start()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except psycopg2.Error as error:
            self.passage.fail(named(error))
        except Exception as error:
            self.passage.fail(error)

    def _read_all(self, patience_s: float, waiting: Callable[[str], None]) -> None:
        def still_waiting(cause: str) -> None:
            self.passage.require_open()
            waiting(cause)

        with (
            closing(
                connect_patiently(
                    self.conninfo,
                    schema=self.schema,
                    application_name=_APPLICATION_NAME,
                    patience_s=patience_s,
                    waiting=still_waiting,
                )
            ) as connection,
            _reading(connection) as cursor,
        ):
            snapshot = _snapshot(cursor)
            ranges = _ranges(cursor)
            self.passage.open(ranges)
            if snapshot is not None and len(ranges) > 1:
                self._start(partial(self._help, snapshot))
            self._read(cursor)

    def _help(self, snapshot: str) -> None:
        """Where it cannot, or comes too late, the first one reads on alone."""
        try:
            connection = connect(self.conninfo, schema=self.schema, application_name=_APPLICATION_NAME)
        except psycopg2.Error as error:
            _log.debug("one connection reads alone: %s", first_line(error))
            return
        with closing(connection), _reading(connection) as cursor:
            try:
                cursor.execute(_OF_THE_SNAPSHOT, (snapshot,))
            except psycopg2.Error as error:
                _log.debug("one connection reads alone: %s", first_line(error))
                return
            self._read(cursor)

    def _read(self, cursor: Cursor) -> None:
        """Ranges, until there is none left."""
        cursor.execute(_PREPARE)
        register_type(BYTES, cursor)  # text comes as it is sent, which is UTF-8
        for number, (last, border) in self.passage.work():
            if border is None:
                cursor.execute(here(cursor, _FROM_THE_LAST), (last,))
            else:
                cursor.execute(here(cursor, _UP_TO), (last, border))
            row = cursor.fetchone()
            assert row is not None, "an aggregate always has a row"
            self.passage.give(number, row[0] or b"")


@contextmanager
def _reading(connection: Connection) -> Iterator[Cursor]:
    """A transaction that sees one moment all along."""
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    with connection, connection.cursor() as cursor:
        yield cursor


def _snapshot(cursor: Cursor) -> str | None:
    """What another connection needs to see the same, to be asked for first; None where this server gives none away."""
    try:
        cursor.execute(_SNAPSHOT)
        return str(cursor.fetchall()[0][0])
    except psycopg2.Error as error:
        _log.debug("one connection reads alone: %s", first_line(error))
        cursor.connection.rollback()
        return None


def _ranges(cursor: Cursor) -> list[Range]:
    """What there is to read, in order; `_borders` part it."""
    borders = _borders(cursor)
    return list(zip(["", *borders], [*borders, None], strict=True))  # no id is empty


def _borders(cursor: Cursor) -> list[str]:
    """Ids in their order that part the table into ranges."""
    cursor.execute(here(cursor, _PAGES))
    pages = cursor.fetchall()[0][0]
    share = min(1.0, _SAMPLED_PAGES / pages) if pages else 1.0
    sample = _sample(cursor, share) if pages else None
    if sample is None:
        cursor.execute(here(cursor, _BORDERS_ELSEWHERE), (1 / _IDS_IN_A_BLOCK,))
        return [row[0] for row in cursor]
    every = max(1, round(_IDS_IN_A_BLOCK * share))
    return sample[every - 1 :: every]


def _sample(cursor: Cursor, share: float) -> list[str] | None:
    """None where the server takes none of this table: it has pages here of before it was distributed, perhaps."""
    cursor.execute("SAVEPOINT sample")
    try:
        cursor.execute(here(cursor, _SAMPLE), (100 * share,))
        return [row[0] for row in cursor]
    except FeatureNotSupported:
        cursor.execute("ROLLBACK TO SAVEPOINT sample")
        return None
