"""The constants of the model, measured: whole runs of one page and of many, whose difference is what an event costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg2

from datasync_ingest.postgres.copy_text import copy_text
from datasync_ingest.rows import EventRow, Rows
from datasync_ingest.simulator.process import SimulatorProcess
from tests.bench.bench import Bench
from tests.bench.floors import PAGE_EVENTS, Result
from tests.bench.growth import WAL
from tests.bench.model import Costs
from tests.bench.program import program
from tests.bench.watch import cpu, ended_children
from tests.harness import Database, new_database

EVENTS = 1_200_000
CLUSTER_FACTOR = 1.25  # the bound that `bin/bench --case cluster` is held to
_STARTS = 5
_COMMITS = 300
_ONE_ROW = f"({', '.join(['%s'] * len(EventRow._fields))})"
_SIZES = "SELECT pg_table_size('ingested_events'), pg_indexes_size('ingested_events')"


@dataclass(frozen=True)
class Measured:
    """One run: CPU seconds of the simulator and of all processes of the run, and the bytes that it left."""

    result: Result
    api_s: float
    run_s: float
    table_bytes: int
    index_bytes: int
    wal_bytes: int

    def cpu(self, name: str) -> float:
        """Of `main`, `worker` (all of them) or `server`."""
        return sum(seconds for one, seconds in self.result.cpu.items() if one.startswith(name))

    def peak(self, name: str) -> int:
        return max(size for one, size in self.result.peak.items() if one.startswith(name))


def measure(
    bench: Bench, writer: str, grown: Mapping[str, float], rows: Sequence[EventRow], page: bytes
) -> tuple[Costs, float]:
    """Medians of the costs, and of the simulator's CPU seconds for each event; `grown` are those of the
    growth of a table, `rows` those of `page`."""
    with bench.api(PAGE_EVENTS) as api:
        small = [_run(bench, api, writer) for _ in range(_STARTS)]
    with bench.api(EVENTS) as api:
        large = [_run(bench, api, writer) for _ in range(bench.rounds)]
    took = ", ".join(f"{one.result.launch_s + one.result.seconds:.2f} s" for one in large)
    bench.say(f"{writer}: {EVENTS:,} events in {took}")
    costs = _costs(small, large)
    sent = _sent_bytes(bench, writer, rows)
    return Costs(**costs, **grown, page_bytes=len(page) / len(rows), row_bytes=sent / len(rows)), _each(
        small, large, lambda one: one.api_s
    )


def commit_s(bench: Bench) -> float:
    """Seconds of one durable commit of one row, the median."""
    seconds = []
    with new_database(bench.server, "commits") as database, closing(psycopg2.connect(database.conninfo)) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE commits (number integer)")
        for number in range(_COMMITS):
            began = time.perf_counter()
            with connection, connection.cursor() as cursor:
                cursor.execute("INSERT INTO commits VALUES (%s)", (number,))
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _run(bench: Bench, api: SimulatorProcess, writer: str) -> Measured:
    simulator = psutil.Process(api.pid)
    with bench.place() as (place, database):
        wal, children, served = _wal(database), ended_children(), cpu(simulator)
        words = ("--worker-concurrency", str(bench.workers), "--writer", writer)
        result = program(place, api, database, words)
        served, children = cpu(simulator) - served, ended_children() - children
        table, index = database.query(_SIZES)[0]
        return Measured(result, served, children, table, index, _wal(database) - wal)


def _costs(small: Sequence[Measured], large: Sequence[Measured]) -> dict[str, Any]:
    main_s = _each(small, large, lambda one: one.cpu("main"))
    worker_s = _each(small, large, lambda one: one.cpu("worker"))
    postgres_s = _each(small, large, lambda one: one.cpu("server"))
    page_s = PAGE_EVENTS * (main_s + worker_s + postgres_s)
    return {
        "launch_s": statistics.median(one.result.launch_s for one in small),
        "start_s": max(0.0, statistics.median(one.result.seconds for one in small) - page_s),
        "launch_core_s": max(0.0, statistics.median(one.run_s for one in small) - PAGE_EVENTS * (main_s + worker_s)),
        "main_s": main_s,
        "worker_s": worker_s,
        "postgres_s": postgres_s,
        "base_events": EVENTS,
        "cluster_factor": CLUSTER_FACTOR,
        "table_bytes": _each(small, large, lambda one: one.table_bytes),
        "index_bytes": _each(small, large, lambda one: one.index_bytes),
        "wal_bytes": _each(small, large, lambda one: one.wal_bytes),
        "main_memory": max(one.peak("main") for one in large),
        "worker_memory": max(one.peak("worker") for one in large),
    }


def _each(small: Sequence[Measured], large: Sequence[Measured], of: Callable[[Measured], float]) -> float:
    """The difference of medians, for each event."""
    return (statistics.median(map(of, large)) - statistics.median(map(of, small))) / (EVENTS - PAGE_EVENTS)


def _sent_bytes(bench: Bench, writer: str, rows: Sequence[EventRow]) -> int:
    if writer == "copy":
        return len(copy_text(Rows.of(rows)))
    with closing(psycopg2.connect(bench.server)) as connection, connection.cursor() as cursor:
        return sum(len(cursor.mogrify(_ONE_ROW, row)) for row in rows)


def _wal(database: Database) -> int:
    return int(database.value(WAL))
