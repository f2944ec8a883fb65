"""CPU seconds of the stages of a page's way, each by itself over the same pages and without waiting."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import psutil
from psycopg2.extensions import cursor as Cursor

from datasync_ingest.api import envelope
from datasync_ingest.api.client import ApiClient
from datasync_ingest.events import decode_page
from datasync_ingest.messages import STOP, PageId, RawPage
from datasync_ingest.pools.crew import page_queue
from datasync_ingest.postgres.connection import connect
from datasync_ingest.postgres.copy_text import copy_text
from datasync_ingest.postgres.pages import PageStore
from datasync_ingest.postgres.source import SourceDatabase
from datasync_ingest.postgres.writers import WRITERS
from datasync_ingest.rows import EventRow, Rows
from datasync_ingest.settings import PUBLIC, Secret, Settings
from datasync_ingest.simulator.process import SimulatorProcess
from tests.harness import API_KEY, Database

_NAME = "bench stages"
_ONE_ROW = f"({', '.join(['%s'] * len(EventRow._fields))})"
_BACKEND = "SELECT pid FROM pg_stat_activity WHERE application_name = %s"


def _adapted(cursor: Cursor, rows: Rows) -> None:
    for row in rows:
        cursor.mogrify(_ONE_ROW, row)


# From rows to what is sent to PostgreSQL, as the writer does it.
_ROWS: dict[str, Callable[[Cursor, Rows], object]] = {
    "execute_values": _adapted,
    "copy": lambda _, rows: copy_text(rows),
}


def stages(api: SimulatorProcess, bodies: Sequence[bytes], database: Database) -> dict[str, float]:
    """CPU seconds per million events.

    `fetch` (a page from the server, and `gzip` the same compressed), `envelope` (where the next page is), `queue`
    (through the workers' queue, both ends), `decode` (bytes to rows); for each writer `rows` (rows to what is sent),
    `write` (the rest of the page's transaction on our side) and `server` (PostgreSQL's side of it).
    """
    events = sum(len(decode_page(body).rows) for body in bodies)
    pages = [_page(number, body) for number, body in enumerate(bodies)]
    seconds = {
        "fetch": _fetching(api, len(bodies), "off"),
        "fetch, gzip": _fetching(api, len(bodies), "on"),
        "envelope": _each(envelope.read, bodies),
        "queue": _queueing(pages),
        "decode": _each(decode_page, bodies),
    }
    with SourceDatabase(database.conninfo, schema=PUBLIC, patience_s=10, waiting=print) as source:
        source.prepare("bench")
    for writer in WRITERS:
        seconds |= _writing(writer, pages, database)
    return {name: spent / events * 1e6 for name, spent in seconds.items()}


def _each(work: Callable[[Any], object], items: Iterable[Any]) -> float:
    began = time.process_time()
    for item in items:
        work(item)
    return time.process_time() - began


def _fetching(api: SimulatorProcess, pages: int, gzip: str) -> float:
    """The first page, again and again; the simulator compresses it in its own process."""
    api.options(gzip=gzip)
    with closing(ApiClient(Settings(Secret(API_KEY), api_base_url=api.url))) as client:
        fetch = partial(client.get, f"{api.url}/events", {"limit": "5000"})
        fetch()  # connects
        seconds = _each(lambda _: fetch(), range(pages))
    api.options(gzip="off")
    return seconds


def _queueing(pages: Sequence[RawPage]) -> float:
    queue = page_queue(len(pages))
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_drain, args=(queue, sending))
    process.start()
    began = time.process_time()
    for page in pages:
        queue.put(page)
    queue.put(STOP)
    theirs = float(receiving.recv())
    ours = time.process_time() - began
    process.join()
    queue.close()
    queue.join_thread()
    return ours + theirs


def _drain(queue: Any, pipe: Any) -> None:
    began = time.process_time()
    while queue.get() != STOP:
        pass
    pipe.send(time.process_time() - began)


def _writing(writer: str, pages: Sequence[RawPage], database: Database) -> dict[str, float]:
    """Whole transactions of a page, into an empty table; what of our side is not `rows` is `write`."""
    database.query("TRUNCATE ingested_events, ingested_pages")
    decoded = [decode_page(page.body) for page in pages]
    with (
        closing(connect(database.conninfo, schema=PUBLIC, application_name="bench")) as connection,
        connection.cursor() as cursor,
    ):
        rows = _each(lambda page: _ROWS[writer](cursor, page.rows), decoded)
    with _store(writer, database) as store:
        store.commit(_page(len(pages), b""), replace(decoded[0], rows=Rows.of([])), waiting=print)  # connects
        backend = psutil.Process(database.value(_BACKEND, _NAME))
        before = backend.cpu_times()
        whole = _each(lambda pair: store.commit(*pair, waiting=print), zip(pages, decoded, strict=True))
        after = backend.cpu_times()
    server = after.user + after.system - before.user - before.system
    return {f"rows: {writer}": rows, f"write: {writer}": max(0.0, whole - rows), f"server: {writer}": server}


@contextmanager
def _store(writer: str, database: Database) -> Iterator[PageStore]:
    store = PageStore(database.conninfo, schema=PUBLIC, insert=WRITERS[writer], patience_s=10, application_name=_NAME)
    with closing(store):
        yield store


def _page(number: int, body: bytes) -> RawPage:
    walk = "00000000-0000-0000-0000-000000000000"
    return RawPage(PageId(walk, number), None, None, False, 5000, 5000, None, None, None, None, None, body)
