"""One measurement each: the floor (ready-made tuples) and the whole program, with CPU seconds and peak memory."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from datasync_ingest.events import EventRow, decode_page
from datasync_ingest.postgres.connection import connect
from datasync_ingest.postgres.source import SourceDatabase
from datasync_ingest.postgres.writers import WRITERS
from datasync_ingest.simulator.process import SimulatorProcess
from tests.harness import TOP, Database, Workplace

FLOOR_PAGES = 20  # distinct pages of ready-made rows; their ids are made new for every page that is written
MEMORY_EVERY_S = 0.05


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


def floor(database: Database, pages: Sequence[Sequence[EventRow]], events: int, writer: str, workers: int) -> Result:
    """`workers` connections insert ready-made tuples, a page a transaction, as fast as they can."""
    with SourceDatabase(database.conninfo, patience_s=10, waiting=print) as source:
        source.prepare("bench")
    context = multiprocessing.get_context("fork")
    share = events // sum(len(page) for page in pages[:1]) // workers
    ready, go = context.Barrier(workers + 1), context.Event()
    processes = [
        context.Process(target=_insert, args=(database.conninfo, pages, number, share, writer, ready, go))
        for number in range(workers)
    ]
    for process in processes:
        process.start()
    ready.wait()
    began = time.perf_counter()
    go.set()
    for process in processes:
        process.join()
    seconds = time.perf_counter() - began
    if any(process.exitcode for process in processes):
        raise RuntimeError("a process of the floor failed")
    return Result(int(database.value("SELECT count(*) FROM ingested_events")), seconds)


def _insert(
    conninfo: str,
    pages: Sequence[Sequence[EventRow]],
    number: int,
    share: int,
    writer: str,
    ready: threading.Barrier,
    go: threading.Event,
) -> None:
    """One connection's share: `share` pages, each with ids of its own that sort as the API's would."""
    insert = WRITERS[writer]
    with closing(connect(conninfo, application_name="floor")) as connection:
        batches = [_renamed(pages[index % len(pages)], f"{number}{index:05}") for index in range(share)]
        ready.wait()
        go.wait()
        for rows in batches:
            with connection, connection.cursor() as cursor:
                insert(cursor, rows)


def _renamed(rows: Sequence[EventRow], serial: str) -> list[EventRow]:
    """The same rows under new ids, whose first characters stay random."""
    return [row._replace(id=f"{row.id[:-6]}{serial}") for row in rows]


def ready_made_pages(api: SimulatorProcess, api_key: str) -> list[list[EventRow]]:
    """The rows of the first pages that the simulator serves."""
    import requests

    session = requests.Session()
    session.trust_env = False
    pages: list[list[EventRow]] = []
    cursor = None
    while len(pages) < FLOOR_PAGES:
        parameters = {"limit": "5000"} | ({"cursor": cursor} if cursor else {})
        answer = session.get(f"{api.url}/events", params=parameters, headers={"X-API-Key": api_key}, timeout=60)
        pages.append(decode_page(answer.content).rows)
        pagination = answer.json()["pagination"]
        if not pagination["hasMore"]:
            break
        cursor = pagination["nextCursor"]
    return pages


def program(workplace: Workplace, api: SimulatorProcess, database: Database, *words: str) -> Result:
    """A whole `bin/ingest`, from its first request to its last commit."""
    api.reset_counters()
    process = subprocess.Popen(
        [sys.executable, "-m", "datasync_ingest", "ingest", "--progress", "lines", *words],
        cwd=workplace.directory,
        env={**os.environ, "PYTHONPATH": str(TOP), **workplace.environment, "API_BASE_URL": api.url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    watch = _Watch(process.pid)
    with watch:
        _, err = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"bin/ingest ended with {process.returncode}: {err[-2000:]}")
    first = float(api.counters()["first_request_at"])
    last = float(database.value("SELECT extract(epoch FROM max(committed_at)) FROM ingested_pages"))
    events = int(database.value("SELECT count(*) FROM ingested_events"))
    return Result(events, last - first, watch.cpu, watch.peak)


class _Watch:
    """Samples CPU seconds and resident memory of a process and its children until it ends."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.cpu: dict[str, float] = {}
        self.peak: dict[str, int] = {}

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(MEMORY_EVERY_S):
            try:
                main = psutil.Process(self._pid)
                self._sample("main", main)
                workers = [one for one in main.children() if "spawn_main" in " ".join(one.cmdline())]
                for number, worker in enumerate(sorted(workers, key=lambda one: one.pid)):
                    self._sample(f"worker {number}", worker)
            except psutil.Error:
                continue

    def _sample(self, name: str, process: psutil.Process) -> None:
        self.peak[name] = max(self.peak.get(name, 0), process.memory_info().rss)
        times = process.cpu_times()
        self.cpu[name] = times.user + times.system


def work_directory(root: Path, name: str) -> Path:
    directory = root / name
    directory.mkdir()
    return directory
