"""What the machine can do at most: rows that are ready made into PostgreSQL, pages from the API into nothing."""

from __future__ import annotations

import multiprocessing
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from multiprocessing.synchronize import Barrier
from typing import Any
from urllib.parse import urljoin

import requests
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from datasync_ingest.events import EventRow, Rows, decode_page
from datasync_ingest.postgres.connection import connect
from datasync_ingest.postgres.copy_text import copy_text
from datasync_ingest.postgres.source import SourceDatabase
from datasync_ingest.settings import PUBLIC
from datasync_ingest.simulator.generation import NEWEST_MS, OLDEST_MS
from datasync_ingest.simulator.process import SimulatorProcess
from tests.harness import Database

PAGES = 20  # distinct pages of ready-made rows; their ids are made new for every page that is written
PAGE_EVENTS = 5000
_COLUMNS = ", ".join(EventRow._fields)
_INSERT = f"INSERT INTO ingested_events ({_COLUMNS}) VALUES %s ON CONFLICT (id) DO NOTHING"
COPY = f"COPY ingested_events ({_COLUMNS}) FROM STDIN"
_NEXT_CURSOR = re.compile(rb'"nextCursor":"([^"]+)"')
_TAIL_BYTES = 1000  # of a page, where its next cursor stands
_FORK = multiprocessing.get_context("fork")  # the ready-made rows are inherited, not sent
Load = Callable[[], object]


@dataclass(frozen=True)
class Result:
    """Events a second over `seconds`; for the program only, CPU seconds and peak resident bytes by process, what the
    simulator counted, and the seconds from the command to its first request."""

    events: int
    seconds: float
    cpu: dict[str, float] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    counters: dict[str, Any] = field(default_factory=dict)
    launch_s: float = 0.0

    @property
    def rate(self) -> float:
        return self.events / self.seconds


def ready_made_pages(api: SimulatorProcess, api_key: str) -> list[list[EventRow]]:
    """The rows of the first pages that the simulator serves."""
    return [list(decode_page(body).rows) for body in bodies(api, api_key, PAGES)]


def bodies(api: SimulatorProcess, api_key: str, most: int) -> list[bytes]:
    """The first pages as they are served, `most` at most."""
    with closing(_session(api_key)) as session:
        return list(_pages(session, f"{api.url}/events", {}, most))


