"""Pools under test: pages for them, their worker processes, and pages that no worker can commit for now."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg2

from datasync_ingest.messages import PageId, RawPage, Receipt, Started, WorkerMessage, WorkerOptions
from datasync_ingest.pools import Pool
from datasync_ingest.postgres.source import SourceDatabase
from datasync_ingest.postgres.writers import DEFAULT_WRITER
from datasync_ingest.settings import PUBLIC, Secret
from tests.harness import Database, until

WALK = str(uuid.UUID(int=9))
EVENTS = 10  # on a page


def page_id(sequence: int) -> PageId:
    return PageId(WALK, sequence)


def page(sequence: int, *, body: bytes | None = None, filler: int = 0) -> RawPage:
    """A page of `EVENTS` events; `filler` bytes of the API's own are in each."""
    events = [
        {"id": f"{sequence}-{number}", "timestamp": 1_769_541_612_369, "properties": {"filler": "x" * filler}}
        for number in range(EVENTS)
    ]
    whole = json.dumps({"data": events, "hasMore": False}).encode()
    return RawPage(
        page_id(sequence), None, None, False, EVENTS, EVENTS, None, None, None, None, None, body=body or whole
    )


def worker_options(database: Database, **changes: float) -> WorkerOptions:
    """For workers on this database, in which the schema is made."""
    with SourceDatabase(database.conninfo, schema=PUBLIC, patience_s=5, waiting=print) as source:
        source.prepare("http://api")
    patience_s = changes.pop("db_patience_s", 30.0)
    database_id = str(database.value("SELECT database_id FROM ingest_source"))
    return WorkerOptions(Secret(database.conninfo), DEFAULT_WRITER, patience_s, PUBLIC, database_id, **changes)


def receipts(messages: list[WorkerMessage]) -> list[Receipt]:
    return [message for message in messages if isinstance(message, Receipt)]


def workers() -> dict[str, int]:
    """The living worker processes of this process: name -> process id."""
    return {process.name: process.pid or 0 for process in multiprocessing.active_children()}


def send(signum: int, *pids: int) -> None:
    for pid in pids:
        os.kill(pid, signum)


class Heard:
    """A pool and all that it has said."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.messages: list[WorkerMessage] = []

    def listen(self, timeout_s: float = 0.1) -> list[WorkerMessage]:
        new = self.pool.receive(timeout_s)
        self.messages += new
        return new

    def until(self, enough: Callable[[], bool], what: str = "the messages") -> None:
        until(lambda: (self.listen(), enough())[1], what=what)

    @property
    def receipts(self) -> list[Receipt]:
        return receipts(self.messages)

    def until_receipts(self, count: int) -> None:
        self.until(lambda: len(self.receipts) >= count, f"receipt {count}")

    def started(self, sequence: int) -> list[Started]:
        return [m for m in self.messages if isinstance(m, Started) and m.page == page_id(sequence)]

    def until_started(self, sequence: int, times: int = 1) -> int:
        """Returns the process id of the worker that has announced this page for the `times`-th time."""
        self.until(lambda: len(self.started(sequence)) >= times, f"start {times} of page {sequence}")
        return workers()[f"worker {self.started(sequence)[-1].worker}"]

    def kill_at(self, sequence: int, times: int = 1, signum: int = signal.SIGKILL) -> None:
        send(signum, self.until_started(sequence, times))


@contextmanager
def held_up(database: Database, *sequences: int, walk: str = WALK) -> Iterator[None]:
    """While the block runs, a worker that begins to commit one of these pages waits in PostgreSQL for its end."""
    with closing(psycopg2.connect(database.conninfo)) as connection, connection.cursor() as cursor:
        for sequence in sequences:
            cursor.execute(
                "INSERT INTO ingested_pages (walk, sequence, ends_walk, page_limit, received, inserted, already_there,"
                " rejected, repaired) VALUES (%s, %s, false, 10, 0, 0, 0, 0, 0)",
                (walk, sequence),
            )
        try:
            yield
        finally:
            connection.rollback()


def waiting_backends(database: Database, count: int = 1) -> bool:
    """Whether that many backends of this database wait for a lock; those of killed workers stay among them."""
    return bool(
        database.value(
            "SELECT count(*) >= %s FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'",
            count,
        )
    )
