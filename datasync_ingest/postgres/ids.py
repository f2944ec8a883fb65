"""All ids of the table as a stream of bytes, sorted bytewise, one a line, exactly as the API spelled them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from contextvars import copy_context

import psycopg2
from psycopg2.extensions import cursor as Cursor

from .connection import connect_patiently, named

# So many ids at a time as one value: a row an id would cost the client 0.8 s of CPU for 3,000,000, and this 0.1 s; the
# server has less to do as well. The order of the inner query is that of the aggregate's input where nothing is between:
# https://www.postgresql.org/docs/current/functions-aggregate.html
_IDS_IN_A_BLOCK = 10_000
_BLOCK = r"""
    SELECT string_agg(id, E'\n') || E'\n'
    FROM (SELECT id FROM ingested_events WHERE id > %s ORDER BY id LIMIT %s) AS block
"""
# Each block goes on in the index where the one before ended, whatever the planner knows of a table just filled; and
# whoever takes the blocks may be slow (`bin/export-ids -o - | less`).
_PREPARE = "SET LOCAL enable_sort = off; SET LOCAL idle_in_transaction_session_timeout = 0"

_BLOCKS = 4  # that wait to be taken


def ids(conninfo: str, *, patience_s: float, waiting: Callable[[str], None]) -> Generator[bytes, None, None]:
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
            _read(conninfo, passage.give, patience_s, still_waiting)
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


def _read(conninfo: str, give: Callable[[bytes], None], patience_s: float, waiting: Callable[[str], None]) -> None:
    connection = connect_patiently(
        conninfo, application_name="datasync_ingest export", patience_s=patience_s, waiting=waiting
    )
    try:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection, connection.cursor() as cursor:
            cursor.execute(_PREPARE)
            last = ""  # no id is empty
            while block := _block(cursor, last):
                give(block.encode())
                last = block[block.rfind("\n", 0, -1) + 1 : -1]  # the decoder refuses ids with control characters
    except psycopg2.Error as error:
        raise named(error) from error
    finally:
        connection.close()


def _block(cursor: Cursor, after: str) -> str | None:
    """The next ids, a line each; None at the end."""
    cursor.execute(_BLOCK, (after, _IDS_IN_A_BLOCK))
    row = cursor.fetchone()
    assert row is not None, "an aggregate always has a row"
    return None if row[0] is None else str(row[0])
