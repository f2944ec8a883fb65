"""All ids of the table as a stream of bytes, sorted bytewise, one a line, exactly as the API spelled them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from contextvars import copy_context

import psycopg2
from psycopg2.errors import FeatureNotSupported
from psycopg2.extensions import BYTES, register_type
from psycopg2.extensions import cursor as Cursor

from .connection import connect_patiently, named
from .tables import EVENTS, here

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

# By the index, whatever the planner knows of a table just filled. Whoever takes the blocks may be slow (`| less`).
_PREPARE = """
    SET LOCAL idle_in_transaction_session_timeout = 0;
    SET LOCAL enable_seqscan = off;
    SET LOCAL enable_bitmapscan = off
"""

_BLOCKS = 4  # that wait to be taken


def ids(
    conninfo: str, *, schema: str, patience_s: float, waiting: Callable[[str], None]
) -> Generator[bytes, None, None]:
    """Yields blocks of whole lines until all ids of one moment went by; memory stays flat.

    libpq waits in a thread, so that a signal's exception can end the wait for a block; close the generator then. A
    thread that is left behind in libpq touches nothing any more. `waiting` is called there.
    Raises DatabaseUnreachableError, DatabaseRefusedError, DatabaseError.
    """
    passage = _Passage()

    def still_waiting(cause: str) -> None:
        passage.require_open()
        waiting(cause)

    def work() -> None:
        try:
            _read(conninfo, schema, passage.give, patience_s, still_waiting)
        except Exception as error:
            passage.end(error)
        else:
            passage.end()

    threading.Thread(target=copy_context().run, args=(work,), name="read ids", daemon=True).start()
    try:
        while (block := passage.take()) is not None:
            yield block
    finally:
        passage.close()


class _NotWanted(Exception):  # noqa: N818 - nobody sees it
    """Raised in the thread when nobody takes its blocks any more."""


class _Passage:
    """Blocks go through in their order, at most a few at a time; the end, or what it came from, goes last."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | Exception | None] = queue.Queue(_BLOCKS)
        self._is_closed = False

    def give(self, block: bytes) -> None:
        """Waits until there is room. Raises where the passage is closed."""
        self.require_open()
        self._queue.put(block)

    def end(self, error: Exception | None = None) -> None:
        """Nothing follows; `error` is what `take` raises then."""
        self._queue.put(error)

    def require_open(self) -> None:
        """Raises where the passage is closed."""
        if self._is_closed:
            raise _NotWanted

    def take(self) -> bytes | None:
        """Waits for the next block; None at the end."""
        block = self._queue.get()
        if isinstance(block, Exception):
            raise block
        return block

    def close(self) -> None:
        """Whoever waits to give goes on, to find nobody here."""
        self._is_closed = True
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()


def _read(
    conninfo: str, schema: str, give: Callable[[bytes], None], patience_s: float, waiting: Callable[[str], None]
) -> None:
    connection = connect_patiently(
        conninfo,
        schema=schema,
        application_name="datasync_ingest export",
        patience_s=patience_s,
        waiting=waiting,
    )
    try:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection, connection.cursor() as cursor:
            _give_all(cursor, give)
    except psycopg2.Error as error:
        raise named(error) from error
    finally:
        connection.close()


def _give_all(cursor: Cursor, give: Callable[[bytes], None]) -> None:
    borders = _borders(cursor)
    cursor.execute(_PREPARE)
    register_type(BYTES, cursor)  # text comes as it is sent, which is UTF-8
    last = ""  # no id is empty
    for border in borders:
        cursor.execute(here(cursor, _UP_TO), (last, border))
        _give(cursor, give)
        last = border
    cursor.execute(here(cursor, _FROM_THE_LAST), (last,))
    _give(cursor, give)


def _give(cursor: Cursor, give: Callable[[bytes], None]) -> None:
    row = cursor.fetchone()
    assert row is not None, "an aggregate always has a row"
    if row[0] is not None:  # else the range is empty
        give(row[0])


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
