"""CPU seconds of the client's stages, each by itself over the same pages, in one process and without waiting."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from psycopg2.extras import execute_values

from datasync_ingest.api import envelope
from datasync_ingest.events import decode_page
from datasync_ingest.messages import PageId, RawPage
from datasync_ingest.postgres.connection import connect
from datasync_ingest.postgres.copy_text import copy_text

_DISCARD = "SELECT count(*) FROM (VALUES %s) AS rows"


def stages(bodies: Sequence[bytes], conninfo: str) -> dict[str, float]:
    """Seconds per million events of: `envelope` (where the next page is), `queue` (pickling there and back), `decode`
    (bytes to rows), `rows: execute_values` and `rows: copy` (rows to what is sent to PostgreSQL)."""
    raw = [_page(body) for body in bodies]
    rows = [decode_page(body).rows for body in bodies]
    events = sum(map(len, rows))

    def each(work: Callable[[Any], object], items: Sequence[Any]) -> float:
        began = time.process_time()
        for item in items:
            work(item)
        return (time.process_time() - began) / events * 1e6

    with closing(connect(conninfo, application_name="bench")) as connection, connection.cursor() as cursor:
        return {
            "envelope": each(envelope.read, bodies),
            "queue": each(lambda page: pickle.loads(pickle.dumps(page)), raw),
            "decode": each(decode_page, bodies),
            "rows: execute_values": each(
                lambda page: execute_values(
                    cursor, _DISCARD, page.in_order(zip(*page.columns, strict=True)), page_size=len(page)
                ),
                rows,
            ),
            "rows: copy": each(copy_text, rows),
        }


def _page(body: bytes) -> RawPage:
    return RawPage(PageId("bench", 0), None, None, False, 5000, 5000, None, None, None, None, None, body)
