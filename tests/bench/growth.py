"""What the growth of a table costs: CPU and WAL of a connection that writes random IDs into tables of doubling size."""

from __future__ import annotations

import math
import statistics
import uuid
from collections.abc import Sequence
from contextlib import closing
from io import BytesIO
from typing import Any, NamedTuple

import psutil
from psycopg2.extensions import connection as Connection

from datasync_ingest.postgres.connection import connect
from datasync_ingest.postgres.copy_text import copy_text
from datasync_ingest.postgres.source import SourceDatabase
from datasync_ingest.rows import EventRow, Rows
from datasync_ingest.settings import PUBLIC
from tests.bench.bench import Bench
from tests.bench.floors import COPY, PAGE_EVENTS
from tests.bench.watch import cpu
from tests.harness import new_database

SIZES = (300_000, 600_000, 1_200_000, 2_400_000)  # events in the table; the last one's index is still in shared_buffers
WAL = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"
_FIRST_PAGES, _PAGES = 4, 40  # written just after a checkpoint, and later
_COLUMNS = ", ".join(EventRow._fields[1:])
_FILL = (
    f"INSERT INTO ingested_events (id, {_COLUMNS})"
    f" SELECT gen_random_uuid()::text, {_COLUMNS} FROM ingested_events LIMIT %s"
)
_INDEX = "SELECT pg_relation_size('ingested_events_pkey') / current_setting('block_size')::int"


class Written(NamedTuple):
    """For each event: seconds of CPU, bytes of WAL, and pages of the index that were written whole into it."""

    cpu_s: float
    wal_bytes: float
    full_pages: float


class Point(NamedTuple):
    """With so many events in the table: just after a checkpoint, and when most of the index has changed since."""

    events: int
    first: Written
    later: Written


def measure(bench: Bench, pages: Sequence[Sequence[EventRow]]) -> list[Point]:
    """At each of SIZES, of the rows of `pages` under new IDs."""
    with new_database(bench.server, "growth") as database:
        with SourceDatabase(database.conninfo, schema=PUBLIC, patience_s=10, waiting=print) as source:
            source.prepare("bench")
        with closing(connect(database.conninfo, schema=PUBLIC, application_name="growth")) as connection:
            table = _Table(connection, pages)
            return [_point(bench, table, size) for size in SIZES]


def constants(points: Sequence[Point]) -> dict[str, float]:
    """The fields of Costs that are measured here: a slope over all points, and the largest one's two halves."""
    _, first, later = points[-1]
    more = first.full_pages - later.full_pages
    full_page_s = max(0.0, (first.cpu_s - later.cpu_s) / more)
    sizes = [math.log2(point.events) for point in points]
    without = [point.later.cpu_s - full_page_s * point.later.full_pages for point in points]
    return {
        "growth_s": max(0.0, statistics.linear_regression(sizes, without).slope),
        "full_page_s": full_page_s,
        "full_page_bytes": (first.wal_bytes - later.wal_bytes) / more,
    }


def _point(bench: Bench, table: _Table, size: int) -> Point:
    table.fill(size)
    index_pages = table.value(_INDEX)
    table.value("CHECKPOINT")
    first = table.write(_FIRST_PAGES, index_pages)
    table.write(2 * index_pages // PAGE_EVENTS, index_pages)
    point = Point(size, first, table.write(_PAGES, index_pages))
    bench.say(f"{size:,} events in the table: {point.later.cpu_s * 1e6:.2f} µs of CPU an event, at first {first}")
    return point


class _Table:
    """The table, as one connection writes it; autovacuum, which would run beside some sizes, is off."""

    def __init__(self, connection: Connection, pages: Sequence[Sequence[EventRow]]) -> None:
        self._connection = connection
        self._pages = pages
        self._backend = psutil.Process(connection.info.backend_pid)
        self._changes = 0  # events since a checkpoint
        self.value("ALTER TABLE ingested_events SET (autovacuum_enabled = off)")
        self.write(len(pages), 1)

    def fill(self, size: int) -> None:
        """With copies of its rows under random IDs. The checkpoint is the caller's."""
        while (there := self.value("SELECT count(*) FROM ingested_events")) < size:
            self.value(_FILL, size - there)
        self._changes = 0

    def write(self, many: int, index_pages: int) -> Written:
        """So many pages of events, a transaction for each, into an index of `index_pages`."""
        cpu_s, wal, events = cpu(self._backend), self.value(WAL), 0
        for number in range(many):
            rows = _renamed(self._pages[number % len(self._pages)])
            with self._connection, self._connection.cursor() as cursor:
                cursor.copy_expert(COPY, BytesIO(copy_text(Rows.of(rows))), size=1 << 16)
            events += len(rows)
        before, self._changes = self._changes, self._changes + events
        whole = index_pages * (math.exp(-before / index_pages) - math.exp(-self._changes / index_pages))
        spent = cpu(self._backend) - cpu_s, self.value(WAL) - wal, whole
        return Written(*(amount / max(1, events) for amount in spent))

    def value(self, statement: str, *parameters: Any) -> int:
        """The first value of the first row, 0 without any. Not in a transaction, as CHECKPOINT must be."""
        self._connection.autocommit = True
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            found = cursor.fetchone() if cursor.description else None
        self._connection.autocommit = False
        return int(found[0]) if found else 0


def _renamed(rows: Sequence[EventRow]) -> list[EventRow]:
    """Under random IDs, sorted as the writers sort them."""
    ids = sorted(str(uuid.uuid4()) for _ in rows)
    return [row._replace(id=one) for row, one in zip(rows, ids, strict=True)]
