"""All ids of the table as a stream of bytes, sorted bytewise, one a line, exactly as the API spelled them."""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from contextvars import copy_context

import psycopg2

from .connection import connect_patiently, named

# An id holds no control character (the decoder refuses those), so of COPY's escapes only the backslash's can occur;
# the delimiter is one that no id can hold, or it would be escaped too.
_COPY = "COPY (SELECT id FROM ingested_events ORDER BY id) TO STDOUT (FORMAT text, DELIMITER E'\\x01')"

_BLOCK_BYTES = 1 << 18
_BLOCKS = 4  # that wait to be taken


def ids(conninfo: str, *, patience_s: float, waiting: Callable[[str], None]) -> Generator[bytes, None, None]:
    """Yields blocks of whole lines until all ids went by; memory stays flat.

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
            _copy(conninfo, passage.give, patience_s, still_waiting)
        except Exception as error:
            passage.end(error)
        else:
            passage.end()

    threading.Thread(target=copy_context().run, args=(work,), name="copy ids", daemon=True).start()
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


class _Unescaping(io.RawIOBase):
    """A writable file that undoes COPY's escapes and passes blocks of bytes on; `flush` passes the last one.

    libpq hands COPY data over in whole rows, so neither a line nor an escape is ever cut in two.
    """

    def __init__(self, give: Callable[[bytes], None]) -> None:
        self._give = give
        self._block = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._block += data.replace(b"\\\\", b"\\") if b"\\" in data else data
        if len(self._block) >= _BLOCK_BYTES:
            self.flush()
        return len(data)

    def flush(self) -> None:
        block, self._block = bytes(self._block), bytearray()
        if block:
            self._give(block)


def _copy(conninfo: str, give: Callable[[bytes], None], patience_s: float, waiting: Callable[[str], None]) -> None:
    connection = connect_patiently(
        conninfo, application_name="datasync_ingest export", patience_s=patience_s, waiting=waiting
    )
    try:
        with connection, connection.cursor() as cursor:
            file = _Unescaping(give)
            cursor.copy_expert(_COPY, file)
            file.flush()
    except psycopg2.Error as error:
        raise named(error) from error
    finally:
        connection.close()