def floor(database: Database, pages: Sequence[Sequence[EventRow]], events: int, writer: str, workers: int) -> Result:
    """`workers` connections write ready-made rows, a page a transaction, as fast as they can."""
    with SourceDatabase(database.conninfo, schema=PUBLIC, patience_s=10, waiting=print) as source:
        source.prepare("bench")
    share = max(1, events // PAGE_EVENTS // workers)
    work = partial(_write, database.conninfo, pages, share, writer)
    seconds = _side_by_side(work, workers)
    return Result(int(database.value("SELECT count(*) FROM ingested_events")), seconds)


def download_floor(api: SimulatorProcess, api_key: str, events: int) -> Result:
    """One chain fetches pages of /events and throws them away."""
    pages = max(1, events // PAGE_EVENTS)
    seconds = _side_by_side(partial(_download, api.url, api_key, pages), 1)
    return Result(pages * PAGE_EVENTS, seconds)


def feed_floor(api: SimulatorProcess, api_key: str, events: int, chains: int) -> Result:
    """`chains` threads fetch all pages of the feed and throw them away; each walks a window, all of the same length in
    time. The range in time is known, and access is had before the clock starts."""
    url, headers = _stream_access(api.url, api_key)
    borders = [OLDEST_MS + (NEWEST_MS + 1 - OLDEST_MS) * number // chains for number in range(chains + 1)]

    def walk(since: int, until: int) -> None:
        with closing(_session(api_key)) as session:
            session.headers.update(headers)
            for _ in _pages(session, url, {"since": str(since), "until": str(until)}):
                pass

    began = time.perf_counter()
    with ThreadPoolExecutor(chains) as threads:
        for _ in threads.map(walk, borders, borders[1:]):
            pass
    return Result(events, time.perf_counter() - began)


def _stream_access(base_url: str, api_key: str) -> tuple[str, dict[str, str]]:
    """The feed's address, and the header with the token."""
    origin = urljoin(base_url, "/").rstrip("/")
    with closing(_session(api_key)) as session:
        answer = session.post(f"{origin}/internal/dashboard/stream-access", headers={"Origin": origin}, timeout=60)
    answer.raise_for_status()
    access = answer.json()["streamAccess"]
    return origin + access["endpoint"], {access["tokenHeader"]: access["token"]}


def _side_by_side(prepare: Callable[[int], Load], processes: int) -> float:
    """Seconds from when all are prepared until the last one is done."""
    ready, go = _FORK.Barrier(processes + 1), _FORK.Barrier(processes + 1)
    started = [_FORK.Process(target=_run, args=(prepare, number, ready, go)) for number in range(processes)]
    for process in started:
        process.start()
    ready.wait(120)
    go.wait(120)
    began = time.perf_counter()
    for process in started:
        process.join()
    if any(process.exitcode for process in started):
        raise RuntimeError("a process of the floor failed")
    return time.perf_counter() - began


def _run(prepare: Callable[[int], Load], number: int, ready: Barrier, go: Barrier) -> None:
    load = prepare(number)
    ready.wait(120)
    go.wait(120)
    load()


def _write(conninfo: str, pages: Sequence[Sequence[EventRow]], share: int, writer: str, number: int) -> Load:
    """One connection's share: `share` pages, each with ids of its own that sort as the API's would."""
    batches = [_renamed(pages[index % len(pages)], f"{number}{index:05}") for index in range(share)]
    if writer == "copy":
        texts = [copy_text(Rows.of(rows)) for rows in batches]
        return partial(_each_in_a_transaction, conninfo, [partial(_copy, text) for text in texts])
    return partial(_each_in_a_transaction, conninfo, [partial(_insert, rows) for rows in batches])


def _each_in_a_transaction(conninfo: str, writes: Sequence[Callable[[Cursor], None]]) -> None:
    with closing(connect(conninfo, schema=PUBLIC, application_name="floor")) as connection:
        for write in writes:
            with connection, connection.cursor() as cursor:
                write(cursor)


def _copy(text: bytes, cursor: Cursor) -> None:
    cursor.copy_expert(COPY, BytesIO(text), size=1 << 16)


def _insert(rows: Sequence[EventRow], cursor: Cursor) -> None:
    execute_values(cursor, _INSERT, rows, page_size=len(rows))


def _renamed(rows: Sequence[EventRow], serial: str) -> list[EventRow]:
    """The same rows under new ids, whose first characters stay random."""
    return [row._replace(id=f"{row.id[:-6]}{serial}") for row in rows]


def _download(url: str, api_key: str, pages: int, number: int) -> Load:
    del number

    def load() -> None:
        with closing(_session(api_key)) as session:
            for _ in _pages(session, f"{url}/events", {}, pages):
                pass

    return load


def _pages(
    session: requests.Session, url: str, parameters: Mapping[str, str], most: int | None = None
) -> Iterator[bytes]:
    """The bodies of a chain of pages, of which nothing is read but the next cursor."""
    cursor: dict[str, str] = {}
    while most is None or most > 0:
        answer = session.get(url, params={"limit": str(PAGE_EVENTS), **parameters, **cursor}, timeout=60)
        answer.raise_for_status()
        yield answer.content
        found = _NEXT_CURSOR.search(answer.content, max(0, len(answer.content) - _TAIL_BYTES))
        if found is None:
            return
        cursor = {"cursor": found[1].decode()}
        most = None if most is None else most - 1


def _session(api_key: str) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.headers["X-API-Key"] = api_key
    return session
