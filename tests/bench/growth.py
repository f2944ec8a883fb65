"""What the table's growth costs: CPU of the connection that writes random IDs into tables of doubling size."""

from __future__ import annotations

import math
import statistics
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from io import BytesIO

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

SIZES = (600_000, 1_200_000, 2_400_000, 4_800_000)  # events in the table when it is measured
_PAGES = 40
_COLUMNS = ", ".join(EventRow._fields[1:])
_FILL = (
    f"INSERT INTO ingested_events (id, {_COLUMNS})"
    f" SELECT gen_random_uuid()::text, {_COLUMNS} FROM ingested_events LIMIT %s"
)
_LEAVES = "SELECT pg_relation_size('ingested_events_pkey') / current_setting('block_size')::int"
Point = tuple[int, float]  # events in the table, seconds of CPU an event


def measure(bench: Bench, pages: Sequence[Sequence[EventRow]]) -> list[Point]:
    """At each of SIZES, of the rows of `pages` under new IDs."""
    with new_database(bench.server, "growth") as database:
        with SourceDatabase(database.conninfo, schema=PUBLIC, patience_s=10, waiting=print) as source:
            source.prepare("bench")
        with closing(connect(database.conninfo, schema=PUBLIC, application_name="growth")) as connection:
            return list(_points(bench, connection, pages))


def slope(points: Sequence[Point]) -> float:
    """Seconds of CPU an event that each doubling adds; not below 0."""
    sizes, seconds = zip(*points, strict=True)
    return max(0.0, statistics.linear_regression([math.log2(size) for size in sizes], seconds).slope)


def _points(bench: Bench, connection: Connection, pages: Sequence[Sequence[EventRow]]) -> Iterator[Point]:
    backend = psutil.Process(connection.info.backend_pid)
    _value(connection, "ALTER TABLE ingested_events SET (autovacuum_enabled = off)")  # it would run beside some
    _copy(connection, pages, len(pages), backend)
    for size in SIZES:
        _value(connection, "CHECKPOINT")
        while (there := _value(connection, "SELECT count(*) FROM ingested_events")) < size:
            _value(connection, _FILL, size - there)
        # The first change of a page after a checkpoint writes all of it into the WAL: nearly all are changed now.
        _copy(connection, pages, 2 * _value(connection, _LEAVES) // PAGE_EVENTS, backend)
        seconds = _copy(connection, pages, _PAGES, backend)
        bench.say(f"{size:,} events in the table: {seconds * 1e6:.2f} µs of CPU an event")
        yield size, seconds


def _copy(connection: Connection, pages: Sequence[Sequence[EventRow]], many: int, backend: psutil.Process) -> float:
    """Writes so many pages, a transaction for each; returns the CPU of `backend`, seconds an event."""
    began, events = cpu(backend), 0
    for number in range(many):
        rows = _renamed(pages[number % len(pages)])
        with connection, connection.cursor() as cursor:
            cursor.copy_expert(COPY, BytesIO(copy_text(Rows.of(rows))), size=1 << 16)
        events += len(rows)
    return (cpu(backend) - began) / max(1, events)


def _renamed(rows: Sequence[EventRow]) -> list[EventRow]:
    """Under random IDs, sorted as the writers sort them."""
    ids = sorted(str(uuid.uuid4()) for _ in rows)
    return [row._replace(id=one) for row, one in zip(rows, ids, strict=True)]


def _value(connection: Connection, statement: str, *parameters: object) -> int:
    """The first value of the first row, 0 without any. Not in a transaction, as CHECKPOINT must be."""
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        found = cursor.fetchone() if cursor.description else None
    connection.autocommit = False
    return int(found[0]) if found else 0
