"""All ids of the table as a stream of bytes, sorted bytewise, one a line, exactly as the API spelled them."""

from __future__ import annotations

import io
from collections.abc import Callable

import psycopg2

from .connection import connect_patiently, named

# An id holds no control character (the decoder refuses those), so of COPY's escapes only the backslash's can occur;
# the delimiter is one that no id can hold, or it would be escaped too.
_COPY = "COPY (SELECT id FROM ingested_events ORDER BY id) TO STDOUT (FORMAT text, DELIMITER E'\\x01')"


class _Unescaping(io.RawIOBase):
    """A writable file that undoes COPY's escapes and passes blocks of bytes on.

    libpq hands COPY data over in whole rows, so an escape is never cut in two.
    """

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._take(data.replace(b"\\\\", b"\\") if b"\\" in data else bytes(data))
        return len(data)


def copy_ids(
    conninfo: str, take: Callable[[bytes], None], *, patience_s: float, waiting: Callable[[str], None]
) -> None:
    """Calls `take` with blocks of whole lines until all ids went by; memory stays flat.

    Raises DatabaseUnreachableError, DatabaseRefusedError, DatabaseError.
    """
    connection = connect_patiently(
        conninfo, application_name="datasync_ingest export", patience_s=patience_s, waiting=waiting
    )
    try:
        with connection, connection.cursor() as cursor:
            cursor.copy_expert(_COPY, _Unescaping(take))
    except psycopg2.Error as error:
        raise named(error) from error
    finally:
        connection.close()
