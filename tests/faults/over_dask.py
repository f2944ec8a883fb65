"""Rows of the table of faults over a Dask cluster: which make sense there, what only a cluster has, and its workers."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import psutil
from psycopg2.extensions import cursor as Cursor

from tests.cluster import Cluster, Service
from tests.faults.site import Site
from tests.faults.strikes import Strike
from tests.harness import until

_WORKERS_BACKENDS = (
    "SELECT right(application_name, -length(%s))::int FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name LIKE %s || '%%'"
)
_NAME = "datasync_ingest worker "  # the rest is the process id, over Dask
AWAY_S = 2.0  # a hiccup: less than a run has patience for


@contextmanager
def at_cluster(site: Site, cluster: Cluster, service: Service, workers: int) -> Iterator[Site]:
    """The site with its runs over that cluster, on which so many workers are there."""
    service.means(site.environment["DATABASE_URL"])
    until(lambda: len(cluster.at_work()) >= workers, what="the workers")
    site.cluster = cluster
    site.flags = (*site.flags, "--pool", "dask", "--scheduler", cluster.address)
    yield site


@contextmanager
def own_cluster(
    folder: Path, database: str, workers: int, environment: Mapping[str, str], *, silent: str = "60s"
) -> Iterator[tuple[Cluster, Service]]:
    """For strikes after which it is another one, or whose workers have a fault of their own, in their `environment`.

    Its scheduler counts a worker as lost that has been `silent` for so long, 5 s at the least.
    """
    folder.mkdir()
    service = Service(folder / "services")
    service.means(database)
    with Cluster(folder, environment={"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": silent}) as cluster:
        cluster.start_workers(service.conninfo, workers, **service.environment, **environment)
        yield cluster, service


def kill_half_at_work(site: Site, chance: Random) -> None:
    """Half of the workers, each in the middle of a page."""
    del chance
    half = len(site.workers()) // 2
    site.at_database(lambda cursor: _while_locked(cursor, lambda: _kill_at_work(cursor, half, half * 2)))


def kill_each_at_work(site: Site, chance: Random) -> None:
    """One after the other, each in the middle of a page, which is written before the next one is struck: three deaths
    over one page would take it out, as they should."""
    del chance
    workers = len(site.workers())
    for _ in range(workers):
        site.at_database(lambda cursor: _while_locked(cursor, lambda: _kill_at_work(cursor, 1, 1)))
        site.at_database(lambda cursor: _wait_for_pages(cursor, workers))


def _wait_for_pages(cursor: Cursor, more: int) -> None:
    """Until so many more are written and none before them is missing: those that were at work are among them."""
    before = _written(cursor)[0]

    def are_written() -> bool:
        count, last = _written(cursor)
        return count >= before + more and count == last + 1

    until(are_written, what=f"{more} more pages")


def _written(cursor: Cursor) -> tuple[int, int]:
    """How many pages, and the last one's sequence."""
    cursor.execute("SELECT count(*), coalesce(max(sequence), -1) FROM ingested_pages")
    ((count, last),) = cursor.fetchall()
    return count, last


def _while_locked(cursor: Cursor, action: Callable[[], None]) -> None:
    """Whoever is to write a page waits meanwhile, and so is at work on it."""
    cursor.execute("BEGIN; SET lock_timeout = '5s'; LOCK TABLE ingested_pages IN EXCLUSIVE MODE")
    try:
        action()
    finally:
        cursor.execute("ROLLBACK")


def _kill_at_work(cursor: Cursor, victims: int, waiting: int) -> None:
    pids: list[int] = until(lambda: _at_work(cursor, waiting), what=f"{waiting} workers at work on pages")
    for pid in pids[:victims]:
        psutil.Process(pid).kill()


def _at_work(cursor: Cursor, enough: int) -> Sequence[int]:
    """The process ids of the living workers that are at work, or nothing where they are fewer."""
    cursor.execute("SELECT pg_stat_clear_snapshot()")  # or a transaction sees what it saw at first
    cursor.execute(_WORKERS_BACKENDS, (_NAME, _NAME))
    pids = sorted(row[0] for row in cursor.fetchall() if psutil.pid_exists(row[0]))
    return pids if len(pids) >= enough else []


def stop_scheduler_for_a_while(site: Site, chance: Random) -> None:
    """It stands still, and its connections stay."""
    del chance
    scheduler = _scheduler(site)
    scheduler.send_signal(signal.SIGSTOP)
    time.sleep(AWAY_S)
    scheduler.send_signal(signal.SIGCONT)


def kill_scheduler(site: Site, chance: Random) -> None:
    """Another one is at its address then, and the workers come to it by themselves."""
    del chance
    assert site.cluster is not None, "a strike of clusters"
    site.cluster.kill_scheduler()
    site.cluster.start_scheduler()


def stop_worker_for_a_while(site: Site, chance: Random) -> None:
    worker = chance.choice(site.workers())
    with suppress(psutil.NoSuchProcess):
        worker.suspend()
        time.sleep(AWAY_S)
        worker.resume()


def freeze_worker(site: Site, chance: Random) -> None:
    """It never goes on; whoever notices, ends it."""
    with suppress(psutil.NoSuchProcess):
        chance.choice(site.workers()).suspend()


def retire_worker(site: Site, chance: Random) -> None:
    """In order, as when a cluster shrinks; its bin/worker lets it go."""
    assert site.cluster is not None, "a strike of clusters"
    site.cluster.ask("retire_workers", workers=[chance.choice(site.cluster.at_work())], close_workers=True)


def _scheduler(site: Site) -> psutil.Process:
    assert site.cluster is not None, "a strike of clusters"
    assert site.cluster.scheduler is not None, "it runs"
    return psutil.Process(site.cluster.scheduler.pid)


HALF = "SIGKILL of half of the workers, each at work"
EACH = "SIGKILL of each worker in turn, at work"
FROZEN = "SIGSTOP of a worker for good"
OF_CLUSTERS: dict[str, Strike] = {
    HALF: kill_half_at_work,
    EACH: kill_each_at_work,
    "SIGSTOP of the scheduler": stop_scheduler_for_a_while,
    "SIGKILL of the scheduler": kill_scheduler,
    "SIGSTOP of a worker": stop_worker_for_a_while,
    FROZEN: freeze_worker,
    "a worker is retired": retire_worker,
}
