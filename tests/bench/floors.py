"""What the machine can do at most: rows that are ready made into PostgreSQL, pages from the API into nothing."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from multiprocessing.synchronize import Barrier

import requests
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from datasync_ingest.events import EventRow, Rows, decode_page
from datasync_ingest.postgres.connection import connect
from datasync_ingest.postgres.copy_text import copy_text
from datasync_ingest.postgres.source import SourceDatabase
from datasync_ingest.simulator.process import SimulatorProcess
from tests.harness import Database

PAGES = 20  # distinct pages of ready-made rows; their ids are made new for every page that is written
PAGE_EVENTS = 5000
_COLUMNS = ", ".join(EventRow._fields)
_INSERT = f"INSERT INTO ingested_events ({_COLUMNS}) VALUES %s ON CONFLICT (id) DO NOTHING"
_COPY = f"COPY ingested_events ({_COLUMNS}) FROM STDIN"
_FORK = multiprocessing.get_context("fork")  # the ready-made rows are inherited, not sent
Load = Callable[[], object]


@dataclass(frozen=True)
class Result:
    """Events a second over `seconds`; CPU seconds and peak resident bytes by process, for the program only."""

    events: int
    seconds: float
    cpu: dict[str, float] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.events / self.seconds


def ready_made_pages(api: SimulatorProcess, api_key: str) -> list[list[EventRow]]:
    """The rows of the first pages that the simulator serves."""
    return [list(decode_page(body).rows) for body in bodies(api, api_key, PAGES)]


def bodies(api: SimulatorProcess, api_key: str, most: int) -> list[bytes]:
    """The first pages as they are served, `most` at most."""
    found: list[bytes] = []
    with closing(_session(api_key)) as session:
        cursor: str | None = None
        while len(found) < most:
            answer = session.get(f"{api.url}/events", params=_parameters(cursor), timeout=60)
            found.append(answer.content)
            cursor = answer.json()["pagination"].get("nextCursor")
            if cursor is None:
                break
    return found


def floor(database: Database, pages: Sequence[Sequence[EventRow]], events: int, writer: str, workers: int) -> Result:
    """`workers` connections write ready-made rows, a page a transaction, as fast as they can."""
    with SourceDatabase(database.conninfo, patience_s=10, waiting=print) as source:
        source.prepare("bench")
    share = max(1, events // PAGE_EVENTS // workers)
    work = partial(_write, database.conninfo, pages, share, writer)
    seconds = _side_by_side(work, workers)
    return Result(int(database.value("SELECT count(*) FROM ingested_events")), seconds)


def download_floor(api: SimulatorProcess, api_key: str, events: int, chains: int) -> Result:
    """`chains` processes fetch pages and throw them away; each follows a cursor of its own."""
    share = max(1, events // PAGE_EVENTS // chains)
    seconds = _side_by_side(partial(_download, api.url, api_key, share), chains)
    return Result(share * chains * PAGE_EVENTS, seconds)


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
    with closing(connect(conninfo, application_name="floor")) as connection:
        for write in writes:
            with connection, connection.cursor() as cursor:
                write(cursor)


def _copy(text: bytes, cursor: Cursor) -> None:
    cursor.copy_expert(_COPY, BytesIO(text), size=1 << 16)


def _insert(rows: Sequence[EventRow], cursor: Cursor) -> None:
    execute_values(cursor, _INSERT, rows, page_size=len(rows))


def _renamed(rows: Sequence[EventRow], serial: str) -> list[EventRow]:
    """The same rows under new ids, whose first characters stay random."""
    return [row._replace(id=f"{row.id[:-6]}{serial}") for row in rows]


def _download(url: str, api_key: str, share: int, number: int) -> Load:
    del number

    def load() -> None:
        cursor: str | None = None
        with closing(_session(api_key)) as session:
            for _ in range(share):
                answer = session.get(f"{url}/events", params=_parameters(cursor), timeout=60)
                cursor = answer.json()["pagination"].get("nextCursor") if share > 1 else None

    return load


def _session(api_key: str) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.headers["X-API-Key"] = api_key
    return session


def _parameters(cursor: str | None) -> dict[str, str]:
    return {"limit": str(PAGE_EVENTS)} | ({"cursor": cursor} if cursor else {})
